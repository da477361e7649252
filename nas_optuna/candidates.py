"""From a trial to a candidate: what the space made of its answers, its key and what it costs."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import torch
from optuna.trial import BaseTrial, FixedTrial
from torch import nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from nas_optuna.architecture import Architecture
from nas_optuna.errors import ArchitectureError, SpaceError
from nas_optuna.evaluators import Candidate
from nas_optuna.models import Cost, build, cost, dry_run, module_cost
from nas_optuna.spaces import UNBUILDABLE, FunctionSpace, Space

_FOREIGN = ("torch", "builtins", "typing", "abc")  # whose classes do not change with the user's


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
    device = next((p.device for p in made.parameters()), torch.device("meta"))
    with torch.device(device):  # tensors that its `forward` makes lie where its weights do
        dry_run(made, space.input_shape, space.num_classes)  # lazy layers get their shapes here
        costs = module_cost(made, space.input_shape)
    key = _module_key(space, params, made)
    return Proposal(Candidate(key, params, None, partial(_module, space, params)), costs)


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


def _module_key(space: Space, params: Mapping[str, Any], made: nn.Module) -> str:
    """Equal for equal answers to equal code that made equal modules, in every process.

    A module has no graph that could be compared. What stands for it is the source of the function
    and of the classes that are not torch's own, its `repr`, and its parameters and buffers. So a
    value from outside that only a `forward` reads goes unseen.

    Args:
        space: The space, mostly a function.
        params: Its answers.
        made: The module that it made, after a dry run.
    """
    code = ""
    if isinstance(space, FunctionSpace):
        code = _source(space.function, space.name)
    text = json.dumps(
        [space.name, code, sorted(params.items()), _outline(made), _classes(made)], default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _outline(module: nn.Module) -> list[object]:
    """What a module consists of, without a memory address or a value of a tensor."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [
        re.sub(r" at 0x[0-9a-fA-F]+", "", repr(module)),
        *(
            (name, None if is_lazy(t) else tuple(t.shape), str(t.dtype), t.requires_grad)
            for name, t in tensors
        ),
    ]


def _classes(module: nn.Module) -> list[str]:
    """Source of each class of a module, base classes too, that is not torch's or Python's own."""
    kinds = {kind for part in module.modules() for kind in type(part).__mro__}
    own = [kind for kind in kinds if kind.__module__.split(".")[0] not in _FOREIGN]
    return sorted(_source(kind, kind.__qualname__) for kind in own)


def _source(code: Any, name: str) -> str:
    """Source of a function or class; its name if it was typed into an interpreter."""
    try:
        return _first_source(code)
    except (OSError, TypeError):  # the latter: a callable object
        return name


@cache  # of what is loaded: its file may be edited while the search goes on
def _first_source(code: Any) -> str:
    return inspect.getsource(code)
