"""Statistics of batch norms, estimated anew for one network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate the running statistics of a network's batch norms; it is left in evaluation mode.

    Weights trained on many paths have seen the statistics of them all, which are those of none
    (Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform Sampling").

    Args:
        model: The network; its weights stay as they are.
        batches: Inputs `(b, *input_shape)` to go by, on the network's device. All batches weigh
            the same.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for inputs in batches:
        model(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
