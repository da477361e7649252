"""Draw charts for a page in a browser, by plotly (extra `dashboard`)."""

from __future__ import annotations

from html import escape
from itertools import product
from typing import TYPE_CHECKING, Any

from nas_optuna.errors import SettingError
from nas_optuna.report.charts import (
    INK,
    Bars,
    Chart,
    Cloud,
    Curve,
    Interval,
    Mark,
    Panel,
    Points,
    Spread,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_PANEL_HEIGHT = 330
_CLOUD_HEIGHT = 560
_GRID = "#e2e8f0"
_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": INK}


def plotly_figure(chart: Chart) -> Figure:
    """Draw a chart as a plotly figure.

    Raises:
        SettingError: plotly is missing.
    """
    graph_objects, subplots = _plotly()
    figure = subplots.make_subplots(
        rows=chart.rows,
        cols=chart.width,
        subplot_titles=[_plain(panel.title) for panel in chart.panels],
        horizontal_spacing=0.14 / max(chart.width - 1, 1),
        vertical_spacing=0.24 / max(chart.rows - 1, 1),
    )
    named: set[str] = set()
    places = product(range(1, chart.rows + 1), range(1, chart.width + 1))
    for panel, (row, column) in zip(chart.panels, places, strict=False):
        for mark in panel.marks:
            for trace in _traces(graph_objects, mark, panel, first=mark.name not in named):
                figure.add_trace(trace, row=row, col=column)
            if not (isinstance(mark, Curve) and mark.thin):
                named.add(mark.name)
        kinds = ["log" if is_log else None for is_log in panel.logarithmic]
        figure.update_xaxes(title_text=_plain(panel.x), type=kinds[0], row=row, col=column)
        figure.update_yaxes(title_text=_plain(panel.y), type=kinds[1], row=row, col=column)
        if any(isinstance(mark, Interval) for mark in panel.marks) or panel.flat:
            figure.update_yaxes(autorange="reversed", row=row, col=column)
    _style(figure, chart)
    return figure


def cloud_figure(cloud: Cloud) -> Figure:
    """Draw points in space as a plotly figure; the browser needs WebGL.

    Raises:
        SettingError: plotly is missing.
    """
    graph_objects, _ = _plotly()
    figure = graph_objects.Figure(
        [_points(graph_objects, mark, first=True) for mark in cloud.marks]
    )
    axes = {
        f"{name}axis": {
            "title": {"text": _plain(label)},
            "type": "log" if is_log else None,
            "gridcolor": _GRID,
            "showbackground": False,
            "zeroline": False,
        }
        for name, label, is_log in zip("xyz", cloud.axes, cloud.logarithmic, strict=True)
    }
    figure.update_layout(
        template="none",
        height=_CLOUD_HEIGHT,
        margin={"l": 0, "r": 0, "t": 20, "b": 0},
        font=_FONT,
        legend={"orientation": "h", "y": 0, "yanchor": "top", "itemsizing": "constant"},
        paper_bgcolor="rgba(0,0,0,0)",
        scene={
            **axes,
            "aspectmode": "cube",
            "camera": {"eye": {"x": 1.6, "y": -1.6, "z": 0.7}, "center": {"z": -0.15}},
        },
    )
    return figure


def _plotly() -> tuple[Any, Any]:
    try:
        from plotly import graph_objects, subplots
    except ImportError:
        raise SettingError(
            "Figures on a page need plotly: pip install 'nas-optuna[dashboard]'"
        ) from None
    return graph_objects, subplots


def _style(figure: Any, chart: Chart) -> None:
    stacked = any(isinstance(mark, Bars) for panel in chart.panels for mark in panel.marks)
    figure.update_layout(
        template="none",
        height=_PANEL_HEIGHT * chart.rows + 70,
        margin={"l": 70, "r": 20, "t": 40, "b": 60},
        font=_FONT,
        legend={"orientation": "h", "y": -0.25 / chart.rows, "yanchor": "top"},
        barmode="stack" if stacked else None,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
    )
    axis = {"gridcolor": _GRID, "zeroline": False, "automargin": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)


def _traces(graph_objects: Any, mark: Mark, panel: Panel, *, first: bool) -> list[Any]:
    if isinstance(mark, Curve):
        return _curve(graph_objects, mark, first=first)
    if isinstance(mark, Points):
        return [_points(graph_objects, mark, first=first)]
    if isinstance(mark, Spread):
        return [_spread(graph_objects, mark)]
    if isinstance(mark, Bars):
        return [_bars(graph_objects, mark, flat=panel.flat, first=first)]
    return [_interval(graph_objects, mark)]


def _curve(graph_objects: Any, mark: Curve, *, first: bool) -> list[Any]:
    shape = "hv" if mark.step else "linear"
    traces = []
    if mark.low is not None and mark.high is not None:
        edge = {"width": 0, "shape": shape, "color": mark.colour}
        same = {"x": mark.x, "line": edge, "mode": "lines", "hoverinfo": "skip"}
        group = {"legendgroup": mark.name, "showlegend": False}
        traces = [
            graph_objects.Scatter(y=mark.low, **same, **group),
            graph_objects.Scatter(
                y=mark.high, fill="tonexty", fillcolor=_faint(mark.colour), **same, **group
            ),
        ]
    line = {
        "color": mark.colour,
        "shape": shape,
        "width": 1 if mark.thin else 2,
        "dash": "dot" if mark.thin else "dash" if mark.dashed else "solid",
    }
    traces.append(
        graph_objects.Scatter(
            x=mark.x,
            y=mark.y,
            line=line,
            mode="lines",
            name=_plain(mark.name),
            legendgroup=mark.name,
            showlegend=first and not mark.thin and bool(mark.name),
        )
    )
    return traces


def _points(graph_objects: Any, mark: Points, *, first: bool) -> Any:
    options: dict[str, Any] = {
        "x": mark.x,
        "y": mark.y,
        "mode": "lines+markers" if mark.joined else "markers",
        "name": _plain(mark.name),
        "legendgroup": mark.name,
        "showlegend": first and bool(mark.name),
        "marker": {"color": mark.colour, "size": mark.size, "symbol": mark.symbol},
        "line": {"color": mark.colour, "width": 1},
    }
    if mark.texts:  # in which plotly would read tags
        texts = [_plain(text).replace("\n", "<br>") for text in mark.texts]
        options |= {"hovertext": texts, "hoverinfo": "text"}
    if mark.z is None:
        return graph_objects.Scatter(**options)
    return graph_objects.Scatter3d(**options, z=mark.z)


def _spread(graph_objects: Any, mark: Spread) -> Any:
    return graph_objects.Box(
        y=mark.values, name=_plain(mark.name), boxpoints="all", jitter=0.4, pointpos=0,
        line={"color": mark.colour, "width": 1.5}, marker={"size": 5, "opacity": 0.7},
        fillcolor=_faint(mark.colour), showlegend=False,
    )  # fmt: skip


def _bars(graph_objects: Any, mark: Bars, *, flat: bool, first: bool) -> Any:
    categories, values = [_plain(name) for name in mark.categories], list(mark.values)
    where = {"x": values, "y": categories} if flat else {"x": categories, "y": values}
    return graph_objects.Bar(
        **where,
        orientation="h" if flat else "v",
        name=_plain(mark.name),
        marker={"color": mark.colour},
        legendgroup=mark.name,
        showlegend=first and bool(mark.name),
    )


def _interval(graph_objects: Any, mark: Interval) -> Any:
    around = {
        "type": "data",
        "symmetric": False,
        "array": [mark.high - mark.value],
        "arrayminus": [mark.value - mark.low],
        "thickness": 3,
        "width": 0,
    }
    return graph_objects.Scatter(
        x=[mark.value], y=[_plain(mark.name)], error_x=around, mode="markers",
        name=_plain(mark.name),
        marker={"color": mark.colour, "size": 11}, showlegend=False,
    )  # fmt: skip


def _plain(text: str) -> str:
    """Text in which plotly finds no tags."""
    return escape(text, quote=False)


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"
