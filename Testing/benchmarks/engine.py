"""What the engine costs beyond the bare network, and how much memory it takes: side by side, with warm-up.

    python Testing/benchmarks/engine.py [--size 512 512 300] [--model ct-denoise] [--repeats 3] [--json FILE]
    python Testing/benchmarks/engine.py --memory [--size 1024 1024 1000] [--tile 128] [--minutes M]

The first form runs the same network on the same generated CT volume in turns: bare (one forward pass of the whole
volume, from the first voxel's conversion to the last voxel's rounding) and through the denoise task with automatic
tiles. The second runs the task once from a memory-mapped file into a memory-mapped file and prints the peak of the
memory that is neither. With --minutes it is cancelled then, and the row says what share of the volume was done.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from MedAELib import Model, Volume, denoise
from MedAELib.engine.device import choose_device, choose_precision, devices
from MedAELib.engine.run import Engine, bytes_per_voxel
from MedAELib.errors import Cancelled
from MedAELib.quality import limits


def generated_ct(shape: tuple[int, int, int], out: np.ndarray | None = None) -> np.ndarray:
    """Body, bone and lung ellipsoids in air with noise, int16 Hounsfield units `[1, i, j, k]`, made slice by slice."""
    rng = np.random.default_rng(0)
    array = np.empty((1, *shape), np.int16) if out is None else out
    i, j = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    radius = i**2 + (j / 0.8) ** 2
    for k in range(shape[2]):
        slice_ = np.where(radius < 0.8, 40.0, -1000.0)
        slice_[(np.abs(i) - 0.35) ** 2 + (j / 0.9) ** 2 < 0.06 + 0.02 * np.sin(k / 20)] = -850
        slice_[i**2 + (j - 0.55) ** 2 < 0.01] = 600
        array[0, :, :, k] = np.rint(slice_ + rng.normal(0, 25, slice_.shape))
    return array


def bare(model: Model, array: np.ndarray, engine: Engine) -> np.ndarray:
    """The network on the whole volume, as its author would call it."""
    low, high = limits(model.spec.window, array[0])
    size, step = array.shape[1:], model.network.stride
    x = torch.from_numpy(array[0]).to(engine.torch_device).float().sub_(low).div_(high - low)[None, None]
    padding = [amount for n in reversed(size) for amount in (0, -n % step)]
    x = torch.nn.functional.pad(x, padding, mode="replicate").contiguous(memory_format=torch.channels_last_3d)
    autocast = torch.autocast(engine.torch_device.type, engine.dtype, enabled=engine.dtype != torch.float32)
    with torch.inference_mode(), autocast:
        y = model.network(x)[0, 0, : size[0], : size[1], : size[2]]
        y = y.float().mul_(high - low).add_(low).round_().clamp_(-32768, 32767)
        return y.to(torch.int16).cpu().numpy()


def compare(model: Model, array: np.ndarray, precision: str, repeats: int) -> dict[str, object]:
    """Seconds of both ways in turns; the medians, their ratio, and how far the results are apart."""
    engine = Engine(precision=precision)
    volume = Volume(array, np.diag([0.7, 0.7, 1, 1]), {"modality": "CT"})
    model.network.to(engine.torch_device, memory_format=torch.channels_last_3d)
    ways = {
        "bare": lambda: bare(model, array, engine),
        "engine": lambda: denoise(volume, model, engine=engine, passes=1).array[0],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, np.ndarray] = {}
    for turn in range(repeats + 1):  # the first is the warm-up
        for name, way in ways.items():
            start = time.perf_counter()
            results[name] = way()
            if turn:
                times[name].append(time.perf_counter() - start)
    middle = {name: median(values) for name, values in times.items()}
    return {
        "precision": str(engine.dtype).removeprefix("torch."),
        "tile": engine.used["tile"],
        "tiles": engine.used["tiles"],
        "bare_seconds": round(middle["bare"], 2),
        "engine_seconds": round(middle["engine"], 2),
        "ratio": round(middle["engine"] / middle["bare"], 3),
        "all_ratios": [round(e / b, 3) for e, b in zip(times["engine"], times["bare"], strict=True)],
        "largest_difference": int(np.abs(results["engine"].astype(np.int32) - results["bare"]).max()),
    }


class PeakMemory:
    """The peak of this process's own memory (anonymous pages: no mapped files), sampled 50 times a second. Linux."""

    def __enter__(self) -> PeakMemory:
        self.start = self.peak = self._now()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.ended.wait(0.02):
            self.peak = max(self.peak, self._now())

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _now(self) -> int:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) * 1024


class Clock:
    """Progress of a run that is cancelled after some minutes; keeps how far it came."""

    def __init__(self, minutes: float | None) -> None:
        self.deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        self.done = self.total = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.done, self.total = done, total
        if time.monotonic() > self.deadline:
            raise Cancelled


def memory(model: Model, shape: tuple[int, int, int], tile: int, minutes: float | None) -> dict[str, object]:
    """Peak memory beyond the mapped input and output files of one run."""
    with tempfile.TemporaryDirectory() as folder:
        source = np.lib.format.open_memmap(f"{folder}/in.npy", "w+", np.int16, (1, *shape), fortran_order=True)
        generated_ct(shape, source)
        source.flush()
        volume = Volume(np.load(f"{folder}/in.npy", mmap_mode="r"), np.eye(4), {"modality": "CT"})
        engine = Engine(tile=tile)

        def allocate(name: str, size: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
            return np.lib.format.open_memmap(f"{folder}/{name}.npy", "w+", dtype, size, fortran_order=True)

        start, clock = time.perf_counter(), Clock(minutes)
        with PeakMemory() as peak, contextlib.suppress(Cancelled):
            denoise(volume, model, engine=engine, allocate=allocate, progress=clock, passes=1)
        seconds = time.perf_counter() - start
    edges = [min(edge + 2 * model.network.halo, n) for edge, n in zip(engine.used["tile"], shape, strict=True)]
    return {
        "size": list(shape),
        "tile": engine.used["tile"],
        "tiles": engine.used["tiles"],
        "share_done": round(clock.done / max(1, clock.total), 4),
        "seconds": round(seconds, 1),
        "volume_gib": round(float(np.prod(shape)) * 2 / 2**30, 2),
        "peak_mib": (peak.peak - peak.start) >> 20,
        "foreseen_mib": int(bytes_per_voxel(model.network) * np.prod(edges)) >> 20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=None)
    parser.add_argument("--model", default="ct-denoise")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", nargs="*", default=["float32", "auto"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = Model.load(options.model)
    if options.memory:
        rows = [memory(model, tuple(options.size or (1024, 1024, 1000)), options.tile, options.minutes)]
    else:
        array = generated_ct(tuple(options.size or (512, 512, 300)))
        device = choose_device()
        wanted = {str(choose_precision(p, device)): p for p in options.precision}
        rows = [compare(model, array, precision, options.repeats) for precision in wanted.values()]
    print(f"{model.bundle.name} on {devices()[0].title}, torch {torch.__version__}")
    for row in rows:
        print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps({"device": devices()[0].title, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
