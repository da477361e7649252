"""Find what repeats in a graph of scoped nodes, so that a picture holds it once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from nas_optuna.architecture import Node
from nas_optuna.operations import Setting, Shape
from nas_optuna.report.labels import label


@dataclass(frozen=True, slots=True)
class Scope:
    """One stretch of consecutive nodes under one scoped name.

    Args:
        name: The last part of the name.
        serial: Tells apart two stretches of the same name.
    """

    name: str
    serial: int


@dataclass(frozen=True, slots=True)
class Item:
    """A node to draw, or several of the same operation side by side.

    Args:
        name: Name of the node, of the first one if there are several.
        scopes: Where it stands, outermost first.
        operation: Name in the table of operations.
        settings: Its settings; all different ones if there are several nodes.
        shapes: Its output shape; all different ones if there are several nodes.
        inputs: Names of what it takes.
        used: Whether the network's output depends on it.
        times: How many nodes it is.
    """

    name: str
    scopes: tuple[Scope, ...]
    operation: str
    settings: tuple[Settings, ...]
    shapes: tuple[Shape, ...]
    inputs: tuple[str, ...]
    used: bool
    times: int = 1


class Repeat(NamedTuple):
    """How often a scope repeats, and the name of the last of them."""

    times: int
    last: str


Settings = tuple[tuple[str, Setting], ...]
_Stretch = list[Item]
_Users = Mapping[str, set[str]]


def items_of(nodes: Sequence[Node], shapes: Mapping[str, Shape]) -> list[Item]:
    """Turn nodes into items with their scopes.

    A name below another node's (`add0.projection1` below `add0`) opens no scope of its own.

    Args:
        nodes: Nodes, inputs before users.
        shapes: Output shape by name.
    """
    names = {node.name for node in nodes}
    used = {nodes[-1].name}
    for node in reversed(nodes):
        used.update(node.inputs if node.name in used else ())
    items: list[Item] = []
    scopes: tuple[Scope, ...] = ()
    for node in nodes:
        path = _scope_names(node.name, names)
        same = 0
        while same < min(len(path), len(scopes)) and scopes[same].name == path[same]:
            same += 1
        scopes = scopes[:same] + tuple(Scope(name, len(items)) for name in path[same:])
        settings = (tuple(node.complete().items()),)
        shape = (shapes[node.name],)
        items.append(
            Item(
                node.name, scopes, node.operation, settings, shape, node.inputs,
                used=node.name in used,
            )
        )  # fmt: skip
    return items


def _scope_names(name: str, names: set[str]) -> list[str]:
    parts = name.split(".")
    for i in range(1, len(parts)):
        if ".".join(parts[:i]) in names:
            return parts[: i - 1]
    return parts[:-1]


def fitting_owners(items: Sequence[Item]) -> dict[str, str]:
    """Name of the node that each projection or alignment was inserted for.

    Those are named below it, and nothing else uses them.
    """
    return {
        name: user
        for name, (user, *others) in _users(items).items()
        if not others and name.startswith(f"{user}.")
    }


def merge_fittings(items: Sequence[Item]) -> list[Item]:
    """Merge projections, or alignments, that were inserted before the same node.

    A densely connected layer has one for each layer before it, and they differ only in what it
    takes to bring that layer's output to one size.

    Args:
        items: Items, inputs before users.

    Returns:
        Fewer items; a merged one has the inputs and shapes of all, and the name of the first.
    """
    owners = fitting_owners(items)
    alike: dict[object, list[Item]] = defaultdict(list)
    for item in items:
        if item.name in owners:
            words = len(label(item.operation, dict(item.settings[0])))
            key = owners[item.name], item.operation, words, len(item.shapes[0])
            alike[key].append(item)
    merged: dict[str, Item] = {}  # by the name of the last of them, where all inputs are known
    first: dict[str, str] = {}
    for same in alike.values():
        merged[same[-1].name] = replace(
            same[0],
            inputs=tuple(name for item in same for name in item.inputs),
            settings=tuple(dict.fromkeys(item.settings[0] for item in same)),
            shapes=tuple(dict.fromkeys(item.shapes[0] for item in same)),
            times=len(same),
        )
        first.update((item.name, same[0].name) for item in same)
    kept = [
        merged.get(item.name, item)
        for item in items
        if item.name in merged or item.name not in first
    ]
    return [replace(item, inputs=_renamed_once(item.inputs, first)) for item in kept]


def _renamed_once(inputs: Sequence[str], first: Mapping[str, str]) -> tuple[str, ...]:
    """Rename merged inputs and name each of them once; other inputs stay, doubled or not."""
    seen: set[str] = set()
    names: list[str] = []
    for name in inputs:
        if first.get(name) in seen:
            continue
        names.append(first.get(name, name))
        seen.update([first[name]] if name in first else [])
    return tuple(names)


def fold_repeats(items: Sequence[Item]) -> tuple[list[Item], dict[Scope, Repeat]]:
    """Keep the first of each run of equal scopes that follow each other.

    Scopes are equal if they have the same operations, settings and output shapes in the same
    wiring. They follow each other if each takes what the one before it returns, at the same
    place; it may also take what the ones further back return (as cells with two inputs do), or
    what all of them take.

    Args:
        items: Items, inputs before users.

    Returns:
        The items that are left, wired to each other, and how often each folded scope repeats.
    """
    left, repeats, depth = list(items), dict[Scope, Repeat](), 0
    while any(len(item.scopes) > depth for item in left):
        left, found = _fold_level(left, depth)
        repeats.update(found)
        depth += 1
    return left, repeats


def _fold_level(items: list[Item], depth: int) -> tuple[list[Item], dict[Scope, Repeat]]:
    users = _users(items)
    stretches = [list(group) for _, group in groupby(items, lambda it: it.scopes[: depth + 1])]
    kept: list[Item] = []
    found: dict[Scope, Repeat] = {}
    first: dict[str, str] = {}
    start = 0
    while start < len(stretches):
        members = _longest_run(stretches[start:], users, depth)
        if len(members) > 1:
            last = members[-1][0].scopes[depth].name
            found[members[0][0].scopes[depth]] = Repeat(len(members), last)
        for member in members[1:]:
            first.update((b.name, a.name) for a, b in zip(members[0], member, strict=True))
        kept += members[0]
        start += len(members)
    wired = [replace(it, inputs=tuple(first.get(name, name) for name in it.inputs)) for it in kept]
    return wired, found


def _users(items: Sequence[Item]) -> dict[str, set[str]]:
    users: dict[str, set[str]] = defaultdict(set)
    for item in items:
        for name in item.inputs:
            users[name].add(item.name)
    return users


def _longest_run(stretches: list[_Stretch], users: _Users, depth: int) -> list[_Stretch]:
    """The longest foldable run at the beginning; the first stretch alone if there is none."""
    alike = stretches[:1]
    while len(alike) < len(stretches) and _alike(alike[0], stretches[len(alike)], depth):
        alike.append(stretches[len(alike)])
    for size in range(len(alike), 1, -1):
        if _follow_each_other(alike[:size], users):
            return alike[:size]
    return stretches[:1]


def _alike(one: _Stretch, other: _Stretch, depth: int) -> bool:
    scopes = one[0].scopes, other[0].scopes
    if min(map(len, scopes)) <= depth or scopes[0][:depth] != scopes[1][:depth]:
        return False
    return _content(one, depth) == _content(other, depth)


def _content(stretch: _Stretch, depth: int) -> list[object]:
    return [
        (it.operation, it.settings, it.shapes, it.used, it.times, len(it.inputs),
         [scope.name for scope in it.scopes[depth + 1 :]])
        for it in stretch
    ]  # fmt: skip


def _follow_each_other(members: list[_Stretch], users: _Users) -> bool:
    place = {it.name: (m, i) for m, member in enumerate(members) for i, it in enumerate(member)}
    entrances = {name for it in members[0] for name in it.inputs if name not in place}
    offsets: set[int] = set()
    for parts in zip(*members, strict=True):
        for sources in zip(*(part.inputs for part in parts), strict=True):
            offset = _offset(sources, place, entrances)
            if offset is None:
                return False
            offsets.add(offset)
    used_after = {m for name, (m, _) in place.items() if not users[name] <= place.keys()}
    return 1 in offsets and min(used_after, default=len(members)) >= len(members) - max(offsets)


def _offset(
    sources: Sequence[str], place: Mapping[str, tuple[int, int]], entrances: set[str]
) -> int | None:
    """How many members back the same input of each member comes from.

    Returns:
        0 if from itself, or from the same node outside; None if there is no such rule, or if
        folding would lose the edge of a later member.
    """
    inside = {
        (m - place[name][0], place[name][1]) for m, name in enumerate(sources) if name in place
    }
    outside = {name for name in sources if name not in place}
    if len(inside) > 1 or not outside <= entrances:
        return None
    if not inside:
        return 0 if len(outside) == 1 else None
    ((offset, _),) = inside
    entering = sum(name not in place for name in sources)
    return offset if entering == offset else None
