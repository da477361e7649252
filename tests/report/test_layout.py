"""Where things stand in a picture: nothing overlaps, no line runs through a box, text fits."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from nas_optuna import ArchitectureBuilder
from nas_optuna.report.layers import Cell, Net, layered
from nas_optuna.report.layout import LABEL_SIZE, arrange
from nas_optuna.report.outline import outline
from nas_optuna.report.paint import paint
from nas_optuna.report.places import place
from tests.report.networks import SPACES, blocks, graphs, sample


def is_apart(a, b):
    return (
        a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y
        or b.y + b.height <= a.y
    )  # fmt: skip


def is_within(a, b):
    right, lower = a.x + a.width <= b.x + b.width, a.y + a.height <= b.y + b.height
    return b.x <= a.x and b.y <= a.y and right and lower


def points(curve):
    """Points along a painted line, ends included."""
    start = np.array(curve.start)
    for piece in curve.pieces:
        p = np.array([start, *piece])
        for t in np.linspace(0, 1, 9):
            weights = (
                [1 - t, t]
                if len(p) == 2
                else [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
            )
            yield np.array(weights) @ p
        start = p[-1]


def check_places(architecture):
    layout = arrange(outline(architecture))
    boxes = [*layout.frames, *layout.cards]
    assert all(is_apart(a, b) for a, b in combinations(layout.cards, 2))
    assert all(is_apart(a, b) or is_within(b, a) for a, b in combinations(boxes, 2))
    for box in boxes:
        assert min(box.x, box.y) >= -1e-6
        assert box.x + box.width <= layout.width + 1e-6
        assert box.y + box.height <= layout.height + 1e-6
    cards = {box.card.name: box for box in layout.cards}
    for route in layout.routes:
        source, target = cards[route.link.source], cards[route.link.target]
        assert route.stops[0].top == pytest.approx(source.y + source.height)
        assert route.stops[-1].bottom == pytest.approx(target.y)
        assert source.x < route.stops[0].x < source.x + source.width
        assert target.x < route.stops[-1].x < target.x + target.width
    check_lines(layout)


def check_lines(layout):
    painting = paint(layout)
    corners = np.array([(b.x, b.y, b.x + b.width, b.y + b.height) for b in layout.cards])
    left, top, right, bottom = corners.T
    for mark in painting.marks:
        if mark.role.endswith("edge"):
            x, y = np.array(list(points(mark.shapes[0]))).T
            # One pixel of grace: an edge touches the cards at its two ends.
            hits = (
                (left + 1 < x[:, None]) & (x[:, None] < right - 1)
                & (top + 1 < y[:, None]) & (y[:, None] < bottom - 1)
            )  # fmt: skip
            assert not hits.any(), mark.names
            assert painting.left < x.min()
            assert x.max() < painting.left + painting.width
            assert painting.top < y.min()
            assert y.max() < painting.top + painting.height


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SPACES)
def test_boxes_do_not_overlap_and_lines_run_between_them(name, seed):
    check_places(sample(name, seed))


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_any_graph_has_a_clean_layout(architecture):
    check_places(architecture)


def test_text_fits_into_its_card():
    for name in SPACES:
        for box in arrange(outline(sample(name, 2))).cards:
            for line in box.lines:
                width, _, _ = text_to_path.get_text_width_height_descent(
                    line, FontProperties(family="DejaVu Sans", size=LABEL_SIZE), ismath=False
                )
                assert width <= box.width - 8, line


def test_a_long_chain_is_put_into_columns():
    net = ArchitectureBuilder((3, 8, 8), 10)
    x = net.input
    for i in range(60):
        x = net.conv2d(x, 8 + i)
    layout = arrange(outline(net.build(net.classifier(x))))
    assert len({box.x + box.width / 2 for box in layout.cards}) > 2
    assert layout.height < 1.6 * layout.width
    check_lines(layout)


def test_a_short_one_is_one_straight_column():
    layout = arrange(outline(blocks(1)))
    assert len({round(box.x + box.width / 2, 6) for box in layout.cards}) == 1


def test_long_edges_and_the_main_line_are_straight():
    # Each of eight takes what all before it return, as in a densely connected network.
    ports = [{str(j): 10.0 * (i - 1 - j) for j in range(i)} for i in range(8)]
    boxes = [Cell(width=200, height=20, inlets=inlets) for inlets in ports]
    nets = [Net(str(i), i, tuple(range(i + 1, 8))) for i in range(7)]
    layering = layered(boxes, nets)
    place(layering, range(8))
    assert len({cell.x for cell in boxes}) == 1
    for source in {source for source, _ in layering.lanes}:
        lanes = [i for (name, _), i in layering.lanes.items() if name == source]
        assert len({round(layering.cells[i].x, 6) for i in lanes}) == 1


def test_the_main_line_stays_straight_beside_projections():
    net = ArchitectureBuilder((4, 8, 8), 10)
    x = net.input
    for i in range(3):
        with net.scope(f"block{i}"):
            x = net.add(net.conv2d(x, 8 + i, name="conv"), x, name="sum")
    layout = arrange(outline(net.build(net.classifier(x))))
    main = [box for box in layout.cards if "projection" not in box.card.name]
    assert len(main) < len(layout.cards)
    assert len({round(box.x + box.width / 2, 6) for box in main}) == 1


def test_lines_cross_less_than_without_an_order():
    # Two pairs of chains, given so that they would cross; the last two must swap places.
    boxes = [Cell(width=100, height=20) for _ in range(6)]
    nets = [Net("0", 0, (3,)), Net("1", 1, (2,)), Net("2", 2, (5,)), Net("3", 3, (4,))]
    layering = layered(boxes, nets)
    place(layering, range(3))
    for net in nets:
        assert boxes[net.start].x == boxes[net.ends[0]].x
