"""The transformer space, its operations, and networks whose input is tokens."""

import numpy as np
import optuna
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import nas_optuna as nas
from nas_optuna import Architecture, ArchitectureBuilder
from nas_optuna.errors import ArchitectureError, SettingError, UnknownNameError
from nas_optuna.models import build, cost, dry_run, measure_latency, module_cost
from nas_optuna.models.operations import Attention
from nas_optuna.spaces import TransformerSpace
from tests.spaces.spaces import SPACES

SERIES, TOKENS = SPACES["series"], SPACES["tokens"]


def params(space, layers=2, width=32, heads=2, ratio=2, pooling="mean", dropout=0.0):
    """Layers that are all alike."""
    plain = {
        "layers": layers,
        "width": width,
        "pooling": pooling,
        "activation": "gelu",
        "dropout": dropout,
    }
    for i in range(space.max_layers):
        plain |= {f"layer{i}.heads": heads, f"layer{i}.ratio": ratio}
    return plain


def names(made):
    return [node.name for node in made.nodes]


def test_a_pre_norm_encoder_for_a_series():
    made = SERIES.architecture(params(SERIES, layers=1))
    assert names(made) == [
        "embedding", "positions",
        "layer0.attention_norm", "layer0.attention", "layer0.attention_add",
        "layer0.feedforward_norm", "layer0.expand", "layer0.contract", "layer0.feedforward_add",
        "norm", "pool", "logits",
    ]  # fmt: skip
    assert made.shapes["layer0.expand"] == (8, 64)
    assert made.shapes["pool"] == (32,)
    assert not made.tokens
    assert made.layers == 1 + 3 + 1  # norms and positions are no layers


def test_parameters_and_flops_are_those_of_the_textbook():
    d, t, ratio, layers = 32, 8, 2, 3
    made = SERIES.architecture(params(SERIES, layers, width=d, ratio=ratio))
    linear = 4 * d * d + 2 * d * ratio * d  # of one layer
    biases = 4 * d + ratio * d + d
    norms = 2 * 2 * d
    embedding, positions, logits = 8 * d + d, t * d, 10 * d + 10
    counted = cost(made)
    total = embedding + positions + layers * (linear + biases + norms) + 2 * d + logits
    assert counted.parameters == total
    attention = 2 * t * t * d
    assert counted.flops / 2 == t * 8 * d + layers * (t * linear + attention) + 10 * d


@pytest.mark.parametrize("space", [SERIES, TOKENS], ids=["series", "tokens"])
@pytest.mark.parametrize("grad", [False, True])
def test_flops_are_those_of_the_real_network(space, grad):
    """In evaluation without gradients torch has fast paths whose FLOPs it does not count."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        made = space.architecture(space.sample(rng))
        model, counted = build(made).eval(), cost(made)
        x = torch.zeros(1, *space.input_shape, dtype=torch.int64 if made.tokens else torch.float32)
        with FlopCounterMode(display=False) as flops, torch.set_grad_enabled(grad):
            model(x)
        assert counted.flops == flops.get_total_flops()
        assert counted.parameters == sum(p.numel() for p in model.parameters())


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(12, heads=3), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        for i, linear in enumerate((ours.query, ours.key, ours.value)):
            linear.weight.copy_(theirs.in_proj_weight[12 * i : 12 * i + 12])
            linear.bias.copy_(theirs.in_proj_bias[12 * i : 12 * i + 12])
        ours.out.load_state_dict(theirs.out_proj.state_dict())
    x = torch.randn(4, 7, 12)
    # Sums of a few dozen products of order 1 in float32.
    assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


def test_poolings():
    made = {p: build(SERIES.architecture(params(SERIES, pooling=p))) for p in SERIES.poolings}
    x = torch.randn(2, 8, 5)
    pooled = {name: model.nodes["pool"](x) for name, model in made.items()}
    assert torch.equal(pooled["first"], x[:, 0])
    assert torch.allclose(pooled["mean"], x.sum(1) / 8)
    assert torch.equal(pooled["max"], x.max(1).values)


def test_positions_make_the_order_count():
    torch.manual_seed(0)
    model = build(SERIES.architecture(params(SERIES))).eval()
    x = torch.randn(2, 8, 8)
    assert not torch.allclose(model(x), model(x.flip(1)))
    nn.init.zeros_(model.nodes["positions"].weight)
    assert torch.allclose(model(x), model(x.flip(1)), atol=1e-5)


def test_dropout_stands_at_the_end_of_both_parts():
    made = SERIES.architecture(params(SERIES, layers=1, dropout=0.1))
    inputs = {node.name: node.inputs for node in made.nodes}
    assert inputs["layer0.attention_dropout"] == ("layer0.attention",)
    assert inputs["layer0.feedforward_add"] == (
        "layer0.feedforward_dropout",
        "layer0.attention_add",
    )


def test_layers_beyond_the_depth_are_ignored():
    changed = params(SERIES) | {"layer3.heads": 8, "layer2.ratio": 4}
    assert SERIES.architecture(params(SERIES)) == SERIES.architecture(changed)


def test_token_networks_run_are_counted_and_timed_on_whole_numbers():
    made = TOKENS.architecture(params(TOKENS))
    assert made.tokens
    assert Architecture.from_json(made.to_json()).tokens
    model = build(made)
    dry_run(model, (6,), 3)
    assert measure_latency(model, (6,), seconds=0.01).median_ms > 0
    assert module_cost(model, (6,)).flops == cost(made).flops
    assert model(torch.randint(20, (5, 6))).shape == (5, 3)


def test_tokens_take_eight_bytes():
    """A table and nothing else: the input is what is alive beside weights and what it returns."""
    net = ArchitectureBuilder((1000,), 3)
    made = net.build(net.sequence_pool(net.embedding(net.input, 4, 3)))
    weights, embedded, pooled = 4 * 4 * 3, 4 * 1000 * 3, 4 * 3
    assert cost(made).memory_mb * 1e6 == weights + 8 * 1000 + embedded + pooled


class BagOfWords(nn.Module):
    """A user's module that takes tokens."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.words = nn.Embedding(20, 8)
        self.logits = nn.Linear(8, 3)

    def forward(self, x):
        return self.logits(self.scale * self.words(x).mean(1))


