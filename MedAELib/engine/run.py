"""A network over a whole volume: tile by tile, exact, within the free memory, with progress and cancel."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import BadInput, BadModel, OutOfMemory
from ..networks import Network
from .device import choose_device, choose_precision, computing_in, free_memory
from .pieces import in_pieces
from .tiles import Box, Tile, cores, halve, plan, surround, work

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
Sink = Callable[..., None]  # the core's box, its voxels before and after, and its deviations where they were asked for

# Half of what is free: the rest is for the convolution library's own copies, the result, and other programs.
_FRACTION_OF_MEMORY = 0.5
_SMALLEST_TILE = 32**3
_SMALLEST_EDGE = 3  # halos: where a core is narrower than its halo, nearly all work is done on neighbours
_BYTES_PER_NUMBER = 10  # in or out of the widest layer: float32, the skip beside it, and the library's own copies
_MOST_NUMBERS = 2**31  # in and out of one layer: convolution libraries count them in 32 bits
_MUCH_WORK = 200_000_000  # voxels, halos included: minutes on a processor; up to there any wanted tile is cut
_OTHER_CHANNELS = "The model's network does not turn one channel into one channel of the same size."
_CROP = "Crop the volume, or choose another device."
_NOT_WHOLE = "This network cannot work in tiles, and the device {device} has too little free memory for the whole."


@dataclass
class Engine:
    """Where and how networks run. `tile` is the edge of a core in voxels; 0 chooses it from the free memory. In a large
    volume one smaller than the network's halo is taken as wide as that: it would repeat most work very often.

    After a run, `used` says what was really used: device, precision, tile edges, number of tiles, how often the tile
    was halved for want of memory, and whether it was enlarged.
    """

    device: str = "auto"
    precision: str = "auto"
    tile: int = 0
    used: dict[str, Any] = field(default_factory=dict)
    _enlarged: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.tile < 0:
            raise BadInput(
                f"The tile of {self.tile} voxels is not possible.", "Use 0 (automatic) or an edge in voxels."
            )
        self.torch_device = choose_device(self.device)
        self.dtype = choose_precision(self.precision, self.torch_device)

    def run(
        self,
        network: Network,
        source: npt.NDArray[Any],
        limits: tuple[float, float],
        sink: Sink,
        progress: Progress = lambda done, total: None,
        deviations: int = 0,
    ) -> None:
        """Send one channel `[i, j, k]` through an image-to-image network and hand each finished core to `sink`.

        A network of several channels takes `[c, i, j, k]`; then `before` has them all, and the sink gets one after the
        other. A network without tiles gets its slices (2D) or the volume (3D) whole.
        `limits` are the intensities that the network sees as 0 and 1. `sink(core, before, after)` gets the core's box
        and its voxels in the source's own intensities: before the network as they lie in the source, after it float32.
        Voxels that are not finite are seen as the lower limit. A 2D network runs slice by slice along k.
        `progress(done, total)` counts voxels and may raise Cancelled, also inside a tile (between two layers).
        A network that tells amounts too (the deviation of the noise) gives them as further channels, `deviations` in
        number: the sink gets each after the others, in the source's units, without the lower limit.
        Raises OutOfMemory when even the smallest tile does not fit, BadModel when the network does not turn its
        channels into as many (and the deviations) of the same size, BadInput for tiles smaller than the volume where
        the network has none.
        """
        if (source.shape[0] if source.ndim == 4 else 1) != network.in_channels:
            raise BadModel(_OTHER_CHANNELS)
        shape, axes = source.shape[-3:], 3 if network.dims == 3 else 2
        halo = (network.halo,) * axes + (0,) * (3 - axes)
        stride = network.volume_strides
        cut = stride if network.tiles else shape[:axes] + stride[axes:]  # a network without tiles is never cut
        prepared = self._prepare(network)  # first, as its appetite is found where it runs
        edges = self._edges(prepared, shape, halo, cut, deviations)
        waiting = list(cores(shape, edges))[::-1]
        self.used = self._told([min(edge, size) for edge, size in zip(edges, shape, strict=True)])
        done, total, possible = 0, int(np.prod(shape, dtype=np.int64)), math.inf
        while waiting:
            core = waiting.pop()
            if _voxels(core) > possible and len(parts := halve(core, cut)) > 1:
                waiting += parts[::-1]
                continue
            tile, voxels = surround(core, shape, halo, stride), _voxels(core)
            with _layer_progress(prepared, partial(_partly, progress, done, voxels, total)):
                try:
                    made = self._one(prepared, source, tile, limits, stride)
                except (RuntimeError, MemoryError) as error:
                    if not _is_out_of_memory(error):
                        raise
                    made = []
            if not made:  # outside the except block, so that the failed tile's tensors are free
                waiting += self._halved(core, cut, tile, network.tiles)
                possible = voxels - 1
                continue
            sink(core, source[(slice(None),) * (source.ndim - 3) + core], *made)
            self.used["tiles"] += 1
            done += voxels
            progress(done, total)

    def remarks(self) -> list[str]:
        """What the user is told of the tiles of the last run, as plain sentences; mostly nothing."""
        found = []
        if self.used["enlarged"]:
            wide = " x ".join(map(str, self.used["tile"]))
            found.append(
                f"Tiles of {self.tile} voxels would repeat nearly all work many times, so they are {wide}. "
                "The result is the same."
            )
        if self.used["halvings"]:
            found.append("Memory ran short, so the tile was halved. The result is the same.")
        return found

    def _told(self, tile: list[int]) -> dict[str, Any]:
        """What `used` says at the start of a run."""
        precision = str(self.dtype).removeprefix("torch.")
        return {
            "device": str(self.torch_device), "precision": precision, "tile": tile, "tiles": 0, "halvings": 0,
            "enlarged": self._enlarged,
        }  # fmt: skip

    def _prepare(self, network: Network) -> Network:
        """The network on the device, in the memory layout that convolutions like best there."""
        ranks = {parameter.ndim for parameter in network.parameters()}
        layout = torch.channels_last_3d if 5 in ranks else torch.channels_last if 4 in ranks else None
        return network.to(self.torch_device, memory_format=layout).eval()  # type: ignore[call-overload]

    def _one(
        self,
        network: torch.nn.Module,
        source: npt.NDArray[Any],
        tile: Tile,
        limits: tuple[float, float],
        stride: tuple[int, ...],
    ) -> list[Floats]:
        """One tile through the network: each channel of its core after it, float32, in the source's units."""
        low, scale = limits[0], limits[1] - limits[0]
        channels = source if source.ndim == 4 else source[None]
        block = _block(channels[(slice(None), *tile.source)], low, stride)
        flat = stride[2] == 1 and network.dims == 2
        layout = torch.channels_last if flat else torch.channels_last_3d
        with computing_in(self.dtype, self.torch_device):
            tensor = torch.from_numpy(block).to(self.torch_device).sub_(low).div_(scale)
            tensor = tensor.permute(3, 0, 1, 2) if flat else tensor[None]
            result = network(tensor.contiguous(memory_format=layout)).float().mul_(scale)
            result[:, : len(block)].add_(low)
            result = result.cpu()
        made = result.permute(1, 2, 3, 0) if flat else result[0]
        return [channel[tile.inner] for channel in made.numpy()]

    def _largest_tile(self, network: Network, halo: tuple[int, ...], deviations: int) -> float:
        """How many voxels a tile's source may have, from the free memory and the network's appetite."""
        free = free_memory(str(self.torch_device)) * _FRACTION_OF_MEMORY
        smallest = max(_SMALLEST_TILE, math.prod(max(1, _SMALLEST_EDGE * width) for width in halo))
        each = bytes_per_voxel(network, deviations)
        return max(min(free / each, _MOST_NUMBERS * _BYTES_PER_NUMBER / each), smallest)

    def _edges(
        self, network: Network, shape: tuple[int, ...], halo: tuple[int, ...], cut: tuple[int, ...], deviations: int
    ) -> tuple[int, ...]:
        """The edges of the cores, multiples of `cut`. Raises BadInput and OutOfMemory where they cannot be had."""
        largest = self._largest_tile(network, halo, deviations)
        edges = (self.tile,) * 3 if self.tile else plan(shape, halo, cut, largest)
        self._enlarged = bool(self.tile) and self.tile < max(halo) and work(shape, edges, halo) > _MUCH_WORK
        if self._enlarged:
            edges = tuple(max(edge, width) for edge, width in zip(edges, halo, strict=True))
        edges = tuple(math.ceil(edge / step) * step for edge, step in zip(edges, cut, strict=True))
        if network.tiles:
            return edges
        if self.tile and any(self.tile < step for step in cut):
            whole = "slices" if network.dims == 2 else "a volume"
            raise BadInput(f"This network sees {whole} only as a whole, not in tiles.", "Leave the tile at 0.")
        if math.prod(edges) > largest:
            raise OutOfMemory(_NOT_WHOLE.format(device=self.torch_device), _CROP)
        return edges

    def _halved(self, core: Box, stride: tuple[int, ...], tile: Tile, tiles: bool) -> list[Box]:
        """Two smaller cores after an out-of-memory. Raises OutOfMemory when there are none."""
        gc.collect()
        if self.torch_device.type == "cuda":
            torch.cuda.empty_cache()
        parts = halve(core, stride)
        if len(parts) == 1 and not tiles:
            raise OutOfMemory(_NOT_WHOLE.format(device=self.torch_device), _CROP)
        if len(parts) == 1 or _voxels(tile.source) <= _SMALLEST_TILE // 8:
            raise OutOfMemory(f"The device {self.torch_device} has too little free memory for even a small tile.")
        self.used["halvings"] += 1
        return parts[::-1]


