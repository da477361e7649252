"""`Search`: what to search and how, as one object; a study file defines one named `search`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import index
from typing import Any, SupportsIndex

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from nas_optuna import samplers
from nas_optuna.constraints import SearchConstraints
from nas_optuna.errors import SettingError, StudyMismatchError, check_name
from nas_optuna.escape import Escape
from nas_optuna.evaluators import Evaluator
from nas_optuna.health import HealthCheck, ProxyHealth
from nas_optuna.interruption import Interruption
from nas_optuna.models import LatencyTable
from nas_optuna.objective import DEFAULT_METRICS, Objective
from nas_optuna.profiling import require_feasible
from nas_optuna.provenance import record_setup, setup_of
from nas_optuna.recording import CACHED, EPOCHS, FINISHED, PREDICTED, QUESTION
from nas_optuna.running import Callback, quiet, run_trials
from nas_optuna.spaces import Space
from nas_optuna.storage import mask, ownership
from nas_optuna.storage import open as open_storage
from nas_optuna.storage.reading import open_to_read
from nas_optuna.timing import LatencySettings, Stopwatch


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to search and how.

    Args:
        name: Name of the study.
        space: A search space, or a function `trial -> Architecture` or `trial -> nn.Module`.
        evaluator: Judges architectures.
        metrics: Objectives of the study, in order; see `nas_optuna.METRICS`.
        constraints: Limits; None for none.
        sampler: Name of the strategy; see `nas_optuna.samplers.names()`.
        seed: Seed of the strategy.
        trials: Finished trials that a run adds by default; the strategy plans for as many.
        timeout: Seconds after which a run starts no further trial; None for no end.
        storage: URL of the database.
        pruner: Stops trainings early; see `Objective`.
        latency: How latency is measured, or a `nas_optuna.LatencyTable` that predicts it.
        weights: Weight of each metric in the score column; see `report.scores`.
        health: Now and then trains in full what a cheap evaluator judged, to see whether that
            can be trusted.

    Raises:
        SettingError: A number is out of its range.
        UnknownNameError: The sampler or a metric is unknown.

    Example:
        >>> import nas_optuna as nas
        >>> search = nas.Search(
        ...     name="digits",
        ...     space=nas.spaces.MacroSpace(input_shape=(1, 8, 8), num_classes=10),
        ...     evaluator=nas.evaluators.EarlyStopping("digits", max_epochs=12),
        ...     constraints=nas.SearchConstraints(max_parameters=100_000),
        ...     sampler="nsga2",
        ... )
        >>> search.objective.metrics
        ('accuracy', 'latency_ms', 'parameters')
    """

    name: str
    space: Space | Callable[[Any], Any]
    evaluator: Evaluator
    metrics: Sequence[str] = DEFAULT_METRICS
    constraints: SearchConstraints | None = None
    sampler: str = "tpe"
    seed: int = 0
    trials: int = 50
    timeout: float | None = None
    storage: str = "sqlite:///nas.db"
    pruner: BasePruner | None = None
    latency: LatencySettings | LatencyTable = field(default_factory=LatencySettings)
    weights: Mapping[str, float] | None = None
    health: ProxyHealth | None = None

    def __post_init__(self) -> None:
        check_name("sampler", self.sampler, samplers.names())
        _at_least("trials", self.trials, 1)
        _at_least("seed", self.seed, 0)
        if self.timeout is not None and not self.timeout > 0:  # NaN neither
            raise SettingError(f"timeout must be more than 0 seconds, got {self.timeout!r}.")

    @cached_property
    def objective(self) -> Objective:
        """What is optimised."""
        return Objective(
            self.space,
            self.evaluator,
            self.metrics,
            self.constraints,
            latency=self.latency,
            pruner=self.pruner,
        )

    def on(self, device: str) -> Search:
        """Return a copy that trains on `device`."""
        health = self.health and self.health.on(device)
        return replace(self, evaluator=self.evaluator.on(device), health=health)

    def create(self, *, patience: float = 0.0) -> optuna.Study:
        """Create the study in the database, or continue the one that is there.

        Args:
            patience: Seconds to wait for a server that does not answer.

        Raises:
            StudyMismatchError: The stored study asks another question.
            StorageError: The database cannot be used.
        """
        opened = open_storage(self.storage, patience=patience)
        if self.name in optuna.get_all_study_names(opened):
            return self._load(opened)
        require_feasible(self.objective)
        self._health_check()  # refuses settings that do not fit before there is a study
        question = self._question()
        with quiet():
            try:
                study = optuna.create_study(
                    study_name=self.name,
                    directions=self.objective.directions,
                    sampler=self._sampler(self.trials),
                    pruner=NopPruner(),  # the objective asks its own
                    storage=opened,
                )
            except optuna.exceptions.DuplicatedStudyError:  # another worker was faster
                return self._load(opened)
        self._ask(study, question)
        return study

    def load(self, *, patience: float = 0.0) -> optuna.Study:
        """Open the stored study.

        Args:
            patience: Seconds to wait for a server that does not answer.

        Raises:
            StudyMismatchError: There is none of this name, or it asks another question.
            StorageError: The database cannot be used.
        """
        return self._load(open_storage(self.storage, patience=patience))

    def read(self) -> optuna.Study:
        """Open the stored study to look at it; an account that may not write can do so, too.

        Raises:
            StudyMismatchError: There is none of this name, or it asks another question.
            StorageError: The database is missing or cannot be read.
        """
        return self._load(open_to_read(self.storage), writing=False)

    def _load(self, opened: BaseStorage, *, writing: bool = True) -> optuna.Study:
        known = optuna.get_all_study_names(opened)
        if self.name not in known:
            raise StudyMismatchError(
                f"There is no study {self.name!r} in {mask(self.storage)} "
                f"({', '.join(known) or 'it is empty'}); `nas-optuna run` makes one."
            )
        study = optuna.load_study(study_name=self.name, storage=opened, pruner=NopPruner())
        planned = self._check_same_question(study)
        if writing and QUESTION not in study.user_attrs and not study.get_trials(deepcopy=False):
            self._ask(study, self._question())  # its maker is about to, or was killed before
        study.sampler = self._sampler(planned)
        return study

    def _sampler(self, planned: int) -> optuna.samplers.BaseSampler:
        return samplers.create(
            self.sampler,
            space=self.objective.space,
            seed=self.seed,
            trials=planned,
            evaluator=self.evaluator,
        )

    def _ask(self, study: optuna.Study, question: Mapping[str, Any]) -> None:
        """Write down what the study asks; it does no harm if others do the same."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(self.objective.metrics))
        study.set_user_attr(QUESTION, question)

    def _question(self) -> dict[str, Any]:
        objective = self.objective
        return {
            "space": objective.space.fingerprint,
            "metrics": list(objective.metrics),
            "evaluator": f"{self.evaluator.name} {self.evaluator.fingerprint}",
            "limits": objective.limits,
            "latency": _told_by(objective.stopwatch),
            "trials": self.trials,
        }

    def _check_same_question(self, study: optuna.Study) -> int:
        """Compare the stored question with this one; return the planned number of trials."""
        asked, ours = study.user_attrs.get(QUESTION, {}), self._question()
        directions = [direction.name.lower() for direction in study.directions]
        differs = []
        if directions != self.objective.directions:
            differs.append(f"directions {directions}, not {self.objective.directions}")
        elif study.metric_names not in (None, list(self.objective.metrics)):
            differs.append(f"metrics {study.metric_names}, not {list(self.objective.metrics)}")
        for key in ("space", "evaluator", "latency"):
            if key in asked and asked[key] != ours[key]:
                differs.append(f"{key} {asked[key]}, not {ours[key]}")
        for name, old, new in _changed_limits(asked.get("limits"), ours["limits"]):
            differs.append(f"{name} {old}, not {new}")
        if differs:
            raise StudyMismatchError(
                f"Study {self.name!r} in {mask(self.storage)} was made with "
                f"{'; '.join(differs)}. Undo the change, or choose another name with --name."
            )
        return self.planned(study)

    def planned(self, study: optuna.Study) -> int:
        """Trials that the study was planned for when it was created."""
        return int(study.user_attrs.get(QUESTION, {}).get("trials", self.trials))

    def optimize(
        self,
        study: optuna.Study,
        *,
        trials: int | None = None,
        evaluations: int | None = None,
        timeout: float | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Run trials until a budget is used up; all budgets hold.

        Ctrl-C and SIGTERM stop the run: the running trial is told as failed, and repeated by the
        next run. A trial whose process died is repeated as well.

        Args:
            study: From `create` or `load`.
            trials: Finished trials that this call adds; `self.trials` if nothing else is given.
            evaluations: Networks that this call trains; repeats, predicted and infeasible ones
                are free.
            timeout: Seconds after which no further trial starts.
            callbacks: Called after each trial with the study and the trial.

        Raises:
            SettingError: A budget is not positive.
            KeyboardInterrupt: The run was stopped from outside; its argument is the number of
                the signal.
        """
        for name, value in (("trials", trials), ("evaluations", evaluations)):
            if value is not None:
                _at_least(name, value, 1)
        timeout = self.timeout if timeout is None else timeout
        if timeout is not None and not timeout > 0:
            raise SettingError(f"timeout must be more than 0 seconds, got {timeout!r}.")
        if trials is None and evaluations is None:
            trials = self.trials
        escape = Escape(self.objective)
        budget = _Budget(trials, evaluations, escape)
        ownership.reap(study)
        escape(study)
        interruption = Interruption()
        with interruption.caught():
            self.run_trials(
                study,
                timeout=timeout,
                callbacks=[escape, *callbacks, budget],
                interruption=interruption,
            )

    def run_trials(
        self,
        study: optuna.Study,
        *,
        timeout: float | None,
        callbacks: Sequence[Callback],
        interruption: Interruption,
    ) -> None:
        """Run trials, and what checks them, until a callback stops the study.

        See `nas_optuna.running.run_trials` for the arguments.
        """
        record_setup(study, self._setup())
        checks = _checks(study, self._health_check(), interruption)
        run_trials(
            study,
            self.objective,
            timeout=timeout,
            callbacks=[*callbacks, *checks],
            interruption=interruption,
        )

    def _setup(self) -> dict[str, Any]:
        return setup_of(
            sampler=self.sampler, seed=self.seed, evaluator=self.evaluator, pruner=self.pruner
        )

    def _health_check(self) -> HealthCheck | None:
        if self.health is None:
            return None
        return HealthCheck(self.objective, self.health, seed=self.seed)


