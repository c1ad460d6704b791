"""From a spatial code and the scan's intensities to features: means and variation at several scales, of a volume, a
slice or a segment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform

from ..anomaly.masks import head_mask
from ..errors import BadInput
from ..volume import Volume
from .code import Code, Seen, placed
from .intensity import (
    BLOCK,
    RANKS,
    brightness,
    brightness_of_slice,
    brightness_of_voxels,
    cell_means,
    quantiles,
)

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
    weights = _inside(code, seen, air)
    return [_item("volume", code, weights, brightness(code, seen, unit), weights)]


def slices(code: Code, seen: Seen, unit: float, air: bool) -> list[Item]:
    """A row for each slice of the voxels along the third axis, named by its index.

    Its code is that of the layer of cells that holds it, of both where it lies midway between two; its intensities are
    those of the slice alone. Slices in layers of air alone are left out. Raises BadInput for a network with one code
    for the whole volume.
    """
    depth, layers = seen.voxels.shape[3], code.cells.shape[3]
    if layers == 1 and not code.spatial and depth > 1:
        raise BadInput("This network has one code for the whole volume, so slices have none.", "Choose the volume.")
    inside, rows = _inside(code, seen, air), []
    to_cell = np.linalg.inv(code.affine) @ seen.affine
    for k in range(depth):
        low, high = _layers(to_cell[2, 2] * k + to_cell[2, 3], layers)
        weights = inside[..., low : high + 1]
        if weights.any():
            shown = replace(code, cells=code.cells[..., low : high + 1], affine=_on_slice(code, seen, k))
            bright, counts = brightness_of_slice(code, seen, unit, k)
            rows.append(_item(str(k), shown, weights, bright, counts * weights.mean(axis=2, keepdims=True)))
    return rows


def _layers(at: float, count: int) -> tuple[int, int]:
    """The first and the last of so many layers of cells that hold a place: two where it is midway between them."""
    low, high = np.clip(np.rint([at - 1e-3, at + 1e-3]), 0, count - 1).astype(int)
    return int(low), int(high)


def _on_slice(code: Code, seen: Seen, k: int) -> npt.NDArray[np.float64]:
    """The affine of the cells of layers, all laid onto slice k: the middle of a row lies in the slice."""
    to_voxel = np.linalg.inv(seen.affine) @ code.affine
    to_voxel[2, 2:] = (0, k)
    return np.asarray(seen.affine @ to_voxel)


def segments(code: Code, seen: Seen, unit: float, labels: Volume) -> list[Item]:
    """A row for each label above 0 of a label map, which may have voxels of its own.

    Of the code a cell counts by the number of the segment's voxels in it; a coarse one lies in many cells. The
    intensities are those of the scan's voxels whose middle lies in the segment; where it is too small for one, of those
    that it lies in. Raises BadInput where the map holds no label, lies elsewhere, is no map of labels, or the network's
    code has no place.
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
    found = values[tuple(places.T)].astype(np.int64)
    within, own, rows = _points(to_cell, values.shape), dict(_by_label(_on_voxels(labels, seen))), []
    for label in np.unique(found):
        some = places[found == label]
        voxels = own[int(label)] if int(label) in own else _voxels_around(some, labels, seen)
        weights = _counts(some, to_cell, within, code, seen)
        if weights.any() and len(voxels):
            rows.append(_item(str(label), *_cropped(code, weights), *brightness_of_voxels(code, seen, unit, voxels)))
    if not rows:
        raise BadInput(f"{labels.name or 'The label map'} does not overlap the volume.", "Check its position.")
    return rows


def _on_voxels(labels: Volume, seen: Seen) -> npt.NDArray[np.int64]:
    """The label in which the middle of each voxel [i, j, k] of the scan lies; 0 outside of the map."""
    values, shape = labels.array[0].astype(np.int64), seen.voxels.shape[1:]
    if values.shape == shape and np.allclose(labels.affine, seen.affine, atol=1e-4):
        return values
    to_label = np.linalg.inv(labels.affine) @ seen.affine
    found = affine_transform(values, to_label, output_shape=shape, order=0, mode="grid-constant", prefilter=False)
    return np.asarray(found)


def _by_label(values: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Each label above 0, with the places `[n, 3]` where it is."""
    places = np.argwhere(values > 0)
    there = values[tuple(places.T)]
    order = np.argsort(there, kind="stable")
    labels, starts = np.unique(there[order], return_index=True)
    for label, some in zip(labels, np.split(places[order], starts[1:])):
        yield int(label), some


def _voxels_around(places: npt.NDArray[np.int64], labels: Volume, seen: Seen) -> npt.NDArray[np.int64]:
    """The scan's voxels `[n, 3]` in which the middles of label voxels at the places `[m, 3]` lie, each once."""
    to_voxel = np.linalg.inv(seen.affine) @ labels.affine
    voxels = np.unique(np.rint(places @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(np.int64), axis=0)
    return np.asarray(voxels[((voxels >= 0) & (voxels < seen.voxels.shape[1:])).all(axis=1)])


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
    places: npt.NDArray[np.int64], to_cell: npt.NDArray[np.float64], within: npt.NDArray[np.float64], code: Code,
    seen: Seen,
) -> Weights:  # fmt: skip
    """How many of the label voxels at the places `[n, 3]` lie in each cell `[i, j, k]`, by their points `within`.

    Those between the last cell and the end of the scan count for that cell.
    """
    shape, from_voxel = code.cells.shape[1:], np.linalg.inv(code.affine) @ seen.affine
    edges = [(np.array(corner) - 0.5) @ from_voxel[:3, :3].T + from_voxel[:3, 3]
             for corner in ((0, 0, 0), seen.voxels.shape[1:])]  # fmt: skip
    counts = np.zeros(int(np.prod(shape)))
    at_once = max(1, _AT_ONCE // len(within))
    for first in range(0, len(places), at_once):
        middles = places[first : first + at_once] @ to_cell[:3, :3].T + to_cell[:3, 3]
        points = (middles[:, None] + within).reshape(-1, 3)
        points = points[((points >= edges[0] - 1e-6) & (points <= edges[1] + 1e-6)).all(axis=1)]
        cells = np.clip(np.rint(points), 0, np.array(shape) - 1).astype(np.int64)
        counts += np.bincount(np.ravel_multi_index(tuple(cells.T), shape), minlength=counts.size)
    return np.asarray((counts / len(within)).reshape(shape))


def _cropped(code: Code, weights: Weights) -> tuple[Code, Weights]:
    """Code and weights in the box of whole blocks of cells that holds all that counts."""
    box = []
    for axis in range(3):
        there = np.flatnonzero(weights.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(int(there[0]) // BLOCK * BLOCK, int(there[-1]) + 1))
    affine = placed(code.affine, (1, 1, 1), tuple(float(side.start) for side in box))
    return replace(code, cells=code.cells[(slice(None), *box)], affine=affine), weights[tuple(box)]


def _item(item: str, code: Code, weights: Weights, bright: Code, counts: Weights) -> Item:
    """A row from the code by the weights of its cells, and from intensities by the counts of theirs."""
    middle = [float(weights.sum(axis=tuple({0, 1, 2} - {n})) @ np.arange(weights.shape[n])) for n in range(3)]
    centre = code.affine @ [*(np.array(middle) / weights.sum()), 1]
    r, a, s = (round(float(x), 2) for x in centre[:3])
    ranks = quantiles(bright.cells[: len(bright.cells) // 2], counts)
    parts = [pooled(code, weights), pooled(bright, counts), along_axes(bright, counts), ranks.ravel()]
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