def _block(source: npt.NDArray[Any], low: float, stride: tuple[int, ...]) -> Floats:
    """A copy of `[c, i, j, k]`, float32, k fastest; `low` where it is not finite, ends repeated up to the stride."""
    channels, *sizes = source.shape
    padded = (math.ceil(size / step) * step for size, step in zip(sizes, stride, strict=True))
    block = np.empty((channels, *padded), np.float32)
    pairs = list(zip(np.asarray(source), block, strict=True))

    def convert(box: Box) -> None:
        for voxels, converted in pairs:
            piece = converted[box]
            piece[...] = voxels[box]
            if voxels.dtype.kind == "f":
                piece[~np.isfinite(piece)] = low

    in_pieces(sizes, convert)
    for axis, size in enumerate(sizes, 1):
        lines = np.moveaxis(block, axis, 0)
        lines[size:] = lines[size - 1]
    return block


# What `bytes_per_voxel` told before, by layers and parameters: watching takes a tenth of the time of a small crop.
_APPETITES: dict[tuple[object, ...], float] = {}


def bytes_per_voxel(network: Network, deviations: int = 0) -> float:
    """Working memory of a forward pass in bytes per input voxel, float32, from the sizes of the layers' results.

    The widest layer's input and output, the skip that may be held beside them, and one more copy of both, which
    convolution libraries make. Found by watching a forward pass of a small block, once for networks of like layers.
    """
    weights = sum(parameter.numel() for parameter in network.parameters())
    key = repr(network), weights, network.stride, network.grid, network.in_channels, deviations
    if key not in _APPETITES:
        _APPETITES[key] = _watched(network, deviations)
    return _APPETITES[key]


