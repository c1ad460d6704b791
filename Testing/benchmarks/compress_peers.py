"""The lossy codecs beside which `compress.py` sets MedAE: on slices, on volumes, and of video with slices as frames.

They come from imagecodecs, PyAV and imageio-ffmpeg (Testing/benchmarks/requirements.txt); each that is missing is left
out.
"""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from MedAELib.quality import psnr

os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder says nothing but errors

try:
    import imagecodecs
except ImportError:
    imagecodecs = None
try:
    import av
except ImportError:
    av = None
try:
    import imageio_ffmpeg
except ImportError:
    imageio_ffmpeg = None

# of a volume [i, j, k] of whole numbers from 0 and a wanted PSNR: bytes, and the volume that comes back
Lossy = Callable[[np.ndarray, float], tuple[int, np.ndarray]]
OTHER_PROGRAMS = ("VVC",)  # what these take is not counted in this process
_SMALLEST, _MULTIPLE = 64, 8  # of a video's frame
_AV1_RATES, _DECIBELS_A_STEP, _TRIES, _NEAR = (1, 63), 0.6, 5, 0.5

# PSNR is measured, so each encoder of video is set for PSNR: what spends bits for the eye is off.
X265_FOR_PSNR = "psy-rd=0:psy-rdoq=0:aq-mode=0"  # what x265's tune psnr does
SVT_FOR_PSNR = "tune=1:enable-variance-boost=0"
VVENC_FOR_PSNR = ("-qpa", "0")  # FFmpeg turns the adaptation of steps for the eye on otherwise


def lossy_peers() -> dict[str, Lossy]:
    """What is installed, by name; JPEG 2000 on slices is what the others are measured against."""
    found: dict[str, Lossy] = {}
    if imagecodecs is not None:
        found |= {"JPEG 2000": jpeg_2000, "SPERR": sperr, "SZ3": sz3, "ZFP": zfp}
    if av is not None:
        found |= {"HEVC": hevc, "HEVC slower": partial(hevc, preset="slower"), "AV1": av1}
    if imageio_ffmpeg is not None and " libvvenc " in _ffmpeg(["-encoders"]).decode():
        found["VVC"] = vvc
    return found


def jpeg_2000(voxels: np.ndarray, decibels: float) -> tuple[int, np.ndarray]:
    """The irreversible 9/7 transform, slice by slice."""
    level = decibels + 20 * np.log10(65535 / np.ptp(voxels))  # of the codec, whose range is 16 bits
    slices = [np.ascontiguousarray(part).astype(np.uint16) for part in np.moveaxis(voxels, 2, 0)]
    coded = [imagecodecs.jpeg2k_encode(part, level=level, reversible=False) for part in slices]
    return sum(map(len, coded)), np.stack([imagecodecs.jpeg2k_decode(part) for part in coded], axis=-1)


def sperr(voxels: np.ndarray, decibels: float) -> tuple[int, np.ndarray]:
    """SPERR's wavelets in three dimensions, in its mode for a PSNR."""
    coded = imagecodecs.sperr_encode(_slices_first(voxels), decibels, mode="psnr")
    return len(coded), np.moveaxis(imagecodecs.sperr_decode(coded), 0, 2)


def sperr_bounded(voxels: np.ndarray, bound: float) -> int:
    """Bytes of SPERR with a bound on every voxel; whole numbers can take half of one more."""
    return len(imagecodecs.sperr_encode(_slices_first(voxels), bound + 0.499, mode="pwe"))


def sz3(voxels: np.ndarray, decibels: float) -> tuple[int, np.ndarray]:
    """SZ3 with the bound whose uniform errors would have that PSNR."""
    bound = _deviation(voxels, decibels) * 3**0.5
    coded = imagecodecs.sz3_encode(voxels.astype(np.float32), mode="abs", abs=bound)
    return len(coded), imagecodecs.sz3_decode(coded, voxels.shape, np.float32)


def zfp(voxels: np.ndarray, decibels: float) -> tuple[int, np.ndarray]:
    """ZFP with a tolerance; its errors are far smaller than that."""
    coded = imagecodecs.zfp_encode(voxels.astype(np.float32), _deviation(voxels, decibels) * 50, mode="a")
    return len(coded), imagecodecs.zfp_decode(coded)


def hevc(voxels: np.ndarray, decibels: float, preset: str = "medium") -> tuple[int, np.ndarray]:
    """x265, 12 bits."""
    rate = np.clip(27 - 1.5 * (decibels - 36), 0, 51)  # roughly that of the wanted PSNR
    settings = f"crf={rate:.1f}:{X265_FOR_PSNR}:log-level=none:pools=1:frame-threads=1"
    options = {"preset": preset, "x265-params": settings}
    return _video(voxels, "libx265", "gray12le", 12, options)


