"""A pretend accelerator: tensors that say they live on `lazy:0` while their memory is the CPU's.

On a machine with one device torch refuses nothing: a tensor left on the CPU, or a CPU generator that draws for another
device, is found only where there is a GPU. Here both raise, as on CUDA. `lazy` is a device type that every build of
torch knows and whose backward pass runs in the caller's thread. With `float64=False` double precision and convolutions
in channels_last are refused too, as Apple's GPUs need it.

It cannot show streams, asynchronous copies, kernels' own rounding, nor anything of `torch.cuda`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from xai import devices

DEVICE = torch.device("lazy", 0)

# Operators that take tensors of two devices: copies, and a tensor of the device indexed by one of the CPU.
_COPIES = ("aten.copy_.default", "aten._to_copy.default")
_INDEXING = ("aten.index.Tensor", "aten.index_put.default", "aten.index_put_.default", "aten._index_put_impl_.default")
_ONLY_ONE = ("aten.cat.default", "aten.stack.default", "aten.gather.default", "aten.index_select.default")

_CONVOLVING = ("convolution", "native_batch_norm", "_native_batch_norm_legit")
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
# What autocast computes in low precision on every device; the rest stays as it is.
_LOW = (*_PRODUCTS, torch.conv2d, torch.conv_transpose2d, torch.nn.functional.linear, torch.bmm, torch.addmm)


class There(Tensor):
    """A tensor of the pretend device; `base` holds its numbers."""

    base: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type[There], base: Tensor) -> There:
        if _state.like_mps and base.dtype in (torch.float64, torch.complex128):
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        made = Tensor._make_wrapper_subclass(
            cls,
            base.size(),
            strides=base.stride(),
            storage_offset=base.storage_offset(),
            dtype=base.dtype,
            layout=base.layout,
            device=DEVICE,
            requires_grad=False,
        )
        made.base = base
        return made

    def __repr__(self) -> str:
        return f"There({self.base})"

    def __reduce_ex__(self, protocol: int) -> Any:
        """Saved like any tensor: what reads it tells the device."""
        return self.base.__reduce_ex__(protocol)

    def data_ptr(self) -> int:
        return self.base.data_ptr()

    def tolist(self) -> Any:
        return self.base.tolist()

    def item(self) -> Any:
        return self.base.item()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() first.")

    def new_tensor(self, data: Any, **how: Any) -> Tensor:
        return torch.tensor(data, **{"dtype": self.dtype, "device": DEVICE, **how})

    @property
    def data(self) -> There:
        return There(self.base.data)

    @data.setter
    def data(self, value: There) -> None:
        self.base = value.base

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _State:
    like_mps = False
    low: torch.dtype | None = None


_state = _State()


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _run(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """One operator, on the CPU's memory, after what an accelerator would refuse has been refused."""
    there: list[Tensor] = []
    here: list[Tensor] = []

    def bare(value: Any) -> Any:
        if isinstance(value, There):
            there.append(value)
            return value.base
        if isinstance(value, Tensor):
            here.append(value)
        return value

    own, named = tree_map(bare, args), tree_map(bare, dict(kwargs))
    name, device = str(func), kwargs.get("device")
    inside = _is_there(device) if device is not None else bool(there)
    if device is not None:
        named["device"] = torch.device("cpu")
    if "pin_memory" in named:
        named["pin_memory"] = False
    if named.get("generator") is not None and inside:
        raise RuntimeError(f"{name}: Expected a '{DEVICE.type}' device type for generator but found 'cpu'")
    if there and here and name not in _COPIES:
        _check(name, func, args, here)
    if there and _state.like_mps and name.split(".")[1] in _CONVOLVING and not args[0].is_contiguous():
        raise RuntimeError(f"{name}: maps in channels_last, for which MPS gives wrong gradients")
    out = func(*own, **named)
    if func._schema.is_mutable and args and isinstance(args[0], Tensor) and out is own[0]:
        if out.shape != args[0].shape:
            raise NotImplementedError(f"the pretend device has no {name}: the outer tensor would keep its shape")
        return args[0]
    return tree_map(lambda each: There(each) if isinstance(each, Tensor) else each, out) if inside else out


