"""Data comes by name, from a file, from OpenML (its server replaced), or from torch datasets."""

import hashlib
import io
import json
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from nas_optuna.data import NO_AUGMENTATION, from_arrays, from_datasets, load
from nas_optuna.errors import DataError

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3


def test_digits_are_built_in():
    data = load("digits")
    assert data.input_shape == (1, 8, 8)
    assert data.num_classes == 10
    assert data.augmentation == NO_AUGMENTATION
    assert sum(len(part) for part in (data.train, data.validation, data.test)) == 1_797
    assert data == load("digits")
    assert data != load("digits", seed=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "Did you mean 'digits'"),
        ("cluttered_digits", "Did you mean 'cluttered-digits'"),
        ("data.csv", "Unknown data set 'data.csv'"),
        ("openml:iris", "named by its number"),
    ],
)
def test_unknown_names_are_one_clear_error(name, message):
    with pytest.raises(DataError, match=message):
        load(name)


@pytest.mark.parametrize("names", [("inputs", "targets"), ("x", "y")])
def test_npz_is_read_like_arrays(tmp_path, names):
    np.savez(tmp_path / "data.npz", **dict(zip(names, (X, Y), strict=True)))
    assert load(tmp_path / "data.npz", seed=2) == from_arrays(X, Y, seed=2)
    assert load(str(tmp_path / "data.npz")).num_classes == 3


def test_bad_npz_files_are_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="no file"):
        load(tmp_path / "missing.npz")
    np.savez(tmp_path / "names.npz", a=X, b=Y)
    with pytest.raises(DataError, match=r"must hold the arrays inputs and targets.*found a, b"):
        load(tmp_path / "names.npz")
    np.savez(tmp_path / "objects.npz", inputs=X.astype(object), targets=Y)
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "objects.npz")
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "broken.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "empty.npz")
    np.save((tmp_path / "single.npz").open("wb"), X)
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "single.npz")
    whole = (tmp_path / "names.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "cut.npz")


class Reply(io.BytesIO):
    """What urlopen returns."""

    def info(self):
        return {}


def serve(monkeypatch, tmp_path, rows):
    """Put a small data set, with two numbers and a class, in OpenML's place."""
    arff = "@relation small\n@attribute a numeric\n@attribute b numeric\n"
    arff += "@attribute kind {one,two}\n@data\n" + "\n".join(rows) + "\n"
    description = {
        "id": "7",
        "name": "small",
        "version": "1",
        "status": "active",
        "format": "ARFF",
        "description": "a small one",
        "url": "https://www.openml.org/data/v1/download/7/small.arff",
        "md5_checksum": hashlib.md5(arff.encode()).hexdigest(),
    }
    features = [
        {"index": str(i), "name": name, "data_type": kind, "is_target": target,
         "is_ignore": "false", "is_row_identifier": "false", "nominal_value": [],
         "number_of_missing_values": "0"}
        for i, (name, kind, target) in enumerate(
            [("a", "numeric", "false"), ("b", "numeric", "false"), ("kind", "nominal", "true")]
        )
    ]  # fmt: skip
    qualities = [{"name": "NumberOfInstances", "value": str(len(rows))}]
    replies = {
        "/json/data/7": {"data_set_description": description},
        "/json/data/features/7": {"data_features": {"feature": features}},
        "/json/data/qualities/7": {"data_qualities": {"quality": qualities}},
    }

    def urlopen(request, *args, **kwargs):
        for ending, reply in replies.items():
            if request.full_url.endswith(ending):
                return Reply(json.dumps(reply).encode())
        if request.full_url.endswith("small.arff"):
            return Reply(arff.encode())
        raise HTTPError(request.full_url, 412, "no such data set", {}, None)

    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", urlopen)


def test_openml_by_number(monkeypatch, tmp_path):
    serve(monkeypatch, tmp_path, [f"{i},{i * i},{('one', 'two')[i % 2]}" for i in range(40)])
    data = load("openml:7")
    numbers = np.array([[i, i * i] for i in range(40)], dtype=np.float32)
    assert data == from_arrays(numbers, np.arange(40) % 2)


def test_openml_with_missing_values_is_refused(monkeypatch, tmp_path):
    serve(monkeypatch, tmp_path, [f"{i},?,{('one', 'two')[i % 2]}" for i in range(40)])
    with pytest.raises(DataError, match="40 are NaN"):
        load("openml:7")


def test_openml_without_the_data_set_or_the_network(monkeypatch, tmp_path):
    serve(monkeypatch, tmp_path, [])
    with pytest.raises(DataError, match="openml:8 cannot be fetched"):
        load("openml:8")

    def unreachable(request, *args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("sklearn.datasets._openml.urlopen", unreachable)
    monkeypatch.setattr("sklearn.datasets._openml.time.sleep", lambda seconds: None)
    with pytest.raises(DataError, match="no route to host"), pytest.warns(match="network error"):
        load("openml:9")


@pytest.mark.parametrize("name", ["digits", "cluttered-digits"])
def test_a_part_too_small_for_every_class_is_refused(name):
    with pytest.raises(DataError, match="every class needs at least 1000 samples"):
        load(name, test_fraction=0.001)


def pairs(x=X, y=Y):
    return TensorDataset(torch.as_tensor(x), torch.as_tensor(y))


def test_torch_dataset_alone_is_split_in_three():
    assert from_datasets(pairs(), seed=4) == from_arrays(X, Y, seed=4)


def test_a_test_dataset_becomes_the_test_part():
    data = from_datasets(pairs(), pairs(X[:9] + 1, Y[:9]), validation_fraction=0.25)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [45, 15, 9]
    assert data.test.targets.tolist() == Y[:9].tolist()
    untouched = from_datasets(pairs(), pairs(X[:9] - 1, Y[:9]), validation_fraction=0.25)
    assert torch.equal(data.train.inputs, untouched.train.inputs)
    assert data != untouched


class Words(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, i):
        return "a word", i % 2


class Ragged(Words):
    def __getitem__(self, i):
        return torch.zeros(1 + i), i % 2


class Bare(Words):
    def __getitem__(self, i):
        return torch.zeros(3)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize("dataset", [Words(), Ragged(), Bare()])
def test_items_that_are_no_pairs_of_numbers_are_refused(dataset):
    with pytest.raises(DataError, match="items must be"):
        from_datasets(dataset)


def test_other_bad_datasets_are_refused():
    with pytest.raises(DataError, match="length"):
        from_datasets(Stream())
    with pytest.raises(DataError, match="one shape"):
        from_datasets(pairs(), pairs(X[:, :3]))
    with pytest.raises(DataError, match="class 3 has 0"):
        from_datasets(pairs(), pairs(X[:4], np.arange(4)))
