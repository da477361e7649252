"""What mattered: which genes decide an objective, and which choices the front has in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from nas_optuna.report import statistics
from nas_optuna.report.scoring import FloatArray

Shares: TypeAlias = Mapping[str, Mapping[str, float]]
"""By objective, the share of each gene in deciding it."""

_LEAST = 10  # feasible trials; of fewer the best tenth is none


@dataclass(frozen=True, slots=True)
class Choice:
    """What most members of a front answer to one question.

    Args:
        gene: The question.
        answer: The most frequent answer on the front.
        share: Share of the front that gave it, in [0, 1].
        usual: Share of all feasible networks that gave it, in [0, 1].
    """

    gene: str
    answer: object
    share: float
    usual: float


def gene_importances(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """How much each gene decides whether a network is among the best tenth of an objective.

    By PED-ANOVA (Watanabe et al. 2023), from feasible trials. Random draws tell most about a
    space; of a strategy's trials, the importance is that of the region it searched.

    Args:
        trials: Finished trials of one study or of several.
        directions: Directions of the objectives.
        names: Names of the objectives.

    Returns:
        By objective, the share of each gene, in [0, 1], largest first; empty if there are too
        few feasible trials, or if an objective is the same for all.
    """
    feasible = [trial for trial in trials if statistics.is_feasible(trial) and trial.params]
    if len(feasible) < _LEAST:
        return {name: {} for name in names}
    losses = statistics.minimised(statistics.values_of(feasible), directions)
    study = _quiet_study()
    study.add_trials(
        [
            optuna.trial.create_trial(value=0.0, params=t.params, distributions=t.distributions)
            for t in feasible
        ]
    )
    return {
        name: _importances(study, column) for name, column in zip(names, losses.T, strict=True)
    }


def _importances(study: Study, losses: FloatArray) -> dict[str, float]:
    if losses.min() == losses.max():
        return {}
    # Its trials are in memory and nobody else's: a study for each objective would take long.
    for trial, loss in zip(study.get_trials(deepcopy=False), losses.tolist(), strict=True):
        trial.value = loss
    # Without a target: with one, the evaluator takes the smallest values for the best.
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {gene: float(share) for gene, share in found.items()}


def _quiet_study() -> Study:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="minimize")
    finally:
        optuna.logging.set_verbosity(before)


def study_importances(study: Study) -> dict[str, dict[str, float]]:
    """`gene_importances` of one study."""
    trials = study.get_trials(deepcopy=False)
    return gene_importances(trials, study.directions, statistics.metric_names(study))


def common_choices(
    front: Sequence[Mapping[str, object]], all_params: Sequence[Mapping[str, object]]
) -> list[Choice]:
    """What the members of a front have in common, what sets them apart most first.

    Args:
        front: Genomes of the front.
        all_params: Genomes of all feasible networks, those of the front among them.

    Example:
        >>> front = [{"kernel": 3, "width": 8}, {"kernel": 3, "width": 64}]
        >>> usual = [*front, {"kernel": 5, "width": 8}, {"kernel": 7, "width": 8}]
        >>> common_choices(front, usual)[0]
        Choice(gene='kernel', answer=3, share=1.0, usual=0.5)
    """
    choices = []
    for gene in dict.fromkeys(gene for params in front for gene in params):
        answer, count = Counter(p[gene] for p in front if gene in p).most_common(1)[0]
        usual = sum(params.get(gene) == answer for params in all_params) / len(all_params)
        choices.append(Choice(gene, answer, count / len(front), usual))
    return sorted(choices, key=lambda choice: choice.usual - choice.share)
