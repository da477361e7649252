"""What is compared: a study for each sampler and seed, all in one database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import optuna
from optuna.pruners import NopPruner

from nas_optuna import samplers
from nas_optuna.comparison.contender import Contender
from nas_optuna.comparison.truth import known_truth
from nas_optuna.errors import SettingError, StudyMismatchError, check_name
from nas_optuna.evaluators import Tabular
from nas_optuna.provenance import pruner_text
from nas_optuna.recording import QUESTION, SETUP
from nas_optuna.report.comparison_page import Findings
from nas_optuna.report.importance import common_choices, gene_importances
from nas_optuna.report.outcome import Outcome
from nas_optuna.report.runs import Account, Limits, Run, finished_trials, read_run
from nas_optuna.search import Search
from nas_optuna.storage import mask
from nas_optuna.storage import open as open_storage

BASELINES = ("random", "local")


@dataclass(frozen=True, slots=True)
class Entry:
    """One study of a comparison.

    Args:
        name: Name of the study.
        sampler: Name of the strategy.
        seed: Seed of the strategy.
    """

    name: str
    sampler: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Compares samplers on what a `Search` asks, each from several seeds.

    Every sampler and seed has a study of its own, named `{search}/compare/{sampler}/{seed}`, in
    the search's database. They share the cache of evaluations, yet each goes as it would have
    alone, and is charged for what it would have cost alone. What is there already is not
    repeated, so that a comparison can be stopped, and extended by samplers, seeds and trials.

    Args:
        search: What is searched and how; its sampler does not matter, its seed is the first one.
        samplers: Names of strategies. The baselines, `random` and `local`, are always added.
        seeds: Studies of each sampler.
        trials: Finished trials of each study; those of the search by default.
        epochs: Epochs after which a study ends, also with fewer trials; None for no such end.
        timeout: The same in seconds: those of its evaluations, whoever made them, and its
            sampler's.

    Raises:
        UnknownNameError: There is no such sampler.
        SettingError: A number is out of its range.

    Example:
        >>> import nas_optuna as nas
        >>> table = nas.evaluators.Tabular({"width": [8, 16], "accuracy": [0.7, 0.8]})
        >>> space = nas.spaces.FunctionSpace(
        ...     lambda trial: trial.suggest_categorical("width", [8, 16]),
        ...     input_shape=(1, 8, 8),
        ...     num_classes=10,
        ... )
        >>> search = nas.Search(name="s", space=space, evaluator=table, metrics=["accuracy"])
        >>> comparison = Comparison(search=search, samplers=["tpe"], seeds=2)
        >>> [entry.name for entry in comparison.entries if entry.sampler == "tpe"]
        ['s/compare/tpe/0', 's/compare/tpe/1']
    """

    search: Search
    samplers: Sequence[str]
    seeds: int = 5
    trials: int | None = None
    epochs: float | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        for name in self.samplers:
            check_name("sampler", name, samplers.names())
        for name, value in (("seeds", self.seeds), ("trials", self.limits.trials)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value!r}.")
        for name, limit in (("epochs", self.epochs), ("timeout", self.timeout)):
            if limit is not None and not limit > 0:
                raise SettingError(f"{name} must be more than 0, got {limit!r}.")

    @property
    def limits(self) -> Limits:
        """Where each study ends."""
        trials = self.search.trials if self.trials is None else self.trials
        return Limits(trials, epochs=self.epochs, seconds=self.timeout)

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of all samplers, the baselines first."""
        baselines = [name for name in BASELINES if name in samplers.names()]
        return tuple(dict.fromkeys([*baselines, *self.samplers]))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All studies, seed by seed, so that a part of them is a comparison of fewer seeds."""
        first = self.search.seed
        return tuple(
            Entry(f"{self.search.name}/compare/{sampler}/{seed}", sampler, seed)
            for seed in range(first, first + self.seeds)
            for sampler in self.compared
        )

    @property
    def cacheable(self) -> bool:
        """Whether networks of one digest have one result; else a genome counts as a network."""
        return self.search.evaluator.measuring.cacheable

    @property
    def free_repeats(self) -> bool:
        """Whether a network that was judged costs nothing the next time.

        So it is with a cache and with a table. What is neither judges it again.
        """
        return self.cacheable or isinstance(self.search.evaluator.measuring, Tabular)

    def account(self) -> Account:
        """Return what adds up the costs of one study."""
        return Account(by_digest=self.cacheable, free_repeats=self.free_repeats)

    @cached_property
    def planned(self) -> int:
        """Trials that every study plans for: as many as when the comparison began."""
        for _, attrs in self._stored():
            return int(attrs.get(QUESTION, {}).get("trials", self.limits.trials))
        return self.limits.trials

    def _stored(self) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
        """The studies that are there, each with its attributes."""
        opened = open_storage(self.search.storage)
        there = set(optuna.get_all_study_names(opened))
        for entry in self.entries:
            if entry.name in there:
                study_id = opened.get_study_id_from_name(entry.name)
                yield entry, opened.get_study_user_attrs(study_id)

    def check_pruner(self) -> None:
        """Refuse a pruner that is not the one of the studies that are there.

        A comparison of both would be of the pruners as well.

        Raises:
            StudyMismatchError: A study was run with another one.
        """
        pruner = self.search.pruner
        ours = None if pruner is None else pruner_text(pruner)
        for entry, attrs in self._stored():
            for key, setup in attrs.items():
                if key.startswith(SETUP) and setup["pruner"] != ours:
                    raise StudyMismatchError(
                        f"Study {entry.name!r} in {mask(self.search.storage)} was run with "
                        f"{setup['pruner'] or 'no pruner'}, not {ours or 'no pruner'}, and a "
                        "comparison takes one for all. Undo the change, or choose another name "
                        "with --name."
                    )

    def contender(self, entry: Entry) -> Contender:
        """Return the search of one study."""
        return Contender.of(
            self.search,
            name=entry.name,
            sampler=entry.sampler,
            seed=entry.seed,
            trials=self.planned,
        )

    def prepare(self) -> None:
        """Do what workers must not do side by side: make the database, train a supernet.

        Raises:
            NasOptunaError: The database cannot be used, or holds a study of another question.
        """
        contender = self.contender(self.entries[0])
        contender.create()
        contender.evaluator.measuring.prepare()

    def on(self, device: str) -> Comparison:
        """Return a copy that trains on `device`."""
        return replace(self, search=self.search.on(device))

    def outcome(self) -> Outcome:
        """Read what the studies have found so far.

        Raises:
            SettingError: No study has found a feasible network, or no seed is complete.
        """
        return self._outcome(self._studies())

    def findings(self) -> Findings:
        """Read what the studies have found, and what mattered in it.

        Gene importances are those of the random draws, which do not depend on a strategy.

        Raises:
            SettingError: No study has found a feasible network, or no seed is complete.
        """
        studies = self._studies()
        outcome = self._outcome(studies)
        draws = [
            trial
            for entry, study in studies.items()
            if entry.sampler == BASELINES[0]
            for trial in finished_trials(study)
        ]
        directions = next(iter(studies.values())).directions
        return Findings(
            title=f"Samplers on {self.search.name}",
            outcome=outcome,
            importances=gene_importances(draws, directions, outcome.metrics),
            choices=common_choices(*outcome.genomes),
        )

    def _outcome(self, studies: Mapping[Entry, optuna.Study]) -> Outcome:
        every = [self._run(entry, study) for entry, study in studies.items()]
        runs = tuple(run for run in every if len(run))
        there = {run.sampler for run in runs}
        return Outcome(
            runs=runs,
            metrics=tuple(self.search.objective.metrics),
            limits=self.limits,
            truth=known_truth(self.search.objective),
            absent=tuple(name for name in self.compared if name not in there),
        )

    def _run(self, entry: Entry, study: optuna.Study) -> Run:
        return read_run(
            study,
            sampler=entry.sampler,
            seed=entry.seed,
            limits=self.limits,
            account=self.account(),
        )

    def _studies(self) -> dict[Entry, optuna.Study]:
        """The studies that are there, to be read."""
        opened = open_storage(self.search.storage)
        there = set(optuna.get_all_study_names(opened))
        return {
            entry: optuna.load_study(
                study_name=entry.name,
                storage=opened,
                sampler=optuna.samplers.RandomSampler(),
                pruner=NopPruner(),
            )
            for entry in self.entries
            if entry.name in there
        }