def _watched(network: Network, deviations: int) -> float:
    """What `bytes_per_voxel` tells, from a forward pass."""
    channels, edge = network.in_channels, max(4 * network.stride, 16, network.grid)
    sizes, shape = [0], (1, channels) + (edge,) * network.dims
    hooks = [
        module.register_forward_hook(lambda _, given, made: sizes.append(given[0].numel() + made.numel()))
        for module in _leaves(network)
    ]
    try:
        with torch.inference_mode():
            made = network(torch.zeros(shape, device=next(network.parameters()).device))
    except RuntimeError as error:
        if _is_out_of_memory(error):
            raise OutOfMemory("There is too little free memory for even a small tile.") from None
        if next(network.parameters()).device.type != "cpu":
            raise  # a card or its driver may be the reason as well
        made = None
    finally:
        for hook in hooks:
            hook.remove()
    if made is None or made.shape != (1, channels + deviations, *shape[2:]):
        raise BadModel(_OTHER_CHANNELS)
    return float(_BYTES_PER_NUMBER * max(sizes) / math.prod(shape[2:]) + 16 * channels + 32 * deviations)


def _partly(progress: Progress, done: int, voxels: int, total: int, part: float) -> None:
    progress(done + int(voxels * part), total)


class _layer_progress:
    """Report the finished part of a tile after every layer, so that one large tile is not a silent one.

    A module may count as other than one layer: ``layers`` in all, and ``share`` at its next call.
    """

    def __init__(self, network: Network, report: Callable[[float], None]) -> None:
        leaves = [module for module in _leaves(network) if any(True for _ in module.parameters())]
        self.count, self.report = 0.0, report
        self.total = network.calls * sum(getattr(module, "layers", 1.0) for module in leaves)
        self.hooks = [module.register_forward_hook(self._layer_done) for module in leaves]

    def _layer_done(self, module: torch.nn.Module, *_: object) -> None:
        self.count += getattr(module, "share", 1.0)
        self.report(min(self.count / (self.total + 1), 1.0))

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


def _leaves(network: torch.nn.Module) -> list[torch.nn.Module]:
    return [module for module in network.modules() if not any(True for _ in module.children())]


def _voxels(box: Box) -> int:
    return math.prod(side.stop - side.start for side in box)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, the CUDA libraries or the system ran out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return "can't allocate memory" in text or "out of memory" in text or "CUBLAS_STATUS_ALLOC_FAILED" in text
