"""Latency tables: measured on this machine, kept in a file, predicting a whole network."""

import json

import numpy as np
import pytest

from nas_optuna import LatencyTable
from nas_optuna.errors import DataError, SettingError
from nas_optuna.models.cost import node_keys
from nas_optuna.models.estimation import Estimator, sizes
from nas_optuna.models.tabulation import measure_table
from nas_optuna.spaces import MacroSpace

SPACE = MacroSpace(
    (1, 8, 8), 10, max_layers=6, operations=("conv",), widths=(8, 64), kernel_sizes=(3,),
    activations=("relu",), batch_norm=(True,), connections=("sequential",), max_skip=0,
)  # fmt: skip


def drawn(count, space=SPACE):
    rng = np.random.default_rng(0)
    return [space.architecture(space.sample(rng)) for _ in range(count)]


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_table_ranks_networks_as_their_measurement_does(tmp_path, runtime):
    networks = drawn(32)
    data = measure_table(networks[:12], networks[12:], runtime=runtime)
    # On a quiet machine it is about 0.9; a shared one, timing in fractions of a millisecond,
    # still ranks far better than chance (0 with a standard deviation of 0.16).
    assert data.check.kendall_tau > 0.5
    assert data.check.networks == 20
    assert data.runtime == runtime
    file = tmp_path / "table.json"
    data.save(file)
    table = LatencyTable(file)
    assert table.data == data
    assert table.predict(networks[0]) == LatencyTable.of(data).predict(networks[0]) > 0


def test_kinds_that_only_the_checks_have_are_measured_too():
    other = MacroSpace((1, 8, 8), 10, max_layers=4, operations=("separable_conv",), max_skip=0)
    data = measure_table(drawn(3), drawn(5, other))
    assert "separable_conv2d" in {key[0] for key in data.entries}
    assert 0 < data.check.estimated < 1


def test_too_little_to_check_by_is_refused():
    with pytest.raises(SettingError, match="at least 5 to check it by, got 3 and 2"):
        measure_table(drawn(3), drawn(2))


def convolutions(count):
    keys = {key for network in drawn(60) for key in node_keys(network) if key[0] == "conv2d"}
    return sorted(keys, key=lambda key: sizes(key)[0])[:count]


def test_few_known_operations_lend_the_time_of_the_nearest():
    keys = convolutions(4)
    estimator = Estimator({keys[0]: 1.0, keys[3]: 7.0})
    assert estimator.estimate([keys[0], keys[3]]) == [1.0, 7.0]
    assert set(estimator.estimate(keys[1:3])) <= {1.0, 7.0}


@pytest.mark.parametrize("known", [1, 12])
def test_far_larger_operations_take_longer_in_proportion(known):
    keys = convolutions(known)
    estimator = Estimator({key: sizes(key)[0] * 1e-6 for key in keys})
    operation, settings, _ = keys[-1]
    wide = dict(settings) | {"channels": 4096}
    large = (operation, tuple(sorted(wide.items())), ((512, 8, 8),))
    (time,) = estimator.estimate([large])
    assert time > 100 * sizes(keys[-1])[0] * 1e-6


@pytest.mark.parametrize("text", ["{", "{}", "[1]"])
def test_what_is_no_table_is_refused_in_a_line(tmp_path, text):
    file = tmp_path / "table.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"table\.json") as caught:
        _ = LatencyTable(file).data
    assert "\n" not in str(caught.value)


def test_a_kind_that_the_table_lacks_is_named(tmp_path):
    networks = drawn(8)
    file = tmp_path / "table.json"
    measure_table(networks[:3], networks[3:]).save(file)
    document = json.loads(file.read_text())
    document["entries"] = [e for e in document["entries"] if e["operation"] != "conv2d"]
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"has no conv2d, which node '.*' is; .*latency-table"):
        LatencyTable(file).predict(networks[0])


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        _ = LatencyTable(tmp_path / "nowhere.json").data
