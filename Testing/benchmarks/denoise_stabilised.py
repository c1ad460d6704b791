"""Rician noise made as strong everywhere, the way back without bias (Foi 2011), and its level estimated through both.

A transform f of the magnitude is sought whose noise has deviation 1 whatever the signal. It is found by recursive
integration (Foi 2009, Tibshirani 1988): f' is divided by the deviation that f still has, until that is 1. The way back
maps the mean of f for a signal to that signal, so what a filter averages comes back without bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import convolve1d
from scipy.special import ive

Floats = npt.NDArray[Any]

_STEP, _LARGEST_SIGNAL, _TAIL = 0.01, 25.0, 9.0  # in deviations of the noise
_ROUNDS = 100  # of integration: after these the deviation is within 1 % of 1 for every signal
# Daubechies' high-pass filter of four taps: blind to linear trends
_DETAIL = (-0.1294095226, -0.2241438680, 0.8365163037, -0.4829629131)


@dataclass(frozen=True, eq=False)
class _Tables:
    """For noise of deviation 1: magnitudes and f of them; signals and the mean of f for them."""

    magnitude: Floats
    stabilised: Floats
    signal: Floats
    mean: Floats


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    magnitude = np.arange(_STEP / 2, _LARGEST_SIGNAL + _TAIL, _STEP)
    signal = np.concatenate([np.arange(0, 6, 0.05), np.arange(6, _LARGEST_SIGNAL + 0.1, 0.25)])
    offset = magnitude - signal[:, None]
    density = magnitude * np.exp(-(offset**2) / 2) * ive(0, magnitude * signal[:, None])
    density /= density.sum(axis=1, keepdims=True)
    measured = density @ magnitude
    stabilised = magnitude
    for _ in range(_ROUNDS):
        deviation = np.sqrt(density @ stabilised**2 - (density @ stabilised) ** 2)
        slope = np.gradient(stabilised, magnitude) / np.interp(magnitude, measured, deviation)
        stabilised = np.cumsum(slope) * _STEP
    return _Tables(magnitude, stabilised, signal, density @ stabilised)


def stabilise(magnitude: Floats, sigma: float) -> Floats:
    """A magnitude image with Rician noise of `sigma`, as an image whose noise has deviation 1 everywhere."""
    tables, relative = _tables(), np.maximum(np.asarray(magnitude, dtype=np.float64) / sigma, 0)
    end = tables.magnitude[-1]
    # Far from the noise f is the root of z^2 - 1/2 but for a constant.
    far = tables.stabilised[-1] + np.sqrt(np.maximum(relative**2 - 0.5, 0)) - np.sqrt(end**2 - 0.5)
    return np.where(relative < end, np.interp(relative, tables.magnitude, tables.stabilised), far)


def destabilise(image: Floats, sigma: float) -> Floats:
    """The signal whose stabilised measurements have this mean: the way back from `stabilise` after filtering."""
    tables = _tables()
    end = tables.mean[-1]
    far = tables.signal[-1] + image - end
    return sigma * np.where(image < end, np.interp(image, tables.mean, tables.signal), far)


def detail_level(image: Floats) -> float:
    """The noise's deviation from the median size of the finest diagonal wavelet detail (Donoho 1994), for white noise.

    Voxels of untouched zero, such as masked air, say nothing and are left out.
    """
    detail = np.asarray(image, dtype=np.float64)
    for axis in range(detail.ndim):
        detail = convolve1d(detail, _DETAIL, axis=axis, mode="reflect")
    # At the border, voxels are compared with their own mirror image.
    inside = tuple(slice(2, -2) if size > 6 else slice(None) for size in detail.shape)
    told = np.abs(detail[inside][image[inside] != 0])
    return float(np.median(told)) / 0.6745 if told.size else 0.0


def rician_level(magnitude: Floats, rounds: int = 20) -> float:
    """The level at which the stabilised image has noise of deviation 1, found by iteration (Foi 2011)."""
    sigma = max(detail_level(magnitude), 1e-6 * float(np.max(magnitude)), 1e-12)
    for _ in range(rounds):
        left = detail_level(np.where(magnitude != 0, stabilise(magnitude, sigma), 0))
        sigma *= left
        if abs(left - 1) < 0.002:
            break
    return sigma
