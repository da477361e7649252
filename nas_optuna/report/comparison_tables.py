"""The tables of a comparison: what each sampler reached and spent, and each pair of samplers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table

from nas_optuna.report.importance import Choice
from nas_optuna.report.indicators import best_curve, front_of
from nas_optuna.report.outcome import Outcome, budgets_spent
from nas_optuna.report.runs import BUDGETS, Run
from nas_optuna.report.scoring import FloatArray
from nas_optuna.report.tables import format_value, percent
from nas_optuna.report.words import escape_markdown


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of text.

    Args:
        title: What it shows.
        headings: Names of the columns.
        rows: Its cells.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Write as a Markdown table, all columns but the first flush right."""
        return markdown_table(self.headings, self.rows)

    def rich(self) -> Table:
        """Show on a terminal."""
        table = Table(
            title=self.title,
            title_style="bold",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for i, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if i else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table


def markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, flush: str = "---:"
) -> str:
    """Write cells as a table, in which Markdown shows their text as it is.

    Args:
        headings: One for each column.
        rows: The cells.
        flush: Rule of all columns but the first; by default they are flush right.
    """
    rule = ["---", *[flush] * (len(headings) - 1)]
    cells = ([escape_markdown(cell) for cell in row] for row in (headings, *rows))
    first, *others = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([first, f"| {' | '.join(rule)} |", *others])


def comparison_sheets(outcome: Outcome, choices: Sequence[Choice] = ()) -> list[Sheet]:
    """All tables of a comparison, in the order of a page."""
    sheets = [standings_sheet(outcome), spendings_sheet(outcome)]
    if len(budgets_spent(outcome)) > 1:
        sheets.append(budgets_sheet(outcome))
    if outcome.pairs:
        sheets.append(pairs_sheet(outcome))
    return [*sheets, choices_sheet(choices)] if choices else sheets


def standings_sheet(outcome: Outcome) -> Sheet:
    """What each sampler reached at the compared budget, the best first."""
    name, truth = outcome.metrics[0], outcome.true_hypervolume
    bests = outcome.bests(outcome.limits.budget)
    ranks = outcome.ranking.ranks if len(outcome.order) > 1 else {}
    rows = []
    for sampler in outcome.order:
        volumes, best = outcome.scores[sampler], bests[sampler]
        row = [sampler, _mean_and_quartiles(volumes)]
        row += [] if truth is None else [percent(volumes.mean() / truth, 1)]
        row += [_mean(name, best)]
        row += [] if outcome.optimum is None else [_regret(best, outcome.optimum)]
        row += [f"{ranks[sampler]:.2f}"] if ranks else []
        rows.append(tuple(row))
    headings = [
        "sampler",
        "hypervolume",
        *([] if truth is None else ["of the true"]),
        f"best {name}",
        *([] if outcome.optimum is None else ["regret"]),
        *(["rank"] if ranks else []),
    ]
    title = f"After {outcome.spent_text}, {outcome.seeds} seeds"
    return Sheet(title, tuple(headings), tuple(rows))


def spendings_sheet(outcome: Outcome) -> Sheet:
    """What each sampler spent and what became of its trials: means over seeds."""
    pruned = any(run.share("pruned") for run in outcome.runs)
    kinds = ("repeated", "pruned") if pruned else ("repeated",)
    rows = []
    for sampler in outcome.order:
        runs = outcome.by_sampler[sampler]
        totals = [np.mean([run.total(budget) for run in runs]) for budget in BUDGETS]
        shares = [
            np.mean([run.feasible.mean() for run in runs]),
            *(np.mean([run.share(kind) for run in runs]) for kind in kinds),
        ]
        sampling = np.mean([run.sampling.mean() for run in runs]) * 1e3
        row = [sampler, *(f"{total:,.0f}" for total in totals), *map(percent, shares)]
        rows.append((*row, f"{sampling:.1f}"))
    spent = ("trials", "networks", "epochs", "seconds")
    title = "Spent per seed, alone (ms: of the sampler, per trial)"
    return Sheet(title, ("sampler", *spent, "feasible", *kinds, "ms"), tuple(rows))


def budgets_sheet(outcome: Outcome) -> Sheet:
    """Mean hypervolume when each budget was spent, as far as every run has spent it."""
    ends = budgets_spent(outcome)
    volumes = {budget: outcome.hypervolumes(budget) for budget in ends}
    rows = tuple(
        (sampler, *(f"{volumes[budget][sampler].mean():.4f}" for budget in ends))
        for sampler in outcome.order
    )
    headings = ("sampler", *(f"{end:,.0f} {budget}" for budget, end in ends.items()))
    return Sheet("Mean hypervolume after", headings, rows)


