"""Artefacts that arise while k-space is filled, drawn into right heads: motion, stripes, folding, and noise alone.

All are made of a head as a complex image, with noise of 0.01 of the tissue as a scanner adds it, and the magnitude
taken at the end.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from MedAELib.anomaly.levels import levels_of
from MedAELib.volume import Volume

NOISE = 0.01  # of the tissue
THICK = 2.5  # mm: along thicker slices nothing is measured line by line
PHASES = 8  # places of a head that moves to and fro


def measured_along(head: Volume, number: int, folded: bool = False) -> int:
    """The axis along which lines may follow each other, in turn; for folding none from left to right."""
    sideways = int(np.argmax(np.abs(head.affine[0, :3]) / head.spacing))
    axes = [axis for axis in range(3) if head.spacing[axis] <= THICK and not (folded and axis == sideways)]
    return axes[number % len(axes)]


def moved(head: Volume, axis: int, seed: int, moves: int, degrees: float = 5.0, mm: float = 5.0) -> Volume:
    """As of a head that moved suddenly, so often, while k-space was filled along an axis, line by line: by up to so
    much about each axis and along each."""
    random, size = np.random.default_rng(seed), head.shape[axis]
    times = np.sort(random.integers(0, size, moves))
    turns, shifts = random.uniform(-degrees, degrees, (moves, 3)), random.uniform(-mm, mm, (moves, 3))
    places = [_bright(head), *(_placed(head, *move) for move in zip(turns, shifts, strict=True))]
    return _measured(head, axis, places, np.searchsorted(times, np.arange(size), side="right"), seed)


def to_and_fro(head: Volume, axis: int, seed: int, cycles: int, degrees: float = 3.0, mm: float = 3.0) -> Volume:
    """As of a head that nods with each breath, so many times while k-space was filled; by so much in all."""
    random, size = np.random.default_rng(seed), head.shape[axis]
    turn, shift = (found / np.linalg.norm(found) for found in random.normal(size=(2, 3)))
    shares = np.linspace(-0.5, 0.5, PHASES)
    places = [_placed(head, degrees * share * turn, mm * share * shift) for share in shares]
    phase = np.sin(2 * np.pi * (cycles * np.arange(size) / size + random.uniform()))
    return _measured(head, axis, places, np.rint((phase + 1) / 2 * (PHASES - 1)).astype(int), seed)


def striped(head: Volume, seed: int, amount: float, across: int | None = None) -> Volume:
    """With a spike in k-space, which makes a wave of so much of the tissue: over the whole scan, or over the middle
    slice across an axis."""
    random, voxels = np.random.default_rng(seed), _bright(head)
    often = random.uniform(0.1, 0.4, 3) * random.choice([-1, 1], 3)
    often = np.rint(often * voxels.shape) / voxels.shape
    axes = np.meshgrid(*[np.arange(size, dtype=np.float32) for size in voxels.shape], indexing="ij", sparse=True)
    if across is not None:
        often[across] = 0
    wave = np.exp(np.complex64(2j * np.pi) * sum(float(turns) * axis for turns, axis in zip(often, axes, strict=True)))
    wave = np.broadcast_to(wave, voxels.shape) * np.float32(amount * levels_of(head)[0])
    seen = voxels + wave
    if across is not None:
        whole, at = voxels.astype(np.complex64), head.shape[across] // 2
        np.moveaxis(whole, across, 0)[at] = np.moveaxis(seen, across, 0)[at]
        seen = whole
    return _magnitude(head, seen, seed)


def folded(head: Volume, axis: int, share: float) -> Volume:
    """With a field of view of so much of the head along an axis: what lies beyond is folded over."""
    voxels, clear = _bright(head), levels_of(head)[1]
    stack = np.moveaxis(voxels, axis, 0)
    held = np.flatnonzero((stack > clear).mean(axis=(1, 2)) > 0.03)
    size = int(share * (held[-1] + 1 - held[0]))
    first = (held[0] + held[-1] + 1) // 2 - size // 2
    seen = np.zeros((size, *stack.shape[1:]), np.complex64)
    for k, plane in enumerate(stack):
        turn, place = divmod(k - first, size)
        seen[place] += plane * np.exp(np.complex64(1j * turn))  # from elsewhere with another phase
    return _magnitude(head, np.moveaxis(seen, 0, axis), 0)


def noise_alone(head: Volume, seed: int) -> Volume:
    """As many voxels of noise and nothing else."""
    return _magnitude(head, np.zeros(head.shape, np.complex64), seed, 0.3)


def _measured(head: Volume, axis: int, places: list[np.ndarray], which: np.ndarray, seed: int) -> Volume:
    """The head whose lines along an axis come from different places; `which` says from which, from the lowest
    frequency on."""
    seen = np.zeros(head.shape, np.complex64)
    for number, place in enumerate(places):
        lines = np.fft.fftshift(np.fft.fft(place, axis=axis), axes=axis)
        np.moveaxis(seen, axis, 0)[which == number] = np.moveaxis(lines, axis, 0)[which == number]
    return _magnitude(head, np.fft.ifft(np.fft.ifftshift(seen, axes=axis), axis=axis), seed)


def _magnitude(head: Volume, seen: np.ndarray, seed: int, amount: float = NOISE) -> Volume:
    noise = np.random.default_rng(seed).normal(0, amount * levels_of(head)[0], (2, *seen.shape)).astype(np.float32)
    return Volume(np.abs(seen + noise[0] + 1j * noise[1]).astype(np.float32)[None], head.affine, head.meta)


def _bright(head: Volume) -> np.ndarray:
    return np.maximum(head.array[0].astype(np.float32), 0)


def _placed(head: Volume, degrees: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """The voxels after a turn about each axis and a shift along each."""
    turn, edges = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), np.diag(head.spacing)
    inside, middle = np.linalg.inv(edges) @ turn @ edges, (np.array(head.shape) - 1) / 2
    return np.asarray(affine_transform(_bright(head), inside, middle - inside @ middle + mm / head.spacing, order=1))
