"""Batches go through a part once, shuffled, and never leave a sample alone."""

import sys

import pytest
import torch

from nas_optuna.data import Augmentation, Split, batch_count, batches


def part(n: int) -> Split:
    return Split(torch.arange(n, dtype=torch.float32).view(n, 1), torch.arange(n))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n", [2, 3, 5, 63, 64, 65, 129, 1077])
@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_every_sample_comes_once_in_batches_of_even_size(n, batch_size):
    found = list(batches(part(n), batch_size, generator()))
    sizes = [len(targets) for _, targets in found]
    assert len(found) == batch_count(n, batch_size)
    assert min(sizes) >= 2
    assert max(sizes) <= max(batch_size, 3)
    assert max(sizes) - min(sizes) <= 1
    inputs = torch.cat([x for x, _ in found])[:, 0].long()
    targets = torch.cat([y for _, y in found])
    assert torch.equal(inputs, targets)
    assert torch.equal(targets.sort().values, torch.arange(n))


def test_the_generator_decides_the_order():
    def order(seed: int) -> torch.Tensor:
        return torch.cat([y for _, y in batches(part(50), 8, generator(seed))])

    assert torch.equal(order(1), order(1))
    assert not torch.equal(order(1), order(2))
    assert not torch.equal(order(1), torch.arange(50))


def test_epochs_of_one_generator_differ():
    shared = generator()
    first, second = (torch.cat([y for _, y in batches(part(50), 8, shared)]) for _ in range(2))
    assert not torch.equal(first, second)


def test_augmentation_is_applied_and_the_data_stays():
    images = torch.rand(10, 1, 4, 4)
    split = Split(images.clone(), torch.arange(10))
    found = list(batches(split, 4, generator(), Augmentation(shift=1)))
    moved = torch.cat([x for x, _ in found])
    order = torch.cat([y for _, y in found])
    assert not torch.equal(moved, images[order])
    assert torch.equal(split.inputs, images)


def test_batch_norm_can_train_on_one_more_sample_than_a_batch():
    norm = torch.nn.BatchNorm1d(1)
    for inputs, _ in batches(part(65), 64, generator()):
        norm(inputs)  # raises for a batch of one


def test_blocks_change_neither_order_nor_sizes(monkeypatch):
    def found(block: int) -> list[list[int]]:
        monkeypatch.setattr(sys.modules["nas_optuna.data.batches"], "BLOCK", block)
        return [y.tolist() for _, y in batches(part(50), 8, generator())]

    # one batch at a time, three (with one left over), all seven
    assert found(1) == found(24) == found(2**20)
    assert len(found(24)) == 7
