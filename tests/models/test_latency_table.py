"""Latency tables: measured on this machine, kept in a file, predicting a whole network."""

import numpy as np
import pytest

from nas_optuna import LatencyTable
from nas_optuna.errors import DataError
from nas_optuna.models.tabulation import measure_table
from nas_optuna.spaces import MacroSpace

SPACE = MacroSpace(
    (1, 8, 8), 10, max_layers=6, operations=("conv",), widths=(8, 64), kernel_sizes=(3,),
    activations=("relu",), batch_norm=(True,), connections=("sequential",), max_skip=0,
)  # fmt: skip


def test_a_table_ranks_networks_as_their_measurement_does(tmp_path):
    rng = np.random.default_rng(0)
    drawn = [SPACE.architecture(SPACE.sample(rng)) for _ in range(40)]
    data = measure_table(drawn[:20], drawn[20:])
    # On a quiet machine it is about 0.9; a shared one, timing in fractions of a millisecond,
    # still ranks far better than chance (0 with a standard deviation of 0.16).
    assert data.check is not None
    assert data.check.kendall_tau > 0.5
    file = tmp_path / "table.json"
    data.save(file)
    table = LatencyTable(file)
    assert table.predict(drawn[0]) == LatencyTable.of(data).predict(drawn[0]) > 0


@pytest.mark.parametrize("text", ["{", "{}", "[1]"])
def test_what_is_no_table_is_refused_in_a_line(tmp_path, text):
    file = tmp_path / "table.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"table\.json") as caught:
        _ = LatencyTable(file).data
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        _ = LatencyTable(tmp_path / "nowhere.json").data
