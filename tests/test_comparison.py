"""Samplers x seeds in one database: charged as if alone, stopped, killed, resumed, extended."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.pruners import MedianPruner, ThresholdPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

import nas_optuna as nas
from nas_optuna.comparison import Comparison, known_truth, run, working
from nas_optuna.comparison.contender import _first_told
from nas_optuna.comparison.running import run_entry
from nas_optuna.comparison.working import WorkerError
from nas_optuna.errors import SettingError, StudyMismatchError, UnknownNameError
from nas_optuna.recording import CACHED, DIGEST, EPOCHS, PREDICTED, SAMPLING, SECONDS
from nas_optuna.report.verdict import verdict
from nas_optuna.samplers import STRATEGIES, SeededSampler, Strategy, create
from tests.formula import Formula

SPACE = nas.spaces.MacroSpace(
    (1, 8, 8), 10, min_layers=1, max_layers=2, operations=("conv",),
    widths=(8, 16, 24), kernel_sizes=(1, 3), strides=(1, 2), activations=("relu",),
    connections=("sequential",), batch_norm=(True,), max_skip=0,
)  # fmt: skip


def search_in(folder, name="nas.db", *, seconds=0.0, pruner=None):
    return nas.Search(
        name="small",
        space=SPACE,
        evaluator=Formula(epochs=4, seconds=seconds),
        metrics=("accuracy", "parameters"),
        storage=f"sqlite:///{folder}/{name}",
        trials=6,
        pruner=pruner,
    )


def make(folder, *, samplers=("nsga2",), seeds=2, trials=6, **settings):
    search = search_in(folder, **settings)
    return Comparison(search=search, samplers=samplers, seeds=seeds, trials=trials)


def told(comparison):
    """Genomes, values and states of all finished trials, by study."""
    opened = nas.storage.open(comparison.search.storage)
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return {
        name: [
            (t.params, t.values, t.state)
            for t in optuna.load_study(study_name=name, storage=opened).get_trials(
                deepcopy=False, states=states
            )
        ]
        for name in optuna.get_all_study_names(opened)
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A comparison of three samplers and two seeds, run in this process."""
    comparison = make(tmp_path_factory.mktemp("done"))
    run(comparison)
    return comparison


def test_each_sampler_and_seed_has_a_study(done):
    assert done.compared == ("random", "local", "nsga2")
    trials = told(done)
    assert set(trials) == {
        f"small/compare/{sampler}/{seed}"
        for sampler in ("random", "local", "nsga2")
        for seed in (0, 1)
    }
    assert {len(study) for study in trials.values()} == {6}


def test_seeds_begin_with_the_searchs(tmp_path):
    comparison = make(tmp_path, seeds=2)
    later = replace(comparison, search=replace(comparison.search, seed=5))
    assert {entry.seed for entry in later.entries} == {5, 6}


def test_a_comparison_is_extended_and_repeats_nothing(tmp_path):
    run(make(tmp_path, samplers=(), seeds=1, trials=4))
    before = told(make(tmp_path))
    larger = make(tmp_path, samplers=("tpe",), seeds=2, trials=7)
    assert larger.planned == 4  # all samplers plan alike, the earlier studies too
    run(larger)
    after = told(larger)
    assert {len(study) for study in after.values()} == {7}
    assert len(after) == 6
    for name, trials in before.items():
        assert after[name][:4] == trials
    # A smaller comparison reads its part of the larger one.
    assert {len(r) for r in make(tmp_path, samplers=(), seeds=2, trials=5).outcome().runs} == {5}


def test_a_study_goes_as_it_would_have_alone(tmp_path):
    settings = {"seeds": 2, "trials": 20, "pruner": MedianPruner(n_startup_trials=2)}
    shared = make(tmp_path, **settings)
    run(shared)
    cached = pruned = 0
    for entry in shared.entries[-2:]:
        lonely = make(tmp_path, name=f"{entry.sampler}.db", **settings)
        run_entry(lonely, entry, lambda finished: None)
        assert told(shared)[entry.name] == told(lonely)[entry.name]
        trials, others = (
            optuna.load_study(study_name=entry.name, storage=c.search.storage).trials
            for c in (shared, lonely)
        )
        epochs = [t.user_attrs.get(EPOCHS) for t in others]
        assert [t.user_attrs.get(EPOCHS) for t in trials] == epochs
        cached += sum(CACHED in t.user_attrs for t in trials)
        pruned += sum(t.state is TrialState.PRUNED and CACHED in t.user_attrs for t in trials)
    assert cached > 5  # others had trained these, and the studies paid all the same
    assert pruned > 0  # and these they had trained to the end


