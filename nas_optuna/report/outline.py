"""What a picture shows of an architecture: its nodes as cards, scopes as groups, repeats once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from nas_optuna.architecture import INPUT, Architecture
from nas_optuna.report.labels import TIMES, kind, label, shape_text
from nas_optuna.report.repeats import (
    Item,
    Repeat,
    Scope,
    fitting_owners,
    fold_repeats,
    items_of,
    merge_fittings,
)

_TO = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Card:
    """A node as it is drawn.

    Args:
        name: Name of the node; of the first one if it stands for several.
        parts: Its operation in a few words.
        shape: Its output shape.
        caption: What it is called where it stands; empty where that says nothing new.
        kind: One of `labels.KINDS`.
        details: All that is known of it, in one line.
    """

    name: str
    parts: tuple[str, ...]
    shape: str
    caption: str
    kind: str
    details: str


@dataclass(frozen=True, slots=True)
class Group:
    """A scope: a box around cards and other groups, `times` of them in a chain."""

    title: str
    times: int
    children: tuple[Card | Group, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """An edge between two cards.

    Args:
        source: Name of the card it leaves.
        target: Name of the card it enters.
        count: How often the target takes the source, mostly once.
        skip: Whether the source reaches the target on another way too.
    """

    source: str
    target: str
    count: int
    skip: bool


@dataclass(frozen=True, slots=True)
class Outline:
    """All that is drawn, before it has a place: a tree of groups, and the edges."""

    root: Group
    links: tuple[Link, ...]


def outline(architecture: Architecture) -> Outline:
    """Find what to draw of an architecture.

    Example:
        >>> from nas_optuna import ArchitectureBuilder
        >>> net = ArchitectureBuilder((1, 8, 8), num_classes=10)
        >>> x = net.conv2d(net.input, 8)
        >>> for i in range(5):
        ...     with net.scope(f"block{i}"):
        ...         x = net.add(net.conv2d(x, 8), x)
        >>> drawn = outline(net.build(net.classifier(x)))
        >>> [group.times for group in drawn.root.children if isinstance(group, Group)]
        [5]
    """
    items = items_of(architecture.nodes, architecture.shapes)
    items, repeats = fold_repeats(merge_fittings(items))
    head = Card(INPUT, (INPUT,), shape_text(architecture.input_shape), "", INPUT, INPUT)
    return Outline(Group("", 1, (head, *_children(items, 0, repeats))), tuple(_links(items)))


def _children(
    items: Sequence[Item], depth: int, repeats: Mapping[Scope, Repeat]
) -> list[Card | Group]:
    children: list[Card | Group] = []
    for scopes, group in groupby(items, lambda it: it.scopes[: depth + 1]):
        members = list(group)
        if len(scopes) <= depth:
            children += [_card(it, depth) for it in members]
            continue
        repeat = repeats.get(scopes[depth], Repeat(1, scopes[depth].name))
        title = _title(scopes[depth].name, repeat.last)
        children.append(_unwrapped(title, repeat.times, _children(members, depth + 1, repeats)))
    return children


def _unwrapped(title: str, times: int, children: Sequence[Card | Group]) -> Card | Group:
    """A group, or its one child under the group's name: a box around one thing tells nothing."""
    child = children[0]
    if len(children) > 1 or times > 1:
        return Group(title, times, tuple(children))
    if isinstance(child, Group):
        return replace(child, title=f"{title}.{child.title}")
    return replace(child, caption=title)


def _title(first: str, last: str) -> str:
    stem = first.rstrip("0123456789")
    if first == last:
        return first
    if stem == last.rstrip("0123456789"):
        return f"{first}{_TO}{last.removeprefix(stem)}"
    return f"{first} {_TO} {last}"


def _card(item: Item, depth: int) -> Card:
    parts = [_range(same) for same in zip(*_labels(item), strict=True)]
    number = f"{item.times}{TIMES} " if item.times > 1 else ""
    local = item.name.split(".", depth)[-1].split(".", 1)[-1]  # fittings without their owner
    telling = local.rstrip("0123456789") not in item.operation and kind(item.operation) != "join"
    shape = TIMES.join(_range(map(str, sorted(sizes))) for sizes in zip(*item.shapes, strict=True))
    settings = " or ".join(
        ", ".join(f"{name}={value}" for name, value in pairs) for pairs in item.settings
    )
    return Card(
        name=item.name,
        parts=(number + parts[0], *parts[1:]),
        shape=shape,
        caption=local if telling else "",
        kind=kind(item.operation) if item.used else "unused",
        details=f"{number}{item.name}: {item.operation}({settings}) -> {shape}",
    )


def _labels(item: Item) -> list[list[str]]:
    return [label(item.operation, dict(settings)) for settings in item.settings]


def _range(texts: Iterable[str]) -> str:
    """One text, or the first and the last where several differ, common words once."""
    different = list(dict.fromkeys(texts))
    if len(different) == 1:
        return different[0]
    common, _, last = different[-1].rpartition(" ")
    return f"{different[0]}{_TO}{last if different[0].startswith(common) else different[-1]}"


def _links(items: Sequence[Item]) -> list[Link]:
    above: dict[str, set[str]] = {INPUT: set()}  # by name, all that a node depends on
    for item in items:
        above[item.name] = set(item.inputs).union(*(above[name] for name in item.inputs))
    owner = fitting_owners(items)
    inputs = {item.name: item.inputs for item in items}

    def skips(source: str, target: str) -> bool:
        """Whether another input of what the edge leads to depends on its source."""
        came_from = source
        while target in owner:
            came_from, target = target, owner[target]
        return any(source in above[name] for name in inputs[target] if name != came_from)

    links: list[Link] = []
    skipping: set[str] = set()  # fittings within a skip connection
    for item in items:
        for name, count in Counter(item.inputs).items():
            skip = name in skipping or skips(name, item.name)
            skipping.update([item.name] if skip and item.name in owner else [])
            links.append(Link(name, item.name, count, skip))
    return links
