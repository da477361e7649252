"""Self-contained HTML pages: everything is in the one file, so that it opens without network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from nas_optuna.report.charts import Chart
from nas_optuna.report.plots import plotly_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f8fafc; color: #1e293b;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { margin: 0 0 4px; font-size: 28px; }
h2 { margin: 0 0 8px; font-size: 20px; }
h3 { margin: 24px 0 4px; font-size: 16px; }
p { margin: 0 0 12px; max-width: 78ch; }
.lead { font-size: 18px; border-left: 4px solid #0072b2; padding-left: 14px; }
.note { color: #64748b; font-size: 14px; }
section { margin-top: 28px; padding: 20px; background: #fff; border: 1px solid #e2e8f0;
          border-radius: 10px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 8px 0 12px; font-size: 14px;
        font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; border-bottom: 1px solid #e2e8f0; text-align: right;
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: #64748b; font-weight: 600; }
.facts th, .facts td { text-align: left; white-space: normal; vertical-align: top; }
.facts th { padding-left: 0; min-width: 9em; }
.cards { display: grid; gap: 16px; margin-top: 12px;
         grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); }
article { padding: 0 16px; border: 1px solid #e2e8f0; border-radius: 8px; min-width: 0; }
article h3 { margin-top: 14px; }
.plotly-graph-div { margin-bottom: 8px; }
.drawing { overflow: auto; max-height: 640px; margin: 8px 0 16px; }
pre { padding: 10px 14px; background: #f1f5f9; border-radius: 6px; overflow-x: auto;
      font-size: 13px; }
summary { cursor: pointer; color: #0072b2; margin: 4px 0; }
img, svg { max-width: 100%; }
""".strip()

# After the text is there, one figure after the other, so that the page can be read meanwhile.
_DRAW = """
(() => {
  const waiting = [...document.querySelectorAll('script[type="application/json"]')];
  const draw = (place) => {
    const figure = JSON.parse(place.nextElementSibling.textContent);
    const config = {displaylogo: false, responsive: true};
    return Plotly.newPlot(place, figure.data, figure.layout, config);
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((entry) => entry.isIntersecting)) {
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  });
  const next = () => {
    const source = waiting.shift();
    if (!source) return;
    const place = source.previousElementSibling;
    if (place.classList.contains('late')) {
      seen.observe(place);
      next();
    } else {
      draw(place).then(() => setTimeout(next));
    }
  };
  setTimeout(next);
})();
""".strip()


class Page:
    """A page that is put together section by section.

    Args:
        title: Heading, and title of the browser's tab.

    Example:
        >>> page = Page("digits")
        >>> page.section("Front", page.table(["trial", "accuracy"], [["6", "0.986"]]))
        >>> "<td>0.986</td>" in page.html()
        True
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = []
        self._figures = 0

    def lead(self, text: str) -> None:
        """Put what matters most below what is there."""
        self._parts.append(f'<p class="lead">{escape(text)}</p>')

    def section(self, heading: str, *blocks: str) -> None:
        """Put a section below what is there.

        Args:
            heading: Its heading.
            blocks: What the methods below gave.
        """
        inside = "\n".join(blocks)
        self._parts.append(f"<section>\n<h2>{escape(heading)}</h2>\n{inside}\n</section>")

    def text(self, text: str, *, note: bool = False) -> str:
        """A paragraph; a note is smaller."""
        return f'<p class="note">{escape(text)}</p>' if note else f"<p>{escape(text)}</p>"

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        """A table of text; all columns but the first are flush right."""
        head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
        body = "\n".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        return (
            f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody>\n</table></div>"
        )

    def subheading(self, text: str) -> str:
        """A heading inside a section."""
        return f"<h3>{escape(text)}</h3>"

    def facts(self, rows: Iterable[Sequence[str]]) -> str:
        """Names and texts, one below the other."""
        body = "\n".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows
        )
        return f'<table class="facts">\n{body}\n</table>'

    def code(self, text: str) -> str:
        """Lines that are shown as they are."""
        return f"<pre>{escape(text)}</pre>"

    def folded(self, summary: str, *blocks: str) -> str:
        """Blocks that a click on their summary shows."""
        inside = "\n".join(blocks)
        return f"<details>\n<summary>{escape(summary)}</summary>\n{inside}\n</details>"

    def cards(self, cards: Iterable[str]) -> str:
        """Groups of blocks side by side, where there is room for that."""
        inside = "\n".join(f"<article>\n{card}\n</article>" for card in cards)
        return f'<div class="cards">\n{inside}\n</div>'

    def chart(self, chart: Chart) -> str:
        """A chart that can be zoomed and read point by point.

        Raises:
            SettingError: plotly is missing.
        """
        return self.figure(plotly_figure(chart))

    def figure(self, figure: Figure, *, late: bool = False) -> str:
        """Any plotly figure; a late one is drawn when it is scrolled to."""
        self._figures += 1
        height = figure.layout.height  # kept free, so that nothing moves when it is drawn
        return (
            f'<div id="figure-{self._figures}" class="plotly-graph-div{" late" * late}" '
            f'style="height: {height or 450:g}px"></div>\n'
            f'<script type="application/json">{figure.to_json()}</script>'  # without any "<"
        )

    def picture(self, png: bytes, description: str) -> str:
        """A PNG picture."""
        data = base64.b64encode(png).decode()
        return f'<img alt="{escape(description)}" src="data:image/png;base64,{data}">'

    def drawing(self, svg: str) -> str:
        """An SVG drawing that this package made; it is not escaped."""
        return f'<div class="drawing">{svg[svg.index("<svg") :]}</div>'

    def html(self) -> str:
        """The whole page as one document; plotly's code is in it where a figure needs it."""
        script = ""
        if self._figures:
            from plotly.offline import get_plotlyjs

            script = f"<script>{get_plotlyjs()}</script>\n<script>{_DRAW}</script>\n"
        body = "\n".join(self._parts)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self._title)}</title>\n"
            '<link rel="icon" href="data:,">\n'  # or a browser asks the server for one
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
            f"<h1>{escape(self._title)}</h1>\n{body}\n</main>\n{script}</body>\n</html>\n"
        )
