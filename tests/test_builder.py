"""Writing architectures as code: names, scopes, inserted projections, dead nodes."""

import pytest

from nas_optuna import ArchitectureBuilder
from nas_optuna.errors import ArchitectureError


def test_names_follow_scopes_and_count_up():
    net = ArchitectureBuilder((1, 8, 8), 10)
    with net.scope("stage0"), net.scope("block1"):
        first, second = net.conv2d(net.input, 4), net.conv2d(net.input, 4)
        named = net.conv2d(first, 4, name="mix")
    assert (first.name, second.name) == ("stage0.block1.conv2d0", "stage0.block1.conv2d1")
    assert named.name == "stage0.block1.mix"
    with (
        pytest.raises(ArchitectureError, match=r"'stage0.block1.mix' is taken"),
        net.scope("stage0.block1"),
    ):
        net.conv2d(first, 4, name="mix")


@pytest.mark.parametrize(
    ("shape", "target", "operations"),
    [
        ((4, 8, 8), (8, 8, 8), ["conv2d"]),
        ((4, 8, 8), (4, 2, 2), ["conv2d"]),  # stride 4
        ((4, 7, 5), (4, 3, 4), ["resize"]),  # no stride gives it, channels are right
        ((4, 7, 5), (6, 3, 4), ["resize", "conv2d"]),
        ((4, 2, 2), (4, 8, 8), ["resize"]),
        ((4, 8, 8), (4,), ["global_avg_pool"]),
        ((4, 8, 8), (6,), ["global_avg_pool", "linear"]),
        ((4,), (6,), ["linear"]),
    ],
)
def test_a_projection_is_as_little_as_does_it(shape, target, operations):
    net = ArchitectureBuilder(shape, 3)
    x = net.project(net.input, target, name="p")
    assert x.shape == target
    made = net.build(net.classifier(x))
    head = 2 if len(target) == 3 else 1
    assert [node.operation for node in made.nodes[:-head]] == operations


def test_a_vector_cannot_become_an_image():
    net = ArchitectureBuilder((4,), 3)
    with pytest.raises(ArchitectureError, match=r"'p': shape \(4,\) cannot be projected"):
        net.project(net.input, (4, 8, 8), name="p")


def test_add_projects_to_the_first_and_concat_aligns_to_the_last():
    net = ArchitectureBuilder((1, 8, 8), 10)
    wide = net.conv2d(net.input, 8)
    small = net.conv2d(wide, 16, stride=2)
    total = net.add(small, wide, net.input, name="sum")
    assert total.shape == (16, 4, 4)
    joined = net.concat(wide, total, name="join")
    assert joined.shape == (24, 4, 4)
    names = [node.name for node in net.build(net.classifier(joined)).nodes]
    assert "sum.projection1" in names
    assert "sum.projection2" in names
    assert "join.alignment0" in names
    assert "join.alignment1" not in names


def test_projections_may_go_without_norm():
    net = ArchitectureBuilder((1, 8, 8), 10, projection_norm=False)
    x = net.conv2d(net.input, 8, norm=False)
    made = net.build(net.classifier(net.add(x, net.input)))
    assert all(not dict(n.settings)["norm"] for n in made.nodes if n.operation == "conv2d")


def test_dead_nodes_are_left_out_unless_kept():
    def write(**options):
        net = ArchitectureBuilder((1, 8, 8), 10)
        x = net.conv2d(net.input, 8, name="live")
        net.conv2d(x, 8, name="dead")
        return net.build(net.classifier(x), **options)

    assert [node.name for node in write().nodes] == ["live", "pool", "logits"]
    kept = write(keep_dead=True)
    assert "dead" in [node.name for node in kept.nodes]
    assert kept.digest == write().digest
