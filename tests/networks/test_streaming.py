"""A U-Net whose last decoder is computed in slabs: the map of the forward pass, with less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.nets.unet3d import ResidualUNet3D, UNet3D
from voxel_ext.networks.streaming import can_stream, stream_features

ORDERS = ["gcr", "cgr", "crg", "bcr", "cr", "gcl", "gce", "c", "cgd", "clg", "bcrD", "gcrb"]
FLAT = {"kernel_size": (1, 3, 3), "pool_size": (1, 2, 2)}


def make(order: str = "gcr", seed: int = 0, dtype: torch.dtype = torch.float64, **settings: Any) -> UNet3D:
    """A network whose norms neither start at 0 and 1 nor, batch norms, at the statistics of a batch."""
    torch.manual_seed(seed)
    settings = {"f_maps": 4, "num_levels": 2, "num_groups": 2} | settings
    network = UNet3D(2, 3, layer_order=order, **settings).to(dtype).eval()
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        if "norm" in name and value.is_floating_point():
            torch.nn.init.uniform_(value, 0.3, 1.5)
    return network


def image(size: tuple[int, ...] = (5, 7, 6), seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 3 * torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(seed), dtype=dtype) + 1


def joined(network: UNet3D, x: torch.Tensor, slab: int) -> torch.Tensor:
    places, parts = zip(*stream_features(network, x, slab), strict=True)
    assert [(p.start, p.stop) for p in places] == [(i, min(i + slab, x.shape[2])) for i in range(0, x.shape[2], slab)]
    return torch.cat(parts, 2)


@pytest.mark.parametrize("order", ORDERS)
def test_slabs_are_the_forward_pass(order: str) -> None:
    network, x = make(order), image((5, 3, 4))
    expected = network.features(x).detach()
    assert expected.std() > 1e-3
    for slab in (1, 2, 5):
        torch.testing.assert_close(joined(network, x, slab), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ((8, 4, 4), {"num_levels": 3}),
        ((5, 7, 6), {"num_levels": 3, "num_groups": 4}),
        ((9, 8, 8), {"num_levels": 4}),
        ((6, 5, 4), {"f_maps": [8, 4, 12], "num_groups": 2}),
        ((3, 5, 4), FLAT),
        ((7, 4, 3), {"kernel_size": (5, 3, 1), "pool_size": (3, 2, 1)}),
        ((1, 4, 5), {**FLAT, "num_levels": 3}),
    ],
)
def test_sizes_levels_and_kernels(dtype: torch.dtype, size: tuple[int, ...], settings: Any) -> None:
    network, x = make(dtype=dtype, **settings), image(size, dtype=dtype)
    tolerance = 1e-9 if dtype == torch.float64 else 2e-5
    expected = network.features(x).detach()
    for slab in (1, 3, 4, 100):
        torch.testing.assert_close(joined(network, x, slab), expected, rtol=tolerance, atol=tolerance)


def test_statistics_of_a_bright_image() -> None:
    """The variance is a difference of large numbers where the mean is far from 0."""
    network, x = make(), image() + 1e4
    torch.testing.assert_close(joined(network, x, 2), network.features(x).detach(), rtol=1e-6, atol=1e-6)


def test_channels_last() -> None:
    network = make(num_levels=3).to(memory_format=torch.channels_last_3d)
    x = image((8, 9, 10))
    expected = network.features(x).detach()
    last = x.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(joined(network, last, 3), expected, rtol=1e-9, atol=1e-9)


def test_bfloat16_is_as_near_as_the_forward_pass() -> None:
    network, x = make(dtype=torch.float32), image(dtype=torch.float32)
    exact = network.features(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        whole, slabs = network.features(x).detach(), joined(network, x, 2)
    assert (slabs - exact).norm() < 2 * (whole - exact).norm()


@pytest.mark.parametrize("order", ["gcr", "bcr", "crg"])
def test_network_image_and_gradient_mode_stay_as_they_are(order: str) -> None:
    network, x = make(order), image()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    inplace = [getattr(module, "inplace", None) for module in network.modules()]
    before = x.clone()
    for _, part in stream_features(network, x.requires_grad_(), 2):
        assert not part.requires_grad
        assert torch.is_grad_enabled()
    assert torch.equal(x.detach(), before)
    assert not network.training
    assert [getattr(module, "inplace", None) for module in network.modules()] == inplace
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


class Memory(TorchDispatchMode):
    """The elements of the largest tensor that an operation gives, and the most that are in memory at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            storage = result.untyped_storage()
            self._alive = {key: value for key, value in self._alive.items() if not value[0].expired()}
            self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes() // 4
            self.largest = max(self.largest, result.numel())
            self.peak = max(self.peak, sum(count for _, count in self._alive.values()))
        return result


def test_neither_the_joined_input_nor_more_than_two_maps_are_held() -> None:
    network, x = make(dtype=torch.float32, f_maps=8, num_groups=8), image((32, 8, 8), dtype=torch.float32)
    map_size = 8 * x[0, 0].numel()
    with torch.no_grad(), Memory() as whole:
        network.features(x)
    with Memory() as slabs:
        for _, part in stream_features(network, x, 1):
            del part
    assert whole.largest == 3 * map_size  # 8 channels of the skip and 16 from below
    assert slabs.largest == map_size
    assert whole.peak > 6 * map_size
    # the coarser map is a quarter of one at full resolution, a few slabs of 24 channels are less than one
    assert slabs.peak < 3.25 * map_size


def test_what_cannot_be_streamed() -> None:
    network, x = make(), image()
    assert can_stream(network)
    residual = ResidualUNet3D(2, 3, f_maps=4, num_levels=2, num_groups=2).eval()
    assert not can_stream(residual)
    assert not can_stream(torch.nn.Conv3d(1, 1, 1))
    for wrong, match in (
        ((residual, x, 2), "ResidualUNet3D cannot be computed in slabs; expected a UNet3D"),
        ((network, x, 0), "slab=0: expected at least one slice"),
        ((network, x.repeat(2, 1, 1, 1, 1), 2), r"\(2, 2, 5, 7, 6\); expected \(1, C, D, H, W\)"),
        ((network, x[0], 2), r"\(2, 5, 7, 6\); expected \(1, C, D, H, W\)"),
        ((network, x[:, :1], 2), "with 2 channels"),
        ((network, x[..., :1], 2), "too small for the network's poolings"),
        ((make().train(), x, 2), "in training mode"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            next(stream_features(*wrong))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("order", ["gcr", "cgr", "bcr"])
def test_on_the_gpu(order: str) -> None:
    network, x = make(order, num_levels=3), image((9, 10, 11))
    expected = network.features(x).detach()
    slabs = joined(network.cuda(), x.cuda(), 4)
    torch.testing.assert_close(slabs.cpu(), expected, rtol=1e-8, atol=1e-8)
