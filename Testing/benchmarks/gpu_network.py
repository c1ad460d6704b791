"""Sections of `gpu.py` that concern the device alone: its ceilings, the networks on it, and steps of a training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from benchmarks.gpu_section import Section
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from MedAELib.engine.device import computing_in
from MedAELib.engine.run import Engine, bytes_per_voxel
from MedAELib.engine.tiles import work
from MedAELib.model import Model
from MedAELib.networks import Network, build
from MedAELib.networks.mirrored import Mirrored
from MedAELib.tasks.denoise import automatic_passes, completed
from MedAELib.training.denoise import denoising_error
from MedAELib.training.loop import adam

_HOST = 1 << 28  # bytes of a copy from or to the computer's memory
_KERNELS = 14  # of the profile, the dearest


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, each tensor once an operation; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        aliases = [one.alias_info for one in (*func._schema.arguments, *func._schema.returns)]
        if not any(alias is not None and not alias.is_write for alias in aliases):
            leaves = tree_leaves((args, kwargs, made))
            self.bytes += sum(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor))
        return made


def ceilings(section: Section) -> None:
    """The rates that nothing on this device exceeds: matrix product, copy on the device, copies from and to it."""
    size, device = section.sizes.matrix, section.device
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        edge = size if name == "bfloat16" else size // 2
        left, right = torch.randn(2, edge, edge, device=device, dtype=dtype)
        taken = section.seconds(name, lambda a=left, b=right: [a @ b for _ in range(10)], told=False) / 10
        section.tell(f"{name} matrix product, {edge} cubed", 2 * edge**3 / taken / 1e12, "TFLOP/s")
    source = torch.randn(section.sizes.copied // 4, device=device)
    target = torch.empty_like(source)
    taken = section.seconds("copy", lambda: [target.copy_(source) for _ in range(10)], told=False) / 10
    section.tell("copy on the device, read and written", 2 * source.nbytes / taken / 1e9, "GB/s")
    count = min(_HOST, section.sizes.copied)
    for kind, host in (("pageable", torch.zeros(count, dtype=torch.uint8)), ("pinned", _pinned(count, device))):
        there, back = source.view(torch.uint8)[:count], host
        taken = section.seconds(kind, lambda t=there, h=back: t.copy_(h), told=False)
        section.tell(f"{kind} memory to the device", count / taken / 1e9, "GB/s")
        taken = section.seconds(kind, lambda t=there, h=back: h.copy_(t), told=False)
        section.tell(f"the device to {kind} memory", count / taken / 1e9, "GB/s")
    taken = section.seconds("new", lambda: there.cpu(), told=False)
    section.tell("the device to new memory (as the engine does)", count / taken / 1e9, "GB/s")


def _pinned(count: int, device: torch.device) -> torch.Tensor:
    made = torch.zeros(count, dtype=torch.uint8)
    return made.pin_memory() if device.type == "cuda" else made


def ct_network(section: Section) -> None:
    """The denoiser of CT on data that is on the device already."""
    _network(section, "ct-denoise", "ct")


def mr_network(section: Section) -> None:
    """The denoiser of MRI with its further looks, as it runs, and without."""
    _network(section, "mr-denoise", "mr")


def _network(section: Section, name: str, scan: str) -> None:
    model, engine = Model.load(name), Engine(section.device.type)
    volume = section.volume(scan)
    unit = 25.0 if scan == "ct" else 30.0
    for title, shape in (("large", section.sizes.large), ("small", section.sizes.small)):
        passes = automatic_passes(section.volume(scan, shape), model)
        network = completed(Mirrored(model.network, passes), model)
        halo, stride = (network.halo,) * 3, network.volume_strides
        engine.run(network, section.volume(scan, shape).array[0], (0, unit), lambda *_: None)  # and leaves it there
        edges = engine.used["tile"]
        tile = tuple(min(e + 2 * h, n) for e, h, n in zip(edges, halo, shape, strict=True))
        middle = volume.array[0][tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(volume.shape, tile))]
        x = _on_device(middle, unit, section.device, stride[0])
        share = work(shape, edges, halo) / np.prod(tile)
        what = f"{name}, {title}, {passes} passes, tile {'x'.join(map(str, edges))}"
        section.tell(f"{what}: bytes a voxel foreseen", bytes_per_voxel(network), "B")
        measured = _alone(section, what, engine, network, x, share)
        _ceilings_reached(section, what, engine, network, x, measured, share)
        if title == "large":
            without = Mirrored(model.network, passes)
            if scan == "mr":
                _alone(section, f"{what}, without the second look", engine, without, x, share)
            with _algorithms_tried_out():
                _alone(section, f"{what}, algorithms tried out", engine, without, x, share)
            seen = network, x
    _profiled(section, engine, *seen)


@contextmanager
def _algorithms_tried_out() -> Iterator[None]:
    """CUDA's convolutions by what is the fastest algorithm in a trial, not by what is known to be fast."""
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False


