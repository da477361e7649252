"""The report of one study: the question, its front, what it cost and what was ruled out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.constraints import LIMITS, SearchConstraints
from nas_optuna.errors import SettingError
from nas_optuna.report import statistics
from nas_optuna.report.agreement import agreement, agreement_text
from nas_optuna.report.comparison_charts import importance_chart
from nas_optuna.report.comparison_tables import Sheet, choices_sheet
from nas_optuna.report.document import (
    Block,
    Code,
    Document,
    Facts,
    Folded,
    Section,
    Subheading,
    Text,
    document_html,
    document_markdown,
)
from nas_optuna.report.importance import common_choices, study_importances
from nas_optuna.report.infeasibility import (
    Broken,
    broken_limits,
    infeasibility_text,
    other_reasons,
)
from nas_optuna.report.landscape import landscape
from nas_optuna.report.spending import Spending, spending
from nas_optuna.report.study_charts import curves_chart, front_chart, front_cloud, growth_chart
from nas_optuna.report.study_networks import front_table, network_blocks
from nas_optuna.report.tables import (
    Record,
    format_limit,
    format_value,
    pareto_records,
    percent,
)

_REASONS = 10  # most frequent ones that are listed
_NUMBERS = 12  # trials that are named beside a reason
_COMMON = "What the front has in common"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a study was asked, as far as only its study file knows.

    Args:
        title: Name of the study.
        facts: The question, as names and texts.
        runs: How and where its trials were run: a heading, and names and texts.
        genes: The questions of the space, and their answers, in words.
        commands: Commands that repeat the study, or the ways it was run.
        repeats: Whether the commands, one after the other, repeat it.
        source: Text of the study file.
        constraints: The limits.
        weights: Weight of each metric in the score.
        caveats: What to know of the commands.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    runs: Sequence[tuple[str, Sequence[tuple[str, str]]]] = ()
    genes: Sequence[tuple[str, str]] = ()
    commands: Sequence[str] = ()
    repeats: bool = True
    source: str = ""
    constraints: SearchConstraints | None = None
    weights: Mapping[str, float] | None = None
    caveats: Sequence[str] = field(default=())

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are on, by name."""
        return self.constraints.limits if self.constraints else {}


def write_study_report(study: Study, asked: Asked, file: Path) -> list[Path]:
    """Write the report of a study as an HTML page, and as Markdown beside it.

    Args:
        study: The study.
        asked: What it was asked.
        file: The page.

    Returns:
        Both files.

    Raises:
        SettingError: A file cannot be written, or plotly is missing.
        StorageError: A trial of the front holds an architecture that is not JSON.
    """
    document = study_document(study, asked)
    texts = {
        file: document_html(document),
        file.with_suffix(".md"): document_markdown(document),
    }
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingError(f"Cannot write {str(path)!r}: {error.strerror}.") from error
    return list(texts)


def study_document(study: Study, asked: Asked) -> Document:
    """Put the report of a study together.

    Args:
        study: The study, in any state.
        asked: What it was asked.

    Raises:
        StorageError: A trial of the front holds an architecture that is not JSON.
    """
    return _Report(study, asked).document


