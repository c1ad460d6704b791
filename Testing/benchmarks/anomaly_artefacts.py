"""Artefacts drawn into right brains, and whether the notes of the anomaly task tell them; the seconds of a whole run.

Each right head gets each artefact along one of its own axes, in turn. They are as strong as a reader would plainly see:
a copy of one slice in the place of three, a slice of 0.75 times the brightness, five of 0.7, every second of 0.8, 20 mm
of slices lost from the brain (two at least), a ghost by half of the field of view of 0.1 and 0.25, four moves by up to
5 degrees and 5 mm while k-space is filled (one such move alone may hardly be seen), a nod by 3 degrees and 3 mm with
each of 12 breaths, stripes of 0.05 of the tissue over all or over one slice, a field of view of 0.85 of the head, and
noise alone. Beside each head as it is there are right ones: with noise, thick slices, finer ones, cut, uneven, seen
less towards its ends, oblique, without its face, and with its air set to 0.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.anomaly_kspace import folded, measured_along, moved, noise_alone, striped, to_and_fro
from scipy.ndimage import gaussian_filter1d, zoom

from MedAELib.anomaly.artefacts import artefacts
from MedAELib.anomaly.grid import Grid, onto_grid
from MedAELib.anomaly.prepare import prepare
from MedAELib.volume import Volume

# Kinds of artefacts, and words of the note that tells each.
TOLD = {
    "repeated": "repeats slices", "one darker": "brightness", "several darker": "brightness",
    "every second darker": "brightness", "lost": "jumps", "ghost of 0.1": "half of the field", "ghost of 0.25": "half",
    "motion": "in line with the head", "one move": "in line with the head", "breathing": "in line with the head",
    "stripes": "stripes", "stripes on a slice": "stripes", "folded": "folded over", "noise": "noise alone",
}  # fmt: skip
# The limits of motion, stripes, folding and noise were set on these scans and on generated heads.
SET_ON = ("IXI012", "IXI013", "IXI014", "IXI015", "patient01")
SIZE = (256, 256, 170)  # voxels of 1 mm of the volume that is timed


def told_artefacts(paths: list[Path]) -> list[dict[str, Any]]:
    """A row for every head and every artefact drawn into it: what it is, and the notes; as many heads at once as there
    are processors."""
    rows = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for path, found in zip(paths, pool.map(_told_of, range(len(paths)), paths), strict=True):
            print(f"{path.name}: {sum(row['good'] for row in found)} of {len(found)} as they should be", flush=True)
            rows += found
    return rows


def _told_of(number: int, path: Path) -> list[dict[str, Any]]:
    """The rows of one head."""
    head, rows = Volume.load(path), []
    right = chain([("as it is", head)], right_variants(head))
    for kind, (name, volume) in chain((("right", case) for case in right), _wrong(head, number)):
        notes = list(artefacts(volume, prepare(volume)))
        good = not notes if kind == "right" else any(TOLD[kind] in note for note in notes)
        rows.append({"scan": head.name, "kind": kind, "name": name, "good": good, "warnings": notes})
    return rows


def counted(rows: list[dict[str, Any]]) -> list[str]:
    """How many of each kind were as they should be, as lines of a Markdown table."""
    lines = ["", "| artefact | told, or right and passed: where limits were set | others |", "|---|---|---|"]
    for kind in ("right", *TOLD):
        cells = []
        for known in (True, False):
            fit = [row["good"] for row in rows if row["kind"] == kind and row["scan"].startswith(SET_ON) == known]
            cells.append(f"{sum(fit)} of {len(fit)}")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    missed = [row for row in rows if not row["good"]]
    return lines + ["", *(f"- {row['scan']}, {row['name']}: {row['warnings'] or 'no note'}" for row in missed)]


def right_variants(head: Volume) -> Iterator[tuple[str, Volume]]:
    """Right scans of the same head."""
    voxels, random = np.maximum(head.array[0], 0), np.random.default_rng(7)
    for share in (0.03, 0.05, 0.09):
        noise = random.normal(0, share * float(np.percentile(voxels, 99)), (2, *voxels.shape))
        yield f"noise of {share}", _like(head, np.hypot(voxels + noise[0], noise[1]))
    spacing = head.spacing
    axis = int(np.argmin(spacing))
    yield "thick slices", _resampled(head, axis, max(4.0, 1.6 * spacing[axis]) / spacing[axis])
    yield "finer slices", _resampled(head, int(np.argmax(spacing)), 0.6)
    yield "cut", head.slab(1, int(0.3 * head.shape[1]), head.shape[1])
    yield "uneven", _like(head, head.array[0] * np.linspace(0.7, 1.3, head.shape[0])[:, None, None])
    weak = 1 + 0.02 * random.normal(0, 1, voxels.shape)  # the air of some scans is 0
    seen = np.exp(-0.8 * np.linspace(-1, 1, head.shape[2]) ** 2)
    yield "seen less towards its ends", _like(head, seen * np.hypot(voxels, weak * 0.01 * np.percentile(voxels, 99)))
    yield "oblique", _oblique(head)
    yield "without its face", _without_face(head)
    yield "its air set to 0", _like(head, np.where(voxels < 0.15 * np.percentile(voxels, 99), 0, voxels))


def _wrong(head: Volume, number: int) -> Iterator[tuple[str, tuple[str, Volume]]]:
    """Kind, name and volume of each artefact in this head, the axes in turn."""
    mask, drawn = prepare(head), _artefacts()
    places = np.argwhere(mask.mask) @ mask.grid.affine[:3, :3].T + mask.grid.affine[:3, 3]
    index = (places - head.affine[:3, 3]) @ np.linalg.inv(head.affine[:3, :3]).T
    for turn, kind in enumerate(TOLD):
        axis = (number + turn) % 3
        if kind in _LINE_BY_LINE:
            axis = measured_along(head, number + turn, kind == "folded")
        low, high = np.percentile(index[:, axis], [1, 99])
        middle = round(low + (0.35 + 0.3 * (number % 4) / 3) * (high - low))
        yield kind, (f"{kind} along axis {axis} at {middle}", drawn[kind](head, axis, middle))


_LINE_BY_LINE = ("motion", "one move", "breathing", "folded")


def _artefacts() -> dict[str, Callable[[Volume, int, int], Volume]]:
    return {
        "repeated": _repeated,
        "one darker": lambda head, axis, at: _times(head, axis, slice(at, at + 1), 0.75),
        "several darker": lambda head, axis, at: _times(head, axis, slice(at - 2, at + 3), 0.7),
        "every second darker": lambda head, axis, at: _times(head, axis, slice(None, None, 2), 0.8),
        "lost": lost,
        "ghost of 0.1": lambda head, axis, at: ghost(head, axis, 0.1),
        "ghost of 0.25": lambda head, axis, at: ghost(head, axis, 0.25),
        "motion": lambda head, axis, at: moved(head, axis, at, 4),
        "one move": lambda head, axis, at: moved(head, axis, at, 1),
        "breathing": lambda head, axis, at: to_and_fro(head, axis, at, 12),
        "stripes": lambda head, axis, at: striped(head, at, 0.05),
        "stripes on a slice": lambda head, axis, at: striped(head, at, 0.05, int(np.argmax(head.spacing))),
        "folded": lambda head, axis, at: folded(head, axis, 0.85),
        "noise": lambda head, axis, at: noise_alone(head, at),
    }


def lost(head: Volume, axis: int, at: int) -> Volume:
    """Without 20 mm of slices around one, the others moved together."""
    count = max(2, round(20 / head.spacing[axis]))
    first = at - count // 2
    return Volume(np.delete(head.array, range(first, first + count), axis + 1), head.affine, head.meta)


def ghost(head: Volume, axis: int, strength: float) -> Volume:
    """With a copy half of the field of view away."""
    return _like(head, head.array[0] + strength * np.roll(head.array[0], head.shape[axis] // 2, axis))


def _oblique(head: Volume) -> Volume:
    """On axes that lie otherwise by 17 degrees, with 0 where nothing was measured."""
    cosine, sine = np.cos(0.3), np.sin(0.3)
    affine = head.affine.copy()
    affine[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ head.affine[:3, :3]
    middle = (np.array(head.shape) - 1) / 2
    affine[:3, 3] += (head.affine[:3, :3] - affine[:3, :3]) @ middle
    grid = Grid((head.shape[0], head.shape[1], head.shape[2]), affine)
    return Volume(onto_grid(head.array[0], head.affine, grid)[None], affine, head.meta)


def _without_face(head: Volume) -> Volume:
    """With 0 in front of the brain, at the height of the face."""
    scan = prepare(head)
    places = np.argwhere(scan.mask) @ scan.grid.affine[:3, :3].T + scan.grid.affine[:3, 3]
    front, low = np.percentile(places[:, 1], 97), np.percentile(places[:, 2], 40)
    index = np.stack(np.meshgrid(*[np.arange(size) for size in head.shape], indexing="ij"))
    where = np.tensordot(head.affine[:3, :3], index, axes=1) + head.affine[:3, 3][:, None, None, None]
    return _like(head, np.where((where[1] > front) & (where[2] < low), 0, head.array[0]))


def _repeated(head: Volume, axis: int, at: int) -> Volume:
    voxels = head.array[0].copy()
    stack = np.moveaxis(voxels, axis, 0)
    stack[at + 1 : at + 4] = stack[at]
    return _like(head, voxels)


def _times(head: Volume, axis: int, slices: slice, factor: float) -> Volume:
    voxels = head.array[0].astype(np.float32)
    np.moveaxis(voxels, axis, 0)[slices] *= factor
    return _like(head, voxels)


def _resampled(head: Volume, axis: int, factor: float) -> Volume:
    """With slices so many times as thick along an axis."""
    voxels = head.array[0].astype(np.float32)
    smooth = gaussian_filter1d(voxels, 0.4 * (factor**2 - 1) ** 0.5, axis) if factor > 1 else voxels
    sizes, edges = [1.0, 1.0, 1.0], np.eye(4)
    sizes[axis], edges[axis, axis] = 1 / factor, factor
    return Volume(zoom(smooth, sizes, order=1)[None], head.affine @ edges, head.meta)


def _like(head: Volume, voxels: np.ndarray) -> Volume:
    return head.like(voxels.astype(np.float32)[None])


def speed(head: Volume, model: str) -> dict[str, Any]:
    """Seconds on the clock and of processors of `python -m MedAELib anomaly` for a head of 256 x 256 x 170 voxels of 1
    mm, reading and writing included, on the processors that this process may use."""
    voxels = zoom(head.array[0].astype(np.float32), head.spacing, order=1)
    begins = [max(0, (a - b) // 2) for a, b in zip(voxels.shape, SIZE, strict=True)]
    cut = voxels[tuple(slice(a, a + b) for a, b in zip(begins, SIZE, strict=True))]
    edges = [((b - a) // 2, b - a - (b - a) // 2) for a, b in zip(cut.shape, SIZE, strict=True)]
    affine = head.affine @ np.diag([*(1 / edge for edge in head.spacing), 1.0])
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "head.nii.gz", Path(folder) / "map.nii.gz"
        Volume(np.pad(cut, edges)[None], affine, {"name": "head", "modality": "MR"}).save(source)
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "MedAELib", "anomaly", str(source), str(result), "--model", model]
        subprocess.run([*command, "--device", "cpu"], check=True, cwd=Path(__file__).parents[2], capture_output=True)
        seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(seconds, 1), "cpu_seconds": round(spent, 1), "size": SIZE, "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)), "threads": os.environ.get("OMP_NUM_THREADS", "as many"),
    }  # fmt: skip


def _processor() -> str:
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