def _on_device(voxels: np.ndarray, unit: float, device: torch.device, stride: int) -> torch.Tensor:
    x = torch.from_numpy(np.ascontiguousarray(voxels, np.float32) / np.float32(unit)).to(device)[None, None]
    return pad(x, [side for size in reversed(voxels.shape) for side in (0, -size % stride)], mode="replicate")


def _forward(engine: Engine, network: Network, x: torch.Tensor) -> torch.Tensor:
    with computing_in(engine.dtype, engine.torch_device):
        return network(x.contiguous(memory_format=torch.channels_last_3d))


def _alone(section: Section, what: str, engine: Engine, network: Network, x: torch.Tensor, share: float) -> float:
    """Seconds of the network for the whole volume, as if all its tiles were like this one."""
    if section.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(section.device)
    taken = share * section.seconds(what, lambda: _forward(engine, network, x), told=False)
    section.tell(f"{what}: network alone", taken, "s", "1.5 s from node to node")
    if section.device.type == "cuda":
        section.tell(f"{what}: peak a voxel", torch.cuda.max_memory_allocated(section.device) / x.numel(), "B")
    return taken


def _ceilings_reached(
    section: Section, what: str, engine: Engine, network: Network, x: torch.Tensor, taken: float, share: float
) -> None:
    """Operations and bytes of a crop, per voxel, and the rates that follow for the whole."""
    starts = [(size - section.sizes.crop) // 2 // 8 * 8 for size in x.shape[2:]]  # the middle, on the network's cells
    crop = x[(..., *(slice(start, start + section.sizes.crop) for start in starts))].clone()
    autocast = torch.autocast(section.device.type, engine.dtype, enabled=engine.dtype != torch.float32)
    with torch.no_grad(), autocast, FlopCounterMode(display=False) as counted:
        network(crop)
    with torch.no_grad(), autocast, Traffic() as traffic:
        network(crop)
    operations, moved = counted.get_total_flops() / crop.numel(), traffic.bytes / crop.numel()
    voxels = x.numel() * share
    section.tell(f"{what}: operations a voxel", operations / 1e3, "kFLOP")
    section.tell(f"{what}: bytes read and written a voxel, operation by operation", moved, "B")
    section.tell(f"{what}: rate", operations * voxels / taken / 1e12, "TFLOP/s", "40 % of the matrix product's")
    section.tell(f"{what}: traffic", moved * voxels / taken / 1e9, "GB/s", "or the copy's, if memory bound")


def _profiled(section: Section, engine: Engine, network: Network, x: torch.Tensor) -> None:
    """The dearest kernels of one forward pass; all of them in a file."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if section.device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profile:
        _forward(engine, network, x)
        section.ready()
    found = profile.key_averages()
    key = "self_device_time_total" if section.device.type == "cuda" else "self_cpu_time_total"
    text = found.table(sort_by=key, row_limit=60, max_name_column_width=90)
    (section.folder / f"{section.name}-profile.txt").write_text(text)
    for event in sorted(found, key=lambda one: -getattr(one, key))[:_KERNELS]:
        milliseconds = getattr(event, key) / 1e3
        section.tell(f"  {event.key[:70]} x {event.count}", milliseconds, "ms")


def training(section: Section) -> None:
    """Steps of a training of the denoiser: forward, backward and optimiser on patches that are there already."""
    edge = section.sizes.patch
    for channels, count in itertools.product((32, 48, 64), (2, 8)):
        arguments = {"channels": channels, "blocks": 6, "deep_channels": 96, "deep_blocks": 5}
        network = build("denoising", 3, arguments).to(section.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        batch = _patches(count, edge, section.device)
        step = _training_step(network, adam(network), batch)
        with FlopCounterMode(display=False) as counted:
            step()
        taken = section.seconds("step", lambda step=step: [step() for _ in range(5)], told=False) / 5
        what = f"{channels} channels, {count} patches of {edge} cubed"
        section.tell(f"{what}: step", 1e3 * taken, "ms")
        section.tell(f"{what}: rate", count * edge**3 / taken / 1e6, "Mvoxel/s")
        section.tell(f"{what}: operations", counted.get_total_flops() / taken / 1e12, "TFLOP/s")


def _patches(count: int, edge: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Noisy, clean, level and lesions, as the training's batches are."""
    clean = 30 + 5 * torch.randn(count, 1, edge, edge, edge, device=device)
    lesions = torch.zeros_like(clean)
    lesions[..., edge // 3 : edge // 2, edge // 3 : edge // 2, edge // 3 : edge // 2] = 2
    level = torch.zeros(count, 1, *(edge // 2,) * 3, device=device)
    return clean + torch.randn_like(clean), clean, level, lesions


def _training_step(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]
) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(batch[0].device.type, torch.bfloat16):
            loss = denoising_error(network, batch)
        loss.backward()
        optimizer.step()

    return step