def _check(name: str, func: Any, args: tuple[Any, ...], here: Sequence[Tensor]) -> None:
    """Refuse tensors of two devices, but for the numbers of the CPU (no dimensions) that torch takes."""
    if name in _INDEXING and isinstance(args[0], There):
        return
    written = func._schema.is_mutable and isinstance(args[0], Tensor) and not isinstance(args[0], There)
    if written or name in _ONLY_ONE or any(each.dim() for each in here):
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found {DEVICE} and cpu")


class _Dispatch(TorchDispatchMode):
    """What has no tensor of the device among its arguments: factories, and copies to it."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if There not in types and not _is_there(kwargs.get("device")):
            return func(*args, **kwargs)  # the CPU's own work
        return _run(func, args, kwargs)


class _Functions(TorchFunctionMode):
    """What happens above autograd: autocast's casts, and a product that torch would squeeze in place."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        low = _state.low
        if low is not None and func in _LOW and isinstance(args[0], There):
            args = tuple(
                each.to(low) if isinstance(each, There) and each.is_floating_point() else each for each in args
            )
        if func is Tensor.__getitem__ and isinstance(args[0], There):
            args = (args[0], torch.tensor(args[1]) if isinstance(args[1], list) else args[1])
        if func in _PRODUCTS and isinstance(args[0], There) and (args[0].dim(), args[1].dim()) == (1, 2):
            return torch.mm(args[0][None], args[1]).squeeze(0)
        return func(*args, **(kwargs or {}))


def _autocast(real: Any) -> Callable[..., Any]:
    @contextmanager
    def own(dtype: torch.dtype | None, enabled: bool) -> Iterator[None]:
        before, _state.low = _state.low, (dtype or torch.bfloat16) if enabled else None
        try:
            yield
        finally:
            _state.low = before

    @functools.wraps(real)
    def autocast(device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, **rest: Any) -> Any:
        if device_type == DEVICE.type:
            return own(dtype, enabled)
        return real(device_type, dtype=dtype, enabled=enabled, **rest)

    return autocast


def _tensor(real: Any) -> Callable[..., Tensor]:
    """`torch.tensor` and `torch.as_tensor`, which do not reach the dispatcher."""

    @functools.wraps(real)
    def tensor(data: Any, *, device: Any = None, **how: Any) -> Tensor:
        if not _is_there(device) or isinstance(data, Tensor):
            return real(data, device=device, **how)
        return There(real(data, **how))

    return tensor


@contextmanager
def pretend_device(float64: bool = True) -> Iterator[torch.device]:
    """Within it there is a device `lazy:0`, by that name for every call and command of `xai`."""
    kind = dataclasses.replace(devices.KINDS["cuda" if float64 else "mps"], title="pretend")
    module = SimpleNamespace(
        device_count=lambda: 1,
        empty_cache=lambda: None,
        synchronize=lambda: None,
        get_rng_state=lambda _device: torch.get_rng_state(),
        set_rng_state=lambda state, _device: torch.set_rng_state(state),
    )
    fused = optimizer._get_fused_kernels_supported_devices
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        patch = stack.enter_context
        layout = dataclasses.replace(
            devices.CPU, channels_last=kind.channels_last
        )  # so that results are equal to the bit
        patch(mock.patch.dict(devices.KINDS, {DEVICE.type: kind, "cpu": layout}))
        patch(mock.patch.object(torch, DEVICE.type, module, create=True))
        patch(mock.patch.object(torch, "tensor", _tensor(torch.tensor)))
        patch(mock.patch.object(torch, "as_tensor", _tensor(torch.as_tensor)))
        for place in (torch, torch.amp):
            patch(mock.patch.object(place, "autocast", _autocast(torch.autocast)))
        patch(mock.patch.object(optimizer, fused.__name__, side_effect=lambda: [*fused(), DEVICE.type]))
        patch(mock.patch.object(_state, "like_mps", not float64))
        # Torch's fast attention is for devices that it knows; without it the CPU computes as this one does.
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        patch(sdpa_kernel(SDPBackend.MATH))
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        patch(_Functions())
        patch(_Dispatch())
        yield DEVICE
