"""The relaxed network of a study: trained by one thread at a time, and never lost.

After each epoch the weights are written as a safetensors file into the artifact store, and the
alphas of all epochs so far, with the file's digest, into the database. Each epoch is a function of
the seed and of the state before it, so what was lost or damaged is made again, the same.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
from filelock import FileLock, Timeout
from optuna.study import Study
from torch import Tensor

from nas_optuna.errors import SettingError
from nas_optuna.samplers.bilevel import BilevelTraining
from nas_optuna.storage.artifacts import artifact_directory, artifact_store
from nas_optuna.storage.states import SamplerStates, State

Alphas = npt.NDArray[np.float32]  # (answers of all choices,), flat
CostWeights = Callable[[int], Mapping[str, float]]

_logger = logging.getLogger(__name__)


class SupernetMemory:
    """What a study has learned of its relaxed network.

    Args:
        study: The study; it must have a trial.
        make: Makes the training anew, at its first epoch.
        settings: All that the training depends on, as text.
        cost_weights: Share of each cost in the alphas' loss, by epoch.
    """

    def __init__(
        self,
        study: Study,
        make: Callable[[], BilevelTraining],
        settings: str,
        cost_weights: CostWeights,
    ) -> None:
        self._states = SamplerStates(study, "darts", settings)
        self._store = artifact_store(study._storage)
        self._directory = artifact_directory(study._storage)
        digest = hashlib.sha256(f"{study.study_name} {settings}".encode()).hexdigest()
        self._name = f"darts-{digest[:16]}"
        self._make = make
        self._cost_weights = cost_weights
        self._training: BilevelTraining | None = None  # of this process, if it trains
        self._turns = threading.Lock()  # where there is no directory for a lock

    def alphas(self, epoch: int) -> Alphas:
        """Return the alphas after an epoch, and train until then if nobody else does.

        Args:
            epoch: From 1.

        Returns:
            The alphas of that epoch, or the newest there are while another process or thread
            trains.
        """
        history = self._history()
        if len(history) < epoch:
            with self._turn() as ours:
                history = self._history()
                while ours and len(history) < epoch:
                    history = self._train(history)
        if len(history) == 0:  # the first epoch is being trained elsewhere
            return _flat(self._make())
        newest: Alphas = history[min(epoch, len(history)) - 1]
        return newest

    def _history(self) -> Alphas:
        """Alphas after each epoch so far, `(epochs, answers)`."""
        state = self._states.load().state
        return (
            np.zeros((0, 0), np.float32) if state is None else np.asarray(state.arrays["alphas"])
        )

    def _train(self, history: Alphas) -> Alphas:
        """Train one epoch further and keep it; return the new history."""
        stored = self._states.load()
        meta = stored.state.meta if stored.state else {}
        training = self._at(len(history), meta)
        loss = training.train_epoch(self._cost_weights(training.epoch))
        if not np.isfinite(loss):
            self._training = None
            raise SettingError(
                f"The training loss of the supernet is {loss} in epoch {training.epoch}; "
                "lower learning_rate of BilevelSettings. What was learned before is kept."
            )
        now = _flat(training)[None]
        history = np.concatenate([history, now]) if len(history) else now
        file, digest = self._write(training)
        new = State({"file": file, "digest": digest, "loss": loss}, {"alphas": history})
        if self._states.store(new, stored.version):
            self._remove(meta.get("file"))
        else:  # a process on another machine was faster; its epoch is the same as ours
            self._remove(file)
            history = self._history()
        return history

    def _at(self, epoch: int, meta: Mapping[str, Any]) -> BilevelTraining:
        """Return the training as it was after an epoch."""
        if self._training is not None and self._training.epoch == epoch:
            return self._training
        self._training = self._make()
        if epoch:
            tensors = self._read(meta)
            if tensors is None:
                for earlier in range(epoch):
                    self._training.train_epoch(self._cost_weights(earlier))
            else:
                self._training.load(tensors, epoch)
        return self._training

    def _write(self, training: BilevelTraining) -> tuple[str, str]:
        if self._store is None:
            return "", ""
        # contiguous copies: two tensors may share memory, which the format refuses
        state = {
            name: t.detach().cpu().contiguous().clone() for name, t in training.state().items()
        }
        body = safetensors.torch.save(state)
        digest = hashlib.sha256(body).hexdigest()
        name = f"{self._name}-{training.epoch}-{digest[:8]}.safetensors"
        self._store.write(name, io.BytesIO(body))
        return name, digest

    def _read(self, meta: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """Read the weights; None, with a warning, if they are not what was written."""
        if self._store is None or not meta.get("file"):
            return None
        try:
            with self._store.open_reader(meta["file"]) as file:
                body = file.read()
        except Exception as error:  # noqa: BLE001 - whatever store it is
            problem = f"cannot be read ({type(error).__name__})"
        else:
            if hashlib.sha256(body).hexdigest() == meta["digest"]:
                return safetensors.torch.load(body)
            problem = "is damaged"
        _logger.warning(
            "The supernet %s in %s %s; its epochs are trained again.",
            meta["file"], self._directory, problem,
        )  # fmt: skip
        return None

    def _remove(self, name: str | None) -> None:
        if self._store is None or not name:
            return
        try:
            self._store.remove(name)
        except Exception:  # noqa: BLE001 - an old file that stays does no harm
            _logger.debug("The file %s of an earlier epoch could not be removed.", name)

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Hold the right to train on this machine, if no other process or thread has it."""
        if self._directory is None:
            ours = self._turns.acquire(blocking=False)
            try:
                yield ours
            finally:
                if ours:
                    self._turns.release()
            return
        lock = FileLock(self._directory / f"{self._name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def _flat(training: BilevelTraining) -> Alphas:
    alphas = [alpha.detach().cpu().numpy() for alpha in training.network.alphas.values()]
    joined: Alphas = np.concatenate(alphas).astype(np.float32)
    return joined
