"""What a network is and what it cost, in words: the note of a trial in the dashboard."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas_optuna.errors import NasOptunaError
from nas_optuna.operations import Setting
from nas_optuna.recording import ARCHITECTURE, COSTS, INFEASIBLE
from nas_optuna.report.labels import kind, label, shape_text
from nas_optuna.report.show import evaluation_rows, metric_rows

_BECAME = {
    TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip
_MOST_KINDS, _MOST_PARTS = 6, 8  # named in a sentence; the others are counted
_CURVE_ROWS = ("learning curve", "")  # of `evaluation_rows`: a picture shows them better
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~&!$])")


def network_words(text: str) -> str:
    """Say in a sentence or two what an architecture is.

    It reads the JSON text and checks no shapes, which for two thousand trials would take long.

    Args:
        text: What `Architecture.to_json` wrote.

    Raises:
        NasOptunaError: An operation is unknown.
        KeyError: The text is no architecture; also TypeError or ValueError.

    Example:
        >>> from nas_optuna import ArchitectureBuilder
        >>> net = ArchitectureBuilder((20,), num_classes=3)
        >>> x = net.linear(net.input, 8, name="stem")
        >>> with net.scope("block"):
        ...     x = net.add(net.linear(x, 8), x)
        >>> for sentence in network_words(net.build(net.classifier(x)).to_json()).split(". "):
        ...     print(sentence)
        From 20 to 3 classes, up to 8 wide, in 3 parts (stem, block, logits)
        Operations: 3 linear; branches meet in 1 add.
    """
    document: dict[str, Any] = json.loads(text)
    nodes: list[dict[str, Any]] = document["nodes"]
    heads = Counter((kind(n["operation"]) == "join", _head(n)) for n in nodes)
    computing = Counter({head: n for (join, head), n in heads.items() if not join})
    joins = Counter({head: n for (join, head), n in heads.items() if join})
    widths = [n["settings"].get("channels", n["settings"].get("features", 0)) for n in nodes[:-1]]
    wide = f", up to {max(widths)} wide" if any(widths) else ""
    scopes = list(dict.fromkeys(str(n["name"]).split(".")[0] for n in nodes))
    parts = f", in {len(scopes)} parts ({_parts(scopes)})" if len(scopes) > 1 else ""
    meet = f"; branches meet in {_counted(joins)}" if joins else ""
    return (
        f"From {shape_text(document['input_shape'])} to {document['num_classes']} classes"
        f"{wide}{parts}. Operations: {_counted(computing)}{meet}."
    )


def trial_note(trial: FrozenTrial, names: Sequence[str]) -> str:
    """What there is to say of a trial, as Markdown: what became of it, its network, its costs.

    It does not depend on other trials, so that of a finished trial stays as it is. Names that
    users gave are escaped; no line of it is HTML.

    Args:
        trial: A trial in any state.
        names: Names of the study's objectives.
    """
    attrs = trial.user_attrs
    became = "infeasible" if INFEASIBLE in attrs else _BECAME[trial.state]
    reason = f": {escape_markdown(attrs[INFEASIBLE])}" if INFEASIBLE in attrs else ""
    lines = [f"**Trial {trial.number}, {became}**{reason}", ""]
    words = _words(attrs)
    lines += [escape_markdown(words), ""] if words else []
    rows = metric_rows(trial, names)
    rows += [row for row in evaluation_rows(trial) if row[0] not in _CURVE_ROWS]
    cells = [(escape_markdown(name), escape_markdown(text)) for name, text in rows]
    lines += ["| | |", "|:--|:--|", *(f"| {name} | {text} |" for name, text in cells)]
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    Example:
        >>> print(escape_markdown("a_b <script>"))
        a\_b \<script\>
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _words(attrs: Mapping[str, Any]) -> str:
    """The network in words, or what little is known where it is no graph, or not one of ours."""
    if ARCHITECTURE not in attrs:
        layers = attrs.get(COSTS, {}).get("layers")
        return f"A network of {layers:g} layers with weights." if layers else ""
    try:
        return network_words(attrs[ARCHITECTURE])
    except (NasOptunaError, KeyError, TypeError, ValueError, AttributeError):
        return "Its architecture cannot be read."


def _head(node: Mapping[str, Any]) -> str:
    return _head_of(node["operation"], tuple(sorted(node["settings"].items())))


@lru_cache(maxsize=10_000)
def _head_of(name: str, settings: tuple[tuple[str, Setting], ...]) -> str:
    # An activation before the operation would come first.
    return label(name, {key: value for key, value in settings if key != "preactivation"})[0]


def _counted(heads: Counter[str]) -> str:
    common = heads.most_common(_MOST_KINDS)
    rest = heads.total() - sum(n for _, n in common)
    others = [f"{rest} other{'s' if rest > 1 else ''}"] if rest else []
    return ", ".join([*(f"{n} {head}" for head, n in common), *others])


def _parts(scopes: Iterable[str]) -> str:
    """Name the parts of a network, numbered ones of one name as a range."""
    told = []
    for _, group in groupby(scopes, lambda scope: scope.rstrip("0123456789")):
        first, *others = group
        told.append(f"{first}\N{EN DASH}{others[-1]}" if others else first)
    more = [f"and {len(told) - _MOST_PARTS} more"] if len(told) > _MOST_PARTS else []
    return ", ".join([*told[:_MOST_PARTS], *more])
