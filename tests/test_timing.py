"""Where latency comes from: the platform picks it, and a table stands for a device."""

from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch

import nas_optuna as nas
from nas_optuna import timing
from nas_optuna.errors import SettingError, StudyMismatchError, UnknownNameError
from nas_optuna.evaluators import Candidate
from nas_optuna.models.latency_table import LatencyTable
from nas_optuna.models.tabulation import measure_table
from nas_optuna.report.show import metric_rows
from nas_optuna.spaces import MacroSpace
from nas_optuna.timing import LatencySettings, Stopwatch
from tests.formula import Formula

SPACE = MacroSpace(
    (1, 8, 8), 10, max_layers=4, operations=("conv",), widths=(8, 16), kernel_sizes=(3,),
    activations=("relu",), batch_norm=(True,), connections=("sequential",), max_skip=0,
)  # fmt: skip
QUICK = LatencySettings(seconds=0.005)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng = np.random.default_rng(0)
    drawn = [SPACE.architecture(SPACE.sample(rng)) for _ in range(10)]
    data = measure_table(drawn[:5], drawn[5:])
    file = tmp_path_factory.mktemp("table") / "board.json"
    data.save(file)
    return file


def judged(platform, latency=QUICK):
    limits = nas.SearchConstraints(target_platform=platform)
    objective = nas.Objective(SPACE, Formula(), constraints=limits, latency=latency)
    study = optuna.create_study(directions=objective.directions)
    study.optimize(objective, n_trials=1)
    return study.trials[0]


@pytest.mark.parametrize("platform", ["mobile", "edge"])
def test_phones_and_boards_are_timed_by_onnx_runtime(platform):
    kept = judged(platform).user_attrs["nas:latency"]
    assert kept["device"].startswith("cpu")
    assert kept["device"].endswith(", onnxruntime")
    assert kept["iqr_ms"] >= 0


def test_a_cpu_is_timed_by_torch_unless_told_otherwise():
    assert "onnxruntime" not in judged("cpu").user_attrs["nas:latency"]["device"]
    told = replace(QUICK, runtime="onnxruntime")
    assert judged("cpu", told).user_attrs["nas:latency"]["device"].endswith(", onnxruntime")
    with pytest.raises(UnknownNameError, match="Did you mean 'torch'"):
        LatencySettings(runtime="torhc")


def test_a_table_of_a_gpu_predicts_where_there_is_none(table, tmp_path):
    file = tmp_path / "gpu.json"
    device = LatencyTable(table).data.device
    file.write_text(table.read_text().replace(device, "cuda NVIDIA A100"))
    kept = judged("gpu", LatencyTable(file)).user_attrs["nas:latency"]
    assert (kept["table"], kept["device"]) == ("gpu.json", "cuda NVIDIA A100")


def test_a_table_of_another_platform_is_refused(table):
    with pytest.raises(SettingError, match=r"was made on cpu .* target_platform is 'gpu'"):
        judged("gpu", LatencyTable(table))


def test_on_a_device_that_keeps_count_memory_is_measured_and_its_limit_kept(monkeypatch):
    monkeypatch.setattr(timing, "measure_memory_mb", lambda *_, **__: 123.0)
    limits = nas.SearchConstraints(max_memory_mb=100.0)
    metrics = ("accuracy", "memory_mb")
    objective = nas.Objective(SPACE, Formula(), metrics, limits, latency=QUICK)
    study = optuna.create_study(directions=objective.directions)
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.user_attrs["nas:infeasible"] == "max_memory_mb 100 exceeded by 23 %"
    assert trial.values[1] == trial.user_attrs["nas:latency"]["memory_mb"] == 123.0
    text = metric_rows(trial, metrics, limits)
    assert dict(text)["memory_mb"].startswith("123.00 MB")


def test_a_study_is_not_continued_by_another_runtime(tmp_path):
    search = nas.Search(
        name="timed", space=SPACE, evaluator=Formula(), latency=QUICK, sampler="random",
        storage=f"sqlite:///{tmp_path}/nas.db",
    )  # fmt: skip
    search.create()
    other = replace(search, constraints=nas.SearchConstraints(target_platform="edge"))
    with pytest.raises(StudyMismatchError, match="latency measured, not measured by onnxruntime"):
        other.load()


def test_timing_changes_no_draw_of_another_thread():
    """That trains meanwhile; the weights that are timed are made from a seed of their own."""
    network = SPACE.architecture(SPACE.sample(np.random.default_rng(0)))
    candidate = Candidate(network.digest, {}, network, lambda: nas.models.build(network))
    before = torch.get_rng_state()
    Stopwatch(QUICK, SPACE.input_shape).latency(candidate)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_stopwatch_says_where_it_measures():
    watch = Stopwatch(QUICK, (1, 8, 8))
    assert (watch.device, watch.runtime) == (torch.device("cpu"), "torch")
