"""Which genes mattered: found where it is known which do."""

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from nas_optuna.report.importance import common_choices, gene_importances, study_importances

GENES = {f"gene{i}": CategoricalDistribution([0, 1, 2, 3]) for i in range(4)}


def trials(n=300, **constraints):
    """Accuracy is decided by gene0, latency by gene1 and a little by gene2."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        params = {name: int(rng.integers(4)) for name in GENES}
        accuracy = 0.5 + 0.1 * params["gene0"] + 0.01 * rng.random()
        latency = 1.0 + params["gene1"] + 0.2 * params["gene2"]
        yield create_trial(
            values=[accuracy, latency], params=params, distributions=GENES, **constraints
        )


def study_of(made):
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials(made)
    return study


def test_the_gene_that_decides_is_found_for_each_direction():
    found = study_importances(study_of(trials()))
    accuracy, latency = found["value_0"], found["value_1"]
    assert max(accuracy, key=accuracy.get) == "gene0"
    assert accuracy["gene0"] > 0.9
    assert max(latency, key=latency.get) == "gene1"
    assert list(latency)[:2] == ["gene1", "gene2"]


def test_infeasible_trials_and_too_few_say_nothing():
    study = study_of(trials(30, constraints={"limit": 1.0}))
    assert study_importances(study) == {"value_0": {}, "value_1": {}}
    few = study_of(trials(5))
    assert gene_importances(few.trials, few.directions, ["a", "b"]) == {"a": {}, "b": {}}


def test_a_constant_objective_has_no_important_gene():
    made = [
        create_trial(values=[0.5, float(i)], params=t.params, distributions=GENES)
        for i, t in enumerate(trials(20))
    ]
    assert study_importances(study_of(made))["value_0"] == {}


def test_choices_in_common_stand_before_those_everybody_makes():
    front = [{"a": 1, "b": 5, "c": i} for i in range(4)]
    rest = [{"a": 0, "b": 5, "c": 9} for _ in range(12)]
    first, *others = common_choices(front, [*front, *rest])
    assert (first.gene, first.answer, first.share, first.usual) == ("a", 1, 1.0, 0.25)
    assert others[-1].gene == "b"