class _Report:
    """The sections of a report, each made from a study and what it was asked."""

    def __init__(self, study: Study, asked: Asked) -> None:
        self.study = study
        self.asked = asked
        self.trials = study.get_trials(deepcopy=False)
        self.names = statistics.metric_names(study)
        limits, weights = asked.constraints, asked.weights
        self.records = pareto_records(study, weights=weights, constraints=limits)

    @cached_property
    def complete(self) -> list[FrozenTrial]:
        """Trials that finished and were not stopped early."""
        return [trial for trial in self.trials if trial.state is TrialState.COMPLETE]

    @cached_property
    def pruned(self) -> int:
        """How many finished trials were stopped early."""
        return sum(trial.state is TrialState.PRUNED for trial in self.trials)

    @cached_property
    def spent(self) -> Spending:
        return spending(self.study)

    @cached_property
    def front(self) -> str:
        return "front" if len(self.names) > 1 else "best network"

    @property
    def document(self) -> Document:
        sections = [Section("The question", tuple(self.question()))]
        if self.records:
            sections.append(
                Section(f"The {self.front}", tuple(front_table(self.trials, self.records)))
            )
            sections.append(Section("Networks", tuple(self.networks)))
        sections += [Section(chart.title, (chart,)) for chart in self.charts()]
        if self.complete:
            sections += self.importance()
            sections.append(Section("Limits", tuple(self.limits())))
        sections.append(Section("Trials and what they cost", tuple(self.costs())))
        health = agreement(self.study)
        if health is not None:
            sections.append(Section("Proxy health", (Text(agreement_text(health)),)))
        return Document(f"Study {self.asked.title}", self.lead, tuple(sections))

    @property
    def lead(self) -> str:
        """What was found, in a sentence or two."""
        total = len(self.complete) + self.pruned
        if not total:
            return "No trial has finished yet."
        if not self.complete:
            were = "was" if total == 1 else "were"
            return f"No trial has run to its end; {total:,} {were} stopped early."
        done = f"{total:,} finished trial{'s' * (total > 1)}"
        done += f", {self.pruned:,} of them stopped early" if self.pruned else ""
        if not self.records:
            comma = "," if self.pruned else ""
            return f"None of {done}{comma} is feasible; see Limits below."
        members = len(self.records)
        if len(self.names) == 1:
            record = self.records[0]
            return f"Best of {done}: trial {record['number']}, {self.told(record)}."
        text = f"{members:,} network{'s' * (members > 1)} on the Pareto front of {done}."
        if self.records[0]["score"] is None:
            return text
        best = self.records[0]
        return f"{text} Best score: trial {best['number']}, {self.told(best)}."

    def told(self, record: Record) -> str:
        """The values of a member of the front, in words."""
        values = record["values"].items()
        return ", ".join(f"{name} {format_value(name, value)}" for name, value in values)

    def question(self) -> Iterator[Block]:
        yield Facts(tuple(self.asked.facts))
        for title, facts in self.asked.runs:
            yield Subheading(title)
            yield Facts(tuple(facts))
        if self.asked.commands:
            what = "To repeat it" if self.asked.repeats else "How it was run"
            yield Subheading(f"{what}, with the study file below")
            yield Code("\n".join(self.asked.commands))
        yield from (Text(caveat, note=True) for caveat in self.asked.caveats)
        if self.asked.genes:
            sheet = Sheet("", ("gene", "choices"), tuple(self.asked.genes))
            yield Folded(f"The {len(self.asked.genes)} genes of the space", (sheet,))
        if self.asked.source:
            yield Folded("The study file", (Code(self.asked.source),))

    @property
    def networks(self) -> Iterator[Block]:
        return network_blocks(self.study, self.records, self.asked.constraints)

    def charts(self) -> Iterator[Any]:
        """Of trials that were all stopped early there are learning curves alone."""
        if self.complete:
            seen = landscape(self.study)
            yield front_chart(seen)
            cloud = front_cloud(seen)
            if cloud is not None:
                yield cloud
            yield growth_chart(self.study)
        if self.complete or self.pruned:
            yield curves_chart(self.study)

    def importance(self) -> Iterator[Section]:
        """Which genes mattered, and what the members of the front have in common."""
        shares = study_importances(self.study)
        if any(shares.values()):
            chart = importance_chart(shares)
            table = Folded("As a table", (_importance_sheet(shares),))
            yield Section(chart.title, (chart, table))
        feasible = [trial.params for trial in self.complete if statistics.is_feasible(trial)]
        choices = common_choices([r["params"] for r in self.records], feasible)
        if len(self.records) > 1 and choices:
            sheet = choices_sheet(choices)
            yield Section(_COMMON, (Sheet("", sheet.headings, sheet.rows),))

    def limits(self) -> Iterator[Block]:
        yield Text(infeasibility_text(self.complete, self.asked.limits))
        broken = broken_limits(self.complete, self.asked.limits)
        if broken:
            rows = tuple((b.name, f"{b.known:,}", *_limit_cells(b)) for b in broken)
            yield Sheet(
                "", ("limit", "trials known", "value", "broken by", "lets half pass"), rows
            )
        others = other_reasons(self.complete, self.asked.limits)
        if others:
            listed = tuple((why, f"{count:,}") for why, count in others.most_common(_REASONS))
            yield Sheet("Other reasons", ("reason", "trials"), listed)

    def costs(self) -> Iterator[Block]:
        yield Facts(tuple(self.spent.rows))
        if self.spent.failures:
            rows = [
                (why, f"{len(numbers):,}", _numbers(numbers))
                for why, numbers in list(self.spent.failures.items())[:_REASONS]
            ]
            yield Sheet("Failed trials", ("reason", "trials", "numbers"), tuple(rows))
            yield Text(f"{self.spent.retries:,} of them were repeated.", note=True)


def _importance_sheet(shares: Mapping[str, Mapping[str, float]]) -> Sheet:
    rows = [
        (gene, name, f"{share:.2f}")
        for name, of in shares.items()
        for gene, share in sorted(of.items(), key=lambda item: -item[1])[:5]
    ]
    return Sheet("The five largest of each objective", ("gene", "objective", "share"), tuple(rows))


def _limit_cells(broken: Broken) -> tuple[str, str, str]:
    metric = LIMITS[broken.name]
    return format_limit(metric, broken.limit), percent(broken.share), broken.half_text


def _numbers(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _NUMBERS:,} more" if len(numbers) > _NUMBERS else ""
    return ", ".join(map(str, numbers[:_NUMBERS])) + more
