"""A comparison in files: one page with all of it, Markdown, CSV and PNG pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_optuna.errors import SettingError
from nas_optuna.report.charts import Chart
from nas_optuna.report.comparison_charts import comparison_charts
from nas_optuna.report.comparison_tables import (
    Sheet,
    comparison_sheets,
    curves_csv,
    pairs_csv,
    runs_csv,
)
from nas_optuna.report.images import chart_png
from nas_optuna.report.importance import Choice, Shares
from nas_optuna.report.outcome import Outcome
from nas_optuna.report.page import Page
from nas_optuna.report.verdict import verdict
from nas_optuna.report.words import escape_markdown

_METHOD = (
    "Every sampler and seed is a study of its own. They share the cache of evaluations, yet each "
    "is charged for what it would have cost alone. Tests: Wilcoxon's signed-rank test over seeds "
    "at the level 0.05, corrected for all pairs (Holm), which decides a pair where its ranks are "
    "for the sampler with the better mean; A is Vargha and Delaney's effect size, "
    "the chance that a run of the first is better than one of the second; seeds to decide after "
    "Noether (1987) for a power of 80 %."
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What is written about a comparison.

    Args:
        title: What was compared.
        outcome: The numbers.
        importances: By objective, the share of each gene.
        choices: What the front has in common.
    """

    title: str
    outcome: Outcome
    importances: Shares
    choices: Sequence[Choice] = ()

    @property
    def sheets(self) -> list[Sheet]:
        """All tables."""
        return comparison_sheets(self.outcome, self.choices)

    @property
    def charts(self) -> list[Chart]:
        """All charts."""
        return comparison_charts(self.outcome, self.importances)


def comparison_html(findings: Findings) -> str:
    """One page with the verdict, all tables and all charts, that opens without network.

    Raises:
        SettingError: plotly is missing.
    """
    outcome = findings.outcome
    page = Page(findings.title)
    page.lead(verdict(outcome).text)
    first, *rest = findings.sheets
    page.section(
        first.title,
        page.table(first.headings, first.rows),
        page.text(outcome.ruler_text, note=True),
        page.text(_METHOD, note=True),
    )
    for chart in findings.charts:
        page.section(chart.title, page.chart(chart), page.text(chart.text, note=True))
    for sheet in rest:
        page.section(sheet.title, page.table(sheet.headings, sheet.rows))
    return page.html()


def comparison_markdown(findings: Findings) -> str:
    """The verdict and all tables as Markdown."""
    outcome = findings.outcome
    parts = [f"# {escape_markdown(findings.title)}", escape_markdown(verdict(outcome).text)]
    for sheet in findings.sheets:
        parts += [f"## {escape_markdown(sheet.title)}", sheet.markdown()]
    return "\n\n".join([*parts, escape_markdown(outcome.ruler_text), _METHOD]) + "\n"


def write_findings(findings: Findings, folder: Path) -> tuple[list[Path], list[str]]:
    """Write all files of a comparison.

    Args:
        findings: What is written.
        folder: Where to; made if it is not there.

    Returns:
        The files, and a line for each kind of file that was left out, with the reason.

    Raises:
        SettingError: The folder cannot be written.
    """
    outcome = findings.outcome
    texts: dict[str, Callable[[], str | bytes]] = {
        "comparison.html": lambda: comparison_html(findings),
        "comparison.md": lambda: comparison_markdown(findings),
        "runs.csv": lambda: runs_csv(outcome),
        "curves.csv": lambda: curves_csv(outcome),
        "pairs.csv": lambda: pairs_csv(outcome),
    }
    for chart in findings.charts:
        texts[f"{chart.name}.png"] = _drawing(chart)
    written, left_out = [], []
    for name, make in texts.items():
        try:
            content = make()
        except SettingError as error:  # an extra is missing
            left_out.append(str(error))
            continue
        written.append(_write(folder / name, content))
    return written, list(dict.fromkeys(left_out))


def _drawing(chart: Chart) -> Callable[[], bytes]:
    return lambda: chart_png(chart)


def _write(file: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise SettingError(f"Cannot write {str(file)!r}: {error.strerror}.") from error
    return file
