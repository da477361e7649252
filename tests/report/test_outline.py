"""What a picture shows: repeats once, skip connections, unused nodes."""

from nas_optuna import ArchitectureBuilder, report
from nas_optuna.architecture import INPUT
from nas_optuna.report import labels
from nas_optuna.report.layout import arrange
from nas_optuna.report.outline import Group, outline
from tests.report.networks import SVG, blocks, drawn_edges, marks


def skips(architecture):
    return {(link.source, link.target) for link in outline(architecture).links if link.skip}


def test_skip_connections_have_their_own_colour():
    assert skips(blocks(1)) == {(INPUT, "block0.sum")}
    assert len(marks(report.diagram_svg(blocks(1)), "skip edge")) == 1
    net = ArchitectureBuilder((3, 8, 8), 10)
    y = net.conv2d(net.input, 8, stride=2, name="main")
    projected = net.build(net.classifier(net.add(y, net.input, name="sum")))
    # The projection belongs to the skip connection.
    assert skips(projected) == {(INPUT, "sum.projection1"), ("sum.projection1", "sum")}


def test_what_the_output_does_not_depend_on_is_marked():
    net = ArchitectureBuilder((3, 8, 8), 10)
    x = net.conv2d(net.input, 8, name="used")
    net.conv2d(x, 8, name="forgotten")
    architecture = net.build(net.classifier(x), keep_dead=True)
    kinds = {box.card.name: box.card.kind for box in arrange(outline(architecture)).cards}
    assert kinds["forgotten"] == "unused"
    assert kinds["used"] == "convolution"


def test_an_edge_taken_twice_says_so():
    net = ArchitectureBuilder((3, 8, 8), 10)
    x = net.conv2d(net.input, 8, name="conv")
    svg = report.diagram_svg(net.build(net.classifier(net.add(x, x, name="sum"))))
    (edge,) = [g for g in marks(svg, "edge") if g.get("data-target") == "sum"]
    assert [t.text for t in edge.iter(f"{SVG}text")] == [f"{labels.TIMES}2"]


def repeats(group):
    """Titles and numbers of all groups, outermost first."""
    for child in group.children:
        if isinstance(child, Group):
            yield child.title, child.times
            yield from repeats(child)


def repeats_of(architecture):
    return list(repeats(outline(architecture).root))


DASH = "\N{EN DASH}"


def test_equal_blocks_in_a_chain_are_drawn_once():
    svg = report.diagram_svg(blocks(5))
    assert repeats_of(blocks(5)) == [(f"block0{DASH}4", 5)]
    assert len(marks(svg, "node")) == 3 + 3  # of one block; input, pooling, logits
    (frame,) = marks(svg, "frame")
    assert [t.text for t in frame.iter(f"{SVG}text")] == [f"block0{DASH}4", f"{labels.TIMES}5"]


def test_a_block_of_other_settings_is_not_folded():
    changed = blocks(5, change=lambda i: {"activation": "gelu"} if i == 2 else {})
    assert repeats_of(changed) == [(f"block0{DASH}1", 2), ("block2", 1), (f"block3{DASH}4", 2)]


def test_a_block_that_others_use_too_ends_a_run():
    used = blocks(4, tail=lambda net, outputs: net.add(outputs[-1], outputs[2], name="long"))
    assert repeats_of(used) == [(f"block0{DASH}1", 2), (f"block2{DASH}3", 2)]


def test_equal_blocks_side_by_side_are_all_drawn():
    net = ArchitectureBuilder((4, 8, 8), 10)
    outputs = []
    for i in range(3):
        with net.scope(f"branch{i}"):
            x = net.conv2d(net.input, 4, name="first")
            outputs.append(net.conv2d(x, 4, name="second"))
    architecture = net.build(net.classifier(net.add(*outputs)))
    assert [times for _, times in repeats_of(architecture)] == [1, 1, 1]


def cells(inputs, head=(5, 4)):
    """Cells that take two earlier outputs each: `inputs(i)` are two indices, of stems below 0."""
    net = ArchitectureBuilder((3, 8, 8), 10)
    outputs = {-i: net.conv2d(net.input, 8, name=f"stem{i}") for i in (1, 2, 3)}
    for i in range(6):
        with net.scope(f"cell{i}"):
            last, before = (outputs[j] for j in inputs(i))
            left = net.conv2d(before, 8, 1, name="left")
            outputs[i] = net.add(net.conv2d(last, 8, name="right"), left, name="sum")
    return net.build(net.classifier(net.concat(*(outputs[i] for i in head))))


def test_a_run_ends_where_folding_would_lose_an_edge():
    assert repeats_of(cells(lambda i: (i - 1, i - 2))) == [(f"cell0{DASH}5", 6)]
    odd = cells(lambda i: (i - 1, -3 if i == 1 else i - 2))
    assert repeats_of(odd) == [("cell0", 1), (f"cell1{DASH}5", 5)]


def test_a_cell_that_takes_an_earlier_output_than_the_others_starts_anew():
    odd = cells(lambda i: (i - 1, -1 if i == 3 else max(i - 1, -1)), head=(5,))
    assert repeats_of(odd) == [(f"cell0{DASH}2", 3), (f"cell3{DASH}5", 3)]


def test_two_chains_side_by_side_are_not_one():
    woven = cells(lambda i: (max(i - 2, -1), max(i - 2, -1)))
    assert all(times == 1 for _, times in repeats_of(woven))


def test_repeats_within_scopes_are_found():
    net = ArchitectureBuilder((3, 8, 8), 10)
    x = net.input
    for stage, channels in enumerate((8, 16)):
        with net.scope(f"stage{stage}"):
            x = net.conv2d(x, channels, name="widen")
            for i in range(3):
                with net.scope(f"block{i}"):
                    x = net.add(net.conv2d(x, channels, name="conv"), x, name="sum")
    assert repeats_of(net.build(net.classifier(x))) == [
        ("stage0", 1), (f"block0{DASH}2", 3), ("stage1", 1), (f"block0{DASH}2", 3),
    ]  # fmt: skip


def test_alignments_of_a_dense_layer_become_one_node():
    net = ArchitectureBuilder((3, 16, 16), 10)
    x = net.conv2d(net.input, 8, stride=2, name="first")
    y = net.conv2d(x, 8, stride=2, name="second")
    architecture = net.build(net.classifier(net.concat(net.input, x, y, name="dense")))
    svg = report.diagram_svg(architecture)
    (node,) = [g for g in marks(svg, "node") if "alignment" in g.get("data-name")]
    words = [text.text for text in node.iter(f"{SVG}text")]
    assert words[0].startswith(f"2{labels.TIMES} avg pool")
    edges = drawn_edges(svg)
    assert edges[INPUT, "dense.alignment0"] == edges["first", "dense.alignment0"] == 1
    assert edges["dense.alignment0", "dense"] == 1
