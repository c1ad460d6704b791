"""BD-rates of lossy files beside those of other codecs: a part of `compress.py`. Points can be kept in a file."""

from __future__ import annotations

import copyreg
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.compress_peers import Lossy
from benchmarks.costs import Cost, here, measured
from scipy.interpolate import PchipInterpolator

from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress
from MedAELib.quality import psnr
from MedAELib.volume import Volume

REFERENCE, OURS = "JPEG 2000", "MedAE"
WAYS = ("encode", "decode")
CPU, MEMORY = "cpu_seconds_per_million", "megabytes_per_million"
# of one codec at one quality: "psnr", "bits" per voxel, and what a million voxels cost to "encode" and to "decode"
Point = dict
Measure = Callable[[Volume, float], Point]
Curve = list[tuple[float, float]]

# a volume's meta cannot be changed, and what cannot is not sent to another process by itself
copyreg.pickle(Volume, lambda volume: (Volume, (volume.array, volume.affine, dict(volume.meta))))


class Points:
    """What was measured of each scan, codec and quality; kept in a file, where one is named, and not measured again.

    The file knows no settings and no version: after a change of a codec it is for a new file.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._kept: dict[str, Point] = _points_in(file) if file and file.is_file() else {}

    def of(
        self, volume: Volume, codec: str, decibels: Sequence[float], measure: Callable[[list[float]], list[Point]]
    ) -> list[Point]:
        """The points that were kept, and those that are measured now, together."""
        size = " x ".join(map(str, volume.shape))
        names = {f"{volume.name}, {size}: {codec}, {wanted:g} dB": wanted for wanted in decibels}
        missing = {name: wanted for name, wanted in names.items() if name not in self._kept}
        if missing:
            self._kept |= zip(missing, measure([*missing.values()]), strict=True)
            if self._file:
                self._file.write_text(json.dumps(self._kept, indent=1))
        return [self._kept[name] for name in names]


def _points_in(file: Path) -> dict[str, Point]:
    """The points that a file holds; ends the program with a sentence where it is none of this form."""
    try:
        points = json.loads(file.read_text())
        for point in points.values():
            needed = [point["psnr"], point["bits"], *(point[way][cost] for way in WAYS for cost in (CPU, MEMORY))]
            if not all(isinstance(number, (int, float)) for number in needed):
                raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        sys.exit(f"{file} holds no rows of this form of the benchmark, perhaps of an older one. Name a new file.")
    return dict(points)


def ours(volume: Volume, mode: Mode) -> tuple[float, Cost, Cost, np.ndarray]:
    """Bits per voxel of a .maez file; what encoding with its check and decoding take; the voxels."""
    with measured() as encoding:
        data = compress(volume, mode)
    with measured() as decoding:
        again = decompress(data).array
    return 8 * len(data) / volume.array.size, encoding, decoding, again


def lossy(
    volumes: Sequence[Volume], decibels: Sequence[float], peers: Mapping[str, Lossy], points: Points,
    run: Callable[..., list[Point]] = here,
) -> dict[str, dict[str, Curve]]:  # fmt: skip
    """One line of JSON a scan: BD-rates against JPEG 2000 on slices, and of MedAE against each other codec, over the
    PSNR that both reach, and what each costs. `run` calls what measures a codec, perhaps in a process of its own.

    Returns the curve of each scan and codec.
    """
    measures: dict[str, Measure] = {name: partial(_point, codec=codec) for name, codec in peers.items()}
    measures[OURS] = _our_point
    curves = {}
    for volume in volumes:
        found = {
            name: points.of(volume, name, decibels, partial(run, measure_all, measure, volume))
            for name, measure in measures.items()
        }
        curves[volume.name] = {name: _curve(some) for name, some in found.items()}
        print(json.dumps({"scan": volume.name, **told(found)}, allow_nan=False), flush=True)
    return curves


def measure_all(measure: Measure, volume: Volume, decibels: Sequence[float]) -> list[Point]:
    """What a codec gives at each quality."""
    return [measure(volume, wanted) for wanted in decibels]


def _curve(some: Sequence[Point]) -> Curve:
    return [(point["psnr"], point["bits"]) for point in some]


def told(found: Mapping[str, Sequence[Point]]) -> dict[str, object]:
    """What the points of each codec say."""
    curves = {name: _curve(some) for name, some in found.items()}
    costs = {way: {name: means([point[way] for point in some]) for name, some in found.items()} for way in WAYS}
    return {
        "against_jpeg_2000_percent": {n: _known(bd_rate(curves[REFERENCE], c), 1) for n, c in curves.items()},
        "medae_against_percent": {n: _known(bd_rate(c, curves[OURS]), 1) for n, c in curves.items() if n != OURS},
        **{name: [[_known(x, 2), round(y, 4)] for x, y in curve] for name, curve in curves.items()},
        **{f"{way}_cpu_seconds_per_million_voxels": {n: round(mean[CPU], 2) for n, mean in costs[way].items()}
           for way in WAYS},
        **{f"{way}_megabytes_per_million_voxels": {n: round(mean[MEMORY]) for n, mean in costs[way].items()}
           for way in WAYS},
    }  # fmt: skip


def _known(figure: float, digits: int) -> float | None:
    """A figure, rounded; none where it is no number, as where two curves have no PSNR in common."""
    return round(figure, digits) if math.isfinite(figure) else None


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
    with measured() as encoding:
        coded, decode = codec(whole, wanted)
    with measured() as decoding:
        again = decode()
    return {
        "psnr": psnr(whole, again, float(np.ptp(whole))),
        "bits": 8 * coded / whole.size,
        "encode": encoding.per_million(whole.size),
        "decode": decoding.per_million(whole.size),
    }


def _our_point(volume: Volume, wanted: float) -> Point:
    size, encoding, decoding, mine = ours(volume, Mode("psnr", wanted))
    return {
        "psnr": psnr(volume.array, mine, float(np.ptp(volume.array.astype(np.int64)))),
        "bits": size,
        "encode": encoding.per_million(volume.array.size),
        "decode": decoding.per_million(volume.array.size),
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
