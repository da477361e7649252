"""How well a cheap evaluator agrees with full trainings, beside what the parameters alone say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study
from scipy.stats import kendalltau

from nas_optuna.recording import HEALTH

LEAST = 6  # networks, below which a rank correlation says next to nothing


@dataclass(frozen=True, slots=True)
class Taus:
    """Rank correlations with the accuracy after full training.

    Args:
        networks: How many were compared.
        proxy: Kendall's tau of the cheap score, in [-1, 1]; NaN if there is none.
        parameters: Kendall's tau of the number of parameters.
    """

    networks: int
    proxy: float
    parameters: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the full trainings of a study say of its cheap evaluator.

    Args:
        everywhere: Over all networks that were fully trained.
        top: Over those that were among the best quarter by their cheap score.
        reference: Name of the evaluator that trained them.
        epochs: What these trainings cost, in passes over the full training part.
        seconds: What they cost in wall-clock time.
        failed: Further trainings that failed.
    """

    everywhere: Taus
    top: Taus
    reference: str
    epochs: float
    seconds: float
    failed: int

    @property
    def useless(self) -> bool:
        """Whether the cheap score ranks no better than the number of parameters does."""
        taus = self.everywhere
        # A score that does not tell two networks apart has no tau, and says nothing.
        proxy, parameters = (
            0.0 if math.isnan(tau) else tau for tau in (taus.proxy, taus.parameters)
        )
        return taus.networks >= LEAST and proxy <= parameters


def agreement(study: Study) -> Agreement | None:
    """Read what was checked of a study's cheap evaluator; None if nothing was."""
    records = [v for k, v in study.user_attrs.items() if k.startswith(HEALTH) and v]
    told = [record for record in records if "accuracy" in record]
    failed = sum("failed" in record for record in records)
    if not told:
        return None
    spent = [record for record in told if not record["cached"]]
    return Agreement(
        everywhere=_taus(told),
        top=_taus([record for record in told if record["top"]]),
        reference=told[0]["reference"],
        epochs=sum(record["epochs"] for record in spent),
        seconds=sum(record["seconds"] for record in spent),
        failed=failed,
    )


def agreement_text(found: Agreement) -> str:
    """Say it in words, with a warning where the cheap score is of no use."""
    text = (
        f"Proxy health: {_count(found.everywhere.networks)} trained by {found.reference} "
        f"({found.epochs:g} epochs, {found.seconds:.1f} s). {_taus_text(found.everywhere)}"
    )
    if found.top.networks >= 2:
        text += (
            f"; {_count(found.top.networks)} of the best quarter: {_lower(_taus_text(found.top))}"
        )
    if found.failed:
        text += f"; {found.failed} further training{'s' * (found.failed > 1)} failed"
    text += "."
    if found.useless:
        text += (
            " The cheap score ranks no better than the number of parameters does: "
            "make it less cheap (more epochs, more data), or train in full."
        )
    elif found.everywhere.networks < LEAST:
        text += f" Fewer than {LEAST} say little."
    return text


def _taus_text(taus: Taus) -> str:
    return f"Kendall tau {_tau(taus.proxy)}, parameters alone {_tau(taus.parameters)}"


def _lower(text: str) -> str:
    return text.replace("Kendall tau", "tau")


def _tau(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _count(networks: int) -> str:
    return f"{networks} network{'' if networks == 1 else 's'}"


def _taus(records: Sequence[dict[str, float]]) -> Taus:
    truth = [record["accuracy"] for record in records]
    return Taus(
        networks=len(records),
        proxy=_correlation([record["score"] for record in records], truth),
        parameters=_correlation([record["parameters"] for record in records], truth),
    )


def _correlation(values: Sequence[float], truth: Sequence[float]) -> float:
    """Kendall's tau-b; NaN where either does not tell two networks apart."""
    if len(set(values)) < 2 or len(set(truth)) < 2:
        return math.nan
    return float(kendalltau(np.asarray(values), np.asarray(truth)).statistic)
