"""Reinforcement learning: a controller that learns from the trials which answers pay.

The way of a trial: the controller answers the questions one after another (`controller`), each
from its softmax less the choices that would repeat an earlier trial (`questions.Asked`). What it
answered, and how likely that was, is kept in the trial. Each `batch` finished trials later it
takes some steps of PPO on them (`_improve`), with rewards by rank (`rewards.standings`).

What the controller knows after n finished trials is a function of the seed and these trials in
their order. So the state in the database (`controller_memory`) is a checkpoint that saves the
replay, and a process that died, or a worker that never met the others, has nothing to lose.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from nas_optuna.errors import SettingError
from nas_optuna.recording import FINISHED
from nas_optuna.samplers.controller import Controller, derive, one_thread
from nas_optuna.samplers.controller_memory import ControllerMemory
from nas_optuna.samplers.genomes import at_work
from nas_optuna.samplers.questions import Asked, Question, Step, question, steps_of
from nas_optuna.samplers.registry import Settings
from nas_optuna.samplers.rewards import FloatArray, HypervolumeImprovement, Reward, standings
from nas_optuna.storage import draw_index

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

ANSWERS = "nas:proposal:reinforce"  # a trial's weights, and the log-probability of each own answer

_CLIP = 0.2  # of the probability ratio
_GRADIENT_NORM = 1.0
_MEMORY_OF_BASELINE = 0.8
_ROUNDS = 5  # draws of a last answer before one that another worker gives too is given
_SHARPNESS = 3  # the power of a standing that is the reward


class ReinforceSampler(BaseSampler):
    """An LSTM controller, trained with the policy gradient (Zoph & Le 2017) by PPO.

    Any define-by-run space is its action space, conditional ones too, since it needs no question
    before it is asked. Departures from the papers:

    - The reward is the cube of a trial's standing among all trials (see `rewards.standings`), so
      that no scale must be known, what is best counts most, and infeasible and pruned trials
      teach too. The baseline is the moving average of rewards; there is no value head.
    - It draws without replacement: a choice that would repeat a trial is left out, also one that
      is running elsewhere. The clipped ratio corrects for that, as it does for episodes that
      other workers drew from an older controller.
    - Each update starts Adam anew, so that the weights are all there is to keep.

    In a study of several objectives, a reward makes one score of them. With `RandomWeights` each
    trial draws weights from a flat Dirichlet distribution, which the controller reads at every
    step.

    Args:
        seed: The study's seed, not negative.
        batch: Finished trials between two updates.
        epochs: Steps of gradient descent in an update.
        learning_rate: Of Adam.
        entropy: Weight of the entropy bonus.
        reward: Makes one score of several objectives; of a single one it is not asked.

    Raises:
        SettingError: A number is out of range.

    Example:
        >>> import optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=ReinforceSampler(seed=1, batch=5))
        >>> study.optimize(lambda trial: trial.suggest_int("x", 0, 15) ** 2, n_trials=16)
        >>> study.best_params
        {'x': 0}
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        batch: int = 10,
        epochs: int = 5,
        learning_rate: float = 0.01,
        entropy: float = 0.01,
        reward: Reward | None = None,
    ) -> None:
        for name, value in (("batch", batch), ("epochs", epochs)):
            if value < 1:
                raise SettingError(f"`{name}` must be 1 or more, got {value}.")
        if learning_rate <= 0 or entropy < 0:
            raise SettingError(
                "`learning_rate` must be above 0 and `entropy` 0 or more, "
                f"got {learning_rate} and {entropy}."
            )
        self._seed = seed
        self._batch = batch
        self._epochs = epochs
        self._learning_rate = learning_rate
        self._entropy = entropy
        self._reward: Reward = reward or HypervolumeImprovement()
        self._memory: ControllerMemory | None = None
        self._proposal = _Proposal(trial_id=-1, index=-1, weights=np.empty(0))
        self._lock = threading.RLock()  # `optimize(n_jobs=2)` shares the sampler

    def __repr__(self) -> str:
        return (
            f"ReinforceSampler(seed={self._seed}, batch={self._batch}, epochs={self._epochs}, "
            f"learning_rate={self._learning_rate}, entropy={self._entropy}, "
            f"reward={self._reward!r})"
        )

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return none: every question is answered when it is asked."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing; see `infer_relative_search_space`."""
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Answer the next question, from (study seed, draw index, parameter name)."""
        asks, steps = question(param_name, param_distribution), steps_of(trial)
        # A space may ask under `torch.device("meta")`, where nothing is computed.
        with self._lock, one_thread(), torch.device("cpu"):
            proposal, memory = self._proposal_of(study, trial)
            chances = memory.controller.answer(steps, asks, proposal.weights)
            random = np.random.default_rng(derive(self._seed, proposal.index, param_name))
            may_end = memory.asked.may_end(asks)
            for _ in range(_ROUNDS if may_end else 1):
                if may_end:  # the last moment to see what others have chosen
                    proposal.others = _others(study, trial, memory)
                allowed = chances.copy()
                allowed[_repeats(memory.asked, steps, asks, proposal.others)] = 0.0
                sums = np.cumsum(allowed)
                choice = int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
                proposal.own[param_name] = float(np.log(allowed[choice] / sums[-1]))
                proposal.last = [param_name, distribution_to_json(param_distribution), choice]
                write = study._storage.set_trial_system_attr
                write(trial._trial_id, ANSWERS, proposal.attribute())
                # Of two workers that answer the same, the one that wrote later sees the other's.
                if not may_end or [*steps, (asks, choice)] not in _others(study, trial, memory):
                    break
        return asks.value(choice, random.random())

    def _proposal_of(self, study: Study, trial: FrozenTrial) -> tuple[_Proposal, ControllerMemory]:
        """Turn to a trial: the memory catches up, and a retried trial keeps what it had."""
        if self._memory is None or not self._memory.is_of(study):
            several = len(study.directions) if len(study.directions) > 1 else 0
            count = several if self._reward.weighted else 0
            self._memory = ControllerMemory(
                study,
                seed=self._seed,
                weights=count,
                baseline=0.5**_SHARPNESS,
                settings=f"1 {self!r}",
            )
        memory = self._memory
        if self._proposal.trial_id != trial._trial_id:
            self._catch_up(study, memory)
            index = draw_index(study, trial)
            kept = trial.system_attrs.get(ANSWERS)
            random = np.random.default_rng(derive(self._seed, index, "weights"))
            weights = np.empty(0)
            if memory.weights:
                weights = random.dirichlet(np.ones(memory.weights))
            own = dict(kept["own"]) if kept else {}
            others = _others(study, trial, memory)
            self._proposal = _Proposal(trial._trial_id, index, weights, own, others)
        return self._proposal, memory

    def _catch_up(self, study: Study, memory: ControllerMemory) -> None:
        """Learn from all full batches of finished trials that the stored state does not know."""
        while True:
            memory.load()
            trials = study.get_trials(deepcopy=False)
            memory.note_ended(trials)
            finished = [trial for trial in trials if trial.state in FINISHED]
            new = [trial for trial in finished if trial.number not in memory.learned]
            if len(new) < self._batch:
                return
            for start in range(0, len(new) - self._batch + 1, self._batch):
                self._learn(study, memory, finished, new[start : start + self._batch])
            if memory.store():
                return  # else another worker was faster: go on from what it learned

    def _learn(
        self,
        study: Study,
        memory: ControllerMemory,
        finished: Sequence[FrozenTrial],
        batch: Sequence[FrozenTrial],
    ) -> None:
        memory.learned.update(trial.number for trial in batch)
        known = [trial for trial in finished if trial.number in memory.learned]
        episodes = [episode for trial in batch if (episode := _Episode.of(trial, memory.weights))]
        if not episodes:
            return
        rewards = self._rewards(study, known, episodes)
        advantages = rewards - memory.baseline
        memory.baseline += (1 - _MEMORY_OF_BASELINE) * (float(rewards.mean()) - memory.baseline)
        for asks, _ in (step for episode in episodes for step in episode.steps):
            memory.controller.meet(asks.key, asks.count)
        self._improve(memory.controller, episodes, advantages)

    def _rewards(
        self, study: Study, known: Sequence[FrozenTrial], episodes: Sequence[_Episode]
    ) -> FloatArray:
        places = {trial.number: place for place, trial in enumerate(known)}
        shares: dict[bytes, FloatArray] = {}  # by weights
        rewards = np.empty(len(episodes))
        for row, episode in enumerate(episodes):
            key = episode.weights.tobytes()
            if key not in shares:
                shares[key] = standings(known, study.directions, self._reward, episode.weights)
            rewards[row] = shares[key][places[episode.number]] ** _SHARPNESS
        return rewards

    def _improve(
        self, controller: Controller, episodes: Sequence[_Episode], advantages: FloatArray
    ) -> None:
        """Take steps on PPO's clipped objective (Schulman et al. 2017, eq. 7 and 9).

        Each own answer is an action whose advantage is the episode's; there is no value head.
        """
        weights = np.stack([episode.weights for episode in episodes])
        batch = controller.batch([episode.steps for episode in episodes], weights)
        own = torch.zeros(batch.answers.shape)
        before = torch.zeros(batch.answers.shape)  # log-probabilities when they were drawn
        for row, episode in enumerate(episodes):
            for column, log_probability in episode.own.items():
                own[row, column], before[row, column] = 1.0, log_probability
        advantage = torch.from_numpy(advantages).float()[:, None]
        optimizer = torch.optim.Adam(controller.parameters(), lr=self._learning_rate)
        for _ in range(self._epochs):
            policy = controller(batch)
            now = policy.gather(2, batch.answers[..., None])[..., 0]
            ratio = torch.exp((now - before) * own)
            clipped = ratio.clamp(1 - _CLIP, 1 + _CLIP)
            gain = torch.minimum(ratio * advantage, clipped * advantage)
            entropy = -(policy.exp() * policy).sum(-1)
            loss = -((gain + self._entropy * entropy) * own).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(controller.parameters(), _GRADIENT_NORM)
            optimizer.step()


@dataclass(slots=True)
class _Proposal:
    """The trial that is being asked: what it drew, and how likely that was."""

    trial_id: int
    index: int
    weights: FloatArray
    own: dict[str, float] = field(default_factory=dict)  # log-probabilities by parameter
    others: list[list[Step]] = field(default_factory=list)  # what other trials answered so far
    last: list[Any] = field(default_factory=list)  # the newest answer, in no trial yet

    def attribute(self) -> dict[str, Any]:
        return {"weights": self.weights.tolist(), "own": dict(self.own), "last": self.last}


@dataclass(frozen=True, slots=True)
class _Episode:
    """A finished trial as the controller sees it; `own` has log-probabilities by step."""

    number: int
    weights: FloatArray
    steps: list[Step]
    own: dict[int, float]

    @classmethod
    def of(cls, trial: FrozenTrial, weights: int) -> _Episode | None:
        """None if the trial owes nothing to a controller that reads so many weights.

        Enqueued and fixed answers, those of other strategies, and those of a controller of
        another kind of reward are read but not learned from.
        """
        kept = trial.system_attrs.get(ANSWERS)
        if kept is None or len(kept["weights"]) != weights:
            return None
        several = [name for name in trial.params if not trial.distributions[name].single()]
        own = {
            column: kept["own"][name] for column, name in enumerate(several) if name in kept["own"]
        }
        return cls(trial.number, np.array(kept["weights"]), steps_of(trial), own)


def _others(study: Study, trial: FrozenTrial, memory: ControllerMemory) -> list[list[Step]]:
    """Answers so far of other trials that run, or have finished since the memory caught up."""
    return [_answered(other) for other in at_work(study, trial, memory.knows)]


def _answered(trial: FrozenTrial) -> list[Step]:
    """What a trial answered, with the answer that its worker is about to give."""
    steps, last = steps_of(trial), trial.system_attrs.get(ANSWERS, {}).get("last")
    if not last or last[0] in trial.params:
        return steps
    name, distribution, choice = last
    return [*steps, (question(name, json_to_distribution(distribution)), choice)]


def _repeats(
    asked: Asked, steps: list[Step], asks: Question, others: Sequence[Sequence[Step]]
) -> list[int]:
    """Choices that would repeat a trial; only those of running ones if no other is left."""
    for known in (asked, Asked()):
        choices = known.spent(steps, asks, others)
        if len(choices) < asks.count:
            return sorted(choices)
    return []


def create(settings: Settings) -> BaseSampler:
    """Make the strategy: ten updates or more in the planned trials, of ten trials at most."""
    batch = min(max(settings.trials // 20, 5), 10)
    return ReinforceSampler(seed=settings.seed, batch=batch)
