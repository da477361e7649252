"""Studies with a pruner, run by processes side by side."""

import os
import signal
import warnings

import optuna
from optuna.pruners import (
    HyperbandPruner,
    MedianPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)

import nas_optuna as nas
from nas_optuna.spaces import MacroSpace
from tests.formula import Formula
from tests.storage.processes import CONTEXT

EPOCHS = 4
TRAINED = "NAS_TEST_TRAINING" in os.environ  # train on digits instead; some minutes
SPACE = MacroSpace(
    (1, 8, 8), 10, min_layers=1, max_layers=2, operations=("conv", "separable_conv"),
    widths=(8, 16), kernel_sizes=(1, 3, 5), strides=(1, 2), activations=("relu",),
    connections=("sequential",), batch_norm=(True, False), max_skip=0,
)  # fmt: skip

with warnings.catch_warnings():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    PRUNERS = {
        "median": MedianPruner(n_startup_trials=2),
        "percentile": PercentilePruner(25.0, n_startup_trials=2),
        "successive halving": SuccessiveHalvingPruner(reduction_factor=2),
        "hyperband": HyperbandPruner(),
        "wilcoxon": WilcoxonPruner(),
        "patient": PatientPruner(MedianPruner(n_startup_trials=2), patience=1),
        "threshold": ThresholdPruner(lower=0.17),
        "pareto": nas.pruners.ParetoPruner(n_startup_trials=2),
    }


class NamedFormula(Formula):
    """Its results are told apart by a name, so that no study is answered by another's cache.

    Args:
        of: The name.
        kill_after: After so many reports in this process, kill it with -9 before they are heeded.
    """

    def __init__(self, of, *, kill_after=None):
        super().__init__(epochs=EPOCHS)
        self.of = of
        self.kill_after = kill_after
        self.reports = 0

    def identity(self):
        return {**super().identity(), "of": self.of}

    def evaluate(self, candidate, report):
        def counted(step, accuracy):
            self.reports += 1
            try:
                report(step, accuracy)
            finally:
                if self.reports == self.kill_after:
                    os.kill(os.getpid(), signal.SIGKILL)

        return super().evaluate(candidate, counted)


def evaluator_of(name):
    """What judges the networks of a study; no two studies share results."""
    if TRAINED and name in PRUNERS:
        seed = list(PRUNERS).index(name)
        return nas.evaluators.FullTraining("digits", epochs=EPOCHS, batch_size=256, seed=seed)
    return NamedFormula(name)


def search(url, sampler, pruner, *, name, evaluator=None, trials=4) -> nas.Search:
    return nas.Search(
        name=name,
        space=SPACE,
        evaluator=evaluator or evaluator_of(name),
        metrics=("accuracy", "flops", "parameters"),
        constraints=nas.SearchConstraints(max_parameters=6000, max_latency_ms=None),
        sampler=sampler,
        pruner=pruner,
        trials=trials,
        storage=url,
    )


def optimize(made):
    made.optimize(made.load())


def optimize_all(url, sampler):
    """One worker's part of a study with each pruner."""
    for name, pruner in PRUNERS.items():
        optimize(search(url, sampler, pruner, name=name))


def two(function, *args):
    """Run a function in two processes at once; both must end well."""
    runs = [CONTEXT.Process(target=function, args=args) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(timeout=120)
    assert [run.exitcode for run in runs] == [0, 0]
