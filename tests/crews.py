"""Workers for the tests of workers: real processes, started quickly, whose work is recorded."""

import os
import signal
import time
from pathlib import Path

import nas_optuna as nas
from nas_optuna.storage.budget import Goal
from nas_optuna.workers import work
from tests.formula import Formula
from tests.storage.processes import CONTEXT


class Recorded(Formula):
    """Writes down each evaluation that ends.

    Args:
        log: The file, to which all processes append.
        hang: Whether to sleep for ever instead of judging.
    """

    def __init__(self, log, *, hang=False, **options):
        super().__init__(**options)
        self.log = Path(log)
        self.hang = hang

    def evaluate(self, candidate, report):
        if self.hang:
            time.sleep(600)
        metrics = super().evaluate(candidate, report)
        with self.log.open("a") as file:  # one short write to the end, which is atomic
            file.write(f"{candidate.key}\n")
        return metrics


def network(trial):
    """Few questions and few networks, so that workers propose the same ones again and again."""
    net = nas.ArchitectureBuilder((1, 8, 8), 10)
    width = trial.suggest_categorical("width", list(range(4, 24)))
    kernel_size = trial.suggest_categorical("kernel_size", [1, 3, 5])
    return net.build(net.classifier(net.conv2d(net.input, width, kernel_size)))


def one_network(trial):
    """The same network, whatever the answer."""
    trial.suggest_categorical("ignored", list(range(8)))
    net = nas.ArchitectureBuilder((1, 8, 8), 10)
    return net.build(net.classifier(net.conv2d(net.input, 8)))


SPACE = nas.spaces.FunctionSpace(network, input_shape=(1, 8, 8), num_classes=10)
ONE = nas.spaces.FunctionSpace(one_network, input_shape=(1, 8, 8), num_classes=10)


def search(url, log, *, space=SPACE, sampler="random", **options):
    return nas.Search(
        name="crew",
        space=space,
        evaluator=Recorded(log, **options),
        metrics=("accuracy", "parameters"),
        constraints=nas.SearchConstraints(max_parameters=450, max_latency_ms=None),
        sampler=sampler,
        storage=url,
    )


def evaluations(log):
    return Path(log).read_text().split() if Path(log).exists() else []


def _work(url, log, goal, settings, options):
    made = search(url, log, **options)
    try:
        work(made, made.load(patience=60.0), goal=goal, **settings)
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGTERM)


def start(url, log, goal, *, settings=None, **options):
    """Start a worker; a process of its own that has no more than the imports."""
    process = CONTEXT.Process(target=_work, args=(url, log, goal, settings or {}, options))
    process.start()
    return process


def finish(url, log, goal, *, count, **options):
    """Let `count` workers meet a goal; all must end well."""
    runs = [start(url, log, goal, **options) for _ in range(count)]
    for run in runs:
        run.join(timeout=240)
    assert [run.exitcode for run in runs] == [0] * count


def goal(trials=None, evaluations=None):
    return Goal(trials=trials, evaluations=evaluations)
