"""What a study keeps of its runs, and of trials that failed, beside what it found."""

import signal
from dataclasses import replace

import optuna
import pytest
from optuna.pruners import MedianPruner
from optuna.trial import TrialState

import nas_optuna as nas
from nas_optuna.provenance import pruner_text, setup_of
from nas_optuna.recording import FAILED, SAMPLING, SETUP
from nas_optuna.report.spending import spending
from nas_optuna.samplers.seeded import SeededSampler
from nas_optuna.spaces import MacroSpace
from tests.formula import Formula


class Breaking(Formula):
    """Raises at its third evaluation."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def evaluate(self, candidate, report):
        if len(self.judged) == 2:
            raise self.error
        return super().evaluate(candidate, report)


def search(folder, evaluator=None, **settings):
    return nas.Search(
        name="kept",
        space=MacroSpace((1, 8, 8), 10, max_layers=4),
        evaluator=evaluator or Formula(),
        metrics=("accuracy", "flops"),
        sampler="random",
        trials=4,
        storage=f"sqlite:///{folder}/nas.db",
        **settings,
    )


def setups(study):
    return [value for key, value in study.user_attrs.items() if key.startswith(SETUP)]


def test_each_way_of_running_a_study_is_kept_once(tmp_path):
    made = search(tmp_path)
    study = made.create()
    made.optimize(study, trials=1)
    made.optimize(study, trials=1)
    (kept,) = setups(study)
    assert (kept["sampler"], kept["seed"], kept["pruner"]) == ("random", 0, None)
    assert kept["device"] is None  # a formula trains nowhere
    assert kept["versions"]["optuna"] == optuna.__version__
    assert kept["began"].endswith(" UTC")
    other = replace(made, sampler="tpe", seed=3, pruner=MedianPruner(n_startup_trials=2))
    other.optimize(other.load(), trials=1)
    later = sorted(setups(study), key=lambda setup: setup["began"])  # within a minute, too
    assert [(s["sampler"], s["seed"]) for s in later] == [("random", 0), ("tpe", 3)]
    assert later[0]["began"] < later[1]["began"]


def test_where_it_trains_is_kept():
    training = nas.evaluators.FullTraining("digits", epochs=4, device="cpu")
    wrapped = nas.evaluators.ProxyTask(training, epochs=1)
    for evaluator in (training, wrapped):
        setup = setup_of(sampler="tpe", seed=0, evaluator=evaluator, pruner=None)
        assert setup["device"].startswith("cpu ")


def test_settings_of_a_pruner_are_told():
    assert pruner_text(MedianPruner(n_startup_trials=2)).startswith(
        "MedianPruner(percentile=50.0, n_startup_trials=2,"
    )
    assert pruner_text(nas.pruners.ParetoPruner()).startswith("ParetoPruner(")


def test_the_sampler_is_timed_and_left_as_it_was(tmp_path):
    made = search(tmp_path)
    study = made.create()
    made.optimize(study, trials=3)
    assert isinstance(study.sampler, SeededSampler)
    times = [trial.user_attrs[SAMPLING] for trial in study.trials]
    assert all(time > 0 for time in times)
    assert spending(study).sampling == pytest.approx(sum(times))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NameError("name 'con' is not defined\n in line 3"), "NameError: name 'con' is not "),
        (KeyboardInterrupt(signal.SIGTERM), "stopped by a signal"),
    ],
)
def test_why_a_trial_failed_is_kept(tmp_path, error, told):
    made = search(tmp_path, Breaking(error))
    study = made.create()
    with pytest.raises(type(error)):
        made.optimize(study)
    (failed,) = study.get_trials(states=(TrialState.FAIL,))
    assert failed.user_attrs[FAILED].startswith(told)
    assert "\n" not in failed.user_attrs[FAILED]
    assert list(spending(study).failures.values()) == [[failed.number]]
