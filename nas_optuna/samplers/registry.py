"""Every search strategy by its name: a table of frozen entries, `register` and `create`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from nas_optuna.errors import SettingError, check_name

# Sizes a population when the caller knows no budget; what `nas-optuna run` does by default.
DEFAULT_TRIALS = 200


class Space(Protocol):
    """What a strategy may ask of a search space."""

    @property
    def genes(self) -> Mapping[str, BaseDistribution]:
        """The questions the space asks in every trial: name -> distribution."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a strategy is made from.

    Args:
        space: The space that is searched; None for a user's own function.
        seed: The study's seed, not negative.
        trials: Trials the whole study is planned to have; sizes populations and warm-up phases.
        evaluator: What judges the architectures; a strategy that trains finds its data there.
    """

    space: Space | None = None
    seed: int = 0
    trials: int = DEFAULT_TRIALS
    evaluator: object = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SettingError(f"`seed` must be 0 or more, got {self.seed}. Try seed=0.")
        if self.trials < 1:
            raise SettingError(
                f"`trials` must be 1 or more, got {self.trials}. Leave it out if it is not known."
            )


@dataclass(frozen=True, slots=True)
class Strategy:
    """One entry of the table.

    Args:
        name: The name users type.
        text: What it does, in one line.
        factory: Makes a new sampler; one sampler serves one study.
    """

    name: str
    text: str
    factory: Callable[[Settings], BaseSampler]


STRATEGIES: dict[str, Strategy] = {}


def register(strategy: Strategy) -> None:
    """Add a strategy to the table.

    Raises:
        SettingError: The name is taken.
    """
    if strategy.name in STRATEGIES:
        raise SettingError(
            f"A strategy named {strategy.name!r} is registered already. Choose another name."
        )
    STRATEGIES[strategy.name] = strategy


def names() -> tuple[str, ...]:
    """Names of all strategies, in the order of registration.

    Example:
        >>> from nas_optuna import samplers
        >>> samplers.names()[:3]
        ('random', 'tpe', 'nsga2')
    """
    return tuple(STRATEGIES)


def create(
    name: str,
    *,
    space: Space | None = None,
    seed: int | None = 0,
    trials: int | None = None,
    evaluator: object = None,
) -> BaseSampler:
    """Make the sampler of a strategy, for one study.

    A study that is resumed goes on as if it had never stopped when it gets a sampler of the same
    `name`, `seed` and `trials`.

    Args:
        name: One of `names()`.
        space: The space that is searched; some strategies need it.
        seed: The study's seed, not negative; None for one drawn at random, with
            which a resumed study goes on otherwise.
        trials: Trials the whole study is planned to have, over all its runs; None if not known.
        evaluator: What judges the architectures; `darts` trains its supernet on the same data.

    Raises:
        UnknownNameError: There is no such strategy; the message suggests the nearest.
        SettingError: `seed` or `trials` is out of range.

    Example:
        >>> from nas_optuna import samplers
        >>> samplers.create("nsga2", seed=1, trials=100)
        SeededSampler('nsga2', seed=1)
    """
    strategy = STRATEGIES[check_name("sampler", name, STRATEGIES)]
    planned = DEFAULT_TRIALS if trials is None else trials
    seed = secrets.randbelow(2**32) if seed is None else seed
    settings = Settings(space=space, seed=seed, trials=planned, evaluator=evaluator)
    return strategy.factory(settings)