def pairs_sheet(outcome: Outcome) -> Sheet:
    """Each pair of samplers, the surest difference first."""
    rows = tuple(
        (
            f"{pair.first} > {pair.second}",
            f"{pair.difference:+.4f}",
            f"{pair.effect:.2f}",
            "< 0.001" if pair.p_value < 0.001 else f"{pair.p_value:.3f}",
            "yes" if pair.decided else "no",
            "-" if pair.seeds is None or pair.decided else f"{pair.seeds:,}",
        )
        for pair in sorted(outcome.pairs, key=lambda pair: pair.p_value)
    )
    headings = ("pair", "median difference", "A", "p (Holm)", "decided", "seeds to decide")
    return Sheet("Each pair, seed by seed", headings, rows)


def choices_sheet(choices: Sequence[Choice], limit: int = 15) -> Sheet:
    """What the members of the front have in common."""
    rows = tuple(
        (choice.gene, str(choice.answer), percent(choice.share), percent(choice.usual))
        for choice in choices[:limit]
    )
    headings = ("gene", "most frequent", "on the front", "in all feasible networks")
    return Sheet("What the front has in common", headings, rows)


def runs_csv(outcome: Outcome) -> str:
    """One line for each study, numbers in full."""
    name = outcome.metrics[0]
    headings = [
        "sampler", "seed", *BUDGETS, "hypervolume", f"best_{name}", "front", "feasible",
        "repeated", "pruned", "sampler_seconds",
    ]  # fmt: skip
    return _csv(headings, (_run_row(outcome, run) for run in outcome.runs))


def _run_row(outcome: Outcome, run: Run) -> list[object]:
    return [
        run.sampler, run.seed, *(run.total(budget) for budget in BUDGETS),
        float(outcome.volumes(run)[-1]), _known(best_curve(run, outcome.metrics)[-1]),
        len(front_of(run.values, outcome.metrics)), float(run.feasible.mean()),
        run.share("repeated"), run.share("pruned"), round(float(run.sampling.sum()), 6),
    ]  # fmt: skip


def curves_csv(outcome: Outcome) -> str:
    """One line for each trial of each study, with what was reached and spent by then."""
    headings = ["sampler", "seed", *BUDGETS, "kind", "hypervolume", f"best_{outcome.metrics[0]}"]

    def rows() -> Iterable[list[object]]:
        for run in outcome.runs:
            volumes, bests = outcome.volumes(run), best_curve(run, outcome.metrics)
            for i, kind in enumerate(run.kinds):
                spent = [float(run.spent[budget][i]) for budget in BUDGETS]
                reached = [float(volumes[i]), _known(bests[i])]
                yield [run.sampler, run.seed, *spent, kind, *reached]

    return _csv(headings, rows())


def pairs_csv(outcome: Outcome) -> str:
    """One line for each pair of samplers."""
    headings = ["first", "second", "median_difference", "effect_a", "p_holm", "seeds_to_decide"]
    rows = (
        [p.first, p.second, p.difference, p.effect, p.p_value, "" if p.seeds is None else p.seeds]
        for p in outcome.pairs
    )
    return _csv(headings, rows)


def _csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()


def _known(value: float) -> object:
    return float(value) if np.isfinite(value) else ""


def _mean_and_quartiles(values: FloatArray) -> str:
    low, high = np.quantile(values, [0.25, 0.75])
    return f"{values.mean():.4f} ({low:.4f}\N{EN DASH}{high:.4f})"


def _mean(name: str, values: FloatArray) -> str:
    found = values[np.isfinite(values)]
    if not len(found):
        return "-"
    mean = float(found.mean())
    text = f"{mean:.4f}" if name == "accuracy" else format_value(name, mean)
    return text + _of_seeds(found, values)


def _regret(values: FloatArray, optimum: float) -> str:
    found = values[np.isfinite(values)]
    if not len(found):
        return "-"
    return f"{abs(optimum - float(found.mean())):.4f}{_of_seeds(found, values)}"


def _of_seeds(found: FloatArray, values: FloatArray) -> str:
    """Say of how many seeds a mean is, where some found nothing."""
    return "" if len(found) == len(values) else f" ({len(found)} of {len(values)} seeds)"
