"""Compressing and decoding from plain values to plain values: the .maez file, its figures, what was lost."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..codec.container import open_container, with_more
from ..codec.guidance import guidance, guidance_ratio
from ..codec.reader import read_volume
from ..codec.values import difference, span_of
from ..codec.volumes import Mode, compress_and_decode, largest_error, ratio_and_rate
from ..errors import BadInput
from ..modality import guess_modality
from ..quality import all_finite, ends, ssim
from ..volume import Volume
from .common import TaskResult, parameters_of
from .denoise import Allocate, Progress

_SLAB = 16  # slices at a time: SSIM needs eight times the voxels in double precision
_FAR = 1e4  # ranges from 0 at which the squares that SSIM is made of are exact enough
_REACH = 5  # voxels that SSIM's window reaches


@dataclass(frozen=True)
class Parameters:
    """What a user can set: the promise `mode` ("lossless", "max-error", "psnr", "ratio") with its `value`, and whether
    the difference (input minus what comes back) is wanted as a volume, `lost`. `window` and `level`, in grey values,
    say how the volume is shown (window 0: unknown)."""

    mode: str = "lossless"
    value: float = 0.0
    lost: bool = False
    window: float = 0.0
    level: float = 0.0


def run_compress(volume: Volume, parameters: Mapping[str, Any], progress: Progress, allocate: Allocate) -> TaskResult:
    """Compress a volume; `parameters` are those of `Parameters`, by name. The file is "latent" among the files.

    Raises BadInput for a promise that cannot be kept.
    """
    wanted, started = parameters_of(Parameters, parameters), time.monotonic()
    mode = Mode(wanted.mode, wanted.value)
    progress("Compressing", 0, 1)
    modality = guess_modality(volume)
    named = Volume(volume.array, volume.affine, {**volume.meta, "modality": modality})
    data, decoded = compress_and_decode(named, mode, progress)
    figures = _figures(volume, decoded, progress)
    data = _with_figures(data, volume, mode, figures, wanted)
    rates, header = ratio_and_rate(volume, len(data)), open_container(data, "The file").header
    model = header["model"]
    lossy = bool(figures["max_error"])
    warning = guidance(modality, guidance_ratio(rates["bits_per_voxel"])) if lossy else ""
    report = {
        "task": "compress", "input": volume.name, "mode": dict(header["mode"]), "modality": modality,
        "units": "HU" if modality == "CT" else "", "bytes": len(data), **rates, **figures, "model": model["name"],
        "model_sha256": model["sha256"], "versions": _versions(), "device": "cpu",
        "warnings": [warning] if warning else [], "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip
    outputs = {}
    if wanted.lost:
        lost = _difference(volume, decoded, allocate)
        outputs["lost"] = volume.like(lost, provenance=report)
    return TaskResult(outputs, report, {"latent": data})


def run_decompress(data: bytes, parameters: Mapping[str, Any], progress: Progress, allocate: Allocate) -> TaskResult:
    """Decode a .maez file into the volume "decoded"; there is nothing to set. Raises BadInput, BadModel."""
    if parameters:
        raise BadInput(f"The parameter {next(iter(parameters))!r} is not known.")
    started = time.monotonic()
    progress("Decoding", 0, 1)
    container = open_container(data, "The compressed volume")
    container.check_whole()
    volume = read_volume(container, progress=progress)
    room = allocate("decoded", volume.array.shape, volume.array.dtype)
    room[...] = volume.array
    told = container.header["model"]
    report = {
        "task": "decompress", "mode": dict(container.header["mode"]), "model": told["name"],
        "model_sha256": told["sha256"], "versions": _versions(), "device": "cpu", "warnings": [],
        "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip
    return TaskResult({"decoded": volume.like(room)}, report)


def _with_figures(
    data: bytes, volume: Volume, mode: Mode, figures: Mapping[str, float | None], wanted: Parameters
) -> bytes:
    """The file with what was measured and how it is shown in its header; as it was where that breaks a ratio."""
    shown = {"display": {"window": wanted.window, "level": wanted.level}} if wanted.window > 0 else {}
    told = with_more(data, figures=dict(figures), **shown)
    return data if mode.kind == "ratio" and volume.array.nbytes < mode.value * len(told) else told


def _figures(before: Volume, after: Volume, progress: Progress) -> dict[str, float | None]:
    """PSNR (dB over the volume's range), SSIM and the largest error in grey values; PSNR is None where all is equal.

    PSNR and SSIM are over the finite voxels and their range. They are None where they are no numbers: SSIM where there
    are voxels that are not finite, both where nothing varies.
    """
    error = largest_error(before.array, after.array)
    if error == 0:
        return {"psnr": None, "ssim": 1.0, "max_error": 0.0}
    span, slices = _finite_span(before.array), before.shape[2]
    if not 0 < span < math.inf:
        return {"psnr": None, "ssim": None, "max_error": error}
    squares = similarity = 0.0
    voxels, whole = 0, all_finite(before.array)
    for start in range(0, slices, _SLAB):
        progress("Measuring what was lost", start, slices)
        stop = min(start + _SLAB, slices)
        first, last = max(start - _REACH, 0), min(stop + _REACH, slices)
        for one, other in zip(before.array[..., first:last], after.array[..., first:last], strict=True):
            core = np.zeros(one.shape, bool)
            core[..., start - first : stop - first] = True
            if whole:
                similarity += _similarity(one, other, span, core) * (stop - start)
            known = core & np.isfinite(one)
            squares += float(np.sum((difference(one[known], other[known]) / span) ** 2))
            voxels += int(known.sum())
    decibels = -10 * math.log10(squares / voxels) if squares > 0 else None
    return {"psnr": decibels, "ssim": similarity / (slices * before.channels) if whole else None, "max_error": error}


def _finite_span(array: Any) -> float:
    """The largest finite value less the smallest, without overflow of integers; 0 where there is none."""
    if all_finite(array):
        return span_of(array)
    low, high = ends(array)
    return high - low if high > low else 0.0


def _similarity(one: Any, other: Any, span: float, core: Any) -> float:
    """SSIM of two channels within `core`, in parts of the range, so that no square is too large or too small.

    Of values that lie far beyond their own range, as 64-bit integers may, what they have in common is left out.
    """
    lowest = one.min()
    if abs(float(lowest)) > _FAR * span:
        parts = [difference(np.full_like(one, lowest), some) / span for some in (one, other)]
    else:
        parts = [some.astype(np.float64) / span for some in (one, other)]
    return ssim(parts[0], parts[1], 1.0, core)


def _difference(before: Volume, after: Volume, allocate: Allocate) -> Any:
    """Input minus what comes back: 16 bits where these hold it, else floats; 0 where the same bits came back."""
    error, limits = largest_error(before.array, after.array), np.finfo(np.float32)
    small = error == 0 or float(limits.tiny) <= error <= float(limits.max)
    dtype: np.dtype[Any] = np.dtype(np.float32 if small else np.float64)
    if before.array.dtype.kind in "iub" and error <= np.iinfo(np.int16).max:
        dtype = np.dtype(np.int16)
    lost = allocate("lost", before.array.shape, dtype)
    bits = f"u{before.array.dtype.itemsize}"
    for k in range(before.shape[2]):
        one, other = (np.ascontiguousarray(volume.array[..., k]) for volume in (before, after))
        with np.errstate(invalid="ignore", over="ignore"):
            lost[..., k] = np.where(one.view(bits) == other.view(bits), 0, difference(other, one)).astype(dtype)
    return lost


def _versions() -> dict[str, str]:
    return {"medae": __version__, "python": platform.python_version(), "numpy": np.__version__}
