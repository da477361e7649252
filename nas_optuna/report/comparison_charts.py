"""The charts of a comparison: for each, the numbers that are drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nas_optuna.metrics import METRICS
from nas_optuna.report.charts import (
    INK,
    Bars,
    Chart,
    Curve,
    Interval,
    Mark,
    Panel,
    Spread,
    palette,
)
from nas_optuna.report.indicators import attainment, front_of
from nas_optuna.report.outcome import Outcome, budgets_spent
from nas_optuna.report.runs import KINDS
from nas_optuna.report.scoring import FloatArray

_GENES = 15  # most genes in the chart of importances
AXES = {
    "trials": "finished trials",
    "evaluations": "networks judged",
    "epochs": "epochs",
    "seconds": "seconds of evaluations and sampler",
}
_KIND_COLOURS = dict(
    zip(KINDS, ("#0072b2", "#56b4e9", "#e69f00", "#cbd5e1", "#64748b"), strict=True)
)


def comparison_charts(
    outcome: Outcome, importances: Mapping[str, Mapping[str, float]]
) -> list[Chart]:
    """All charts of a comparison, in the order of a page.

    Args:
        outcome: What was found.
        importances: By objective, the share of each gene; see `gene_importances`.
    """
    charts = [hypervolume_chart(outcome), best_chart(outcome)]
    if len(outcome.metrics) > 1:
        charts.append(attainment_chart(outcome))
    charts.append(final_chart(outcome))
    if len(outcome.order) > 1:
        charts.append(ranking_chart(outcome))
    charts.append(cost_chart(outcome))
    if any(importances.values()):
        charts.append(importance_chart(importances))
    return charts


def hypervolume_chart(outcome: Outcome) -> Chart:
    """Hypervolume over each budget: mean and quartiles over seeds."""
    panels = []
    for budget in budgets_spent(outcome):
        marks = _bands(outcome, budget, best=False)
        if outcome.true_hypervolume is not None:
            marks.append(_level("true front", marks, outcome.true_hypervolume))
        panels.append(Panel(AXES[budget], "hypervolume", tuple(marks)))
    text = f"Mean over {outcome.seeds} seeds, and the band that holds the middle half of them."
    return Chart("hypervolume", "Hypervolume over what was spent", text, tuple(panels))


def best_chart(outcome: Outcome) -> Chart:
    """Best value of the first objective over each budget: mean and quartiles over seeds."""
    name = outcome.metrics[0]
    panels = []
    for budget in budgets_spent(outcome):
        marks = _bands(outcome, budget, best=True)
        if outcome.optimum is not None:
            marks.append(_level("optimum", marks, outcome.optimum))
        panels.append(Panel(AXES[budget], f"best {name}", tuple(marks)))
    text = "From where every seed has a feasible network on."
    return Chart(f"best_{name}", f"Best {name} over what was spent", text, tuple(panels))


def _bands(outcome: Outcome, budget: str, *, best: bool) -> list[Curve]:
    colours = palette(outcome.by_sampler)
    curves = []
    for name in outcome.by_sampler:
        get = outcome.best_band if best else outcome.hypervolume_band
        band = get(name, budget)
        curves.append(
            Curve(name, band.spent, band.mean, band.low, band.high, colours[name], step=True)
        )
    return curves


def _level(name: str, curves: list[Curve], value: float) -> Curve:
    places = np.concatenate([curve.x for curve in curves])
    ends = np.array([places.min(), places.max()]) if len(places) else np.array([0.0, 1.0])
    return Curve(name, ends, np.array([value, value]), dashed=True)


def attainment_chart(outcome: Outcome) -> Chart:
    """Median attainment surfaces: the first objective against each other one."""
    panels = []
    for other in range(1, len(outcome.metrics)):
        pair = (outcome.metrics[0], outcome.metrics[other])
        marks: list[Mark] = []
        colours = palette(outcome.by_sampler)
        for name, runs in outcome.by_sampler.items():
            fronts = [outcome.reached(run)[:, [0, other]] for run in runs]
            for percentile in (50.0, 25.0, 75.0):
                surface = attainment(fronts, pair, percentile)
                marks.append(_stairs(name, surface, colours[name], thin=percentile != 50))
        known = outcome.front if outcome.truth is None else outcome.truth.front
        whose = "all runs" if outcome.truth is None else "true front"
        marks.append(_stairs(whose, front_of(known[:, [0, other]], pair), INK, dashed=True))
        panels.append(Panel(_label(pair[1]), _label(pair[0]), tuple(marks)))
    text = (
        f"After {outcome.spent_text}. A median surface (solid) is attained by half of the seeds; "
        "the dotted ones by a quarter and by three quarters."
    )
    return Chart("attainment", "What the fronts attain", text, tuple(panels))


def _stairs(
    name: str, front: FloatArray, colour: str, *, dashed: bool = False, thin: bool = False
) -> Curve:
    """A front from the cheapest member on: a value holds until the next member is affordable."""
    x, y = front[::-1, 1], front[::-1, 0]
    return Curve(name, x, y, colour=colour, step=True, dashed=dashed, thin=thin)


def _label(name: str) -> str:
    unit = METRICS[name].unit
    return f"{name} ({unit})" if unit else name


def final_chart(outcome: Outcome) -> Chart:
    """What each seed reached at the compared budget."""
    colours = palette(outcome.by_sampler)
    bests = outcome.bests(outcome.limits.budget)
    columns = {"hypervolume": outcome.scores, f"best {outcome.metrics[0]}": bests}
    panels = [
        Panel("", label, tuple(Spread(n, reached[n], colours[n]) for n in outcome.order))
        for label, reached in columns.items()
    ]
    text = f"At {outcome.spent_text}; each point is a seed."
    return Chart("final", "What each seed reached", text, tuple(panels))


def ranking_chart(outcome: Outcome) -> Chart:
    """Mean ranks over seeds, with half of the critical difference to each side."""
    colours = palette(outcome.by_sampler)
    ranking = outcome.ranking
    half = ranking.critical / 2
    marks = [
        Interval(name, rank, rank - half, rank + half, colours[name])
        for name, rank in ranking.ranks.items()
    ]
    text = (
        f"1 is best. Samplers whose bars overlap differ by less than Nemenyi's critical "
        f"difference of {ranking.critical:.2f}, which may be chance."
    )
    panel = Panel("mean rank over seeds", "", tuple(marks))
    return Chart("ranking", "Ranking", text, (panel,), columns=1)


def cost_chart(outcome: Outcome) -> Chart:
    """What became of the trials, and where the time went: means over seeds."""
    names = tuple(outcome.by_sampler)

    def mean(values: Mapping[str, list[float]]) -> tuple[float, ...]:
        return tuple(float(np.mean(values[name])) for name in names)

    trials: list[Mark] = []
    for kind in KINDS:
        shares = mean({n: [run.share(kind) for run in outcome.by_sampler[n]] for n in names})
        if any(shares):
            trials.append(Bars(kind, names, shares, _KIND_COLOURS[kind]))
    sampling = {
        n: [float(run.sampling.mean()) * 1e3 for run in outcome.by_sampler[n]] for n in names
    }
    judging = {
        n: [run.total("seconds") - float(run.sampling.sum()) for run in outcome.by_sampler[n]]
        for n in names
    }
    panels = (
        Panel("", "share of trials", tuple(trials)),
        Panel("", "seconds of evaluations, per seed", (Bars("", names, mean(judging)),)),
        Panel("", "milliseconds of the sampler, per trial", (Bars("", names, mean(sampling)),)),
    )
    text = (
        "A network is charged what its evaluation cost, also where another study had paid for "
        "it, and once per study unless it is judged again: other repeated trials are free, "
        "infeasible ones are not trained, but for those that miss a limit on accuracy."
    )
    return Chart("cost", "Where trials and time went", text, panels, columns=3)


def importance_chart(importances: Mapping[str, Mapping[str, float]]) -> Chart:
    """How much each gene decides each objective."""
    panels = []
    for name, shares in importances.items():
        if shares:
            largest = sorted(shares.items(), key=lambda item: -item[1])[:_GENES]
            genes, values = zip(*largest, strict=True)
            bars = Bars("", tuple(genes), tuple(values), INK)
            panels.append(Panel("importance", "", (bars,), title=name, flat=True))
    text = (
        "PED-ANOVA: how much a gene decides whether a network is among the best tenth in one "
        "objective."
    )
    return Chart("importance", "Which genes mattered", text, tuple(panels), columns=3)
