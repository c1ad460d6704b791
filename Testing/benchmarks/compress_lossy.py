"""BD-rates of lossy files beside those of other codecs: a part of `compress.py`. Points can be kept in a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.compress_peers import OTHER_PROGRAMS, Lossy
from benchmarks.costs import Cost, measured
from scipy.interpolate import PchipInterpolator

from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress
from MedAELib.quality import psnr
from MedAELib.volume import Volume

REFERENCE, OURS = "JPEG 2000", "MedAE"
DECODING = "MedAE, decoding"
CPU, MEMORY = "cpu_seconds_per_million", "megabytes_per_million"
# of one codec at one quality: "psnr", "bits" per voxel, and what a million voxels cost: both ways "costs", and of MedAE
# alone "decoding"
Point = dict
Curve = list[tuple[float, float]]


class Points:
    """What was measured of each scan, codec and quality; kept in a file, where one is named, and not measured again.

    The file knows no settings and no version: after a change of a codec it is for a new file.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._kept: dict[str, Point] = json.loads(file.read_text()) if file and file.is_file() else {}

    def of(self, volume: Volume, codec: str, wanted: float, measure: Callable[[], Point]) -> Point:
        """The point that was kept, or else what is measured now."""
        size = " x ".join(map(str, volume.shape))
        name = f"{volume.name}, {size}: {codec}, {wanted:g} dB"
        if name not in self._kept:
            self._kept[name] = measure()
            if self._file:
                self._file.write_text(json.dumps(self._kept, indent=1))
        return self._kept[name]


def ours(volume: Volume, mode: Mode) -> tuple[float, Cost, Cost, np.ndarray]:
    """Bits per voxel of a .maez file; what encoding with its check and decoding take; the voxels."""
    with measured() as encoding:
        data = compress(volume, mode)
    with measured() as decoding:
        again = decompress(data).array
    return 8 * len(data) / volume.array.size, encoding, decoding, again


def lossy(volumes: Sequence[Volume], decibels: Sequence[float], peers: Mapping[str, Lossy], points: Points) -> None:
    """One line of JSON a scan: BD-rates against JPEG 2000 on slices, and of MedAE against each other codec, over the
    PSNR that both reach."""
    measures = {name: partial(_point, codec=codec) for name, codec in peers.items()} | {OURS: _our_point}
    for volume in volumes:
        found = {
            name: [points.of(volume, name, wanted, partial(measure, volume, wanted=wanted)) for wanted in decibels]
            for name, measure in measures.items()
        }
        print(json.dumps({"scan": volume.name, **told(found)}), flush=True)


def told(found: Mapping[str, Sequence[Point]]) -> dict[str, object]:
    """What the points of each codec say."""
    curves = {name: [(point["psnr"], point["bits"]) for point in some] for name, some in found.items()}
    costs = {name: [point["costs"] for point in some] for name, some in found.items() if name not in OTHER_PROGRAMS}
    costs[DECODING] = [point["decoding"] for point in found[OURS]]
    taken = {name: means(some) for name, some in costs.items()}
    return {
        "against_jpeg_2000_percent": {n: round(bd_rate(curves[REFERENCE], c), 1) for n, c in curves.items()},
        "medae_against_percent": {n: round(bd_rate(c, curves[OURS]), 1) for n, c in curves.items() if n != OURS},
        **{name: [[round(x, 2), round(y, 4)] for x, y in curve] for name, curve in curves.items()},
        "seconds_per_million_voxels": {name: round(mean[CPU], 2) for name, mean in taken.items()},
        "megabytes_per_million_voxels": {name: round(mean[MEMORY]) for name, mean in taken.items()},
    }


def chosen_peers(installed: Mapping[str, Lossy], names: Sequence[str]) -> dict[str, Lossy]:
    """The named ones (none named: all) and the reference."""
    missing = [name for name in (REFERENCE, *names) if name not in installed]
    if missing:
        sys.exit(f"{' and '.join(missing)} cannot be run here; see Testing/benchmarks/requirements.txt.")
    return {name: codec for name, codec in installed.items() if not names or name in (REFERENCE, *names)}


def means(costs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure."""
    return {name: float(np.mean([cost[name] for cost in costs])) for name in costs[0]}


def _point(volume: Volume, wanted: float, codec: Lossy) -> Point:
    whole = volume.array[0].astype(np.int64) - int(volume.array.min())
    with measured() as cost:
        coded, again = codec(whole, wanted)
    quality = psnr(whole, again, float(np.ptp(whole)))
    return {"psnr": quality, "bits": 8 * coded / whole.size, "costs": cost.per_million(whole.size)}


def _our_point(volume: Volume, wanted: float) -> Point:
    size, encoding, decoding, mine = ours(volume, Mode("psnr", wanted))
    return {
        "psnr": psnr(volume.array, mine, float(np.ptp(volume.array.astype(np.int64)))),
        "bits": size,
        "costs": (encoding + decoding).per_million(volume.array.size),
        "decoding": decoding.per_million(volume.array.size),
    }


def bd_rate(reference: Curve, other: Curve) -> float:
    """Mean difference of the rates in percent over the common range of PSNR (Bjontegaard, monotone interpolation)."""
    curves = [_rising(reference), _rising(other)]
    low, high = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    if high <= low:
        return float("nan")
    grid = np.linspace(low, high, 200)
    logs = [PchipInterpolator([p for p, _ in curve], [np.log(r) for _, r in curve])(grid) for curve in curves]
    return float(100 * (np.exp(np.mean(logs[1] - logs[0])) - 1))


def _rising(curve: Curve) -> Curve:
    """Sorted by PSNR, without points that cost more and give no more."""
    kept: Curve = []
    for point in sorted(curve, key=lambda point: point[1]):
        if not kept or point[0] > kept[-1][0]:
            kept.append(point)
    return kept
