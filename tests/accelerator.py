"""A device that this machine does not have: numbers lie in memory as ever, but their tensors say they are elsewhere.

Whoever mixes such a tensor with one of the CPU gets the error that a GPU would give, and whoever makes a tensor without
a device makes it on the CPU. Unlike torch's FakeTensorMode it computes, so that code which reads a value goes on, and
the results can be compared.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

# The one device besides the CPU that torch neither starts nor gives a thread of its own for gradients.
DEVICE = torch.device("meta")
aten = torch.ops.aten
# Copies go from one device to another, and a GPU's tensor may be indexed by numbers that lie on the CPU.
FREE = {aten._to_copy, aten.copy_, aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_}


class Elsewhere(Tensor):
    """A tensor whose numbers are in `.here`."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            layout=here.layout,
            device=DEVICE,
        )
        made.here = here
        return made

    def item(self) -> Any:
        return self.here.item()

    def tolist(self) -> Any:
        return self.here.tolist()

    def new_tensor(self, data: Any, **kwargs: Any) -> Tensor:
        return self.here.new_tensor(data, **kwargs).to(DEVICE)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})


class Accelerator(TorchDispatchMode):
    """While it is on, `device=DEVICE` makes tensors there, and modules can be moved there."""

    def __enter__(self) -> Any:
        self.before = torch.tensor, torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        # `torch.tensor` makes its result behind the mode's back.
        torch.tensor = lambda *args, device=None, **kwargs: self.before[0](*args, **kwargs).to(device or "cpu")
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.tensor = self.before[0]
        torch.__future__.set_overwrite_module_params_on_conversion(self.before[1])

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    there = any(isinstance(x, Elsewhere) for x in tensors)
    if there and func.overloadpacket not in FREE:
        strangers = [x for x in tensors if not isinstance(x, Elsewhere) and x.dim()]
        if strangers:
            raise RuntimeError(f"{func}: expected all tensors on {DEVICE}, got one on {strangers[0].device}")
    target = kwargs.get("device")
    if target is not None:
        there, kwargs = torch.device(target).type == DEVICE.type, {**kwargs, "device": torch.device("cpu")}
    elif func.overloadpacket is aten.copy_:
        there = isinstance(args[0], Elsewhere)
    elif func.overloadpacket in FREE and tensors:
        there = isinstance(tensors[0], Elsewhere)
    near = tree_map(lambda x: x.here if isinstance(x, Elsewhere) else x, (args, kwargs))
    out = func(*near[0], **near[1])
    if not there:
        return out
    out = tree_map(lambda x: Elsewhere(x) if isinstance(x, Tensor) and not isinstance(x, Elsewhere) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, out)


class Generator(torch.Generator):
    """Random numbers of the CPU, for a device that has none of its own."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE
