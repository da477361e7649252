"""The space of perceptrons for tables."""

import pytest

from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.models import cost
from nas_optuna.spaces import MLPSpace

SPACE = MLPSpace((30,), 2, max_layers=4)


def params(*widths, **changes):
    """A plain network of the given widths, with some genes changed."""
    plain = {
        "layers": len(widths),
        "residual": False,
        "batch_norm": False,
        "activation": "relu",
        "dropout": 0.0,
    }
    filled = (*widths, *(16,) * (SPACE.max_layers - len(widths)))
    return plain | {f"layer{i}.width": width for i, width in enumerate(filled)} | changes


def names(made):
    return [node.name for node in made.nodes]


def test_a_plain_perceptron():
    made = SPACE.architecture(params(64, 32))
    assert names(made) == ["layer0.linear", "layer1.linear", "logits"]
    assert cost(made).parameters == 30 * 64 + 64 + 64 * 32 + 32 + 32 * 2 + 2
    assert cost(made).flops == 2 * (30 * 64 + 64 * 32 + 32 * 2)


def test_layers_beyond_the_depth_are_ignored():
    assert SPACE.architecture(params(64)) == SPACE.architecture(
        params(64, **{"layer1.width": 256, "layer3.width": 128})
    )


def test_residual_layers_add_what_they_got_from_the_second_on():
    made = SPACE.architecture(params(32, 32, 64, residual=True))
    assert names(made) == [
        "layer0.linear",
        "layer1.linear", "layer1.residual",
        "layer2.linear", "layer2.residual.projection1", "layer2.residual",
        "logits",
    ]  # fmt: skip


def test_norm_and_dropout_are_choices():
    made = SPACE.architecture(params(16, 16, batch_norm=True, dropout=0.3))
    assert names(made)[:2] == ["layer0.linear", "layer0.dropout"]
    assert made.nodes[0].complete()["norm"] is True
    assert made.nodes[1].complete()["rate"] == 0.3
    plain = cost(SPACE.architecture(params(16, 16))).parameters
    assert cost(made).parameters == plain + 2 * 16  # a scale and a shift, but no bias


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_shape": (3, 8, 8)}, "MacroSpace or MobileSpace for images"),
        ({"min_layers": 0}, "1 <= min_layers"),
        ({"min_layers": 3, "max_layers": 2}, "1 <= min_layers"),
        ({"widths": (0, 8)}, "widths must be at least 1"),
        ({"dropouts": (1.0,)}, r"dropouts in \[0, 1\)"),
    ],
)
def test_bad_settings_are_told(settings, message):
    with pytest.raises(SettingError, match=message):
        MLPSpace(**{"input_shape": (30,), "num_classes": 2} | settings)


def test_an_unknown_activation_is_told():
    with pytest.raises(UnknownNameError, match="Did you mean 'relu'"):
        MLPSpace((30,), 2, activations=("rellu",))
