"""Random shifts, mirroring and cut-outs: one gather for a whole batch, on the batch's device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_optuna.errors import SettingError


@dataclass(frozen=True)
class Augmentation:
    """What may be done to a training image without changing its class.

    Args:
        shift: Move by up to this many pixels each way; the border pixels are repeated.
        flip: Mirror left and right, half of the time.
        cutout: Side in pixels of one square set to the mean (DeVries and Taylor, 2017); 0 is off.

    Raises:
        SettingError: `shift` or `cutout` is negative.

    Example:
        >>> images = torch.arange(9.0).view(1, 1, 3, 3)
        >>> Augmentation(shift=1)(images, torch.Generator().manual_seed(0)).shape
        torch.Size([1, 1, 3, 3])
    """

    shift: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("shift", "cutout"):
            value = getattr(self, name)
            if value < 0:
                raise SettingError(f"{name} must be at least 0 pixels, got {value}; 0 is off.")

    def __bool__(self) -> bool:
        return bool(self.shift or self.flip or self.cutout)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Args:
            images: `(n, C, H, W)`, normalised, so that 0 is the mean.
            generator: Where the draws come from; on the device of `images`.

        Returns:
            `(n, C, H, W)`; each image drawn on its own. `images` is left as it is.
        """
        if self.shift or self.flip:
            images = self._moved(images, generator)
        if self.cutout:
            images = self._cut(images, generator)
        return images

    def _moved(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, channels, height, width = images.shape
        device = images.device
        rows = torch.arange(height, device=device).expand(n, height)
        columns = torch.arange(width, device=device).expand(n, width)
        if self.shift:
            size = (2, n, 1)
            by = torch.randint(
                -self.shift, self.shift + 1, size, generator=generator, device=device
            )
            rows = (rows + by[0]).clamp_(0, height - 1)  # (n, H): the row each pixel comes from
            columns = (columns + by[1]).clamp_(0, width - 1)  # (n, W)
        if self.flip:
            mirrored = torch.rand((n, 1), generator=generator, device=device) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        source = (rows[:, :, None] * width + columns[:, None, :]).view(n, 1, height * width)
        flat = images.reshape(n, channels, height * width)
        return flat.gather(2, source.expand(n, channels, height * width)).view(images.shape)

    def _cut(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        device = images.device
        side = self.cutout
        # The centre may be anywhere, so a square at the border is partly outside, as in the paper.
        top = torch.randint(height, (n, 1), generator=generator, device=device) - side // 2
        left = torch.randint(width, (n, 1), generator=generator, device=device) - side // 2
        rows = torch.arange(height, device=device)
        columns = torch.arange(width, device=device)
        in_rows = (rows >= top) & (rows < top + side)  # (n, H)
        in_columns = (columns >= left) & (columns < left + side)  # (n, W)
        return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)


NO_AUGMENTATION = Augmentation()
