"""One trial as text."""

import io
import math

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from nas_optuna import ArchitectureBuilder, SearchConstraints
from nas_optuna.errors import ArchitectureError, SettingError
from nas_optuna.report import show

LIMITS = SearchConstraints(max_parameters=1000, min_accuracy=0.5)
NAMES = ["accuracy", "latency_ms", "parameters"]


def residual():
    net = ArchitectureBuilder((1, 8, 8), num_classes=10)
    with net.scope("layer0"):
        x = net.conv2d(net.input, 8, stride=2, name="conv")
        y = net.add(x, net.input, name="sum")
    return net.build(net.classifier(net.max_pool2d(y, name="last")))


@pytest.fixture
def study():
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"])
    study.set_metric_names(NAMES)
    return study


def told(study, **settings):
    study.add_trial(create_trial(**settings))
    return study.get_trials(deepcopy=False)[-1]


def shown(study, trial, network=None):
    console = Console(width=80, file=io.StringIO())
    console.print(show.trial_text(study, trial, network, constraints=LIMITS))
    return console.file.getvalue()


def trained(study, **attrs):
    return told(
        study,
        values=[0.75, 0.4, 900.0],
        user_attrs={
            "nas:architecture": residual().to_json(),
            "nas:costs": {"parameters": 900, "flops": 5000, "memory_mb": 0.5, "layers": 2},
            "nas:latency": {"median_ms": 0.4, "iqr_ms": 0.02, "threads": 1, "device": "cpu x"},
            "nas:epochs": 3.0,
            "nas:seconds": 1.5,
            "nas:curve": [0.25, 0.75, 0.5],
            **attrs,
        },
    )


def test_a_line_for_each_node():
    architecture = residual()
    rows = show.node_rows(architecture, {"layer0.conv": 88, "logits": 90})
    assert [row[0] for row in rows] == ["input", *(node.name for node in architecture.nodes)]
    by_name = {name: rest for name, *rest in rows}
    operation, shape, count = by_name["layer0.conv"]
    assert operation.startswith("conv 3")
    assert "/2" in operation
    assert "←" not in operation  # its input is the line before
    assert (shape.encode("ascii", "replace"), count) == (b"8?4?4", "88")
    assert by_name["layer0.sum"][0] == "add ← .conv, .sum.projection1"
    assert by_name["layer0.sum.projection1"][0].endswith("← input")
    assert by_name["logits"][2] == "90"
    assert by_name["last"][2] == ""


def test_a_table_of_long_names_fits_a_terminal():
    net = ArchitectureBuilder((1, 8, 8), num_classes=10)
    outputs = [net.input]
    with net.scope("stage1"), net.scope("block0"):
        for i in range(6):
            joined = net.concat(*outputs, name=f"a_rather_long_name_of_a_node{i}")
            outputs.append(net.conv2d(joined, 8, name=f"convolution{i}"))
    network = net.build(net.classifier(outputs[-1]))
    console = Console(width=80, file=io.StringIO())
    console.print(show.network_table(network, dict.fromkeys(["logits"], 90)))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    width = text.index("operation")
    names = "".join(line[:width].strip() for line in text.splitlines())
    assert all(node.name in names for node in network.nodes)  # folded, perhaps, but whole
    assert "…" not in text


def test_a_trained_trial(study):
    text = shown(study, trained(study), show.network_table(residual(), {"logits": 90}))
    for part in (
        "on the Pareto front", "layer0.conv", "0.750  [≥ 0.5]", "900  [≤ 1,000]",
        "0.40 ms  (IQR 0.02 ms, 1 thread, cpu x)  [≤ 100 ms]", "0.50 MB", "5,000",
        "3 epochs, 1.5 s", "▁█▅", "first 0.250, best 0.750 (epoch 2), last 0.500",
    ):  # fmt: skip
        assert part in text, part
    assert "not measured" not in text


def test_marks_of_an_evaluation(study):
    trial = trained(study, **{"nas:cached": True, "nas:notes": {"stopped": "early_stopping"}})
    text = shown(study, trial)
    assert "3 epochs, 1.5 s  (from the cache)" in text
    assert "early stopping" in text


def test_values_that_were_only_told_are_not_shown(study):
    trial = told(
        study,
        values=[0.0, 100.0, 1500.0],
        user_attrs={"nas:costs": {"parameters": 1500}, "nas:infeasible": "too large by half"},
        system_attrs={"constraints:max_parameters": 0.5},
    )
    rows = dict(show.metric_rows(trial, NAMES))
    assert rows == {
        "accuracy": "not measured", "latency_ms": "not measured", "parameters": "1,500"
    }  # fmt: skip
    text = shown(study, trial)
    assert text.startswith("Trial 0 of ")
    assert ": infeasible\ntoo large by half\n" in text


def test_an_unbuildable_trial_has_its_parameters(study):
    width = optuna.distributions.IntDistribution(1, 9)
    trial = told(
        study,
        values=[0.0, 100.0, 1e12],
        params={"width": 7},
        distributions={"width": width},
        user_attrs={"nas:infeasible": "ValueError: [no] network"},
    )
    text = shown(study, trial)
    assert "ValueError: [no] network" in text
    assert "width  7" in text
    assert text.count("not measured") == 3


def test_a_trial_that_did_not_finish_has_a_curve(study):
    trial = told(study, state=TrialState.FAIL, intermediate_values={1: 0.25, 2: 0.5})
    text = shown(study, trial)
    assert "failed" in text
    assert "first 0.250, best 0.500 (epoch 2), last 0.500" in text


def test_a_trial_of_another_program(study):
    assert dict(show.metric_rows(told(study, values=[0.5, 1.0, 10.0]), NAMES)) == {
        "accuracy": "0.500", "latency_ms": "1.00 ms", "parameters": "10"
    }  # fmt: skip


def test_a_trial_by_its_number(study):
    with pytest.raises(SettingError, match="has no trial 0; it has none yet"):
        show.find_trial(study, 0)
    trained(study)
    assert show.find_trial(study, 0).number == 0
    with pytest.raises(SettingError, match="has no trial 1; it has 0 to 0"):
        show.find_trial(study, 1)
    with pytest.raises(SettingError):
        show.find_trial(study, -1)


def test_an_architecture_comes_back(study):
    assert show.architecture_of(trained(study)) == residual()
    assert show.architecture_of(told(study, values=[0.5, 1.0, 10.0])) is None
    with pytest.raises(ArchitectureError):
        show.architecture_of(trained(study, **{"nas:architecture": "{}"}))


@pytest.mark.parametrize(
    ("curve", "drawn"),
    [
        ([0.5], "▅"),
        ([0.3, 0.3], "▅▅"),
        ([0.0, 1.0], "▁█"),
        ([1.0, 0.5, 0.0], "█▅▁"),
        ([0.0, math.inf, 1.0, -math.inf, math.nan], "▁██▁▁"),
        ([math.inf, math.nan], "█▁"),
    ],
)
def test_sparklines(curve, drawn):
    assert show.sparkline(curve) == drawn


def test_a_long_curve_is_averaged():
    line = show.sparkline([i / 1000 for i in range(1000)])
    assert len(line) == 40
    assert list(line) == sorted(line)
    assert (line[0], line[-1]) == ("▁", "█")
