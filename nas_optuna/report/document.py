"""A report as a list of blocks, written as one HTML page and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nas_optuna.report.charts import Chart, Cloud
from nas_optuna.report.comparison_tables import Sheet, markdown_table
from nas_optuna.report.page import Page
from nas_optuna.report.plots import cloud_figure
from nas_optuna.report.words import escape_markdown


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; a note is smaller."""

    text: str
    note: bool = False


@dataclass(frozen=True, slots=True)
class Subheading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What something is: names and texts, one below the other."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines that are shown as they are, such as commands."""

    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """An SVG drawing that this package made, and what it shows in words."""

    svg: str
    words: str


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks that a page shows on a click."""

    summary: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Cards:
    """Groups of blocks that a page puts side by side."""

    cards: tuple[tuple[Block, ...], ...]


Block: TypeAlias = (
    Text | Subheading | Facts | Code | Drawing | Folded | Cards | Sheet | Chart | Cloud
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what is below it."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A report.

    Args:
        title: Its heading.
        lead: What matters most, in a sentence or two.
        sections: The rest.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]


def document_html(document: Document) -> str:
    """One page that opens without network; nothing in a text becomes a tag.

    Raises:
        SettingError: plotly is missing.
    """
    page = Page(document.title)
    page.lead(document.lead)
    for section in document.sections:
        page.section(section.heading, *_html(page, section.blocks))
    return page.html()


def _html(page: Page, blocks: Iterable[Block]) -> list[str]:
    return [_block_html(page, block) for block in blocks]


def _block_html(page: Page, block: Block) -> str:
    if isinstance(block, Folded):
        return page.folded(block.summary, *_html(page, block.blocks))
    if isinstance(block, Cards):
        return page.cards("\n".join(_html(page, card)) for card in block.cards)
    if isinstance(block, Chart):
        return page.chart(block) + page.text(block.text, note=True)
    if isinstance(block, Cloud):
        return page.figure(cloud_figure(block), late=True) + page.text(block.text, note=True)
    return _text_html(page, block)


def _text_html(page: Page, block: Text | Subheading | Facts | Code | Drawing | Sheet) -> str:
    if isinstance(block, Text):
        return page.text(block.text, note=block.note)
    if isinstance(block, Subheading):
        return page.subheading(block.text)
    if isinstance(block, Facts):
        return page.facts(block.rows)
    if isinstance(block, Code):
        return page.code(block.text)
    if isinstance(block, Drawing):
        return page.drawing(block.svg)
    return (page.text(block.title) if block.title else "") + page.table(block.headings, block.rows)


def document_markdown(document: Document) -> str:
    """The same without pictures; a drawing becomes its words."""
    parts = [f"# {escape_markdown(document.title)}", escape_markdown(document.lead)]
    for section in document.sections:
        below = _markdown(section.blocks)
        if below:
            parts += [f"## {escape_markdown(section.heading)}", *below]
    return "\n\n".join(parts) + "\n"


def _markdown(blocks: Sequence[Block]) -> list[str]:
    return [part for block in blocks for part in _block_markdown(block)]


def _block_markdown(block: Block) -> list[str]:
    if isinstance(block, Chart | Cloud):
        return []
    if isinstance(block, Folded):
        return [f"### {escape_markdown(block.summary)}", *_markdown(block.blocks)]
    if isinstance(block, Cards):
        return [part for card in block.cards for part in _markdown(card)]
    if isinstance(block, Sheet):
        title = [f"{escape_markdown(block.title)}:"] if block.title else []
        return [*title, block.markdown()]
    return [_text_markdown(block)]


def _text_markdown(block: Text | Subheading | Facts | Code | Drawing) -> str:
    if isinstance(block, Subheading):
        return f"### {escape_markdown(block.text)}"
    if isinstance(block, Code):
        return "\n".join(f"    {line}" for line in block.text.splitlines())
    if isinstance(block, Facts):
        return markdown_table(("", ""), block.rows, flush="---")
    return escape_markdown(block.words if isinstance(block, Drawing) else block.text)
