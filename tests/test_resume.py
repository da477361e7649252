"""Killed with -9 and resumed equals never killed, trial for trial."""

import multiprocessing
import signal
import time
from dataclasses import replace

import optuna
import pytest

import nas_optuna as nas
from nas_optuna.spaces import MacroSpace
from nas_optuna.storage import ownership
from tests.formula import Formula

TRIALS = 30
STRATEGIES = ("random", "tpe", "nsga2")
FINISHED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)


SPACE = MacroSpace((1, 8, 8), 10, max_layers=4, widths=(8, 16))
TINY = MacroSpace(
    (1, 8, 8), 10, min_layers=1, max_layers=2, operations=("conv",), widths=(8, 16),
    kernel_sizes=(1, 3), strides=(1,), activations=("relu",), connections=("sequential",),
    batch_norm=(True,), max_skip=0,
)  # fmt: skip


def search(url, sampler, evaluator, *, space=SPACE, name="s") -> nas.Search:
    return nas.Search(
        name=name,
        space=space,
        evaluator=evaluator,
        metrics=("accuracy", "flops", "parameters"),
        constraints=nas.SearchConstraints(max_parameters=3000, max_latency_ms=None),
        sampler=sampler,
        trials=TRIALS,
        storage=url,
    )


def run_until_killed(url, sampler, kill_at, **options):
    made = search(url, sampler, Formula(kill_at=kill_at), **options)
    made.optimize(made.create())


def killed_process(target, *args, **options):
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=args, kwargs=options
    )
    process.start()
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    return process


def history(study):
    return [
        (t.params, t.values, t.constraints, t.user_attrs)
        for t in study.get_trials()
        if t.state in FINISHED
    ]


def finish(made):
    study = made.load()
    made.optimize(study, trials=TRIALS - len(history(study)))
    return study


@pytest.mark.parametrize("sampler", STRATEGIES)
def test_killed_and_resumed_equals_never_killed(sampler, storage_url):
    never = search(storage_url, sampler, Formula(), name="never killed")
    # A study of its own, and an evaluation cache that an earlier run has not filled.
    whole = never.create()
    killed = search(storage_url, sampler, Formula(), name="killed")
    killed_process(run_until_killed, storage_url, sampler, 6, name="killed")
    (dead,) = killed.load().get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert dead.params
    killed_process(run_until_killed, storage_url, sampler, 4, name="killed")
    resumed = finish(killed)

    never.optimize(whole)
    expected, got = history(whole), history(resumed)
    assert len(expected) == len(got) == TRIALS
    for a, b in zip(expected, got, strict=True):
        assert a[:3] == b[:3]
    states = [t.state.name for t in resumed.get_trials()]
    assert states.count("FAIL") == 2
    assert "RUNNING" not in states
    assert "WAITING" not in states


def test_a_collapsed_study_takes_the_same_ways_out(tmp_path):
    """The way out of repeats is a function of the finished trials too."""
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("never", "killed")]
    never, killed = (search(url, "tpe", Formula(), space=TINY) for url in urls)
    whole = never.create()
    never.optimize(whole)
    killed_process(run_until_killed, urls[1], "tpe", 9, space=TINY)
    resumed = finish(killed)
    assert [h[:3] for h in history(whole)] == [h[:3] for h in history(resumed)]
    assert any(t.user_attrs.get("nas:escape") for t in whole.get_trials())


def train_until_killed(url):
    made = search(url, "nsga2", nas.evaluators.FullTraining("digits", epochs=1))
    study = made.create()
    ours = []

    def watch(study, trial):
        ours.append(trial.number)

    made.optimize(study, callbacks=[watch])


def test_real_training_killed_at_any_moment(tmp_path):
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("never", "killed")]
    evaluator = nas.evaluators.FullTraining("digits", epochs=1)
    never, killed = (replace(search(url, "nsga2", evaluator)) for url in urls)
    whole = never.create()
    never.optimize(whole)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train_until_killed, args=(urls[1],))
    process.start()
    study = None
    while process.is_alive():
        time.sleep(0.05)
        if study is None:
            try:
                study = killed.load()
            except nas.errors.NasOptunaError:
                continue
        if len(history(study)) >= 8:
            process.kill()
            process.join()
    assert process.exitcode == -signal.SIGKILL
    before = history(study)
    resumed = finish(killed)
    assert [h[:2] for h in history(resumed)][: len(before)] == [h[:2] for h in before]
    assert [h[:3] for h in history(whole)] == [h[:3] for h in history(resumed)]


def test_another_worker_that_lives_is_left_alone(storage_url):
    made = search(storage_url, "random", Formula())
    study = made.create()
    running = study.ask()  # of this process, which lives
    assert ownership.reap(study) == []
    made.optimize(made.load(), trials=3)
    assert study.get_trials()[running.number].state is optuna.trial.TrialState.RUNNING
