"""The charts of one study as plotly figures with a title, to be shown outside of our pages."""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING

from nas_optuna.report.charts import Chart, Cloud
from nas_optuna.report.landscape import landscape
from nas_optuna.report.plots import cloud_figure, plotly_figure
from nas_optuna.report.study_charts import curves_chart, front_chart, front_cloud, growth_chart

if TYPE_CHECKING:
    from optuna.study import Study
    from plotly.graph_objects import Figure

_LINE_LENGTH = 120  # characters; plotly does not wrap
_LINE_HEIGHT = 20  # pixels


def front_figures(study: Study) -> list[Figure]:
    """The Pareto front in two dimensions and, of three objectives or more, in three.

    Raises:
        SettingError: plotly is missing.
    """
    seen = landscape(study)
    cloud = front_cloud(seen)
    figures = [titled(front_chart(seen))]
    return figures if cloud is None else [*figures, titled(cloud)]


def hypervolume_figure(study: Study) -> Figure:
    """Hypervolume over trials and what they cost; of a single objective, the best value.

    Raises:
        SettingError: plotly is missing.
    """
    return titled(growth_chart(study))


def curves_figure(study: Study) -> Figure:
    """Learning curves, with where trainings were stopped early.

    Raises:
        SettingError: plotly is missing.
    """
    return titled(curves_chart(study))


def titled(chart: Chart | Cloud) -> Figure:
    """Draw a chart with its title and how to read it above.

    Raises:
        SettingError: plotly is missing.
    """
    figure = cloud_figure(chart) if isinstance(chart, Cloud) else plotly_figure(chart)
    lines = textwrap.wrap(escape(chart.text), _LINE_LENGTH)
    title = f"{escape(chart.title)}<br><sup>{'<br>'.join(lines)}</sup>"
    head = (2 + len(lines)) * _LINE_HEIGHT
    figure.update_layout(
        title={"text": title, "x": 0.01, "y": 1, "yanchor": "top", "pad": {"t": 14}},
        margin_t=figure.layout.margin.t + head,
        height=figure.layout.height + head,
    )
    return figure
