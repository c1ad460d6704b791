"""Devices and precisions of computers that a test does not run on: torch's answers are made up, the choice is real."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import small_model

from MedAELib.engine import run as engine_module
from MedAELib.engine.device import choose_device, choose_precision, devices, free_memory
from MedAELib.engine.run import Engine, bytes_per_voxel
from MedAELib.errors import BadModel, DriverFault, OutOfMemory
from MedAELib.networks import Network, Wrapped

GIB = 1 << 30


@pytest.fixture
def two_cards(monkeypatch):
    """A computer with two CUDA cards, of which the second has more free memory."""
    free = {"cuda:0": 2 * GIB, "cuda:1": 9 * GIB}
    for name, answer in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_name": lambda index: f"card {index}",
        "mem_get_info": lambda device: (free[device], 16 * GIB),
        "memory_reserved": lambda device: GIB,
        "memory_allocated": lambda device: GIB // 4,
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)


def test_each_cuda_card_is_offered_and_the_one_with_most_free_memory_is_taken(two_cards):
    assert [(d.name, d.title) for d in devices()][:2] == [("cuda:0", "card 0"), ("cuda:1", "card 1")]
    assert devices()[-1].name == "cpu"
    assert free_memory("cuda:0") == 2 * GIB + GIB * 3 // 4  # what torch holds and does not use is free too
    assert choose_device("auto") == torch.device("cuda:1")
    assert choose_device("cuda") == choose_device("cuda:0") == torch.device("cuda:0")
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(DriverFault, match="'cuda:2'"):
        choose_device("cuda:2")


def test_the_gpu_of_a_mac_is_offered_and_taken(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 * GIB)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 4 * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [(d.name, d.free_bytes) for d in devices() if d.name != "cpu"] == [("mps", 6 * GIB)]
    assert choose_device("auto") == choose_device("mps") == torch.device("mps")


@pytest.mark.parametrize(
    "capability, chosen", [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_a_cuda_card_computes_in_what_it_multiplies_fastest(monkeypatch, capability, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda:0")) == chosen
    assert choose_precision("float32", torch.device("cuda:0")) == torch.float32


@pytest.mark.parametrize(
    "able, chosen",
    [
        ({}, torch.float32),
        ({"avx512_f": True}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
    ids=str,
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_instructions_for_it(monkeypatch, able, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert choose_precision("auto", torch.device("cpu")) == chosen
    assert choose_precision("auto", torch.device("mps")) == torch.float32


class _Watched(Wrapped):
    """A network that notes whether convolutions of float32 may be rounded while it runs."""

    def __init__(self, network):
        super().__init__(network)
        self.rounding = []
        self.register_buffer("extra", torch.zeros(1))

    def forward(self, x):
        self.rounding.append(torch.backends.cudnn.allow_tf32)
        return self.network(x)


@pytest.mark.parametrize("precision, rounded", [("float32", False), ("bfloat16", True)])
def test_float32_is_not_rounded_by_cudas_convolutions(monkeypatch, precision, rounded):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    network = _Watched(small_model().network)
    Engine(device="cpu", precision=precision).run(network, np.zeros((8, 8, 8), np.int16), (0, 1), lambda *_: None)
    assert network.rounding[-1] == rounded
    assert torch.backends.cudnn.allow_tf32  # as it was


def test_memory_is_foreseen_with_all_of_the_network_on_its_device(monkeypatch):
    """Wrappers are new for every run, while the network in them is on the card from the run before."""
    network, engine = _Watched(small_model().network), Engine(device="cpu")
    network.network.to("meta")
    engine.torch_device = torch.device("meta")
    seen = set()

    def foreseen(network, deviations):
        seen.update(tensor.device.type for tensor in (*network.parameters(), *network.buffers()))
        raise OutOfMemory("enough was seen")

    monkeypatch.setattr(engine_module, "bytes_per_voxel", foreseen)
    with pytest.raises(OutOfMemory, match="enough"):
        engine.run(network, np.zeros((8, 8, 8), np.int16), (0, 1), lambda *_: None)
    assert seen == {"meta"}


def test_no_layer_of_a_tile_has_more_numbers_than_libraries_count(monkeypatch):
    monkeypatch.setattr(engine_module, "free_memory", lambda device: 1 << 50)
    network, engine = small_model(channels=64).network, Engine(device="cpu")
    largest = engine._largest_tile(network, (0, 0, 0), 0)
    in_and_out = 2 * 64 / 8  # of a block, in cells of eight voxels
    assert 2**30 < largest * in_and_out < 2**31


def test_a_fault_of_a_card_is_not_taken_for_one_of_the_model() -> None:
    class Failing(Network):
        dims, stride, halo = 3, 1, 0

        def __init__(self, device: str) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), device=device))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    with pytest.raises(RuntimeError, match="no kernel image"):
        bytes_per_voxel(Failing("meta"))
    with pytest.raises(BadModel, match="does not turn one channel"):
        bytes_per_voxel(Failing("cpu"))
