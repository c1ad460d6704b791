"""From a spatial code and the scan's intensities to features: means and variation at several scales, of a volume, a
slice or a segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..anomaly.masks import head_mask
from ..errors import BadInput
from ..volume import Volume
from .code import Code, Seen
from .intensity import RANKS, brightness, cell_means, quantiles

SCALES = 3  # cells, and blocks of 2 and 4 cells along an edge
_FLOOR = 1e-3  # is added to a deviation before its logarithm is taken: where nothing varies that is -6.9
_MOST_PARTS = 64  # along an edge of a label map's voxel: 16 cells
_AT_ONCE = 2**20  # points whose cells are looked up together
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """What one row of features describes: "volume", a slice's number or a segment's; its middle and size in cells."""

    item: str
    centre: tuple[float, float, float]  # RAS millimetres
    cells: int
    values: tuple[float, ...]


def names(channels: int, spatial: bool, modalities: int = 1) -> list[str]:
    """The names of the features of a code with so many channels, of so many modalities, in their order."""
    kinds = ["mean", *(f"logsd{2**scale}" for scale in range(SCALES if spatial else 1))]
    numbers = [f"_{number}" for number in range(modalities)] if modalities > 1 else [""]
    own = [f"{what}{number}" for what in ("intensity", "texture") for number in numbers]
    return [
        *(f"{kind}_{channel:03d}" for kind in kinds for channel in range(channels)),
        *(f"{name}_{kind}" for kind in kinds for name in own),
        *(f"{name}_logsd_{axis}" for axis in ("ijk" if spatial else "") for name in own),
        *(f"intensity{number}_p{rank:02d}" for number in numbers for rank in RANKS),
    ]


def pooled(code: Code, weights: Weights) -> npt.NDArray[np.float64]:
    """The features of the cells `[i, j, k]` by their weights: each channel's mean, and its variation at three scales.

    That is the logarithm of the deviation of the means of blocks of 1, 2 and 4 cells: how much the channel varies,
    finely and coarsely. The count does not depend on the size. A code without place has its mean and, over slices, its
    variation.
    """
    cells, total = code.cells, weights.sum()
    mean = np.tensordot(cells, weights, 3) / total
    found = [mean]
    sums, counts = cells * weights, weights
    for scale in range(SCALES if code.spatial else 1):
        if scale:
            sums, counts = _halved(sums), _halved(counts)
        found.append(_variation(sums, counts, mean))
    return np.concatenate(found)


def along_axes(code: Code, weights: Weights) -> npt.NDArray[np.float64]:
    """How much each channel's means over the layers of cells vary along i, then j, then k; of a code with place only.

    A neck and a chest may be as bright and as uneven, but hardly as much so from head to foot as from left to right.
    """
    if not code.spatial:
        return np.zeros(0)
    sums, found = code.cells * weights, []
    mean = sums.sum(axis=(1, 2, 3)) / weights.sum()
    for axis in (0, 1, 2):
        across = tuple({0, 1, 2} - {axis})
        layers = sums.sum(axis=tuple(n + 1 for n in across), keepdims=True)
        found.append(_variation(layers, weights.sum(axis=across, keepdims=True), mean))
    return np.concatenate(found)


def _variation(
    sums: npt.NDArray[np.float64], counts: Weights, mean: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The logarithm of the deviation of blocks around the mean `[c]`, from their sums `[c, ...]` and counts `[...]`."""
    centred = sums / np.maximum(counts, 1e-30) - mean[:, None, None, None]
    return np.asarray(np.log(np.sqrt(np.tensordot(centred**2, counts, 3) / counts.sum()) + _FLOOR))


def whole_volume(code: Code, seen: Seen, unit: float, air: bool) -> list[Item]:
    """One row for the whole scan; without `air` only what is no air counts (the brain, for a normative network)."""
    return [_item("volume", code, brightness(code, seen, unit), _inside(code, seen, air))]


def slices(code: Code, seen: Seen, unit: float, air: bool) -> list[Item]:
    """A row for each layer of cells along the third axis, named by the index of the voxel slice in its middle.

    Layers of air alone are left out. Raises BadInput for a network with one code for the whole volume.
    """
    if code.cells.shape[3] == 1 and not code.spatial and seen.voxels.shape[3] > 1:
        raise BadInput("This network has one code for the whole volume, so slices have none.", "Choose the volume.")
    inside, bright, rows = _inside(code, seen, air), brightness(code, seen, unit), []
    to_voxel = np.linalg.inv(seen.affine) @ code.affine
    for k in range(code.cells.shape[3]):
        weights = np.zeros_like(inside)
        weights[..., k] = inside[..., k]
        if weights.any():
            middle = (to_voxel @ [0, 0, k, 1])[2]
            name = str(int(np.clip(round(middle), 0, seen.voxels.shape[3] - 1)))
            rows.append(_item(name, code, bright, weights))
    return rows


