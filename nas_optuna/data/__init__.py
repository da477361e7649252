"""Data sets with fixed parts, kept as tensors where the network trains."""

from nas_optuna.data.augmentation import NO_AUGMENTATION, Augmentation
from nas_optuna.data.batches import batch_count, batches
from nas_optuna.data.datasets import DataSet, Split, from_arrays
from nas_optuna.data.sources import from_datasets, load

__all__ = [
    "NO_AUGMENTATION",
    "Augmentation",
    "DataSet",
    "Split",
    "batch_count",
    "batches",
    "from_arrays",
    "from_datasets",
    "load",
]
