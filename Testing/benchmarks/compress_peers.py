"""The lossy codecs beside which `compress.py` sets MedAE: on slices, on volumes, and of video with slices as frames.

They come from imagecodecs, PyAV and imageio-ffmpeg (Testing/benchmarks/requirements.txt); each that is missing is left
out.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.costs import of_program

from MedAELib.codec.wavelet import FRACTION_BITS, analyse, gain, synthesise
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

Decode = Callable[[], np.ndarray]
# of a volume [i, j, k] of whole numbers from 0 and a wanted PSNR: bytes, and what makes the volume that comes back
Lossy = Callable[[np.ndarray, float], tuple[int, Decode]]
BARE = "j2k"  # of the formats of JPEG 2000, the one without a file's boxes, 85 bytes a slice
_SMALLEST, _MULTIPLE = 64, 8  # of a video's frame
_TRIES, _NEAR = 5, 0.5
_AV1_RATES, _AV1_STEP = (1, 63), 0.6  # settings, and the decibels that one of them is worth, roughly
_XL_RATES, _XL_STEP = (0, 45), 1.0  # quarters of an octave of the distance, from the finest of 0.01
_LEVELS = (1, 2, 3, 4)  # of the wavelet along slices: all are tried; thick slices want few, alike ones many
_MOST_MISSED, _CLOSE = 3.0, 0.1  # decibels: by which a setting is moved at most, and that do not matter
_DEAD = 1.0  # of the PSNR's uniform step, which HTJ2K takes

# PSNR is measured, so each encoder of video is set for PSNR: what spends bits for the eye is off.
X265_FOR_PSNR = "psy-rd=0:psy-rdoq=0:aq-mode=0"  # what x265's tune psnr does
SVT_FOR_PSNR = "tune=1:enable-variance-boost=0"
VVENC_FOR_PSNR = ("-qpa", "0")  # FFmpeg turns the adaptation of steps for the eye on otherwise


def lossy_peers() -> dict[str, Lossy]:
    """What is installed, by name; JPEG 2000 on slices is what the others are measured against."""
    found: dict[str, Lossy] = {}
    if imagecodecs is not None:
        found |= {"JPEG 2000": jpeg_2000, "JPEG 2000 3D": jpeg_2000_3d, "HTJ2K": htj2k, "JPEG-XL": jpeg_xl}
        found |= {"SPERR": sperr, "SZ3": sz3, "ZFP": zfp}
    if av is not None:
        found |= {"HEVC": hevc, "HEVC slower": partial(hevc, preset="slower"), "AV1": av1}
    if imageio_ffmpeg is not None and " libvvenc " in _ffmpeg(["-encoders"]).decode():
        found["VVC"] = vvc
    return found


def jpeg_2000(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
    """The irreversible 9/7 transform, slice by slice."""
    level = decibels + 20 * np.log10(65535 / np.ptp(voxels))  # of the codec, whose range is 16 bits
    coded = [_jpeg_2000_slice(part, level) for part in _slices(voxels)]
    return sum(map(len, coded)), lambda: np.stack([imagecodecs.jpeg2k_decode(part) for part in coded], axis=-1)


def _jpeg_2000_slice(part: np.ndarray, level: float) -> bytes:
    coded: bytes = imagecodecs.jpeg2k_encode(part, level=level, reversible=False, codecformat=BARE)
    return coded


def jpeg_2000_3d(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
    """JPEG 2000 as its Part 2 takes components together, with the number of levels along the slices that makes the
    smallest file of those that reach the PSNR; where none does, with the one that comes nearest."""
    span = float(np.ptp(voxels))
    tried = []
    for levels in _LEVELS:  # each moved once by what it misses: a little more or less would decide between them
        _, decode = jpeg_2000_along(voxels, decibels, levels)
        missed = float(np.clip(decibels - psnr(voxels, decode(), span), -_MOST_MISSED, _MOST_MISSED))
        coded, decode = jpeg_2000_along(voxels, decibels + missed, levels)
        tried.append((psnr(voxels, decode(), span), coded, decode))
    enough = min(decibels - _CLOSE, max(figure for figure, _, _ in tried))
    _, coded, decode = min((made for made in tried if made[0] >= enough), key=lambda made: made[1])
    return coded, decode


def jpeg_2000_along(voxels: np.ndarray, decibels: float, levels: int) -> tuple[int, Decode]:
    """So many levels of the 9/7 wavelet along the slices, mirrored at both ends; then each slice of its bands, all as
    loud as an orthonormal transform makes them, with the same mean square error."""
    low, bands, shapes = voxels.astype(np.float64) * 2**FRACTION_BITS, [], []
    for before in range(levels):
        shapes.append(low.shape)
        divided = analyse(low, (2,))
        low = divided[()]
        bands.append(divided[2,] * _loudness(before - 1))
    whole = np.concatenate([low * _loudness(levels), *bands[::-1]], axis=2)
    start, scale = whole.min(), 65535 / np.ptp(whole)
    level = 20 * np.log10(65535 / (_deviation(voxels, decibels) * 2**FRACTION_BITS * scale))
    coded = [_jpeg_2000_slice(part, level) for part in _slices(np.rint((whole - start) * scale))]
    thick = low.shape[2]

    def decode() -> np.ndarray:
        again = np.stack([imagecodecs.jpeg2k_decode(part) for part in coded], axis=-1) / scale + start
        joined, rest = again[:, :, :thick] / _loudness(levels), again[:, :, thick:]
        for before, shape in reversed(list(enumerate(shapes))):
            half = shape[2] // 2
            high, rest = rest[:, :, :half] / _loudness(before - 1), rest[:, :, half:]
            joined = synthesise({(): joined, (2,): high}, shape, (2,))
        return joined / 2**FRACTION_BITS

    return sum(map(len, coded)), decode


def _loudness(power: int) -> float:
    return gain(power) / gain(0)


def htj2k(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
    """High-throughput JPEG 2000, the irreversible 9/7 transform, slice by slice."""
    step = _DEAD * _deviation(voxels, decibels) * 12**0.5 / 65536  # of the codec's range of 16 bits
    coded = [imagecodecs.htj2k_encode(part, level=step, reversible=False) for part in _slices(voxels)]
    return sum(map(len, coded)), lambda: np.stack([imagecodecs.htj2k_decode(part) for part in coded], axis=-1)


def jpeg_xl(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
    """JPEG-XL's lossy mode (VarDCT, effort 7), slice by slice; it is made for the eye, and nothing else can be set. The
    grey values are spread over 16 bits; the distance is sought."""
    scale = 65535 / float(voxels.max())
    slices = _slices(np.rint(voxels * scale))

    def code(rate: int) -> tuple[int, Decode]:
        distance = 0.01 * 2 ** (rate / 4)
        coded = [imagecodecs.jpegxl_encode(part, distance=distance, effort=7, lossless=False) for part in slices]
        decode = partial(map, imagecodecs.jpegxl_decode, coded)
        return sum(map(len, coded)), lambda: np.stack([*decode()], axis=-1) / scale

    return _sought(code, voxels, decibels, round(28 - (decibels - 36) / _XL_STEP), _XL_RATES, _XL_STEP)


def sperr(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
    """SPERR's wavelets in three dimensions, in its mode for a PSNR."""
    coded = imagecodecs.sperr_encode(_slices_first(voxels), decibels, mode="psnr")
    return len(coded), lambda: np.moveaxis(imagecodecs.sperr_decode(coded), 0, 2)


