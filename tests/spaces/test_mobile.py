"""The mobile space, and published networks as members of it or made of its blocks."""

import numpy as np
import pytest
import torch
from optuna.trial import FixedTrial
from torch.utils.flop_counter import FlopCounterMode

from nas_optuna import ArchitectureBuilder
from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.models import build, cost
from nas_optuna.spaces import MobileSpace, MobileStage
from nas_optuna.spaces.mobile import divisible, inverted_residual

IMAGENET = MobileSpace((3, 224, 224), 1000, resolutions=(96, 128, 160, 192, 224))
SMALL = MobileSpace(
    (1, 8, 8),
    10,
    stages=(MobileStage(16, depths=(1, 3)), MobileStage(24, stride=2)),
    head_width=64,
)
MOBILENET_V2_DEPTHS = (1, 2, 3, 4, 3, 3, 1)


def genome(space, depths, *, multiplier=1.0, resolution=None, excite=False, **changes):
    """Blocks of kernel 3 and expansion 6 (the only one where there is no choice), with ReLU6."""
    params = {
        "resolution": resolution or space.input_shape[1],
        "width_multiplier": multiplier,
        "activation": "relu6",
    }
    for i, (stage, depth) in enumerate(zip(space.stages, depths, strict=True)):
        params |= {f"stage{i}.depth": depth, f"stage{i}.squeeze_excite": excite}
        for j in range(stage.depths[1]):
            params[f"stage{i}.block{j}.kernel_size"] = 3
            params[f"stage{i}.block{j}.expansion"] = stage.expansions[-1]
    return params | {name.replace("__", "."): value for name, value in changes.items()}


def mobilenet_v2(**settings):
    return IMAGENET.architecture(genome(IMAGENET, MOBILENET_V2_DEPTHS, **settings))


