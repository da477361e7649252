"""Peak memory as a device measures it; what it must be by counting is in `cost`."""

from __future__ import annotations

import torch
from torch import nn

from nas_optuna.models.network import example_input

_MB = 1e6


@torch.inference_mode()
def measure_memory_mb(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    device: torch.device | str = "cuda",
    batch_size: int = 1,
) -> float | None:
    """Measure the peak memory of one forward pass: weights, buffers, input and activations.

    It is more than what `cost` counts by the workspaces of the kernels and by the rounding of
    each block to 512 bytes. What else lies on the device is not counted.

    Args:
        model: The network; it is moved to `device`.
        input_shape: Shape of one sample without the batch.
        device: Where to run.
        batch_size: Samples in one pass.

    Returns:
        Megabytes (1e6 bytes); None on a device that does not keep count, which all but CUDA are.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return None
    others = torch.cuda.memory_allocated(device)
    weights = [*model.parameters(), *model.buffers()]
    others -= sum(w.numel() * w.element_size() for w in weights if w.device == device)
    model = model.to(device).eval()
    x = example_input(model, input_shape, batch_size=batch_size, device=device)
    model(x)  # kernels are chosen in the first pass, which tries some that need more
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    model(x)
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - others) / _MB