def av1(voxels: np.ndarray, decibels: float) -> tuple[int, np.ndarray]:
    """SVT-AV1, preset 4, 10 bits (it has no more); the setting is sought: what it gives differs much between scans."""
    missed: dict[int, float] = {}
    found: dict[int, tuple[int, np.ndarray]] = {}
    rate = int(np.clip(41 - 2.75 * (decibels - 36), *_AV1_RATES))  # roughly that of the wanted PSNR
    while rate not in found and len(found) < _TRIES and min(map(abs, missed.values()), default=_NEAR) >= _NEAR:
        options = {"preset": "4", "crf": f"{rate}", "svtav1-params": f"{SVT_FOR_PSNR}:lp=1"}
        found[rate] = _video(voxels, "libsvtav1", "yuv420p10le", 10, options)
        missed[rate] = psnr(voxels, found[rate][1], float(np.ptp(voxels))) - decibels
        rate = next_rate(missed)
    return found[min(found, key=lambda tried: abs(missed[tried]))]


def next_rate(missed: dict[int, float]) -> int:
    """Where to try next, of settings whose PSNR falls as they grow, after the last one of those that were tried, with
    the decibels by which they are too good; one that was tried, where nothing nearer is left."""
    finer = [rate for rate, more in missed.items() if more >= 0]
    coarser = [rate for rate, more in missed.items() if more < 0]
    if finer and coarser:
        low, high = max(finer), min(coarser)
        share = missed[low] / (missed[low] - missed[high])
        return min(max(low + round(share * (high - low)), low + 1), high - 1) if high - low > 1 else low
    last = next(reversed(missed))
    step = round(missed[last] / _DECIBELS_A_STEP) or (1 if missed[last] >= 0 else -1)
    return int(np.clip(last + step, *_AV1_RATES))


def vvc(voxels: np.ndarray, decibels: float) -> tuple[int, np.ndarray]:
    """VVenC, preset faster, 10 bits (it has no more)."""
    rate = int(np.clip(31 - 1.3 * (decibels - 36), 0, 63))  # roughly that of the wanted PSNR
    frames, scale = _frames(voxels, 10)
    count, rows, columns = frames.shape
    grey = np.full((count, rows // 2 * columns), 1 << 9, np.uint16)  # two colours of a quarter of the size each
    whole = np.concatenate([frames.reshape(count, -1), grey], axis=1)
    pixels = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le"]
    coding = ["-c:v", "libvvenc", "-preset", "faster", "-qp", f"{rate}", *VVENC_FOR_PSNR]
    coding += ["-vvenc-params", "Threads=1", "-f", "vvc"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "coded.266"
        _ffmpeg([*pixels, "-s", f"{columns}x{rows}", "-r", "25", "-i", "-", *coding, f"{file}"], whole.tobytes())
        raw = _ffmpeg(["-threads", "1", "-f", "vvc", "-i", f"{file}", *pixels, "-"])
        coded = file.stat().st_size
    again = np.frombuffer(raw, np.uint16).reshape(count, -1)[:, : rows * columns].reshape(frames.shape)
    return coded, np.moveaxis(again, 0, 2)[: voxels.shape[0], : voxels.shape[1]] / scale


def _ffmpeg(options: list[str], data: bytes = b"") -> bytes:
    """What the program of imageio-ffmpeg writes."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", *options]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def _slices_first(voxels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(voxels, 2, 0)).astype(np.float32)


def _deviation(voxels: np.ndarray, decibels: float) -> float:
    return float(np.ptp(voxels)) * 10 ** (-decibels / 20)


def _video(voxels: np.ndarray, codec: str, pixels: str, bits: int, options: dict[str, str]) -> tuple[int, np.ndarray]:
    """Slices as frames; the grey values are spread over all levels of the codec, and come back unrounded."""
    frames, scale = _frames(voxels, bits)
    size, file = frames.shape[1:], io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], pixels
        packets = [packet for frame in frames for packet in stream.encode(_frame(frame, pixels, bits))]
        packets += stream.encode()
        coded = sum(packet.size for packet in packets)
        for packet in packets:
            out.mux(packet)
    file.seek(0)
    with av.open(file) as source:
        decoded = [np.frombuffer(f.planes[0], np.uint16).reshape(f.height, -1) for f in source.decode(video=0)]
        again = np.stack([plane[: voxels.shape[0], : voxels.shape[1]] for plane in decoded], axis=-1)
    return coded, again / scale


def _frames(voxels: np.ndarray, bits: int) -> tuple[np.ndarray, float]:
    """Slices as frames [k, i, j] of a size that codecs take, and by what their grey values are multiplied."""
    scale = ((1 << bits) - 1) / max(float(voxels.max()), 1)
    size = [max(-(-n // _MULTIPLE) * _MULTIPLE, _SMALLEST) for n in voxels.shape[:2]]
    room = [(0, new - old) for new, old in zip(size, voxels.shape[:2], strict=True)]
    return np.rint(np.pad(np.moveaxis(voxels, 2, 0), [(0, 0), *room], mode="edge") * scale).astype(np.uint16), scale


def _frame(values: np.ndarray, pixels: str, bits: int) -> object:
    """One frame; its colours, where the codec has any, are grey."""
    frame = av.VideoFrame(values.shape[1], values.shape[0], pixels)
    first, *colours = frame.planes
    room = np.zeros((values.shape[0], first.line_size // 2), np.uint16)
    room[:, : values.shape[1]] = values
    first.update(room.tobytes())
    for plane in colours:
        plane.update(np.full(plane.buffer_size // 2, 1 << (bits - 1), np.uint16).tobytes())
    return frame
