"""What one forward pass allocates and computes, watched operation by operation."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
# On the meta device these run through Python reference code that takes a millisecond each. They
# return their input's shape and do nothing that counts as FLOPs.
_SHAPE_STAYS = frozenset(
    {
        _aten.elu.default,
        _aten.gelu.default,
        _aten.hardsigmoid.default,
        _aten.hardswish.default,
        _aten.hardtanh.default,
        _aten.leaky_relu.default,
        _aten.relu.default,
        _aten.sigmoid.default,
        _aten.silu.default,
        _aten.tanh.default,
    }
)


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the tensors that a forward pass makes and still holds, at their peak.

    Args:
        given: Weights and inputs; they and views of them are not counted.
    """

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = 0
        self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in given}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # torch's own signature
        result = func(*args, **(kwargs or {}))
        self.track(result)
        return result

    def track(self, result: Any) -> None:
        """Take note of what an operation returned."""
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._track(tensor.untyped_storage())

    def _track(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # views and in-place results share it
        if key in self._seen:
            return
        self._seen.add(key)
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key: int, nbytes: int) -> None:
        self._seen.discard(key)
        self.alive -= nbytes


class NodeMeter(PeakMemory):  # type: ignore[no-untyped-call]
    """Memory and FLOPs of one node of an architecture, whose module is on the meta device.

    The FLOPs are those of `FlopCounterMode`, by the formulas in its registry; that class also
    keeps a tree of modules and takes composite operations apart, which costs more than all the
    rest, and a node has no use for it.
    """

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__(given)
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # torch's own signature
        kwargs = kwargs or {}
        result: Any
        if func in _SHAPE_STAYS:
            result = torch.empty_like(args[0])
        elif func is _aten.native_batch_norm.default:
            x = args[0]
            result = torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
        else:
            result = func(*args, **kwargs)
            formula = flop_registry.get(func.overloadpacket)
            if formula is not None:
                self.flops += formula(*args, **kwargs, out_val=result)
        self.track(result)
        return result
