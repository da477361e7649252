"""From a trial to a candidate: what the space made of its answers, its key and what it costs."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from optuna.trial import BaseTrial, FixedTrial
from torch import nn
from torch.nn.parameter import UninitializedParameter

from nas_optuna.architecture import Architecture
from nas_optuna.errors import ArchitectureError, SpaceError
from nas_optuna.evaluators import Candidate
from nas_optuna.models import Cost, build, cost, dry_run, module_cost
from nas_optuna.spaces import UNBUILDABLE, FunctionSpace, Space


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate and what it costs, both known without training.

    Args:
        candidate: What is to be judged.
        cost: Its costs.
    """

    candidate: Candidate
    cost: Cost


def propose(space: Space, trial: BaseTrial) -> Proposal:
    """Ask the space and count what comes out, without allocating a weight.

    Args:
        space: The search space.
        trial: A trial, or anything that answers like one.

    Raises:
        ArchitectureError: What the space made does not fit together.
        SpaceError: The space returned neither an `Architecture` nor a module.
    """
    made = _ask(space, trial)
    params = dict(trial.params)
    if isinstance(made, Architecture):
        return Proposal(Candidate(made.digest, params, made, partial(build, made)), cost(made))
    if not isinstance(made, nn.Module):
        raise SpaceError(
            f"A space returns an Architecture or a torch.nn.Module, got {type(made).__name__} "
            f"from {space.name}; is a `return` missing?"
        )
    candidate = Candidate(
        _module_key(space, params), params, None, partial(_module, space, params)
    )
    device = next((p.device for p in made.parameters()), torch.device("meta"))
    with torch.device(device):  # tensors that its `forward` makes lie where its weights do
        dry_run(made, space.input_shape, space.num_classes)
        return Proposal(candidate, module_cost(made, space.input_shape))


def propose_params(space: Space, params: Mapping[str, Any]) -> Proposal:
    """As `propose`, for a genome instead of a trial."""
    return propose(space, FixedTrial(dict(params)))


def _ask(space: Space, trial: BaseTrial) -> Any:
    """Call the space, at first such that a module it makes has no weights yet.

    A module that looks at numbers while it is built fails on the meta device and is made again
    with real ones; a trial answers the same question twice alike.
    """
    try:
        with torch.device("meta"):
            return space(trial)
    except ArchitectureError:
        raise
    except RuntimeError:
        pass
    except UNBUILDABLE as error:
        raise _unbuildable(error) from error
    try:
        return space(trial)
    except UNBUILDABLE as error:
        raise _unbuildable(error) from error


def _unbuildable(error: Exception) -> ArchitectureError:
    return ArchitectureError(f"{type(error).__name__}: {error}")


def _module(space: Space, params: Mapping[str, Any]) -> nn.Module:
    module = cast(nn.Module, space(FixedTrial(dict(params))))
    if any(isinstance(p, UninitializedParameter) for p in module.parameters()):
        # Lazy layers have no weights to train before they have seen an input.
        dry_run(module, space.input_shape, space.num_classes)
    return module


def _module_key(space: Space, params: Mapping[str, Any]) -> str:
    """Equal for equal answers to equal code; a module has no graph that could be compared."""
    code = ""
    if isinstance(space, FunctionSpace):
        try:
            code = inspect.getsource(space.function)
        except (OSError, TypeError):
            code = space.name  # typed into an interpreter, or a callable object
    text = json.dumps([space.name, code, sorted(params.items())], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
