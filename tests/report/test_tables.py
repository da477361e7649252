"""Records, tables and CSV of a front."""

import csv
import io
import json

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial
from rich.console import Console

from nas_optuna import SearchConstraints, report
from nas_optuna.errors import SettingError, StorageError, UnknownNameError
from nas_optuna.profiling import CostRow

LIMITS = SearchConstraints(max_latency_ms=10.0, max_parameters=20_000)
OPERATIONS = CategoricalDistribution(["conv, 3x3", "pool"])
FRONT = [
    ([0.98299, 0.4211, 12345], {"op": "conv, 3x3"}),
    ([0.5, 0.1, 10], {"op": "pool"}),
    ([0.9, 0.2, 900], {}),
]


@pytest.fixture
def study(tmp_path):
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path}/nas.db", directions=["maximize", "minimize", "minimize"]
    )
    study.set_metric_names(["accuracy", "latency_ms", "parameters"])
    for values, params in FRONT:
        trial = create_trial(
            values=values,
            params=params,
            distributions=dict.fromkeys(params, OPERATIONS),
            user_attrs={"nas:architecture": json.dumps({"nodes": [params]})} if params else {},
        )
        study.add_trial(trial)
    return study


def shown(table):
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_records_hold_a_front_as_json(study):
    records = report.pareto_records(study, constraints=LIMITS)
    assert json.loads(json.dumps(records)) == records
    by_number = {record["number"]: record for record in records}
    assert by_number[0]["values"] == {
        "accuracy": 0.98299,
        "latency_ms": 0.4211,
        "parameters": 12345.0,
    }
    assert by_number[0]["params"] == {"op": "conv, 3x3"}
    assert by_number[0]["architecture"] == {"nodes": [{"op": "conv, 3x3"}]}
    assert by_number[2]["architecture"] is None


def test_records_come_best_score_first(study):
    records = report.pareto_records(study, constraints=LIMITS)
    assert [record["number"] for record in records] == [2, 0, 1]
    assert records[0]["score"] == pytest.approx(0.6 * 0.9 + 0.2 * 0.98 + 0.2 * 0.955)
    by_accuracy = report.pareto_records(study, weights={"accuracy": 1.0})
    assert [record["number"] for record in by_accuracy] == [0, 2, 1]


def test_a_limit_keeps_the_ends(study):
    # Trial 0 has the best accuracy; 1 the best latency and the fewest parameters.
    records = report.pareto_records(study, limit=2, constraints=LIMITS)
    assert {record["number"] for record in records} == {0, 1}
    with pytest.raises(SettingError, match="`limit` must be 1 or more"):
        report.pareto_records(study, limit=0)


def test_a_study_of_another_program_has_no_scores():
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trial(create_trial(values=[1.5, 2.0]))
    study.add_trial(create_trial(values=[0.5, 1.0]))
    records = report.pareto_records(study)
    assert [record["number"] for record in records] == [0, 1]
    assert records[0]["values"] == {"value_0": 1.5, "value_1": 2.0}
    assert records[0]["score"] is None
    assert "score" not in shown(report.pareto_table(records))
    with pytest.raises(UnknownNameError, match="'accuracy'"):
        report.pareto_records(study, weights={"accuracy": 1.0})


def test_a_broken_architecture_names_its_trial(study):
    study.add_trial(create_trial(values=[1.0, 0.0, 0], user_attrs={"nas:architecture": "{"}))
    with pytest.raises(StorageError, match=r"Trial 3 .* not JSON"):
        report.pareto_records(study)


def test_a_study_without_results():
    records = report.pareto_records(optuna.create_study())
    assert records == []
    assert report.pareto_table(records).row_count == 0
    assert report.pareto_csv(records) == "number,score,predicted,architecture\n"


def test_the_table_shows_readable_numbers(study):
    text = shown(report.pareto_table(report.pareto_records(study), title="Front of digits"))
    assert "Front of digits" in text
    for part in ("accuracy ↑", "latency_ms ↓", "score ↑", "0.983", "0.42 ms", "12,345"):
        assert part in text


def test_csv_is_read_back_as_it_was(study):
    records = report.pareto_records(study, constraints=LIMITS)
    rows = list(csv.DictReader(io.StringIO(report.pareto_csv(records))))
    assert [int(row["number"]) for row in rows] == [2, 0, 1]
    for row, record in zip(rows, records, strict=True):
        assert float(row["accuracy"]) == record["values"]["accuracy"]
        assert float(row["score"]) == record["score"]
    assert [row["params_op"] for row in rows] == ["", "conv, 3x3", "pool"]
    assert rows[0]["architecture"] == ""
    assert json.loads(rows[1]["architecture"]) == records[1]["architecture"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("parameters", 1234567.0, "1,234,567"),
        ("accuracy", 1.0, "1.000"),
        ("accuracy", 0.98299, "0.983"),
        ("loss", 0.1, "0.100"),
        ("latency_ms", 0.4211, "0.42 ms"),
        ("latency_ms", 0.00123, "0.0012 ms"),
        ("memory_mb", 12.345, "12.35 MB"),
        ("layers", 7.0, "7"),
        ("value_0", 0.12345, "0.123"),
        ("value_0", 12.0, "12"),
    ],
)
def test_number_formats(name, value, text):
    assert report.format_value(name, value) == text


def test_a_profile_shows_limits_and_shares():
    rows = [
        CostRow("parameters", 100.0, 2000.0, 1234567.0, 50_000.0, 0.634),
        CostRow("flops", 10.0, 20.0, 30.0, None, 1.0),
        CostRow("latency_ms", 0.01, 0.2, 3.0, 2.5, 1.0),
    ]
    lines = shown(report.profile_table(rows, feasible=0.125, title="A space")).splitlines()
    cells = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in lines if "│" in line}
    cells = {name: [cell.strip() for cell in row] for name, row in cells.items()}
    assert "A space" in lines[0]
    assert cells["parameters"] == ["100", "2,000", "1,234,567", "50,000", "63 %"]
    assert cells["flops"] == ["10", "20", "30", "-", "-"]
    assert cells["latency_ms"] == ["0.01 ms", "0.20 ms", "3.00 ms", "2.5 ms", "100 %"]
    assert cells["all limits"] == ["", "", "", "", "12 %"]


def test_what_was_predicted_is_marked(study):
    costs = {"parameters": 5}
    by_table = {"median_ms": 0.01, "table": "board.json"}
    for values, attrs in [
        ([0.99, 0.01, 5], {"nas:predicted": True, "nas:costs": costs, "nas:latency": by_table}),
        ([0.995, 0.02, 6], {"nas:predicted": True, "nas:costs": costs}),
        ([0.998, 0.03, 7], {"nas:costs": costs, "nas:latency": by_table}),
    ]:
        study.add_trial(create_trial(values=values, user_attrs=attrs))
    records = report.pareto_records(study, constraints=LIMITS)
    predicted = {record["number"]: record["predicted"] for record in records}
    both = ["accuracy", "latency_ms"]
    assert predicted == {3: both, 4: both, 5: ["latency_ms"]}
    text = shown(report.pareto_table(records))
    assert "~0.995" in text
    assert "~0.998" not in text
    assert "~ predicted, not measured" in text
    rows = list(csv.DictReader(io.StringIO(report.pareto_csv(records))))
    assert {int(row["number"]): row["predicted"] for row in rows}[5] == "latency_ms"


def test_nothing_is_marked_where_all_was_measured(study):
    text = shown(report.pareto_table(report.pareto_records(study, constraints=LIMITS)))
    assert "~" not in text