class Columns(nn.Module):
    """A user's module that takes a table of floats whose first column is a category."""

    def __init__(self):
        super().__init__()
        self.category = nn.Embedding(5, 4)
        self.logits = nn.Linear(4 + 5, 3)

    def forward(self, x):
        return self.logits(torch.cat([self.category(x[:, 0].long()), x[:, 1:]], dim=1))


@pytest.mark.parametrize("module", [BagOfWords, Columns])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_modules_get_the_numbers_they_take(module, device):
    with torch.device(device):
        model = module()
        dry_run(model, (6,), 3)
    assert module_cost(model, (6,)).parameters == sum(p.numel() for p in model.parameters())
    if device == "cpu":
        assert measure_latency(model, (6,), seconds=0.01).median_ms > 0


def test_an_embedding_takes_the_input_and_nothing_else_does():
    net = ArchitectureBuilder((6,), 3)
    embedded = net.embedding(net.input, 20, 8, name="words")
    with pytest.raises(
        ArchitectureError, match=r"'again' \(embedding\): takes the network's input"
    ):
        net.embedding(net.sequence_pool(embedded), 20, 8, name="again")
    both = net.add(net.sequence_pool(embedded), net.linear(net.input, 8, name="floats"))
    with pytest.raises(ArchitectureError, match=r"'floats'.*which is tokens"):
        net.build(net.classifier(both))


def test_heads_must_divide_and_sequences_are_needed():
    net = ArchitectureBuilder((8, 12), 3)
    with pytest.raises(ArchitectureError, match="heads 5 must divide the 12 features"):
        net.attention(net.input, 5)
    image = ArchitectureBuilder((1, 8, 8), 3)
    for operation in (image.attention, image.positions, image.sequence_pool):
        with pytest.raises(ArchitectureError, match="needs a sequence"):
            operation(image.input)
    with pytest.raises(ArchitectureError, match="Known: first, max, mean"):
        net.sequence_pool(net.input, "last")


def test_a_sequence_can_meet_others_and_be_classified():
    net = ArchitectureBuilder((8, 12), 3)
    x = net.linear(net.input, 16)
    narrow = net.add(x, net.input)  # projected to 16 features
    joined = net.concat(narrow, net.sequence_pool(x))  # pooled to a vector
    assert (narrow.shape, joined.shape) == ((8, 16), (32,))
    assert net.build(net.classifier(narrow)).shapes["pool"] == (16,)
    shorter = ArchitectureBuilder((8, 12), 3)
    with pytest.raises(ArchitectureError, match="cannot be projected"):
        shorter.project(shorter.input, (4, 12), name="p")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_shape": (1, 8, 8)}, "takes a series"),
        ({"input_shape": (8,)}, "tokens .* and their vocabulary"),
        ({"vocabulary": 10}, "takes a series"),
        ({"input_shape": (8,), "vocabulary": 0}, "vocabulary must be at least 1"),
        ({"widths": (16, 20), "heads": (1, 8)}, "got 20 and 8"),
        ({"max_layers": 0}, "1 <= min_layers"),
        ({"dropouts": (1.5,)}, r"dropouts in \[0, 1\)"),
    ],
)
def test_bad_settings_are_told(settings, message):
    with pytest.raises(SettingError, match=message):
        TransformerSpace(**{"input_shape": (8, 8), "num_classes": 10} | settings)


def test_unknown_names_are_told():
    with pytest.raises(UnknownNameError, match="Did you mean 'mean'"):
        TransformerSpace((8, 8), 10, poolings=("meen",))
    assert SERIES.fingerprint != TransformerSpace((8, 8), 10).fingerprint
    assert TransformerSpace((8,), 2, vocabulary=5).fingerprint != (
        TransformerSpace((8,), 2, vocabulary=6).fingerprint
    )


def test_a_search_over_token_networks_trains_them():
    """Which of two tokens comes first: order has to be learned, words alone tell nothing."""
    rng = np.random.default_rng(0)
    tokens = np.stack([rng.permutation(6) for _ in range(1500)]).astype(np.int64)
    first = (tokens == 0).argmax(1) < (tokens == 1).argmax(1)
    data = nas.data.from_arrays(tokens, first.astype(np.int64))
    space = TransformerSpace(
        data.input_shape, data.num_classes, vocabulary=6, widths=(16,), heads=(2,), max_layers=2,
        dropouts=(0.0,),
    )  # fmt: skip
    objective = nas.Objective(
        space,
        nas.evaluators.FullTraining(data, epochs=8, learning_rate=0.05),
        metrics=("accuracy", "latency_ms", "flops"),
    )
    study = optuna.create_study(directions=objective.directions)
    study.enqueue_trial(params(space, layers=1, width=16, pooling="max"))
    study.optimize(objective, n_trials=2)
    assert not any("nas:infeasible" in trial.user_attrs for trial in study.trials)
    assert study.trials[0].values[0] > 0.8
