"""The code of a whole volume: made tile by tile, exact, and placed in the patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..anomaly.grid import grid_around, onto_grid
from ..anomaly.prepare import Prepared, prepared_for
from ..conditions import condition
from ..engine.run import Engine
from ..engine.tiles import Box
from ..errors import BadInput
from ..model import Model, check_modalities
from ..networks import Network, Wrapped
from ..networks.conditional import ConditionalAutoencoder
from ..networks.normative import NormativeAutoencoder
from ..quality import limits
from ..volume import Volume

Floats = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Seen:
    """A scan as a network sees it: voxels `[c, i, j, k]` float32 in its window, and the affine to RAS millimetres.

    An intensity is `voxels * scale + low`, or as `prepared` says, which holds how a normative network's scan was made
    ready. `mask` is the brain, where the network looks at nothing else; `second` a condition, or which modalities are
    there; `known` where the scan is finite (None: not looked at, or everywhere), of several modalities `[c, i, j, k]`.
    Of these each has its own in `windows`, the intensities that are 0 and 1, and is a scan alone by `channel`.
    """

    voxels: Floats
    affine: Affine
    scale: float
    low: float
    mask: npt.NDArray[np.bool_] | None = None
    second: Tensor | None = None
    prepared: Prepared | None = None
    known: npt.NDArray[np.bool_] | None = None
    windows: tuple[tuple[float, float], ...] = ()

    @property
    def there(self) -> list[int]:
        """The numbers of the channels that hold a scan."""
        if len(self.voxels) == 1 or self.second is None:
            return list(range(len(self.voxels)))
        return [n for n, given in enumerate(self.second.tolist()) if given]

    def channel(self, number: int) -> Seen:
        """One of the modalities, as a scan alone; the only channel is the scan itself."""
        if len(self.voxels) == 1:
            return self
        low, high = self.windows[number]
        known = None if self.known is None or self.known[number].all() else self.known[number]
        return Seen(self.voxels[number : number + 1], self.affine, high - low, low, known=known)

    @property
    def counted(self) -> npt.NDArray[np.bool_] | None:
        """The voxels [i, j, k], of several modalities of each, that are looked at and finite; None: all of them."""
        if self.mask is None or self.known is None:
            return self.known if self.mask is None else self.mask
        return self.mask & self.known

    def differences(self, voxels: Floats) -> Floats:
        """Differences of windowed voxels `[..., i, j, k]` in the scan's own unit."""
        if self.prepared is not None:
            return self.prepared.differences(voxels)
        return np.asarray(voxels * np.float32(self.scale))

    def intensities(self, voxels: Floats) -> Floats:
        """Windowed voxels `[..., i, j, k]` in the scan's own unit."""
        if self.prepared is not None:
            return self.prepared.intensities(voxels)
        return self.differences(voxels) + np.float32(self.low)


@dataclass(frozen=True, eq=False)
class Code:
    """A spatial code `[c, i, j, k]` float32 with the 4x4 affine from cell index to the RAS millimetres of its middle.

    A network with one code for a whole volume gives one cell; with one for each slice, one cell for each slice; then
    `spatial` is False and the affine is that of the middle of what the cell stands for.
    """

    cells: Floats
    affine: Affine
    spatial: bool
    cell: tuple[int, ...]  # voxels of a cell along i, j, k

    def volume(self, name: str) -> Volume:
        """The code as a volume, a frame for each channel."""
        return Volume(self.cells, self.affine, {"name": name, "frames": True})


def seen_by(model: Model, volume: Volume) -> Seen:
    """The volume as the model's network takes it; a normative one sees brain or body on a grid of its own.

    Raises BadInput when the volume holds nothing finite or its channels are not the network's.
    """
    network, spec = model.network, model.spec
    if isinstance(network, NormativeAutoencoder):
        prepared = prepared_for(volume, model)
        return Seen(
            prepared.voxels[None], prepared.grid.affine, prepared.scale, prepared.offset, prepared.mask,
            prepared=prepared,
        )  # fmt: skip
    channels = network.in_channels
    if channels > 1:
        check_modalities(model, volume)
    there = [bool(np.isfinite(channel).any()) for channel in volume.array[:channels]]
    if not any(there):
        raise BadInput(f"{volume.name or 'The volume'} holds no finite value.")
    voxels = np.zeros((channels, *volume.shape), np.float32)
    windows = [limits(spec.window, source) if known else (0.0, 1.0) for source, known in zip(volume.array, there)]
    for n, (low, high) in enumerate(windows):
        if there[n]:
            scan = np.asarray(volume.array[n], np.float32)
            voxels[n] = (np.where(np.isfinite(scan), scan, low) - np.float32(low)) / np.float32(high - low)
    if channels > 1:
        present = torch.tensor(there, dtype=torch.float32)
        return Seen(voxels, volume.affine, 1.0, 0.0, second=present, windows=tuple(windows))
    low, high = windows[0]
    second: Tensor | None = None
    if isinstance(network, ConditionalAutoencoder):
        second = torch.tensor(condition(volume, network.fields), dtype=torch.float32)
    return Seen(voxels, volume.affine, high - low, low, second=second)


