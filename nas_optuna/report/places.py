"""Where the cells of a layered drawing stand from left to right: straight lines, little width.

As in Brandes & Koepf 2002 ("Fast and simple horizontal coordinate assignment"), what should be
straight is one rigid block and blocks are packed to the left. Other than there, each block then
moves towards the mean of its neighbours as far as it is free, instead of four packings and their
mean: wide boxes with ports stay aligned with their ports.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from nas_optuna.report.layers import Cell, Hop, Layering

_SWEEPS = 12
_GAP, _LANE_GAP = 22.0, 10.0


def place(layering: Layering, ranks: range) -> float:
    """Set the x of the cells in some consecutive ranks, from 0 on.

    Args:
        layering: The drawing; its other ranks are left alone.
        ranks: Which ranks.

    Returns:
        The width they take together.
    """
    rows = [layering.ranks[r] for r in ranks]
    gaps = [layering.hops[r] for r in ranks[:-1]]
    blocks = _Blocks(layering, rows, gaps)
    blocks.pack()
    for sweep in range(_SWEEPS):
        blocks.relax(rightmost_first=sweep % 2 == 0)
    cells = [layering.cells[i] for row in rows for i in row]
    for row in rows:
        for i in row:
            layering.cells[i].x = blocks.x(i)
    spare = min(cell.x - cell.width / 2 - cell.least for cell in cells)
    for cell in cells:
        cell.x -= spare
    return max(cell.x + cell.width / 2 for cell in cells)


class _Blocks:
    """Cells that hops should connect by one straight line, as rigid blocks."""

    def __init__(
        self, layering: Layering, rows: Sequence[list[int]], gaps: Sequence[list[Hop]]
    ) -> None:
        self._cells = layering.cells
        self._pairs = [pair for row in rows for pair in pairwise(row)]
        self._block: dict[int, int] = {}  # by cell
        self._shift: dict[int, float] = {}  # of a cell within its block
        self._at: list[float] = []  # by block
        straight = {
            hop.lower: hop
            for row, below, hops in zip(rows, rows[1:], gaps, strict=False)
            for hop in _straight(layering, row, below, hops)
        }
        for i in (i for row in rows for i in row):
            self._append(i, straight.get(i))
        self._members: list[list[int]] = [[] for _ in self._at]
        for i, block in self._block.items():
            self._members[block].append(i)
        self._left = {b: a for a, b in self._pairs}
        self._right = dict(self._pairs)
        self._hops: dict[int, list[Hop]] = defaultdict(list)  # by block, those not straight
        for hop in (hop for hops in gaps for hop in hops):
            for i, j in ((hop.upper, hop.lower), (hop.lower, hop.upper)):
                if self._block[i] != self._block[j]:
                    self._hops[self._block[i]].append(hop)

    def _append(self, i: int, hop: Hop | None) -> None:
        if hop is None:
            self._block[i], self._shift[i] = len(self._at), 0.0
            self._at.append(0.0)
        else:
            self._block[i] = self._block[hop.upper]
            self._shift[i] = self._shift[hop.upper] + self._lean(hop)

    def _lean(self, hop: Hop) -> float:
        """How far right of the upper cell the lower one stands if the hop is vertical."""
        outlet = self._cells[hop.upper].outlets.get(hop.source, 0.0)
        return outlet - self._cells[hop.lower].inlets.get(hop.source, 0.0)

    def x(self, i: int) -> float:
        """Where cell `i` stands."""
        return self._at[self._block[i]] + self._shift[i]

    def _apart(self, a: int, b: int) -> float:
        widths = self._cells[a].width, self._cells[b].width
        return sum(widths) / 2 + (_GAP if min(widths) > 0 else _LANE_GAP)

    def pack(self) -> None:
        """Put every block as far left as those on its left allow."""
        for i, block in self._block.items():
            cell = self._cells[i]
            self._at[block] = max(self._at[block], cell.least + cell.width / 2 - self._shift[i])
        moved = True
        while moved:  # ends: blocks do not cross, so none is on its own left
            moved = False
            for a, b in self._pairs:
                missing = self.x(a) + self._apart(a, b) - self.x(b)
                if missing > 1e-6:
                    self._at[self._block[b]] += missing
                    moved = True

    def relax(self, *, rightmost_first: bool) -> None:
        """Move every block to the weighted mean of what it is connected to, if it is free to."""
        order = sorted(range(len(self._at)), key=self._at.__getitem__, reverse=rightmost_first)
        for block in order:
            if self._hops[block]:
                wanted = self._wanted(block)
                low, high = self._free(block)
                self._at[block] = max(low, min(high, wanted))

    def _wanted(self, block: int) -> float:
        total = weights = 0.0
        for hop in self._hops[block]:
            weight = _weight(self._cells[hop.upper], self._cells[hop.lower])
            if self._block[hop.lower] == block:
                x = self.x(hop.upper) + self._lean(hop) - self._shift[hop.lower]
            else:
                x = self.x(hop.lower) - self._lean(hop) - self._shift[hop.upper]
            total += weight * x
            weights += weight
        return total / weights

    def _free(self, block: int) -> tuple[float, float]:
        low, high = float("-inf"), float("inf")
        for i in self._members[block]:
            cell, shift = self._cells[i], self._shift[i]
            low = max(low, cell.least + cell.width / 2 - shift)
            if i in self._left:
                low = max(low, self.x(self._left[i]) + self._apart(self._left[i], i) - shift)
            if i in self._right:
                high = min(high, self.x(self._right[i]) - self._apart(i, self._right[i]) - shift)
        return low, high


def _weight(upper: Cell, lower: Cell) -> float:
    return (4.0, 1.0, 8.0)[upper.minor + lower.minor]


def _straight(
    layering: Layering, row: Sequence[int], below: Sequence[int], hops: Sequence[Hop]
) -> list[Hop]:
    """The hops of one gap that should be vertical: at most one at each cell, none crossing."""
    cells = layering.cells
    place = {i: p for cells_of_rank in (row, below) for p, i in enumerate(cells_of_rank)}
    above: dict[int, list[Hop]] = defaultdict(list)
    under: dict[int, list[Hop]] = defaultdict(list)
    for hop in sorted(hops, key=lambda hop: (place[hop.upper], place[hop.lower])):
        above[hop.lower].append(hop)
        under[hop.upper].append(hop)
    # The main line first; then lanes, since a bend in a long line is seen most.
    wanted = [
        *(hop for hop in hops if hop in layering.spine),
        *(hop for hop in hops if cells[hop.upper].minor and cells[hop.lower].minor),
        *(
            hop
            for hop in hops
            if hop == _middle(above[hop.lower], lambda h: h.upper, cells)
            and hop == _middle(under[hop.upper], lambda h: h.lower, cells)
        ),
    ]
    kept: list[Hop] = []
    for hop in wanted:
        if all(
            (place[hop.upper] - place[other.upper]) * (place[hop.lower] - place[other.lower]) > 0
            for other in kept
        ):
            kept.append(hop)
    return kept


def _middle(
    hops: Sequence[Hop], other_end: Callable[[Hop], int], cells: Sequence[Cell]
) -> Hop | None:
    """The hop in the middle of an odd number, minor ones aside; None where none stands out."""
    major = [hop for hop in hops if not cells[other_end(hop)].minor]
    if len(major) % 2 or len({other_end(hop) for hop in major}) == 1:
        return major[len(major) // 2]
    return hops[0] if len(hops) == 1 else None