def _told_by(stopwatch: Stopwatch) -> str:
    """What must not change in a study: predictions and measurements do not compare."""
    if isinstance(stopwatch.source, LatencyTable):
        return f"table {stopwatch.source.fingerprint}"
    return "measured" + (f" by {stopwatch.runtime}" if stopwatch.runtime != "torch" else "")


def _changed_limits(
    asked: Mapping[str, float] | None, ours: Mapping[str, float]
) -> Iterator[tuple[str, float | None, float | None]]:
    if asked is None:  # a study that Optuna made, or one that is being made
        return
    for name in {**asked, **ours}:
        if asked.get(name) != ours.get(name):
            yield name, asked.get(name), ours.get(name)


class _Budget:
    """Counts what this call added and stops the study when it is enough."""

    def __init__(self, trials: int | None, evaluations: int | None, escape: Escape) -> None:
        self._trials = trials
        self._evaluations = evaluations
        self._escape = escape
        self._done = 0
        self._trained = 0

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.state in FINISHED:
            self._done += 1
            free = CACHED in trial.user_attrs or PREDICTED in trial.user_attrs
            self._trained += EPOCHS in trial.user_attrs and not free
        enough = self._trials is not None and self._done >= self._trials
        if self._evaluations is not None:
            # In a space without an unseen network no budget of evaluations is ever used up.
            enough = enough or self._trained >= self._evaluations or self._escape.exhausted
        if enough:
            study.stop()


def _checks(
    study: optuna.Study, health: HealthCheck | None, interruption: Interruption
) -> list[Callback]:
    """Make up for a check that an earlier run missed, and return what does the next ones."""
    if health is None:
        return []

    def check(study: optuna.Study, trial: FrozenTrial | None = None) -> None:
        with interruption.judging():  # it trains as a trial does
            health(study, trial)

    check(study)
    return [check]


def _at_least(name: str, value: object, least: int) -> None:
    if not (isinstance(value, SupportsIndex) and index(value) >= least):
        raise SettingError(f"{name} must be a whole number of at least {least}, got {value!r}.")