class Halved(Formula):
    """Each of its reports is of half an epoch, as a proxy task on half of the data would be."""

    @property
    def epochs_per_report(self):
        return 0.5


def test_a_replayed_trial_costs_what_it_would_have_alone(tmp_path):
    def spent(evaluator, name):
        search = replace(
            search_in(tmp_path, name, pruner=ThresholdPruner(lower=0.9, n_warmup_steps=2)),
            evaluator=evaluator,
        )
        comparison = Comparison(search=search, samplers=(), seeds=1, trials=4)
        entry = comparison.entries[0]
        whole = replace(comparison.contender(entry), name="whole", pruner=None)
        if name == "filled.db":
            whole.optimize(whole.create(), trials=4)
        run_entry(comparison, entry, lambda progress: None)
        trials = optuna.load_study(study_name=entry.name, storage=search.storage).trials
        assert {t.state for t in trials} == {TrialState.PRUNED}
        assert (CACHED in trials[0].user_attrs) == (name == "filled.db")
        return [t.user_attrs[EPOCHS] for t in trials]

    assert spent(Halved(epochs=4), "filled.db") == spent(Halved(epochs=4), "alone.db") == [1.0] * 4


def test_a_predicted_trial_does_not_spare_the_next_one_the_pruner():
    study = optuna.create_study()

    def add(**attrs):
        attrs = {DIGEST: "k", EPOCHS: 2.0, SECONDS: 0.0, **attrs}
        study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs=attrs))

    add(**{PREDICTED: True})
    trial = study.ask()
    assert _first_told(trial, "k") is None
    add()
    assert _first_told(trial, "k").number == 2


def test_another_pruner_is_refused(tmp_path):
    lenient, strict = ThresholdPruner(lower=0.1), ThresholdPruner(lower=0.9)
    run(make(tmp_path, samplers=(), seeds=1, trials=2, pruner=lenient))
    run(make(tmp_path, samplers=(), seeds=1, trials=3, pruner=ThresholdPruner(lower=0.1)))
    for pruner, text in ((None, "no pruner"), (strict, "ThresholdPruner(lower=0.9")):
        larger = make(tmp_path, samplers=(), seeds=2, trials=3, pruner=pruner)
        for workers in (1, 2):
            with pytest.raises(StudyMismatchError) as refused:
                run(larger, workers=workers)
            assert "was run with ThresholdPruner(lower=0.1" in str(refused.value)
            assert f"not {text}" in str(refused.value)
            assert "another name" in str(refused.value)
    assert len(told(larger)) == 2  # nothing was begun


class Noisy(Formula):
    """Judges again whatever it is asked."""

    cacheable = False


def one_of_three(trial):
    net = nas.ArchitectureBuilder((1, 8, 8), num_classes=10)
    width = trial.suggest_categorical("width", [1, 2, 3])
    return net.build(net.classifier(net.conv2d(net.input, width)))


def test_a_repeat_is_charged_where_it_is_judged_again(tmp_path):
    space = nas.spaces.FunctionSpace(one_of_three, input_shape=(1, 8, 8), num_classes=10)
    for judge, charged, within in ((Noisy(epochs=2), 7, 3), (Formula(epochs=2), 3, 4)):
        search = replace(
            search_in(tmp_path, f"{charged}.db"),
            evaluator=judge,
            space=space,
            metrics=("accuracy",),
        )
        comparison = Comparison(search=search, samplers=(), seeds=1, trials=7)
        run_entry(comparison, comparison.entries[0], lambda progress: None)
        assert len(judge.judged) == charged
        (found,) = comparison.outcome().runs
        assert (found.total("evaluations"), found.total("epochs")) == (charged, 2 * charged)
        assert found.kinds.count("repeated") == 4
        limited = replace(comparison, epochs=6.0)
        (found,) = limited.outcome().runs
        assert len(found) == within
    table = Comparison(search=table_search(tmp_path, trials=12), samplers=(), seeds=1)
    assert table.free_repeats  # a row that is looked up twice costs nothing more