def segments(code: Code, seen: Seen, unit: float, labels: Volume) -> list[Item]:
    """A row for each label above 0 of a label map, which may have voxels of its own.

    A cell counts by the number of the segment's voxels in it; a coarse one lies in many cells. Raises BadInput where
    the map holds no label, lies elsewhere, is no map of labels, or the network's code has no place.
    """
    if not code.spatial:
        raise BadInput("This network's code has no place, so segments have no features.", "Choose another model.")
    values = labels.array[0]
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(np.nan_to_num(values))):
        raise BadInput(f"{labels.name or 'The label map'} holds values that are no labels.", "Name a label map.")
    places = np.argwhere(values > 0)
    if not len(places):
        raise BadInput(f"{labels.name or 'The label map'} holds no segment.", "Draw a segment first.")
    to_cell = np.linalg.inv(code.affine) @ labels.affine
    shape, found = code.cells.shape[1:], values[tuple(places.T)].astype(np.int64)
    within, bright, rows = _points(to_cell, values.shape), brightness(code, seen, unit), []
    for label in np.unique(found):
        weights = _counts(places[found == label], to_cell, within, shape)
        if weights.any():
            rows.append(_item(str(label), code, bright, weights))
    if not rows:
        raise BadInput(f"{labels.name or 'The label map'} does not overlap the volume.", "Check its position.")
    return rows


def _points(to_cell: npt.NDArray[np.float64], size: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Points `[n, 3]` that stand for a voxel of a label map of that size, as places in cells around its middle.

    One up to half a cell wide counts where its middle lies; of coarser ones a quarter of a cell does, so that no
    cell inside is missed. Where a point would lie midway between two cells, of which one had it all, there are twice as
    many.
    """
    axes = []
    for axis, count in enumerate(size):
        step = to_cell[:3, axis]
        along = int(np.abs(step).argmax())
        size_in_cells = float(np.linalg.norm(step))
        parts = min(int(np.ceil(4 * size_in_cells)), _MOST_PARTS) if size_in_cells > 0.5 + 1e-6 else 1
        middles = to_cell[along, 3] + step[along] * (np.arange(count)[:, None] + _middles(parts))
        between = (np.abs(middles - np.floor(middles) - 0.5) < 1e-3).any()
        axes.append(_middles(2 * parts if between else parts))
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3) @ to_cell[:3, :3].T


def _middles(parts: int) -> npt.NDArray[np.float64]:
    """The middles of so many equal parts of the stretch from -0.5 to 0.5."""
    return (np.arange(parts) + 0.5) / parts - 0.5


def _counts(
    places: npt.NDArray[np.int64], to_cell: npt.NDArray[np.float64], within: npt.NDArray[np.float64],
    shape: tuple[int, ...],
) -> Weights:  # fmt: skip
    """How many of the label voxels at the places `[n, 3]` lie in each cell `[i, j, k]`, by their points `within`."""
    counts = np.zeros(int(np.prod(shape)))
    at_once = max(1, _AT_ONCE // len(within))
    for first in range(0, len(places), at_once):
        middles = places[first : first + at_once] @ to_cell[:3, :3].T + to_cell[:3, 3]
        cells = np.rint((middles[:, None] + within).reshape(-1, 3)).astype(np.int64)
        cells = cells[((cells >= 0) & (cells < shape)).all(axis=1)]
        counts += np.bincount(np.ravel_multi_index(tuple(cells.T), shape), minlength=counts.size)
    return np.asarray((counts / len(within)).reshape(shape))


def _item(item: str, code: Code, bright: Code, weights: Weights) -> Item:
    middle = [float(weights.sum(axis=tuple({0, 1, 2} - {n})) @ np.arange(weights.shape[n])) for n in range(3)]
    centre = code.affine @ [*(np.array(middle) / weights.sum()), 1]
    r, a, s = (round(float(x), 2) for x in centre[:3])
    ranks = quantiles(bright.cells[: len(bright.cells) // 2], weights)
    parts = [pooled(code, weights), pooled(bright, weights), along_axes(bright, weights), ranks.ravel()]
    values = np.concatenate(parts)
    return Item(item, (r, a, s), int((weights > 0).sum()), tuple(float(f"{value:.6g}") for value in values))


def _inside(code: Code, seen: Seen, air: bool) -> Weights:
    """1 for the cells that count, 0 for the others; all count where nothing stands out from the air."""
    shape = code.cells.shape[1:]
    if air or not code.spatial:
        return np.ones(shape)
    if seen.mask is not None:
        inside = cell_means(seen.mask.astype(np.float32), code, seen) > 0.5
    else:
        inside = head_mask(np.mean([cell_means(channel, code, seen) for channel in seen.voxels], axis=0))
    return (inside if inside.any() else np.ones(shape)).astype(np.float64)


def _halved(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sums over blocks of two along the last three axes."""
    for axis in (-3, -2, -1):
        odd = values.shape[axis] % 2
        padding = [(0, odd if axis == n - values.ndim else 0) for n in range(values.ndim)]
        values = np.add.reduceat(np.pad(values, padding), np.arange(0, values.shape[axis] + odd, 2), axis=axis)
    return values
