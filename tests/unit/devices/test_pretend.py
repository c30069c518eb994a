"""The pretend device refuses what accelerators refuse, computes what the CPU computes, and leaves nothing behind."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.unit.pretend_device import DEVICE, There, pretend_device
from xai import devices
from xai.devices import double, empty_cache, exact_device, memory_format, out_of_memory
from xai.errors import InputError
from xai.settings import resolve_device


def test_tensors_stay_on_it_and_come_back() -> None:
    with pretend_device() as device:
        made = torch.arange(6.0, device=device).view(2, 3)
        for each in (made, made + 1, made.T, torch.zeros_like(made), torch.tensor([1], device=device), made[0]):
            assert each.device == DEVICE
        with pytest.raises(NotImplementedError, match="keep its shape"):
            made.t_()
        made = torch.arange(6.0, device=device).view(2, 3)
        assert (made * torch.tensor(2.0)).tolist() == [[0, 2, 4], [6, 8, 10]]  # a number of the CPU is taken
        assert made[torch.tensor([1])].tolist() == [[3, 4, 5]]  # an index of the CPU is taken
        assert torch.equal(made.cpu(), torch.arange(6.0).view(2, 3))
        assert type(made.cpu()) is torch.Tensor
        assert torch.equal(copy.deepcopy(made).cpu(), made.cpu())
        assert torch.equal(pickle.loads(pickle.dumps(made)), made.cpu())
        made[0] += 10
        assert made[0].tolist() == [10, 11, 12]


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: here.add_(there.sum()),
        lambda here, there: torch.cat([here, there]),
        lambda here, there: torch.stack([here.sum(), there.sum()]),
        lambda here, there: there.gather(1, here.long()),
        lambda here, there: here[there.long()[0]],
        lambda here, there: torch.where(there > 0, here, there),
        lambda here, there: there.index_select(0, here[0].long()),
        lambda here, there: F.linear(there, here),
    ],
)
def test_two_devices_are_refused(mix) -> None:
    with pretend_device() as device:
        here = torch.ones(2, 2)
        with pytest.raises(RuntimeError, match="same device"):
            mix(here, here.to(device))


def test_generators_and_numpy_of_the_cpu_are_refused() -> None:
    with pretend_device() as device:
        with pytest.raises(RuntimeError, match="device type for generator"):
            torch.rand(2, generator=torch.Generator(), device=device)
        with pytest.raises(RuntimeError, match="device type for generator"):
            torch.zeros(2, device=device).normal_(generator=torch.Generator())
        with pytest.raises(TypeError, match=r"Use Tensor\.cpu"):
            torch.zeros(2, device=device).numpy()


def test_what_apples_gpus_lack_is_refused() -> None:
    with pretend_device(float64=False) as device:
        for work in (
            lambda: torch.zeros(2, dtype=torch.float64, device=device),
            lambda: torch.zeros(2, device=device).double(),
            lambda: torch.zeros(2, dtype=torch.float64).to(device),
            lambda: torch.zeros(2, device=device).sum(dtype=torch.float64),
        ):
            with pytest.raises(TypeError, match="doesn't support float64"):
                work()
        maps = torch.zeros(1, 3, 4, 4, device=device).contiguous(memory_format=torch.channels_last)
        with pytest.raises(RuntimeError, match="channels_last"):
            F.conv2d(maps, torch.zeros(2, 3, 1, 1, device=device))


def test_gradients_and_optimisers_equal_the_cpus() -> None:
    def learned(device: torch.device) -> nn.Module:
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in net.parameters():
                value.copy_(torch.randn(value.shape, generator=generator))
        net.to(device).to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(net.parameters(), 0.1, fused=True)
        for _ in range(2):
            optimiser.zero_grad()
            F.cross_entropy(
                net(torch.rand(5, 3, 8, 8, generator=generator).to(device)), torch.ones(5).long().to(device)
            ).backward()
            optimiser.step()
        assert all(each.device.type == device.type for each in net.state_dict().values())
        return net.cpu()

    with pretend_device() as device:
        for here, there in zip(learned(torch.device("cpu")).parameters(), learned(device).parameters(), strict=True):
            assert torch.equal(here, there)


def test_autocast_casts_what_torchs_casts() -> None:
    with pretend_device() as device:
        for place in (torch.device("cpu"), device):
            layer = nn.Linear(3, 2).to(place)
            with torch.autocast(place.type, torch.bfloat16):
                low = layer(torch.ones(1, 3, device=place))
                with torch.autocast(place.type, enabled=False):
                    whole = layer(torch.ones(1, 3, device=place))
            assert (low.dtype, whole.dtype) == (torch.bfloat16, torch.float32)


def test_it_is_gone_afterwards() -> None:
    before = (torch.tensor, torch.as_tensor, torch.autocast, torch.amp.autocast, dict(devices.KINDS))
    with pytest.raises(ZeroDivisionError), pretend_device(float64=False):
        raise ZeroDivisionError
    assert before == (torch.tensor, torch.as_tensor, torch.autocast, torch.amp.autocast, devices.KINDS)
    assert not hasattr(torch, DEVICE.type)
    assert not torch.__future__.get_overwrite_module_params_on_conversion()
    assert There(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    with pytest.raises(InputError, match="device 'lazy:0' is not supported"):
        resolve_device("lazy:0")


# --- what the software asks of a kind of device ---------------------------------------------------------------------


def test_float64_work_goes_where_it_can_be_done() -> None:
    with pretend_device() as device:
        assert exact_device(device) == double(torch.ones(1, device=device)).device == device
        assert memory_format(device) == torch.channels_last
    with pretend_device(float64=False) as device:
        assert exact_device(device) == double(torch.ones(1, device=device)).device == torch.device("cpu")
        assert memory_format(device) == torch.contiguous_format
    assert exact_device(torch.device("mps")) == torch.device("cpu")
    assert exact_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert memory_format(torch.device("mps")) == torch.contiguous_format
    assert memory_format(torch.device("cuda")) == memory_format(torch.device("cpu")) == torch.channels_last


def test_devices_run_out_of_memory_in_their_own_words() -> None:
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, max allowed: 9.07 GB)."))
    assert not out_of_memory(RuntimeError("shapes differ"))
    assert not out_of_memory(MemoryError("out of memory"))
    empty_cache(torch.device("cpu"))
