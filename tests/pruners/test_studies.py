"""Every pruner in studies of three objectives, with every strategy, by two processes."""

from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

import nas_optuna as nas
from nas_optuna.spaces import MacroSpace
from nas_optuna.storage import EvaluationCache, EvaluationKey
from tests.pruners import workers
from tests.pruners.workers import PRUNERS, search, two


def check(study, evaluator):
    """Nothing failed; what was pruned says what it cost, and none of it passes for a result."""
    trials = study.get_trials()
    assert {t.state.name for t in trials} <= {"COMPLETE", "PRUNED"}
    cache, identity = EvaluationCache.of(study._storage), evaluator.identity()
    finished = {t.user_attrs["nas:digest"] for t in trials if t.state is TrialState.COMPLETE}
    pruned = [t for t in trials if t.state is TrialState.PRUNED]
    for t in pruned:
        attrs = t.user_attrs
        assert t.values is None
        assert attrs["nas:epochs"] == len(attrs["nas:curve"]) >= 1
        assert attrs["nas:seconds"] >= 0
        assert attrs["nas:notes"] == {"stopped": "pruned"}
        assert t.constraints["max_parameters"] <= 0
        assert t.system_attrs["constraints"]
        if "nas:cached" not in attrs:
            curve = [t.intermediate_values[epoch] for epoch in sorted(t.intermediate_values)]
            assert attrs["nas:curve"] == pytest.approx(curve, abs=1e-6)
        digest = attrs["nas:digest"]
        if digest not in finished:  # another worker may have been at it
            key = (evaluator.fingerprint, str(identity["data"]), identity["seed"])
            assert cache.get(EvaluationKey(digest, *key)) is None
    return pruned


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("random", "nsga2")]


@pytest.mark.parametrize("sampler", ["tpe", *SLOW])
def test_every_pruner_in_two_processes(sampler, storage_url):
    for name, pruner in PRUNERS.items():
        search(storage_url, sampler, pruner, name=name).create()
    two(workers.optimize_all, storage_url, sampler)
    pruned = 0
    for name, pruner in PRUNERS.items():
        made = search(storage_url, sampler, pruner, name=name)
        study = made.load()
        assert len(study.get_trials()) == 8
        pruned += len(check(study, made.evaluator))
        assert isinstance(study.pruner, optuna.pruners.NopPruner)
    assert pruned > 0  # which trials, is up to the two processes


@pytest.mark.parametrize(
    ("sampler", "name"),
    [("tpe", "pareto"), pytest.param("nsga2", "hyperband", marks=pytest.mark.slow)],
)
def test_real_training_in_two_processes(sampler, name, storage_url):
    evaluator = nas.evaluators.FullTraining("digits", epochs=3, batch_size=256)
    made = search(storage_url, sampler, PRUNERS[name], name=name, evaluator=evaluator, trials=4)
    made = replace(made, metrics=("accuracy", "latency_ms", "parameters"))
    made.create()
    two(workers.optimize, made)
    study = made.load()
    assert len(study.get_trials()) == 8
    for t in check(study, evaluator):
        assert t.user_attrs["nas:latency"]["median_ms"] > 0
        assert t.user_attrs["nas:epochs"] <= 3
    assert nas.report.study_hypervolume(study, made.constraints) > 0


def test_what_was_pruned_is_not_trained_again(tmp_path):
    """A space of two networks, both always pruned."""
    tiny = MacroSpace(
        (1, 8, 8), 10, min_layers=1, max_layers=1, operations=("conv",), widths=(8, 16),
        kernel_sizes=(1,), strides=(1,), activations=("relu",), connections=("sequential",),
        batch_norm=(True,),
    )  # fmt: skip
    made = search(
        f"sqlite:///{tmp_path}/nas.db",
        "random",
        optuna.pruners.ThresholdPruner(lower=1.0),
        name="s",
        trials=12,
    )
    made = replace(made, space=tiny)
    study = made.create()
    made.optimize(study)
    assert len(made.evaluator.judged) == 2
    trials = study.get_trials()
    assert {t.state.name for t in trials} == {"PRUNED"}
    assert sum("nas:cached" in t.user_attrs for t in trials) == 10
    assert {t.user_attrs["nas:epochs"] for t in trials} == {1}
    # Nor does a budget of trainings wait for ever for a third network.
    made.optimize(study, evaluations=1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pruner": "median"}, "must be an Optuna pruner or nas.pruners.ParetoPruner"),
        ({"metrics": ("flops", "parameters")}, "goes by the accuracy, which is none of"),
    ],
)
def test_a_pruner_that_cannot_work_is_refused(change, says):
    made = search("sqlite:///nas.db", "random", PRUNERS["pareto"], name="s")
    with pytest.raises(nas.errors.SettingError, match=says):
        _ = replace(made, **change).objective


class Broken(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        raise RuntimeError("no quantile")


def test_a_fault_of_the_pruner_is_not_taken_for_the_networks(tmp_path):
    made = search(f"sqlite:///{tmp_path}/nas.db", "random", Broken(), name="s")
    with pytest.raises(nas.errors.SettingError, match="The pruner Broken failed: no quantile"):
        made.optimize(made.create())