def test_progress_counts_a_study_that_is_at_its_end_as_whole(tmp_path):
    reports = []
    comparison = replace(make(tmp_path, samplers=(), trials=50, seeds=1), epochs=10.0)
    run(comparison, progress=lambda counts: reports.append(list(counts)))
    assert reports[-1] == [50, 50]
    assert all(0 <= count <= 50 for counts in reports for count in counts)
    assert [1, 0] in reports
    smaller = replace(comparison, trials=2, epochs=None)
    run(smaller, progress=lambda counts: reports.append(list(counts)))
    assert reports[-1] == [2, 2]


def test_a_study_ends_when_it_has_spent_its_epochs(tmp_path):
    comparison = replace(make(tmp_path, samplers=(), trials=50, seeds=1), epochs=10.0)
    run(comparison)
    for found in comparison.outcome().runs:
        assert found.spent["epochs"][-1] >= 10.0
        assert found.spent["epochs"][-2] < 10.0
        assert len(found) < 10
    assert comparison.outcome().limits.budget == "epochs"
    before = told(comparison)
    run(comparison)
    assert told(comparison) == before


def test_a_sampler_that_has_no_trial_yet_is_named(done):
    assert done.outcome().absent == ()
    wider = replace(done, samplers=("nsga2", "tpe"))
    assert wider.outcome().absent == ("tpe",)
    assert "not compared: tpe." in verdict(wider.outcome()).text


def test_the_time_of_the_sampler_is_kept(done):
    opened = nas.storage.open(done.search.storage)
    study = optuna.load_study(study_name="small/compare/nsga2/0", storage=opened)
    assert all(0 < t.user_attrs[SAMPLING] < 5 for t in study.trials)


