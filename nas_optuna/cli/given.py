"""What was given on the command line, and what it makes of a study file's `search`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas_optuna.search import Search

_OVERRIDES = ("storage", "name", "trials", "timeout", "sampler", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A study file and the options beside it; None is what was not given.

    Args:
        study: The study file.
        storage: URL of the database.
        name: Name of the study.
        trials: Finished trials to add; of a new study also the planned number.
        evaluations: Networks to train.
        timeout: Seconds after which no further trial starts.
        sampler: Name of the strategy.
        seed: Seed of the strategy.
        device: Where to train.
    """

    study: Path
    storage: str | None = None
    name: str | None = None
    trials: int | None = None
    evaluations: int | None = None
    timeout: float | None = None
    sampler: str | None = None
    seed: int | None = None
    device: str | None = None

    def search(self) -> Search:
        """Return the file's `search` with the options in place of its settings.

        Raises:
            NasOptunaError: The file or an option cannot be used.
        """
        return self.applied(self.written())

    def written(self) -> Search:
        """Return the file's `search` as it is.

        Raises:
            NasOptunaError: The file cannot be used.
        """
        from nas_optuna.study_file import load_search

        return load_search(self.study)

    def applied(self, search: Search) -> Search:
        """Return a search with the options in place of its settings.

        Args:
            search: What `written` returned.

        Raises:
            NasOptunaError: An option cannot be used.
        """
        from nas_optuna.evaluators import pick_device

        values = {name: getattr(self, name) for name in _OVERRIDES}
        search = replace(search, **{k: v for k, v in values.items() if v is not None})
        if self.device is None:
            return search
        return search.on(str(pick_device(self.device)))

    def command(self, verb: str, *, trial: int | None = None) -> str:
        """Write the command that goes on with the same study; passwords are masked.

        Args:
            verb: Name of the command.
            trial: Number of a trial to look at; None for a run, which repeats its options too.

        Example:
            >>> Given(study=Path("my study.py"), seed=3).command("resume")
            "nas-optuna resume 'my study.py' --seed 3"
        """
        from nas_optuna.storage import mask

        options: dict[str, object] = {"name": self.name}
        options["storage"] = mask(self.storage) if self.storage else None
        if trial is None:
            options |= {"sampler": self.sampler, "seed": self.seed, "device": self.device}
        options["trial"] = trial
        words = ["nas-optuna", verb, str(self.study)]
        for name, value in options.items():
            words += [] if value is None else [f"--{name}", str(value)]
        return shlex.join(words)
