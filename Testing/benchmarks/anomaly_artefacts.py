"""Artefacts drawn into right brains, and whether the notes of the anomaly task tell them; the seconds of a whole run.

Each right head gets each artefact along one of its own axes, in turn. They are as strong as a reader would plainly see:
a copy of one slice in the place of three, a slice of 0.75 times the brightness, five of 0.7, every second of 0.8, 20 mm
of slices lost from the brain (two at least), a ghost by half of the field of view of 0.1 and 0.25, and four moves by up
to 5 degrees and 5 mm while k-space is filled; one such move alone may hardly be seen. Beside each head as it is there
are right ones: with noise, thick slices, finer ones, cut, uneven, and with their air set to 0.
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
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter1d, zoom
from scipy.spatial.transform import Rotation

from MedAELib.anomaly.artefacts import artefacts
from MedAELib.anomaly.prepare import prepare
from MedAELib.volume import Volume

# Kinds of artefacts, and words of the note that tells each.
TOLD = {
    "repeated": "repeats slices", "one darker": "brightness", "several darker": "brightness",
    "every second darker": "brightness", "lost": "jumps", "ghost of 0.1": "half of the field", "ghost of 0.25": "half",
    "motion": "in line with the head", "one move": "in line with the head",
}  # fmt: skip
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
    right = [("as it is", head), *right_variants(head)]
    for kind, (name, volume) in [*(("right", case) for case in right), *_wrong(head, number)]:
        notes = list(artefacts(volume, prepare(volume)))
        good = not notes if kind == "right" else any(TOLD[kind] in note for note in notes)
        rows.append({"scan": head.name, "kind": kind, "name": name, "good": good, "warnings": notes})
    return rows


def counted(rows: list[dict[str, Any]]) -> list[str]:
    """How many of each kind were as they should be, as lines of a Markdown table."""
    lines = ["", "| artefact | told by its note, or right and passed |", "|---|---|"]
    for kind in ("right", *TOLD):
        fit = [row["good"] for row in rows if row["kind"] == kind]
        lines.append(f"| {kind} | {sum(fit)} of {len(fit)} |")
    missed = [row for row in rows if not row["good"]]
    return lines + ["", *(f"- {row['scan']}, {row['name']}: {row['warnings'] or 'no note'}" for row in missed)]


def right_variants(head: Volume) -> Iterator[tuple[str, Volume]]:
    """Right scans of the same head."""
    voxels, random = np.maximum(head.array[0], 0), np.random.default_rng(7)
    deviation = 0.05 * float(np.percentile(voxels, 99))
    noise = random.normal(0, deviation, (2, *voxels.shape))
    yield "noisy", _like(head, np.hypot(voxels + noise[0], noise[1]))
    spacing = head.spacing
    axis = int(np.argmin(spacing))
    yield "thick slices", _resampled(head, axis, max(4.0, 1.6 * spacing[axis]) / spacing[axis])
    yield "finer slices", _resampled(head, int(np.argmax(spacing)), 0.6)
    yield "cut", head.slab(1, int(0.3 * head.shape[1]), head.shape[1])
    yield "uneven", _like(head, head.array[0] * np.linspace(0.7, 1.3, head.shape[0])[:, None, None])
    yield "its air set to 0", _like(head, np.where(voxels < 0.15 * np.percentile(voxels, 99), 0, voxels))


def _wrong(head: Volume, number: int) -> Iterator[tuple[str, tuple[str, Volume]]]:
    """Kind, name and volume of each artefact in this head, the axes in turn."""
    mask, drawn = prepare(head), _artefacts()
    places = np.argwhere(mask.mask) @ mask.grid.affine[:3, :3].T + mask.grid.affine[:3, 3]
    index = (places - head.affine[:3, 3]) @ np.linalg.inv(head.affine[:3, :3]).T
    for turn, kind in enumerate(TOLD):
        axis = (number + turn) % 3
        low, high = np.percentile(index[:, axis], [1, 99])
        middle = round(low + (0.35 + 0.3 * (number % 4) / 3) * (high - low))
        yield kind, (f"{kind} along axis {axis} at {middle}", drawn[kind](head, axis, middle))


def _artefacts() -> dict[str, Callable[[Volume, int, int], Volume]]:
    return {
        "repeated": _repeated,
        "one darker": lambda head, axis, at: _times(head, axis, slice(at, at + 1), 0.75),
        "several darker": lambda head, axis, at: _times(head, axis, slice(at - 2, at + 3), 0.7),
        "every second darker": lambda head, axis, at: _times(head, axis, slice(None, None, 2), 0.8),
        "lost": lost,
        "ghost of 0.1": lambda head, axis, at: ghost(head, axis, 0.1),
        "ghost of 0.25": lambda head, axis, at: ghost(head, axis, 0.25),
        "motion": lambda head, axis, at: motion(head, axis, at, 4),
        "one move": lambda head, axis, at: motion(head, axis, at, 1),
    }


def lost(head: Volume, axis: int, at: int) -> Volume:
    """Without 20 mm of slices around one, the others moved together."""
    count = max(2, round(20 / head.spacing[axis]))
    first = at - count // 2
    return Volume(np.delete(head.array, range(first, first + count), axis + 1), head.affine, head.meta)


def ghost(head: Volume, axis: int, strength: float) -> Volume:
    """With a copy half of the field of view away."""
    return _like(head, head.array[0] + strength * np.roll(head.array[0], head.shape[axis] // 2, axis))


def motion(head: Volume, axis: int, seed: int, moves: int) -> Volume:
    """As of a head that moved while k-space was filled along an axis, line by line."""
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, head.shape[axis], moves))
    seen = np.zeros(head.shape, np.complex64)
    for turn, part in enumerate(np.split(np.arange(head.shape[axis]), times)):
        place = head.array[0] if turn == 0 else _moved(head, random)
        lines = np.fft.fftshift(np.fft.fft(place, axis=axis), axes=axis)
        np.moveaxis(seen, axis, 0)[part] = np.moveaxis(lines, axis, 0)[part]
    return _like(head, np.abs(np.fft.ifft(np.fft.ifftshift(seen, axes=axis), axis=axis)))


def _moved(head: Volume, random: np.random.Generator) -> np.ndarray:
    """The voxels after a move by up to 5 degrees about each axis and 5 mm along each."""
    turn = Rotation.from_euler("xyz", random.uniform(-5, 5, 3), degrees=True).as_matrix()
    edges = np.diag(head.spacing)
    inside = np.linalg.inv(edges) @ turn @ edges
    middle = (np.array(head.shape) - 1) / 2
    shift = middle - inside @ middle + random.uniform(-5, 5, 3) / head.spacing
    return np.asarray(affine_transform(head.array[0].astype(np.float32), inside, shift, order=1))


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
