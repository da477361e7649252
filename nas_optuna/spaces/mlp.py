"""MLP space: multilayer perceptrons for tables, plain or with shortcuts.

    input -> layer0 -> layer1 -> ... -> logits

A layer is linear - batch norm - activation - dropout. With `residual`, every layer after the first
adds its input (projected where the widths differ), as in the ResNet for tables of Gorishniy et al.
2021, "Revisiting Deep Learning Models for Tabular Data".
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import BaseTrial

from nas_optuna.architecture import Architecture
from nas_optuna.builder import ArchitectureBuilder
from nas_optuna.errors import SettingError, check_name
from nas_optuna.operations import ACTIVATIONS
from nas_optuna.spaces.base import Space
from nas_optuna.spaces.variation import Chain


class MLPSpace(Space):
    """Perceptrons of `min_layers` to `max_layers` hidden layers.

    Args:
        input_shape: `(features,)` of one row.
        num_classes: Number of logits.
        min_layers: Fewest hidden layers, at least 1.
        max_layers: Most hidden layers.
        widths: Choices of each layer's features.
        residual: Choices of whether layers add their input.
        batch_norm: Choices of whether layers are normalised.
        dropouts: Choices of the share of features dropped after each layer.
        activations: Choices of the activation, one for the network.

    Raises:
        SettingError: A setting is out of its range or not among the known names.

    Example:
        >>> import numpy as np
        >>> space = MLPSpace(input_shape=(30,), num_classes=2, max_layers=3)
        >>> space.architecture(space.sample(np.random.default_rng(0))).shapes["logits"]
        (2,)
    """

    def __init__(
        self,
        input_shape: tuple[int],
        num_classes: int,
        *,
        min_layers: int = 1,
        max_layers: int = 6,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        residual: Sequence[bool] = (False, True),
        batch_norm: Sequence[bool] = (False, True),
        dropouts: Sequence[float] = (0.0, 0.1, 0.3, 0.5),
        activations: Sequence[str] = ("relu", "gelu", "silu"),
    ) -> None:
        if len(input_shape) != 1:
            raise SettingError(
                f"MLPSpace takes vectors (features,), got input_shape {input_shape}; use "
                "MacroSpace or MobileSpace for images, TransformerSpace for sequences."
            )
        if not 1 <= min_layers <= max_layers:
            raise SettingError(
                f"1 <= min_layers <= max_layers must hold, got {min_layers} and {max_layers}."
            )
        if min(widths) < 1 or not all(0 <= rate < 1 for rate in dropouts):
            raise SettingError(
                f"widths must be at least 1 and dropouts in [0, 1), got {tuple(widths)} and "
                f"{tuple(dropouts)}."
            )
        for name in activations:
            check_name("activation", name, ACTIVATIONS)
        super().__init__(input_shape, num_classes)
        self.min_layers = min_layers
        self.max_layers = max_layers
        self.widths = tuple(widths)
        self.residual = tuple(residual)
        self.batch_norm = tuple(batch_norm)
        self.dropouts = tuple(dropouts)
        self.activations = tuple(activations)

    @property
    def chains(self) -> tuple[Chain, ...]:
        """One: the hidden layers."""
        return (Chain("layers", "layer"),)

    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask all questions, then put the layers together."""
        depth = trial.suggest_int("layers", self.min_layers, self.max_layers)
        residual = trial.suggest_categorical("residual", self.residual)
        norm = trial.suggest_categorical("batch_norm", self.batch_norm)
        activation = trial.suggest_categorical("activation", self.activations)
        dropout = trial.suggest_categorical("dropout", self.dropouts)
        widths = [
            trial.suggest_categorical(f"layer{i}.width", self.widths)
            for i in range(self.max_layers)
        ]
        net = ArchitectureBuilder(self.input_shape, self.num_classes)
        x = net.input
        for i, width in enumerate(widths[:depth]):
            with net.scope(f"layer{i}"):
                y = net.linear(x, width, norm=norm, activation=activation, name="linear")
                if dropout:
                    y = net.dropout(y, dropout, name="dropout")
                x = net.add(y, x, name="residual") if residual and i else y
        return net.build(net.classifier(x))
