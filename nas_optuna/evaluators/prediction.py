"""Train the first networks, predict the rest, and train again where the prediction is unsure."""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Self

import torch
from optuna.trial import FixedTrial, FrozenTrial
from torch import nn

from nas_optuna.architecture import Architecture
from nas_optuna.data import DataSet
from nas_optuna.errors import SettingError, check_name
from nas_optuna.evaluators.base import Candidate, Evaluator, Finished, Report
from nas_optuna.evaluators.ensemble import TARGETS, Ensemble, Targets
from nas_optuna.evaluators.recipe import require
from nas_optuna.evaluators.zero_cost import ZeroCost
from nas_optuna.metrics import Metrics
from nas_optuna.models import build
from nas_optuna.recording import ARCHITECTURE, COSTS, DIGEST, MEASURED, PREDICTED
from nas_optuna.spaces import Encoding, Space, encode

_KEPT = 10_000  # encodings


@dataclass(frozen=True)
class PerformancePrediction(Evaluator):
    """Predicts what another evaluator would measure, once enough is known.

    A candidate is evaluated for real, by `evaluator`, as long as fewer than `warmup` networks of
    the study were; where the members of the ensemble disagree; where it may be better than all
    that is known, so that the best of a study was always measured; and once in a while, so that
    what is known goes on growing where the strategy goes. Else its metrics are
    predicted from the measured trials of the same study, and from nothing else. A trial with
    predicted metrics is marked `nas:predicted` and has the standard deviation of the accuracy in
    its notes. Predictions are never learned from and never stored as results.

    Args:
        evaluator: Measures the accuracy, and maybe more.
        space: The space that is searched; wrap a function in `nas.spaces.FunctionSpace`.
        warmup: Different networks that are evaluated before anything is predicted.
        tolerance: A candidate is evaluated if the members' standard deviation is more than this
            share of that of the known results (see `Prediction.doubt`); 0 predicts nothing. Of
            the cells of NAS-Bench-201 with 100 known, one in six is above the default.
        in_a_row: Most predictions in a row; the next candidate is evaluated.
        targets: What is learned; see `Ensemble`.
        members: Number of models in the ensemble.
        scores: Scores without training that the ensemble learns from too; they cost a pass each.
        seed: Decides the ensemble's samples.

    Raises:
        SettingError: A setting is out of its range.

    Example:
        >>> import nas_optuna as nas
        >>> space = nas.spaces.MacroSpace(input_shape=(1, 8, 8), num_classes=10)
        >>> training = nas.evaluators.FullTraining("digits", epochs=12)
        >>> PerformancePrediction(training, space, warmup=50).provides == training.provides
        True
    """

    name: ClassVar[str] = "PerformancePrediction"

    evaluator: Evaluator
    space: Space
    _: KW_ONLY
    warmup: int = 30
    tolerance: float = 0.15
    in_a_row: int = 10
    targets: Targets = "log"
    members: int = 10
    scores: Sequence[ZeroCost] = ()
    seed: int = 0
    _encodings: OrderedDict[str, Encoding] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )
    _fitted: dict[str, tuple[object, Ensemble]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_name("kind of targets", self.targets, TARGETS)
        require("warmup", self.warmup, "at least 2", holds=self.warmup >= 2)
        require("tolerance", self.tolerance, "at least 0", holds=self.tolerance >= 0)
        require("in_a_row", self.in_a_row, "at least 1", holds=self.in_a_row >= 1)
        require("members", self.members, "at least 2", holds=self.members >= 2)
        if not isinstance(self.space, Space):
            raise SettingError(
                "space must be a Space; wrap a function: "
                "nas.spaces.FunctionSpace(function, input_shape=..., num_classes=...)."
            )
        if "accuracy" not in self.evaluator.provides:
            raise SettingError(
                f"{self.evaluator.name} measures no accuracy to predict; wrap an evaluator that "
                "does, such as FullTraining."
            )

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]  # a constant in most others
        """Names of the metrics, those of the wrapped evaluator."""
        return self.evaluator.provides

    @property
    def dataset(self) -> DataSet:
        """The data of the wrapped evaluator."""
        return self.evaluator.dataset  # type: ignore[attr-defined,no-any-return]

    @property
    def epochs_per_report(self) -> float:
        """Passes over the full training part that lie between two reports."""
        return self.evaluator.epochs_per_report

    @property
    def measuring(self) -> Evaluator:
        """The wrapped evaluator: what it measures is its result, and shared with its studies."""
        return self.evaluator.measuring

    def identity(self) -> Mapping[str, Any]:
        """Every setting that changes results, as JSON values."""
        return {
            **self.evaluator.identity(),
            "evaluator": self.evaluator.fingerprint,
            "space": self.space.fingerprint,
            "warmup": self.warmup,
            "tolerance": self.tolerance,
            "in_a_row": self.in_a_row,
            "targets": self.targets,
            "members": self.members,
            "scores": [score.fingerprint for score in self.scores],
            "ensemble seed": self.seed,
        }

    def on(self, device: str | torch.device) -> Self:
        """Return a copy that works on `device`."""
        scores = [score.on(device) for score in self.scores]
        return replace(self, evaluator=self.evaluator.on(device), scores=scores)

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Evaluate for real.

        Args:
            candidate: The network.
            report: Told what the wrapped evaluator tells.
        """
        return self.evaluator.evaluate(candidate, report)

    def predict(
        self, candidate: Candidate, costs: Mapping[str, float], finished: Finished
    ) -> Metrics | None:
        """Predict a candidate's metrics from finished trials, or decline; see the class.

        Args:
            candidate: The network.
            costs: Its costs, by metric name.
            finished: Returns the finished trials of the study.
        """
        began = time.perf_counter()
        trials = finished()
        known = _measured(trials)
        if candidate.key in known or len(known) < self.warmup:
            return None
        last = max(trial.number for trial in known.values())
        since = sum(trial.number > last and PREDICTED in trial.user_attrs for trial in trials)
        if since >= self.in_a_row:
            return None
        encoding = self._encoded(candidate, costs)
        expected = self._ensemble("accuracy", known).predict([encoding])
        accuracy, std, doubt = (float(v[0]) for v in (expected.mean, expected.std, expected.doubt))
        best = max(trial.user_attrs[MEASURED]["accuracy"] for trial in known.values())
        if doubt >= self.tolerance or accuracy + std >= best:
            return None
        others = {
            name: float(self._ensemble(name, known).predict([encoding]).mean[0])
            for name in sorted(self.provides - {"accuracy"})
        }
        return Metrics(
            {"accuracy": accuracy, **others},
            seconds=time.perf_counter() - began,
            notes={"predicted": "true", "std": f"{std:.6f}", "known": str(len(known))},
        )

    def _ensemble(self, name: str, known: Mapping[str, FrozenTrial]) -> Ensemble:
        """The ensemble for one metric, learned anew where more is known."""
        values = [trial.user_attrs[MEASURED][name] for trial in known.values()]
        learned_from = (tuple(known), tuple(values))
        fitted = self._fitted.get(name)
        if fitted is None or fitted[0] != learned_from:
            encodings = [self._encoded_trial(trial) for trial in known.values()]
            ensemble = Ensemble(
                name, targets=self.targets, members=self.members, seed=self.seed
            ).fit(encodings, values)
            fitted = self._fitted[name] = (learned_from, ensemble)
        return fitted[1]

    def _encoded_trial(self, trial: FrozenTrial) -> Encoding:
        text = trial.user_attrs.get(ARCHITECTURE)
        make: Callable[[], nn.Module]
        if text is None:
            architecture, make = None, partial(self.space, FixedTrial(trial.params))  # type: ignore[assignment]
        else:
            architecture = Architecture.from_json(text)
            make = partial(build, architecture)
        candidate = Candidate(trial.user_attrs[DIGEST], trial.params, architecture, make)
        return self._encoded(candidate, trial.user_attrs[COSTS])

    def _encoded(self, candidate: Candidate, costs: Mapping[str, float]) -> Encoding:
        # By genome, since genes tell more than the network: equal networks have one result, but
        # the genes are features.
        key = json.dumps(candidate.params, sort_keys=True, default=str)
        if key in self._encodings:
            return self._encodings[key]
        encoding = encode(self.space, candidate.params, candidate.architecture, costs)
        for score in self.scores:
            told = score.evaluate(candidate, _tell_nobody).values["proxy"]
            encoding[f"score {score.score}"] = told
        self._encodings[key] = encoding
        if len(self._encodings) > _KEPT:
            self._encodings.popitem(last=False)
        return encoding


def _measured(trials: Sequence[FrozenTrial]) -> dict[str, FrozenTrial]:
    """Trials with a measured result by digest, the first of each, in order of their numbers."""
    measured: dict[str, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        values = trial.user_attrs.get(MEASURED, {}).values()
        if values and all(map(math.isfinite, values)):
            measured.setdefault(trial.user_attrs[DIGEST], trial)
    return measured


def _tell_nobody(epoch: int, accuracy: float) -> None:
    pass
