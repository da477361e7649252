"""The LSTM that answers a trial's questions one after another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nas_optuna.models import seeded
from nas_optuna.samplers.questions import Question, Step

HIDDEN = 32
EMBEDDING = 16
_INITIAL_SCALE = 0.3  # of embeddings
_CONDITION_SCALE = 4.0  # with 1 the controller hardly heeded the weights of objectives
_IMPOSSIBLE = -1e9  # logit of another question's choice; finite, so that 0 x log 0 stays 0


class Batch(NamedTuple):
    """B episodes of at most T steps each, padded; A is the number of all choices known.

    Args:
        questions: `(B, T)` number of the question at each step.
        answers: `(B, T)` number, among all choices, of the answer.
        real: `(B, T)` whether there is such a step.
        conditions: `(B, C)` what the episodes were conditioned on, scaled.
    """

    questions: Tensor
    answers: Tensor
    real: Tensor
    conditions: Tensor


class Controller(nn.Module):
    """A distribution over the answers to any sequence of questions (Zoph & Le 2017).

    At each step the LSTM reads the embeddings of the last answer and of the question, and a
    softmax over the choices of that question gives the answer. Questions need not be known
    beforehand: the tables grow by each new one, from values that depend on nothing but the seed
    and the question. An unknown question is answered uniformly.

    Args:
        conditions: Numbers that every step reads beside, such as weights of objectives.
        seed: Seed of the initial values.
    """

    def __init__(self, *, conditions: int, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._conditions = conditions
        self._first: dict[str, int] = {}  # by question: number of its first choice
        self._counts: list[int] = []
        with seeded(seed, torch.device("cpu")):
            self.lstm = nn.LSTM(2 * EMBEDDING + conditions, HIDDEN, batch_first=True)
        self.questions = nn.Parameter(torch.empty(0, EMBEDDING))
        self.answers = nn.Parameter(self._drawn("first step", 1))  # the last row: no answer yet
        self.heads = nn.Parameter(torch.empty(0, HIDDEN + 1))  # weights and bias of each choice

    @property
    def vocabulary(self) -> list[tuple[str, int]]:
        """Key and number of choices of each question, in the order in which they were met."""
        return list(zip(self._first, self._counts, strict=True))

    def meet(self, key: str, count: int) -> None:
        """Make room for a question, unless it is known."""
        if key in self._first:
            return
        self._first[key] = sum(self._counts)
        self._counts.append(count)
        rows = self._drawn(key, count + 1)
        answers, start = self.answers.data[:-1], self.answers.data[-1:]
        self.questions = nn.Parameter(torch.cat([self.questions.data, rows[:1]]))
        self.answers = nn.Parameter(torch.cat([answers, rows[1:], start]))
        self.heads = nn.Parameter(torch.cat([self.heads.data, torch.zeros(count, HIDDEN + 1)]))

    def _drawn(self, text: str, rows: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive(self._seed, text))
        return _INITIAL_SCALE * torch.randn(rows, EMBEDDING, generator=generator)

    def batch(self, episodes: Sequence[Sequence[Step]], conditions: np.ndarray) -> Batch:
        """Number the steps of episodes; all questions must have been met.

        Args:
            episodes: B sequences of questions and answers.
            conditions: `(B, C)` what each is conditioned on.
        """
        numbers = {key: number for number, key in enumerate(self._first)}
        size = len(episodes), max(len(steps) for steps in episodes)
        questions, answers = torch.zeros(size, dtype=torch.long), torch.zeros(size).long()
        real = torch.zeros(size, dtype=torch.bool)
        for row, steps in enumerate(episodes):
            for column, (asks, choice) in enumerate(steps):
                questions[row, column] = numbers[asks.key]
                answers[row, column] = self._first[asks.key] + choice
                real[row, column] = True
        scaled = _CONDITION_SCALE * torch.from_numpy(conditions).float()
        return Batch(questions, answers, real, scaled)

    def forward(self, batch: Batch) -> Tensor:
        """Log-probabilities `(B, T, A)` of all choices at each step, given the answers before."""
        logits = self._hidden(batch) @ self.heads.T
        owners = torch.repeat_interleave(torch.tensor(self._counts))  # (A,) question of a choice
        other = owners != batch.questions[..., None]
        return logits.masked_fill(other, _IMPOSSIBLE).log_softmax(-1)

    def _hidden(self, batch: Batch) -> Tensor:
        """States `(B, T, HIDDEN + 1)` after reading each question; the last is 1, for the bias."""
        size = batch.questions.shape
        start = torch.full((size[0], 1), len(self.answers) - 1)
        before = torch.cat([start, batch.answers[:, :-1]], dim=1)
        conditions = batch.conditions[:, None].expand(*size, self._conditions)
        read = torch.cat([self.answers[before], self.questions[batch.questions], conditions], -1)
        states, _ = self.lstm(read)
        return torch.cat([states, torch.ones(*size, 1)], -1)

    @torch.no_grad()
    def answer(self, steps: Sequence[Step], asks: Question, conditions: np.ndarray) -> np.ndarray:
        """Probabilities `(count,)` of the choices that answer `asks` after `steps`."""
        for step in (*steps, (asks, 0)):
            self.meet(step[0].key, step[0].count)
        batch = self.batch([[*steps, (asks, 0)]], conditions[None])
        first = self._first[asks.key]
        logits = self.heads[first : first + asks.count] @ self._hidden(batch)[0, -1]
        return np.asarray(logits.double().softmax(-1).numpy())

    def vector(self) -> np.ndarray:
        """All weights as one vector, for `restore`."""
        return np.asarray(parameters_to_vector(self.parameters()).detach().numpy())

    def restore(self, vector: np.ndarray) -> None:
        """Take over the weights of a controller that met the same questions in the same order."""
        vector_to_parameters(torch.from_numpy(vector.copy()), self.parameters())

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(weights.numel() for weights in self.parameters())


def derive(seed: int, *parts: object) -> int:
    """A seed in `[0, 2**63)` that is a function of a seed and of whatever `parts` name."""
    text = ":".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: more are slower for matrices this small, and round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