def sperr_bounded(voxels: np.ndarray, bound: float) -> int:
    """Bytes of SPERR with a bound on every voxel; whole numbers can take half of one more."""
    return len(imagecodecs.sperr_encode(_slices_first(voxels), bound + 0.499, mode="pwe"))


def sz3(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
    """SZ3 with the bound whose uniform errors would have that PSNR."""
    bound = _deviation(voxels, decibels) * 3**0.5
    coded = imagecodecs.sz3_encode(voxels.astype(np.float32), mode="abs", abs=bound)
    return len(coded), lambda: imagecodecs.sz3_decode(coded, voxels.shape, np.float32)


def zfp(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
    """ZFP with a tolerance; its errors are far smaller than that."""
    coded = imagecodecs.zfp_encode(voxels.astype(np.float32), _deviation(voxels, decibels) * 50, mode="a")
    return len(coded), lambda: imagecodecs.zfp_decode(coded)


def hevc(voxels: np.ndarray, decibels: float, preset: str = "medium") -> tuple[int, Decode]:
    """x265, 12 bits."""
    rate = np.clip(27 - 1.5 * (decibels - 36), 0, 51)  # roughly that of the wanted PSNR
    settings = f"crf={rate:.1f}:{X265_FOR_PSNR}:log-level=none:pools=1:frame-threads=1"
    options = {"preset": preset, "x265-params": settings}
    return _video(voxels, "libx265", "gray12le", 12, options)


def av1(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
    """SVT-AV1, preset 4, 10 bits (it has no more); the setting is sought: what it gives differs much between scans."""

    def code(rate: int) -> tuple[int, Decode]:
        options = {"preset": "4", "crf": f"{rate}", "svtav1-params": f"{SVT_FOR_PSNR}:lp=1"}
        return _video(voxels, "libsvtav1", "yuv420p10le", 10, options)

    return _sought(code, voxels, decibels, round(41 - 2.75 * (decibels - 36)), _AV1_RATES, _AV1_STEP)


def _sought(
    code: Callable[[int], tuple[int, Decode]], voxels: np.ndarray, decibels: float, first: int,
    rates: tuple[int, int], worth: float,
) -> tuple[int, Decode]:  # fmt: skip
    """What a codec makes with the setting of those tried whose PSNR is nearest; `first` is roughly the wanted one."""
    missed: dict[int, float] = {}
    found: dict[int, tuple[int, Decode]] = {}
    rate = int(np.clip(first, *rates))
    while rate not in found and len(found) < _TRIES and min(map(abs, missed.values()), default=_NEAR) >= _NEAR:
        found[rate] = code(rate)
        missed[rate] = psnr(voxels, found[rate][1](), float(np.ptp(voxels))) - decibels
        rate = next_rate(missed, rates, worth)
    return found[min(found, key=lambda tried: abs(missed[tried]))]


def next_rate(missed: dict[int, float], rates: tuple[int, int] = _AV1_RATES, worth: float = _AV1_STEP) -> int:
    """Where to try next, of settings whose PSNR falls as they grow, after the last one of those that were tried, with
    the decibels by which they are too good; one that was tried, where nothing nearer is left."""
    finer = [rate for rate, more in missed.items() if more >= 0]
    coarser = [rate for rate, more in missed.items() if more < 0]
    if finer and coarser:
        low, high = max(finer), min(coarser)
        share = missed[low] / (missed[low] - missed[high])
        return min(max(low + round(share * (high - low)), low + 1), high - 1) if high - low > 1 else low
    last = next(reversed(missed))
    step = round(missed[last] / worth) or (1 if missed[last] >= 0 else -1)
    return int(np.clip(last + step, *rates))


def vvc(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
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
        coded = file.read_bytes()

    def decode() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "coded.266"
            file.write_bytes(coded)
            raw = _ffmpeg(["-threads", "1", "-f", "vvc", "-i", f"{file}", *pixels, "-"])
        again = np.frombuffer(raw, np.uint16).reshape(count, -1)[:, : rows * columns].reshape(count, rows, columns)
        return np.moveaxis(again, 0, 2)[: voxels.shape[0], : voxels.shape[1]] / scale

    return len(coded), decode


def _ffmpeg(options: list[str], data: bytes = b"") -> bytes:
    """What the program of imageio-ffmpeg writes."""
    return of_program([imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", *options], data)


def _slices(voxels: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(part).astype(np.uint16) for part in np.moveaxis(voxels, 2, 0)]


def _slices_first(voxels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(voxels, 2, 0)).astype(np.float32)


def _deviation(voxels: np.ndarray, decibels: float) -> float:
    return float(np.ptp(voxels)) * 10 ** (-decibels / 20)


def _video(voxels: np.ndarray, codec: str, pixels: str, bits: int, options: dict[str, str]) -> tuple[int, Decode]:
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
    data, wide = file.getvalue(), voxels.shape[1]

    def decode() -> np.ndarray:
        with av.open(io.BytesIO(data)) as source:
            planes = [np.frombuffer(f.planes[0], np.uint16).reshape(f.height, -1) for f in source.decode(video=0)]
        return np.stack([plane[: voxels.shape[0], :wide] for plane in planes], axis=-1) / scale

    return coded, decode


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
