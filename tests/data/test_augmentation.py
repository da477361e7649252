"""Augmented images are moved, mirrored or cut copies of the originals, by the given generator."""

import itertools

import pytest
import torch

from nas_optuna.data import NO_AUGMENTATION, Augmentation
from nas_optuna.errors import SettingError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distinct(n: int, channels: int = 2, height: int = 5, width: int = 7) -> torch.Tensor:
    """Images of which no two pixels are equal."""
    return torch.arange(1.0, n * channels * height * width + 1).view(n, channels, height, width)


def shifted(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The reference: pad by repeating the border, then crop."""
    padded = torch.nn.functional.pad(image[None], (2, 2, 2, 2), mode="replicate")[0]
    _, height, width = image.shape
    return padded[:, 2 - down : 2 - down + height, 2 - right : 2 - right + width]


def test_every_shifted_image_is_one_of_the_possible_moves_and_all_occur():
    images = distinct(400)
    moved = Augmentation(shift=2)(images, generator())
    seen = set()
    for before, after in zip(images, moved, strict=True):
        matches = [
            move
            for move in itertools.product(range(-2, 3), repeat=2)
            if torch.equal(after, shifted(before, *move))
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 25  # 400 draws miss one of 25 in less than 1 run of 10**5


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    images = distinct(400)
    flipped = Augmentation(flip=True)(images, generator())
    mirrored = torch.tensor(
        [torch.equal(after, before.flip(2)) for before, after in zip(images, flipped, strict=True)]
    )
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert 150 < mirrored.sum() < 250  # five standard deviations of 10


def test_cutout_clears_one_square_in_all_channels():
    images = distinct(300)
    cut = Augmentation(cutout=3)(images, generator())
    holes = cut == 0
    assert torch.equal(cut[~holes], images[~holes])
    assert torch.equal(holes[:, 0], holes[:, 1])
    rows, columns = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(holes[:, 0].sum((1, 2)), rows * columns)  # the holes are full rectangles
    assert rows.max() == 3
    assert columns.max() == 3
    assert rows.min() == 2  # a centre on the border leaves two rows inside


def test_the_generator_decides_and_the_global_one_is_not_touched():
    images = distinct(50)
    augmentation = Augmentation(shift=1, flip=True, cutout=2)
    before = torch.get_rng_state()
    first = augmentation(images, generator(1))
    assert torch.equal(first, augmentation(images, generator(1)))
    assert not torch.equal(first, augmentation(images, generator(2)))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(images, distinct(50))


def test_no_augmentation_is_false_and_returns_the_batch_itself():
    images = distinct(3)
    assert not NO_AUGMENTATION
    assert NO_AUGMENTATION(images, generator()) is images
    assert Augmentation(flip=True)


@pytest.mark.parametrize("name", ["shift", "cutout"])
def test_negative_pixels_are_refused(name):
    with pytest.raises(SettingError, match=f"{name} must be at least 0"):
        Augmentation(**{name: -1})
