"""One honest sentence: who wins, by how much, at which budget, or what it takes to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nas_optuna.report.outcome import Outcome
from nas_optuna.report.significance import Pair

_MANY = 1000  # seeds; whoever would need more may take the samplers as equal


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison decided.

    Args:
        winner: Name of the sampler that is better than every other; None if there is none.
        leader: Name of the sampler with the best mean hypervolume.
        tied: Those that are not shown to be worse than the leader.
        seeds: Seeds that would show the leader better than the tied ones; None if no number
            would, or if there is nothing to show.
        text: All that in words.
    """

    winner: str | None
    leader: str
    tied: tuple[str, ...]
    seeds: int | None
    text: str


def verdict(outcome: Outcome) -> Verdict:
    """Decide between the samplers of a comparison.

    The leader, the sampler with the best mean hypervolume, wins if it is better than every other
    by a Wilcoxon signed-rank test over seeds at the level 0.05, corrected for all pairs. Where
    those ranks are for the other one, nobody wins, and the text says so.
    """
    found = _decided(outcome)
    if not outcome.absent:
        return found
    left_out = f" Without a trial yet, so not compared: {_listed(outcome.absent)}."
    return replace(found, text=found.text + left_out)


def _decided(outcome: Outcome) -> Verdict:
    leader, *others = outcome.order
    if not others:
        text = f"{leader} has nobody to be compared with; name another sampler."
        return Verdict(None, leader, (), None, text)
    if outcome.seeds < 2:
        text = (
            f"One seed decides nothing: {leader} is ahead by chance or not. Take 10 seeds or more."
        )
        return Verdict(None, leader, tuple(others), None, text)
    against = {other: _pair(outcome.pairs, leader, other) for other in others}
    undecided = {name: pair for name, pair in against.items() if not pair.decided}
    if not undecided:
        return Verdict(leader, leader, (), None, _won(outcome, leader, against))
    needed = _needed(undecided, outcome.seeds)
    text = _undecided(outcome, leader, undecided)
    return Verdict(None, leader, tuple(undecided), needed, text)


def _pair(pairs: Sequence[Pair], a: str, b: str) -> Pair:
    return next(pair for pair in pairs if {pair.first, pair.second} == {a, b})


def _needed(undecided: Mapping[str, Pair], seeds: int) -> int | None:
    numbers = [_seeds(pair) for pair in undecided.values()]
    return None if None in numbers else max(seeds + 1, *(n for n in numbers if n is not None))


def _seeds(pair: Pair) -> int | None:
    return None if pair.seeds is None or pair.seeds > _MANY else pair.seeds


def _won(outcome: Outcome, winner: str, against: Mapping[str, Pair]) -> str:
    means = {name: float(values.mean()) for name, values in outcome.scores.items()}
    second = outcome.order[1]
    lead = means[winner] - means[second]
    worst = max(pair.p_value for pair in against.values())
    rest = f" and than the {len(against) - 1} others" if len(against) > 1 else ""
    return (
        f"{winner} wins: at {outcome.spent_text} its mean hypervolume is {means[winner]:.4f}, "
        f"{lead:.4f} more than that of {second}, the next best; it is better than {second} in "
        f"{against[second].effect:.0%} of all pairings{rest}"
        f" ({outcome.seeds} seeds, p {_p_text(worst)} at most)."
    ).replace("%", " %")


def _undecided(outcome: Outcome, leader: str, undecided: Mapping[str, Pair]) -> str:
    means = {name: float(values.mean()) for name, values in outcome.scores.items()}
    second, *_ = undecided
    beaten = [name for name in outcome.order[1:] if name not in undecided]
    contrary = [name for name, pair in undecided.items() if not pair.agrees]
    shown = "No winner can be named" if contrary else "No difference is shown"
    text = (
        f"{shown} between {_listed([leader, *undecided])} by {outcome.seeds} "
        f"seeds: at {outcome.spent_text} the mean hypervolume of {leader} is "
        f"{means[leader]:.4f}, {means[leader] - means[second]:.4f} more than that of {second}"
    )
    text += f"; it is better than {_listed(beaten)}. " if beaten else ". "
    if contrary:
        return f"{text}{_contrary_text(contrary, leader)}"
    needed = _needed(undecided, outcome.seeds)
    if needed is not None:
        return f"{text}About {needed:,} seeds would decide it."
    alike = [name for name, pair in undecided.items() if _seeds(pair) is None]
    return f"{text}To tell it from {_listed(alike)} would take more than {_MANY:,} seeds."


def _contrary_text(contrary: Sequence[str], leader: str) -> str:
    better = "is the better one" if len(contrary) == 1 else "are the better ones"
    return (
        f"Seed by seed {_listed(contrary)} {better} (signed ranks), so the mean of {leader} owes "
        "its lead to few seeds; see what each seed reached."
    )


def _listed(names: Sequence[str]) -> str:
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def _p_text(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"
