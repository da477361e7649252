"""How a network is trained: settings, optimizer, schedule, device and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from nas_optuna.errors import SettingError, check_name


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a network is trained; the defaults suit small convolutional networks.

    Args:
        batch_size: Samples per step.
        learning_rate: The peak of the schedule.
        momentum: Nesterov momentum; 0 is plain gradient descent.
        weight_decay: On weights, not on biases and the parameters of norms.
        label_smoothing: Share of the target spread over all classes.
        schedule: `"one_cycle"` rises to the peak and falls to zero (Smith and Topin, 2019);
            `"cosine"` falls from the first step.
        augment: Whether to use the augmentation of the data set.
        device: `"auto"` is CUDA where there is one, else the CPU.

    Raises:
        SettingError: A value is out of its range.
        UnknownNameError: There is no such schedule.
    """

    batch_size: int = 64
    learning_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.05
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    augment: bool = True
    device: str | torch.device = "auto"

    def __post_init__(self) -> None:
        check_name("schedule", self.schedule, ("one_cycle", "cosine"))
        require("batch_size", self.batch_size, "at least 2", holds=self.batch_size >= 2)
        require("learning_rate", self.learning_rate, "above 0", holds=self.learning_rate > 0)
        require("momentum", self.momentum, "in [0, 1)", holds=0 <= self.momentum < 1)
        require("weight_decay", self.weight_decay, "at least 0", holds=self.weight_decay >= 0)
        smoothing = self.label_smoothing
        require("label_smoothing", smoothing, "in [0, 1)", holds=0 <= smoothing < 1)


def require(name: str, value: object, rule: str, *, holds: bool) -> None:
    """Check one setting.

    Raises:
        SettingError: The rule does not hold.
    """
    if not holds:
        raise SettingError(f"{name} must be {rule}, got {value!r}.")


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.SGD:
    """SGD; weight decay on matrices and kernels only, not on vectors (biases, scales of norms)."""
    weights = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in weights if p.ndim >= 2]},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
        fused=True,  # one call for all tensors: a third of the time with many small ones
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, steps: int
) -> LRScheduler:
    """The learning rate over `steps` optimizer steps."""
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    return OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=steps, cycle_momentum=False
    )


def pick_device(device: str | torch.device) -> torch.device:
    """Turn a setting into a device of this machine.

    Raises:
        SettingError: There is no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch was built without it
        reason = str(error).splitlines()[0]
        raise SettingError(
            f"device must be one of this machine, got {str(device)!r} ({reason}); try auto or cpu."
        ) from None
    return device
