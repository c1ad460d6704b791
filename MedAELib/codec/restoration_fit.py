"""The restoration's last layer, fitted to a level of a chunk while it is encoded, where that is worth its bytes."""

from __future__ import annotations

import numpy as np

from ..threads import ALONE, Helpers
from .context import Floats
from .restoration import (
    BY_MODEL,
    NOT_RESTORED,
    SIXTEENTHS,
    Indices,
    RestorationModel,
    corrections,
    exact,
    pack_layer,
    unpack_layer,
)
from .subband import Coefficients
from .subband_encoder import TRADE
from .subband_levels import Cascade
from .wavelet import Axes, Doubles

_SAMPLES = 50_000
_FEWEST = 1000  # voxels, for a layer of its own
_RIDGE = 3e-4
_BIAS_INPUT = 256.0
_LARGEST_WEIGHT = 2**15 - 1


def restore_level(
    cascade: Cascade, bands: dict[Axes, Coefficients], truth: Doubles, model: RestorationModel, helpers: Helpers = ALONE
) -> bytes:  # fmt: skip
    """Restore the low band that was just joined as well as pays; the side information that says how."""
    around = cascade.around(bands)
    count = len(around.voxels)
    chosen = around.voxels[:: max(count // _SAMPLES, 1)]
    if not len(chosen):
        return NOT_RESTORED
    seen, missing = model.hidden(around.inputs(chosen)), around.missing(truth, chosen)
    tried = {NOT_RESTORED: float(missing @ missing)}
    for told in {BY_MODEL, pack_layer(_fitted(seen, missing, model.layer))} if count >= _FEWEST else {BY_MODEL}:
        layer = unpack_layer(told, model)
        if layer is not None:
            rest = missing - corrections(seen, layer) / 2**SIXTEENTHS
            tried[told] = float(rest @ rest) + TRADE * 8 * len(told) * len(chosen) / count
    best = min(tried, key=lambda told: tried[told])
    layer = unpack_layer(best, model)
    if layer is not None:
        cascade.low = around.restored(model, layer, helpers)
    return best


def _fitted(seen: Floats, missing: Doubles, default: Indices) -> Indices:
    """The layer that leaves the least, leaning a little towards the model's."""
    inputs = np.concatenate([seen, np.full((1, seen.shape[1]), _BIAS_INPUT)]).astype(np.float64)
    gram = inputs @ inputs.T
    ridge = (_RIDGE * np.trace(gram) / len(gram) + 1e-9) * np.eye(len(gram))
    moved = np.linalg.solve(gram + ridge, inputs @ (missing * 2**SIXTEENTHS - default @ inputs))
    found = np.clip(np.rint(default + moved), -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.int64)
    return found if exact(found) else default
