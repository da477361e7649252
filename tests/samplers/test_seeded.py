"""Each draw is a function of (study seed, draw index), whoever draws and in whatever order."""

import optuna
import pytest

from nas_optuna import samplers

CHOICES = list(range(100))
STRATEGIES = ["random", "tpe", "nsga2"]


def formula(trial):
    x, y = (trial.suggest_categorical(name, CHOICES) for name in "xy")
    return x - y, x * y


def make(strategy="random", seed=0, storage=None):
    return optuna.create_study(
        study_name="s",
        storage=storage,
        load_if_exists=True,
        directions=["maximize", "minimize"],
        sampler=samplers.create(strategy, seed=seed, trials=80),
    )


def params(study):
    return [trial.params for trial in study.get_trials(deepcopy=False)]


@pytest.fixture
def sequential():
    study = make()
    study.optimize(formula, n_trials=30)
    return params(study)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_seed_gives_one_history(strategy):
    histories = []
    for seed in (1, 1, 2):
        study = make(strategy, seed)
        study.optimize(formula, n_trials=25)
        histories.append(params(study))
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_threads_draw_what_one_would(sequential):
    study = make()
    study.optimize(formula, n_trials=30, n_jobs=3)
    assert params(study) == sequential


def test_reseeding_changes_nothing(sequential):
    study = make()
    for _ in range(30):
        study.sampler.reseed_rng()
        study.optimize(formula, n_trials=1)
    assert params(study) == sequential


def test_trials_asked_side_by_side_draw_what_they_would_alone(sequential):
    study = make()
    trials = [study.ask() for _ in range(30)]
    for name in "yx":
        for trial in reversed(trials):
            trial.suggest_categorical(name, CHOICES)
    assert params(study) == sequential


def test_workers_of_one_seed_do_not_repeat_each_other():
    storage = optuna.storages.InMemoryStorage()
    workers = [make(storage=storage) for _ in range(3)]
    for _ in range(10):
        for worker in workers:
            worker.optimize(formula, n_trials=1)
    drawn = {(p["x"], p["y"]) for p in params(workers[0])}
    assert len(drawn) >= 29  # of 10,000: two equal pairs have a chance below 0.1 %


def test_draws_are_uniform():
    study = make()
    study.optimize(formula, n_trials=500)
    for name in "xy":
        mean = sum(p[name] for p in params(study)) / 500
        assert abs(mean - 49.5) < 5.2  # 4 standard errors of a mean of 500 uniform draws


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_enqueued_parameters_are_kept(strategy):
    study = make(strategy)
    study.enqueue_trial({"x": 42})
    study.optimize(formula, n_trials=3)
    assert params(study)[0]["x"] == 42
