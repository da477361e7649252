"""Batches by index: the data stays where it is, as tensors, and is gathered in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor

from nas_optuna.data.augmentation import NO_AUGMENTATION, Augmentation
from nas_optuna.data.datasets import Split

BLOCK = 2**20  # numbers gathered at a time; 4 MB, which a cache holds


def batch_count(samples: int, batch_size: int) -> int:
    """Number of batches of at most `batch_size` that `samples` samples are divided into.

    There is one batch less where the last sample would be alone in a batch of one: batch
    normalisation has no variance to go by there.

    Example:
        >>> batch_count(1077, 64), batch_count(3, 2)
        (17, 1)
    """
    return max(1, min(ceil(samples / batch_size), samples // 2))


def batches(
    split: Split,
    batch_size: int,
    generator: torch.Generator,
    augmentation: Augmentation = NO_AUGMENTATION,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through a part once, shuffled, in batches of nearly equal size.

    The samples are spread over `batch_count` batches whose sizes differ by at most one, so that no
    short batch at the end weighs more than the others.

    Args:
        split: The part, on the device that trains.
        batch_size: Largest size of a batch; one more where that avoids a batch of one.
        generator: Where order and augmentation are drawn from; on the device of `split`.
        augmentation: What to do to the inputs.

    Yields:
        Inputs `(b, *input_shape)` and targets `(b,)`.
    """
    n = len(split)
    order = torch.randperm(n, generator=generator, device=split.inputs.device)
    pieces = order.tensor_split(batch_count(n, batch_size))
    # Small batches are gathered and augmented many at a time: the calls would cost more than the
    # work. Each is then a slice of the block.
    together = max(1, BLOCK // split.inputs[: len(pieces[0])].numel())
    for start in range(0, len(pieces), together):
        sizes = [len(piece) for piece in pieces[start : start + together]]
        chosen = torch.cat(pieces[start : start + together])
        inputs = augmentation(split.inputs[chosen], generator)
        yield from zip(
            torch.split(inputs, sizes), torch.split(split.targets[chosen], sizes), strict=True
        )