def resampled(volume: Volume, spacing: float) -> Volume:
    """The volume, float32, on an isotropic grid of `spacing` millimetres along the patient's axes.

    Raises BadInput for a spacing that makes no sense, or a grid that would be larger than any body.
    """
    if not 0.1 <= spacing <= 20:
        raise BadInput(f"A spacing of {spacing:g} mm is not possible.", "Choose 0.1 to 20, or 0 for the scan's own.")
    grid = grid_around(volume, spacing)
    channels = []
    for channel in volume.array:  # outside of the scan there is what is darkest in it
        finite = channel[np.isfinite(channel)]
        if not finite.size:  # a modality that is missing stays so
            channels.append(np.full(grid.shape, np.nan, np.float32))
            continue
        floor = np.float32(finite.min())
        channels.append(onto_grid(np.where(np.isfinite(channel), channel, floor) - floor, volume.affine, grid) + floor)
    return Volume(np.stack(channels), grid.affine, volume.meta)


def code_of(network: Network, seen: Seen, engine: Engine, progress: Progress = lambda done, total: None) -> Code:
    """The code of a scan; a spatial one does not depend on the tile. Raises OutOfMemory; progress may cancel."""
    if network.tiles:
        return _in_tiles(network, seen, engine, progress)
    return _whole(network, seen, engine, progress)


class _Coded(Wrapped):
    """A network as the engine runs it: what goes in, then the code, each cell repeated over its voxels."""

    second: Tensor | None

    def __init__(self, network: Network, second: Tensor | None) -> None:
        super().__init__(network)
        self.register_buffer("second", second)

    def forward(self, x: Tensor) -> Tensor:
        code = encode(self.network, x, self.second).float()
        return torch.cat([x.float(), nn.functional.interpolate(code, x.shape[2:], mode="nearest")], 1)


def encode(network: Network, x: Tensor, second: Tensor | None) -> Tensor:
    """The code of windowed voxels [b, c, ...], under a condition or with only some modalities where that is asked."""
    if second is None:
        return network.encode(x)
    coded: Tensor = network.encode(x, second.to(x.device).expand(len(x), -1))  # type: ignore[call-arg]
    return coded


def cell_and_channels(network: Network, second: Tensor | None = None) -> tuple[tuple[int, ...], int]:
    """Voxels of a cell of a spatial code along each axis, and the code's channels: seen on a small block."""
    edges = [4 * stride for stride in network.strides]
    device = next(network.parameters()).device
    with torch.inference_mode():
        code = encode(network, torch.zeros((1, network.in_channels, *edges), device=device), second)
    cell = tuple(edge // size for edge, size in zip(edges, code.shape[2:], strict=True))
    return (*cell, *(1,) * (3 - len(cell))), int(code.shape[1])


def placed(affine: Affine, cell: tuple[int, ...], offset: tuple[float, ...]) -> Affine:
    """The affine of cells: cell n lies at voxel n x cell + offset."""
    to_voxel = np.diag([*map(float, cell), 1.0])
    to_voxel[:3, 3] = offset
    return np.asarray(affine @ to_voxel)


def _in_tiles(network: Network, seen: Seen, engine: Engine, progress: Progress) -> Code:
    cell, channels = cell_and_channels(network, seen.second)
    shape = seen.voxels.shape[1:]
    cells = np.empty((channels, *(-(-size // step) for size, step in zip(shape, cell))), np.float32)

    def keep(core: Box, _: Floats, *made: Floats) -> None:
        place = tuple(slice(box.start // step, -(-box.stop // step)) for box, step in zip(core, cell))
        for n, channel in enumerate(made[network.in_channels :]):
            cells[n][place] = channel[tuple(slice(None, None, step) for step in cell)]

    source = seen.voxels if network.in_channels > 1 else seen.voxels[0]
    engine.run(_Coded(network, seen.second), source, (0.0, 1.0), keep, progress, channels)
    offset = (network.offset,) * network.dims + (0.0,) * (3 - network.dims)
    return Code(cells, placed(seen.affine, cell, offset), True, cell)


@torch.inference_mode()
def _whole(network: Network, seen: Seen, engine: Engine, progress: Progress) -> Code:
    """Codes of networks that see a slice (2D) or a volume (3D) as a whole."""
    network = network.to(engine.torch_device).eval()
    engine.used = {"device": str(engine.torch_device), "precision": "float32", "tile": list(seen.voxels.shape[1:])}
    beyond = [(0, -n % step) for n, step in zip(seen.voxels.shape[1:], network.volume_strides, strict=True)]
    voxels = np.pad(seen.voxels, [(0, 0), *beyond], mode="edge")
    x, depth = torch.from_numpy(voxels), voxels.shape[3]
    parts = [x] if network.dims == 3 else list(x.unbind(3))
    codes = []
    for number, part in enumerate(parts):
        progress(number, len(parts))
        codes.append(encode(network, part[None].to(engine.torch_device), seen.second)[0].float().cpu())
    progress(len(parts), len(parts))
    code = torch.stack(codes, -1) if network.dims == 2 else codes[0]
    spatial = code.ndim == 4
    if not spatial:
        code = code.reshape(len(code), 1, 1, -1)
    sizes = code.shape[1:]
    cell = tuple(size // n for size, n in zip((*voxels.shape[1:3], depth), sizes, strict=True))
    offset = tuple(
        network.offset if spatial and step > 1 else (step - 1) / 2 if not spatial else 0.0 for step in cell
    )
    return Code(code.numpy(), placed(seen.affine, cell, offset), spatial, cell)
