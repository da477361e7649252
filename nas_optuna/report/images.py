"""Draw charts into PNG files, by matplotlib (extra `plots`); no browser is needed."""

from __future__ import annotations

import io
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_optuna.errors import SettingError
from nas_optuna.report.charts import (
    INK,
    Bars,
    Chart,
    Curve,
    Interval,
    Mark,
    Panel,
    Points,
    Spread,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES = (5.4, 3.5)  # of a panel
_DPI = 120


def chart_png(chart: Chart) -> bytes:
    """Draw a chart; returns the content of a PNG file.

    Raises:
        SettingError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SettingError(
            "Figures as PNG need matplotlib: pip install 'nas-optuna[plots]'"
        ) from None
    size = (_INCHES[0] * max(chart.width, 1.3), _INCHES[1] * chart.rows + 0.8)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor="white")
    axes = np.atleast_1d(figure.subplots(chart.rows, chart.width)).ravel()
    for ax, panel in zip_longest(axes, chart.panels):
        if panel is None:
            ax.set_axis_off()
        else:
            _draw_panel(ax, panel)
    figure.suptitle(_plain(chart.title), fontsize=13, color=INK)
    entries = {  # by name, so that panels share one legend
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center",
            ncols=min(len(entries), 6), frameon=False,
        )  # fmt: skip
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def _draw_panel(ax: Axes, panel: Panel) -> None:
    ax.set(xlabel=_plain(panel.x), ylabel=_plain(panel.y), title=_plain(panel.title))
    ax.grid(color="#e2e8f0", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    stack: dict[str, float] = {}
    for place, mark in enumerate(panel.marks):
        if isinstance(mark, Curve):
            _draw_curve(ax, mark)
        elif isinstance(mark, Points):
            _draw_points(ax, mark)
        elif isinstance(mark, Bars):
            _draw_bars(ax, mark, stack, flat=panel.flat)
        else:
            _draw_group(ax, mark, place)
    _name_groups(ax, panel.marks)
    if panel.flat:
        ax.invert_yaxis()
    curves = [np.asarray(mark.x) for mark in panel.marks if isinstance(mark, Curve)]
    if curves and not panel.logarithmic[0] and all(np.all(x == np.round(x)) for x in curves):
        ax.locator_params(axis="x", integer=True)  # no half epochs or trials
    scales = zip(("xscale", "yscale"), panel.logarithmic, strict=True)
    ax.set(**{name: "log" for name, is_log in scales if is_log})  # "linear" would rename ticks


def _draw_curve(ax: Axes, mark: Curve) -> None:
    style = ":" if mark.thin else "--" if mark.dashed else "-"
    ax.plot(
        mark.x, mark.y, style, color=mark.colour, linewidth=0.9 if mark.thin else 1.8,
        drawstyle="steps-post" if mark.step else "default",
        label=None if mark.thin else _plain(mark.name),
    )  # fmt: skip
    if mark.low is not None and mark.high is not None:
        ax.fill_between(
            mark.x, mark.low, mark.high, color=mark.colour, alpha=0.16, linewidth=0,
            step="post" if mark.step else None,
        )  # fmt: skip


def _draw_points(ax: Axes, mark: Points) -> None:
    ax.plot(
        mark.x, mark.y, "-" if mark.joined else "", marker={"circle": "o", "x": "x"}[mark.symbol],
        color=mark.colour, markersize=0.7 * mark.size, linewidth=0.9,
        label=_plain(mark.name) or None,
    )  # fmt: skip


def _draw_bars(ax: Axes, mark: Bars, stack: dict[str, float], *, flat: bool) -> None:
    before = [stack.get(category, 0.0) for category in mark.categories]
    label = _plain(mark.name) or None
    categories = [_plain(category) for category in mark.categories]
    if flat:
        ax.barh(categories, mark.values, left=before, color=mark.colour, label=label)
    else:
        ax.bar(categories, mark.values, bottom=before, color=mark.colour, label=label)
    for category, value in zip(mark.categories, mark.values, strict=True):
        stack[category] = stack.get(category, 0.0) + value


def _draw_group(ax: Axes, mark: Spread | Interval, place: int) -> None:
    if isinstance(mark, Interval):
        ax.hlines(place, mark.low, mark.high, color=mark.colour, linewidth=3)
        ax.plot(mark.value, place, "o", color=mark.colour, markersize=8)
        return
    values = mark.values[np.isfinite(mark.values)]
    line: dict[str, Any] = {"color": mark.colour, "linewidth": 1.4}
    ax.boxplot(
        [values], positions=[place], widths=0.5, showfliers=False, manage_ticks=False,
        boxprops=line, medianprops=line, whiskerprops=line, capprops=line,
    )  # fmt: skip
    shift = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(len(values))
    ax.plot(place + shift, values, "o", color=mark.colour, markersize=4, alpha=0.7)


def _name_groups(ax: Axes, marks: tuple[Mark, ...]) -> None:
    names = [_plain(mark.name) for mark in marks if isinstance(mark, Spread | Interval)]
    if not names:
        return
    if isinstance(marks[0], Interval):
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
    else:
        ax.set_xticks(range(len(names)), names)
