"""What is said of a network, and of a trial."""

import json

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from nas_optuna import ArchitectureBuilder
from nas_optuna.report.labels import TIMES
from nas_optuna.report.words import escape_markdown, network_words, trial_note
from tests.report.networks import SPACES, blocks, sample

NAMES = ["accuracy", "latency_ms", "parameters"]
COSTS = {"parameters": 900.0, "flops": 5000.0, "memory_mb": 0.5, "layers": 2}


def plain(text):
    return text.replace(TIMES, "x").replace("\N{EN DASH}", "-")


def note(state=TrialState.COMPLETE, **attrs):
    values = [0.75, 0.4, 900.0] if state is TrialState.COMPLETE else None
    trial = create_trial(state=state, values=values, user_attrs=attrs)
    trial.number = 0
    return trial_note(trial, NAMES)


def test_equal_blocks_are_one_part_and_operations_are_counted():
    words = plain(network_words(blocks(12).to_json()))
    assert "in 14 parts (block0-block11, pool, logits)" in words
    assert "24 conv 3x3, 1 global avg pool, 1 linear; branches meet in 12 add." in words
    assert words.startswith("From 4x8x8 to 10 classes, up to 4 wide")


def test_an_operation_is_named_before_its_activation():
    net = ArchitectureBuilder((4, 8, 8), 10)
    x = net.conv2d(net.input, 4, preactivation=True)
    assert "1 conv 3x3" in plain(network_words(net.build(net.classifier(x)).to_json()))


def test_what_is_rare_is_counted_together():
    net = ArchitectureBuilder((4, 8, 8), 10)
    x = net.input
    for kernel_size in (1, 3, 5, 7, 9, 11):
        with net.scope(f"{'abcdefghijkl'[kernel_size]}"):
            x = net.conv2d(net.conv2d(x, 4, kernel_size), 4, kernel_size)
    for name in ("m", "n", "o", "p"):
        with net.scope(name):
            x = net.activation(x, "gelu")
    words = plain(network_words(net.build(net.classifier(x)).to_json()))
    assert "4 gelu, 2 conv 1x1, 2 conv 3x3, 2 conv 5x5, 2 conv 7x7, 2 conv 9x9, 4 others." in words
    assert "in 12 parts (b, d, f, h, j, l, m, n, and 4 more)" in words


@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_put_into_words(space):
    words = network_words(sample(space, seed=1).to_json())
    assert len(words) < 600
    assert "\n" not in words


def test_a_note_tells_network_costs_and_evaluation():
    latency = {"median_ms": 0.4, "iqr_ms": 0.02, "threads": 1, "device": "cpu x"}
    attrs = {"nas:costs": COSTS, "nas:latency": latency, "nas:epochs": 3.0, "nas:seconds": 1.5}
    graph = {"nas:architecture": blocks(2).to_json(), "nas:curve": [0.5, 0.75]}
    text = plain(note(**graph, **attrs))
    assert text.startswith("**Trial 0, finished**\n\nFrom 4x8x8 to 10 classes")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert "| accuracy | 0.750 |" in rows
    assert "| latency\\_ms | 0.40 ms (IQR 0.02 ms, 1 thread, cpu x) |" in rows
    assert "| parameters | 900 |" in rows
    assert "| evaluation | 3 epochs, 1.5 s |" in rows
    assert "▁" not in text


@pytest.mark.parametrize(
    ("state", "became"),
    [
        (TrialState.PRUNED, "stopped early"),
        (TrialState.FAIL, "failed"),
        (TrialState.RUNNING, "running"),
        (TrialState.WAITING, "waiting"),
    ],
)
def test_a_note_says_what_became_of_a_trial(state, became):
    assert note(state).startswith(f"**Trial 0, {became}**")


def test_an_infeasible_trial_says_why():
    text = note(**{"nas:infeasible": "max_parameters 500 exceeded by 80 %", "nas:costs": COSTS})
    assert text.startswith("**Trial 0, infeasible**: max\\_parameters 500 exceeded by 80 %")
    assert "| accuracy | not measured |" in text
    assert "A network of 2 layers with weights." in text  # of a module there is no graph


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        json.dumps([1, 2]),
        json.dumps({"nodes": [{"name": "a"}]}),
        blocks(1).to_json().replace("conv2d", "gone"),
    ],
)
def test_an_architecture_of_another_program_is_said_to_be_unreadable(text):
    assert "Its architecture cannot be read." in note(**{"nas:architecture": text})


def test_names_cannot_write_markdown_or_html():
    hostile = "<script>alert(1)</script>\n\n# [x](javascript:alert(1)) | `y` ![z](http://z)"
    text = escape_markdown(hostile)
    assert "\n" not in text
    for character in "<>[]|`#!":
        assert text.count(character) == text.count(f"\\{character}") > 0


def test_hostile_names_stay_in_their_cell():
    net = ArchitectureBuilder((4, 8, 8), 10)
    with net.scope("<img src=x onerror=alert(1)>|"):
        x = net.conv2d(net.input, 4)
    text = note(**{"nas:architecture": net.build(net.classifier(x)).to_json()})
    assert "\\<img src=x onerror=alert(1)\\>\\|" in text


def test_a_note_of_a_study_without_metric_names():
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert "| value\\_0 | " in trial_note(study.trials[0], ["value_0"])
