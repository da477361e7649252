"""Transformer space: small encoders for series and for tokens.

    input -> embedding -> positions -> layer0 -> layer1 -> ... -> norm -> pooling -> logits

A layer is self-attention and a feed-forward network, each after a layer norm and around a shortcut
(pre-norm, Xiong et al. 2020). Heads and feed-forward ratio are asked for each layer, as in
AutoFormer (Chen et al. 2021); the width is one for the network.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import BaseTrial

from nas_optuna.architecture import Architecture
from nas_optuna.builder import ArchitectureBuilder
from nas_optuna.errors import SettingError, check_name
from nas_optuna.nodes import Output
from nas_optuna.operations import ACTIVATIONS, SEQUENCE_POOLINGS
from nas_optuna.spaces.base import Space
from nas_optuna.spaces.variation import Chain


class TransformerSpace(Space):
    """Encoders of `min_layers` to `max_layers` layers with learned positions.

    Args:
        input_shape: `(steps, features)` of a series of floats, embedded by a linear map, or
            `(steps,)` of tokens (int64), embedded by a table.
        num_classes: Number of logits.
        vocabulary: Number of different tokens, which are 0 to `vocabulary - 1`; None for a series.
        min_layers: Fewest layers, at least 1.
        max_layers: Most layers.
        widths: Choices of features per step; each divisible by each of `heads`.
        heads: Choices of the number of attention heads of a layer.
        ratios: Choices of a layer's feed-forward width, as a multiple of the network's.
        poolings: Choices out of `first`, `mean`, `max`: what the steps are summed up by.
        activations: Choices of the activation between the two feed-forward maps.
        dropouts: Choices of the share of features dropped after attention and feed-forward.

    Raises:
        SettingError: A setting is out of its range or not among the known names.

    Example:
        >>> import numpy as np
        >>> space = TransformerSpace(
        ...     input_shape=(12,), num_classes=2, vocabulary=100, max_layers=2
        ... )
        >>> network = space.architecture(space.sample(np.random.default_rng(0)))
        >>> network.tokens, network.shapes["logits"]
        (True, (2,))
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        *,
        vocabulary: int | None = None,
        min_layers: int = 1,
        max_layers: int = 6,
        widths: Sequence[int] = (16, 32, 64, 128),
        heads: Sequence[int] = (1, 2, 4, 8),
        ratios: Sequence[int] = (1, 2, 4),
        poolings: Sequence[str] = SEQUENCE_POOLINGS,
        activations: Sequence[str] = ("relu", "gelu"),
        dropouts: Sequence[float] = (0.0, 0.1),
    ) -> None:
        _check_input(input_shape, vocabulary)
        if not 1 <= min_layers <= max_layers:
            raise SettingError(
                f"1 <= min_layers <= max_layers must hold, got {min_layers} and {max_layers}."
            )
        for width in widths:
            for count in heads:
                if width % count:
                    raise SettingError(
                        f"Every width must be divisible by every number of heads, got {width} and "
                        f"{count}; leave one of them out."
                    )
        if min(*ratios, *heads) < 1 or not all(0 <= rate < 1 for rate in dropouts):
            raise SettingError(
                "ratios and heads must be at least 1 and dropouts in [0, 1), got "
                f"{tuple(ratios)}, {tuple(heads)} and {tuple(dropouts)}."
            )
        for kind, names, known in (
            ("pooling", poolings, SEQUENCE_POOLINGS),
            ("activation", activations, ACTIVATIONS),
        ):
            for name in names:
                check_name(kind, name, known)
        super().__init__(input_shape, num_classes)
        self.vocabulary = vocabulary
        self.min_layers = min_layers
        self.max_layers = max_layers
        self.widths = tuple(widths)
        self.heads = tuple(heads)
        self.ratios = tuple(ratios)
        self.poolings = tuple(poolings)
        self.activations = tuple(activations)
        self.dropouts = tuple(dropouts)

    @property
    def fixed(self) -> object:
        """The vocabulary; the text "None" for a series."""
        return str(self.vocabulary)

    @property
    def chains(self) -> tuple[Chain, ...]:
        """One: the layers."""
        return (Chain("layers", "layer"),)

    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask all questions, then put the layers together."""
        depth = trial.suggest_int("layers", self.min_layers, self.max_layers)
        width = trial.suggest_categorical("width", self.widths)
        pooling = trial.suggest_categorical("pooling", self.poolings)
        activation = trial.suggest_categorical("activation", self.activations)
        dropout = trial.suggest_categorical("dropout", self.dropouts)
        layers = [
            (
                trial.suggest_categorical(f"layer{i}.heads", self.heads),
                trial.suggest_categorical(f"layer{i}.ratio", self.ratios),
            )
            for i in range(self.max_layers)
        ]
        net = ArchitectureBuilder(self.input_shape, self.num_classes)
        x = net.positions(self._embedded(net, width), name="positions")
        for i, (heads, ratio) in enumerate(layers[:depth]):
            with net.scope(f"layer{i}"):
                x = encoder_layer(
                    net, x, heads=heads, hidden=ratio * width, activation=activation,
                    dropout=dropout,
                )  # fmt: skip
        x = net.sequence_pool(net.layer_norm(x, name="norm"), pooling, name="pool")
        return net.build(net.classifier(x))

    def _embedded(self, net: ArchitectureBuilder, width: int) -> Output:
        if self.vocabulary is None:
            return net.linear(net.input, width, name="embedding")
        return net.embedding(net.input, self.vocabulary, width, name="embedding")


def encoder_layer(
    net: ArchitectureBuilder,
    x: Output,
    *,
    heads: int,
    hidden: int,
    activation: str = "gelu",
    dropout: float = 0.0,
) -> Output:
    """Add a pre-norm encoder layer in the builder's current scope; the shape stays.

    Args:
        net: The network that it is added to.
        x: A sequence.
        heads: Attention heads; a divisor of the features.
        hidden: Width of the feed-forward network.
        activation: Between its two maps.
        dropout: Share of features dropped at the end of either part; 0 for none.

    Example:
        >>> net = ArchitectureBuilder((8, 16))
        >>> encoder_layer(net, net.input, heads=2, hidden=32).shape
        (8, 16)
    """
    y = net.attention(net.layer_norm(x, name="attention_norm"), heads, name="attention")
    y = _dropped(net, y, dropout, name="attention_dropout")
    x = net.add(y, x, name="attention_add")
    y = net.layer_norm(x, name="feedforward_norm")
    y = net.linear(y, hidden, activation=activation, name="expand")
    y = net.linear(y, x.shape[1], name="contract")
    y = _dropped(net, y, dropout, name="feedforward_dropout")
    return net.add(y, x, name="feedforward_add")


def _dropped(net: ArchitectureBuilder, x: Output, rate: float, *, name: str) -> Output:
    return net.dropout(x, rate, name=name) if rate else x


def _check_input(input_shape: tuple[int, ...], vocabulary: int | None) -> None:
    if len(input_shape) == 2 and vocabulary is None:
        return
    if len(input_shape) != 1 or vocabulary is None:
        raise SettingError(
            "TransformerSpace takes a series (steps, features), or tokens (steps,) and their "
            f"vocabulary, got input_shape {input_shape} and vocabulary {vocabulary}."
        )
    if vocabulary < 1:
        raise SettingError(f"vocabulary must be at least 1, got {vocabulary}.")