def test_a_study_that_another_process_runs_is_left_to_it(tmp_path):
    comparison = make(tmp_path, samplers=(), seeds=1, trials=2)
    entry = comparison.entries[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it has no heartbeat
        comparison.contender(entry).create().ask()  # this process lives, so it counts as running
    run(comparison)
    assert len(told(comparison)[entry.name]) == 0
    assert len(told(comparison)[comparison.entries[1].name]) == 2


def test_another_question_is_refused(done):
    changed = replace(done.search, metrics=("accuracy", "flops"))
    with pytest.raises(StudyMismatchError, match="metrics"):
        run(replace(done, search=changed))


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'nsga2'"):
        make(tmp_path, samplers=("nsga",))
    for settings in ({"seeds": 0}, {"trials": 0}):
        with pytest.raises(SettingError, match="at least 1"):
            make(tmp_path, **settings)
    with pytest.raises(SettingError, match="epochs must be more than 0"):
        replace(make(tmp_path), epochs=0.0)
    with pytest.raises(SettingError, match="nothing to compare"):
        make(tmp_path).outcome()


@pytest.mark.parametrize(
    ("fails", "kind", "text"),
    [
        (partial(make, samplers=("gone",)), UnknownNameError, "Unknown sampler 'gone'"),
        (lambda folder: folder / 0, WorkerError, "A worker failed: TypeError"),
    ],
)
def test_an_error_in_a_worker_is_handed_over(tmp_path, fails, kind, text):
    context = multiprocessing.get_context("spawn")
    errors = context.SimpleQueue()
    counts = context.Array("i", 6, lock=False)
    working.work(partial(fails, tmp_path), context.Value("i", 0), counts, errors, 1)
    error = errors.get()
    assert isinstance(error, kind)
    assert text in str(error)


TABLE = {"a": [], "b": [], "accuracy": [], "latency_ms": []}
for _a in range(8):
    for _b in range(8):
        TABLE["a"].append(_a)
        TABLE["b"].append(_b)
        TABLE["accuracy"].append(0.5 + 0.04 * _a + 0.02 * ((3 * _b) % 8))
        TABLE["latency_ms"].append(1.0 + _a + 0.5 * ((5 * _b) % 8))


def pair(trial):
    width = 4 + trial.suggest_int("a", 0, 7)
    net = nas.ArchitectureBuilder((1, 8, 8), 10)
    return net.build(
        net.classifier(net.conv2d(net.input, width, trial.suggest_int("b", 0, 7) + 1))
    )


def table_search(folder, **settings):
    return nas.Search(
        name="table",
        space=nas.spaces.FunctionSpace(pair, input_shape=(1, 8, 8), num_classes=10),
        evaluator=nas.evaluators.Tabular(TABLE),
        metrics=("accuracy", "latency_ms"),
        storage=f"sqlite:///{folder}/nas.db",
        **settings,
    )


def best_first(settings):
    """Better by construction: it draws from the true front."""
    front = nas.evaluators.Tabular(TABLE).true_front(("accuracy", "latency_ms"))

    class Best(RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            return front[(trial.number + settings.seed) % len(front)].params[name]

    return Best(seed=settings.seed)


def test_the_better_sampler_wins_and_a_copy_of_random_search_does_not(tmp_path, monkeypatch):
    def copy(settings):
        return SeededSampler(
            lambda seed: RandomSampler(seed=seed), name="copy", seed=settings.seed + 1000
        )

    monkeypatch.setitem(STRATEGIES, "best", Strategy("best", "", best_first))
    monkeypatch.setitem(STRATEGIES, "copy", Strategy("copy", "", copy))
    monkeypatch.delitem(STRATEGIES, "local")
    search = table_search(tmp_path)
    comparison = Comparison(search=search, samplers=["copy", "best"], seeds=7, trials=6)
    run(comparison)
    outcome = comparison.outcome()
    found = verdict(outcome)
    assert found.winner == "best"
    copied = next(p for p in outcome.pairs if {p.first, p.second} == {"copy", "random"})
    assert not copied.decided
    assert outcome.truth.source == "table"
    assert outcome.scores["best"].mean() <= outcome.true_hypervolume
    findings = comparison.findings()
    assert set(findings.importances["accuracy"]) == {"a", "b"}
    assert findings.importances["accuracy"]["a"] > findings.importances["accuracy"]["b"]
    assert [sheet.title for sheet in findings.sheets][-1] == "What the front has in common"


def test_the_truth_is_known_where_the_table_knows_all_that_is_asked(tmp_path):
    def truth(**settings):
        return known_truth(table_search(tmp_path, **settings).objective)

    none = {"max_layers": None, "max_parameters": None, "max_memory_mb": None}
    every = truth()
    assert every.front[0].tolist() == [pytest.approx(0.92), pytest.approx(8.5)]
    fast = truth(constraints=nas.SearchConstraints(max_latency_ms=5.0, **none))
    assert fast.front[:, 1].max() <= 5.0
    assert truth(constraints=nas.SearchConstraints(max_parameters=10)) is None
    assert known_truth(search_in(tmp_path).objective) is None


KILLED = """
import sys
from functools import partial
from pathlib import Path
from nas_optuna.comparison import run
from tests.test_comparison import make

if __name__ == "__main__":
    start = partial(make, Path(sys.argv[1]), trials=5, seconds=0.02)
    run(start(), workers=2, make=start)
"""


def finished(comparison):
    return sum(map(len, told(comparison).values()))


def test_a_comparison_killed_halfway_repeats_nothing(tmp_path):
    whole = make(tmp_path / "whole", trials=5)
    Path(tmp_path / "whole").mkdir()
    run(whole)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    comparison = make(tmp_path, trials=5)
    comparison.contender(comparison.entries[0]).create()
    child = subprocess.Popen(
        [sys.executable, script, tmp_path], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    began = time.monotonic()
    while finished(comparison) < 8:
        assert child.poll() is None
        assert time.monotonic() - began < 100
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    time.sleep(0.5)  # its workers notice
    before = finished(comparison)
    time.sleep(0.5)
    assert finished(comparison) == before < 30
    run(comparison)
    assert told(comparison) == told(whole)
    opened = nas.storage.open(comparison.search.storage)
    states = [
        t.state
        for name in optuna.get_all_study_names(opened)
        for t in optuna.load_study(study_name=name, storage=opened).trials
    ]
    assert states.count(TrialState.COMPLETE) == 30
    assert states.count(TrialState.FAIL) <= 2  # what each worker was at
    assert TrialState.RUNNING not in states


def test_create_is_what_a_contender_uses(done):
    assert repr(done.contender(done.entries[0])._sampler(6)) == repr(create("random", seed=0))