def mobilenet_v3_large():
    """Howard et al. 2019, table 1: kernel, expanded, out, squeeze-excite, activation, stride."""
    table = [
        (3, 16, 16, False, "relu", 1),
        (3, 64, 24, False, "relu", 2),
        (3, 72, 24, False, "relu", 1),
        (5, 72, 40, True, "relu", 2),
        (5, 120, 40, True, "relu", 1),
        (5, 120, 40, True, "relu", 1),
        (3, 240, 80, False, "hardswish", 2),
        (3, 200, 80, False, "hardswish", 1),
        (3, 184, 80, False, "hardswish", 1),
        (3, 184, 80, False, "hardswish", 1),
        (3, 480, 112, True, "hardswish", 1),
        (3, 672, 112, True, "hardswish", 1),
        (5, 672, 160, True, "hardswish", 2),
        (5, 960, 160, True, "hardswish", 1),
        (5, 960, 160, True, "hardswish", 1),
    ]
    net = ArchitectureBuilder((3, 224, 224), num_classes=1000)
    x = net.conv2d(net.input, 16, 3, stride=2, activation="hardswish", name="stem")
    for i, (kernel, expanded, channels, excite, activation, stride) in enumerate(table):
        with net.scope(f"block{i}"):
            x = inverted_residual(
                net, x, channels, expanded=expanded, kernel_size=kernel, stride=stride,
                squeezed=divisible(expanded // 4) if excite else 0, activation=activation,
            )  # fmt: skip
    x = net.conv2d(x, 960, 1, activation="hardswish", name="head")
    x = net.linear(net.global_avg_pool(x), 1280, activation="hardswish", name="hidden")
    return net.build(net.linear(x, 1000, name="logits"))


def test_mobilenet_v2_is_a_member_with_the_published_costs():
    """Sandler et al. 2018: 3.4 M parameters (torchvision: 3,504,872), 300 M multiply-adds."""
    counted = cost(mobilenet_v2())
    assert counted.parameters == 3_504_872
    assert counted.flops / 2 == pytest.approx(300e6, rel=0.01)
    assert counted.layers == 53  # 52 convolutions and the linear map


@pytest.mark.parametrize(
    ("multiplier", "resolution", "millions", "multiply_adds"),
    [(1.0, 192, 3.50, 221e6), (1.0, 160, 3.50, 154e6), (1.0, 128, 3.50, 99e6),
     (0.75, 224, 2.61, 209e6), (0.5, 224, 1.95, 97e6), (0.35, 224, 1.66, 59e6)],
)  # fmt: skip
def test_smaller_mobilenets_have_the_published_costs(
    multiplier, resolution, millions, multiply_adds
):
    """The table of checkpoints published with MobileNetV2, which is rounded to two digits."""
    counted = cost(mobilenet_v2(multiplier=multiplier, resolution=resolution))
    assert counted.parameters == pytest.approx(millions * 1e6, rel=0.02)
    assert counted.flops / 2 == pytest.approx(multiply_adds, rel=0.02)


def test_mobilenet_v3_large_has_the_published_costs():
    """Torchvision's layout: 5,483,032 parameters; published 5.4 M and 217 M multiply-adds."""
    counted = cost(mobilenet_v3_large())
    assert counted.parameters == 5_483_032
    assert counted.flops / 2 == pytest.approx(217e6, rel=0.01)


@pytest.mark.parametrize("made", [mobilenet_v2(), mobilenet_v3_large()], ids=["v2", "v3 large"])
def test_costs_are_those_of_the_real_network(made):
    model, counted = build(made).eval(), cost(made)
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    assert counted.flops == flops.get_total_flops()


def names(made):
    return [node.name for node in made.nodes]


def test_a_block_adds_its_input_where_shapes_allow():
    made = SMALL.architecture(genome(SMALL, (2, 1), stage0__block0__expansion=3))
    assert names(made) == [
        "stem",
        "stage0.block0.expand", "stage0.block0.depthwise", "stage0.block0.project",
        "stage0.block1.expand", "stage0.block1.depthwise", "stage0.block1.project",
        "stage0.block1.add",
        "stage1.block0.expand", "stage1.block0.depthwise", "stage1.block0.project",
        "head", "pool", "logits",
    ]  # fmt: skip
    assert made.shapes["stage0.block0.expand"] == (96, 8, 8)
    assert made.shapes["stage1.block0.project"] == (24, 4, 4)
    assert dict(made.nodes[3].settings)["activation"] == "none"  # the bottleneck is linear


def test_blocks_beyond_the_depth_are_ignored():
    plain = genome(SMALL, (1, 2))
    changed = genome(SMALL, (1, 2), stage0__block1__kernel_size=7, stage1__block3__expansion=3)
    assert SMALL.architecture(plain) == SMALL.architecture(changed)


def test_squeeze_excite_stands_before_the_projection_and_weighs_channels():
    made = SMALL.architecture(genome(SMALL, (1, 1), excite=True))
    excite = next(node for node in made.nodes if node.operation == "squeeze_excite")
    assert excite.inputs == ("stage0.block0.depthwise",)
    assert dict(excite.settings)["channels"] == divisible(32 * 6 / 4)
    torch.manual_seed(0)
    module = build(made).nodes["stage0/block0/squeeze_excite"]
    x = torch.rand(2, 192, 3, 3)
    weights = module(x) / x
    assert torch.allclose(weights, weights.mean((2, 3), keepdim=True).expand_as(weights))
    assert 0 <= weights.min() < weights.max() <= 1


def test_resolution_scales_the_image_first():
    made = SMALL.architecture(genome(SMALL, (1, 1), resolution=6))
    assert made.nodes[0].operation == "resize"
    assert made.shapes["stem"][1:] == (6, 6)
    wide = MobileSpace((3, 24, 48), 2, resolutions=(12, 24))
    made = wide.architecture(genome(wide, MOBILENET_V2_DEPTHS, resolution=12))
    assert made.shapes["resize"] == (3, 12, 24)


def test_smaller_resolutions_cost_less():
    flops = [
        cost(SMALL.architecture(genome(SMALL, (1, 1), resolution=side))).flops
        for side in SMALL.resolutions
    ]
    assert flops == sorted(flops)
    assert flops[0] < flops[-1] / 3


@pytest.mark.parametrize(
    ("side", "last"), [(8, 4), (28, 7), (32, 4), (64, 4), (127, 8), (128, 4), (224, 7)]
)
def test_default_strides_leave_pixels_to_the_last_stage(side, last):
    """`last` is what the strides make of the side: halved while 4 pixels are left, 5 times."""
    space = MobileSpace((3, side, side), 10)
    made = space.architecture(genome(space, MOBILENET_V2_DEPTHS))
    assert made.shapes["head"] == (1280, last, last)


def test_fewer_genes_where_blocks_of_a_stage_are_alike():
    settings = {"stages": SMALL.stages, "head_width": 64}
    alike = MobileSpace((1, 8, 8), 10, per_block=False, **settings)
    assert len(SMALL.genes) == 3 + 2 * 2 + 2 * (3 + 4)
    assert len(alike.genes) == 3 + 2 * 4
    trial = FixedTrial(alike.sample(np.random.default_rng(0)) | {"stage1.depth": 4})
    blocks = {
        (node.complete()["kernel_size"]) for node in alike(trial).nodes if "depthwise" in node.name
        and node.name.startswith("stage1")
    }  # fmt: skip
    assert len(blocks) == 1


def test_a_longer_stage_keeps_its_blocks():
    params = genome(SMALL, (3, 1), stage0__block0__kernel_size=7, stage1__block0__kernel_size=5)
    longer = SMALL.insert_layer(params, np.random.default_rng(0))  # the other stage is full
    assert longer["stage1.depth"] == 2
    assert 5 in (longer["stage1.block0.kernel_size"], longer["stage1.block1.kernel_size"])
    assert longer["stage0.block0.kernel_size"] == 7


def test_the_fingerprint_tells_widths_that_are_no_genes():
    wider = (MobileStage(24, depths=(1, 3)), SMALL.stages[1])
    same = MobileSpace((1, 8, 8), 10, stages=SMALL.stages, head_width=64)
    other = MobileSpace((1, 8, 8), 10, stages=wider, head_width=64)
    assert same.fingerprint == SMALL.fingerprint != other.fingerprint
    assert same.genes == other.genes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_shape": (8,)}, "MLPSpace for vectors"),
        ({"stages": ()}, "at least one MobileStage"),
        ({"kernel_sizes": (3, 4)}, "must be odd"),
        ({"resolutions": (0, 8)}, "at least 1 pixel"),
        ({"width_multipliers": (0.0,)}, "above 0"),
        ({"head_width": 0}, "at least 1"),
    ],
)
def test_bad_settings_are_told(settings, message):
    with pytest.raises(SettingError, match=message):
        MobileSpace(**{"input_shape": (1, 8, 8), "num_classes": 10} | settings)


def test_unknown_activation_and_bad_stages_are_told():
    with pytest.raises(UnknownNameError, match="Did you mean 'hardswish'"):
        MobileSpace((1, 8, 8), 10, activations=("hard_swish",))
    with pytest.raises(SettingError, match="at least 1"):
        MobileStage(0)
    with pytest.raises(SettingError, match="depths"):
        MobileStage(8, depths=(2, 1))
