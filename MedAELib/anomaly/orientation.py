"""How a head or body lies: by its own symmetry, and by which turn makes it most like the normal anatomy.

Coarse anatomies are those of `gate.coarse_of`, `[10, 10, 10]` along left-right, back-front and foot-head.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .masks import Mask

Floats = npt.NDArray[np.float64]

QUARTER = "turned by a quarter"
EITHER = "turned over or by a quarter"
_OVER = {"upside down": (2,), "back to front": (1,), "upside down and back to front": (1, 2)}
_FLIPS = ((), *_OVER.values())
# Correlations with the own mirror image: of 23 right scans of brains from left to right .954 to .995, otherwise at most
# .903, and less of those that are cut or hold a large lesion.
_SYMMETRIC, _CLEARLY = 0.92, 0.02
_BETTER = 0.15  # of correlation with the normal anatomy: right scans of other scanners gain .08 by wrong quarters
_CUT = 0.3  # of the largest slice: right whole brains touch the lowest and uppermost slices with none of it
# Right brains that are cut gain up to .23 of correlation by a turn, whole ones that are turned over .03 to .60.
_STRONG = 0.35
_APART = 0.09  # of correlation: less does not tell one kind of turn from the other


def quarter_turned(coarse: Floats) -> bool:
    """Whether a brain `[i, j, k]` is symmetric along another axis than left-right, as none is that lies right.

    A brain of which much was cut off or lost on one side is not symmetric along any: that is none.
    """
    across, *others = (_alike(coarse, np.flip(coarse, axis)) for axis in range(3))
    return max(others) > max(_SYMMETRIC, across + _CLEARLY)


def cut_off(mask: Mask) -> bool:
    """Whether so much of a mask `[i, j, k]` lies at the lower or upper end of the grid that what is seen of the anatomy
    cannot be compared with the whole one."""
    areas = mask.sum(axis=(0, 1))
    return bool(max(areas[:2].max(), areas[-2:].max()) > _CUT * areas.max())  # the outermost may be half outside


def turned(found: Floats, normal: Floats, quarters: bool = False, cut: bool = False) -> str:
    """How the coarse anatomy [i, j, k] must be turned over to be most like the normal one; empty when it need not be.

    Left and right cannot be told apart. With `quarters` turns by a quarter about the axis from left to right count,
    too, where they make it far more alike: some right brains are a little more alike so. Of what was `cut` off any turn
    must make it far more alike.
    """
    right = _alike(found, normal)
    over = {name: _alike(np.flip(found, axes), normal) for name, axes in _OVER.items()}
    best = max(over, key=lambda name: over[name])
    tipped = np.swapaxes(found, 1, 2)
    quarter = max(_alike(np.flip(tipped, axes), normal) for axes in _FLIPS) if quarters else -1.0
    if over[best] <= right + (_STRONG if cut else 0) and quarter <= right + (_STRONG if cut else _BETTER):
        return ""
    if abs(quarter - over[best]) <= _APART:
        return EITHER
    return QUARTER if quarter > over[best] else best


def _alike(one: Floats, other: Floats) -> float:
    """The correlation; -1 where one of them is the same everywhere."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if one.std() > 0 and other.std() > 0 else -1.0
