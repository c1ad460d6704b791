"""Which normative model suits a scan: by how its tissue and its anatomy look, not by its name."""

from __future__ import annotations

from collections.abc import Sequence

from ..bundle import Bundle
from .anatomies import anatomies_of
from .gate import ALLOWED, Floats, coarse_of, distance_from, gate_of, inward, other_sequence
from .orientation import quarter_turned
from .prepare import Prepared


def fitting(prepared: Prepared, name: str, bundles: Sequence[Bundle]) -> tuple[Bundle | None, str]:
    """The model whose training scans look most like this one, which is called `name`; or None, and why.

    Raises BadModel when a model does not say what its training scans look like.
    """
    if not (prepared.brain or prepared.hounsfield):
        return None, f"No brain was found in {name}."
    anatomy = coarse_of(prepared)
    if prepared.brain and quarter_turned(anatomy):
        told = f"The head in {name} seems to lie turned by a quarter, so no model was chosen"
        return None, f"{told}: check the orientation that the file gives."
    coarse, white = anatomy.ravel(), inward(prepared)
    ranked = sorted(
        (distance_from(prepared, gate_of(bundle.calibration)), n)
        for n, bundle in enumerate(bundles)
        if bundle.spec.dims == 3
        and (bundle.spec.modality == "CT") == prepared.hounsfield
        and _knows(bundle, coarse, white)
    )
    if not ranked or ranked[0][0] > ALLOWED:
        return None, f"No bundled model was trained on scans like {name}."
    return bundles[ranked[0][1]], ""


def _knows(bundle: Bundle, coarse: Floats, white: Floats) -> bool:
    """Whether the model knows this part of the body, if it says which ones, and this sequence of a brain."""
    if other_sequence(white, gate_of(bundle.calibration)):
        return False
    anatomies = anatomies_of(bundle.calibration)
    return anatomies is None or anatomies.knows(coarse)
