"""How small a scan may become by lossy compression before published guidance for radiology no longer accepts it.

The figures are ratios to 16 bits a voxel, for JPEG and JPEG 2000; no society has judged this codec. Sources:
- German consensus conference, Loose et al., RoeFo 2009;181:32-37, doi:10.1055/s-2008-1027847: CT of the brain 5, other
  CT 8, MR 7. The German radiation protection commission asks (1 December 2011) that they are not exceeded.
- Canadian Association of Radiologists (CAR), Standards for Irreversible Compression in Digital Imaging: CT of the brain
  12, CT of body and chest 15, MR 24.
The European Society of Radiology (ESR; Insights into Imaging 2011;2:103-115, doi:10.1007/s13244-011-0071-x) sets out
both national recommendations and sets no figures of its own: the bound depends on scan and question.
"""

from __future__ import annotations

from collections.abc import Mapping

_GERMAN: Mapping[str, float] = {"CT": 8, "MR": 7}
_CANADIAN: Mapping[str, float] = {"CT": 15, "MR": 24}
_BRAIN_CT = 5
_SAID = {"CT": "CT", "MR": "MRI"}
_BITS = 16.0


def guidance_ratio(bits_per_voxel: float) -> float:
    """How many times smaller than 16 bits a voxel: the ratio that the guidance is about, whatever the voxel type."""
    return _BITS / bits_per_voxel


def guidance(modality: str, ratio: float) -> str:
    """A sentence of warning about a lossy ratio (see `guidance_ratio`); empty below all figures.

    `modality` is "CT" or "MR"; for anything else there are no figures, and the sentence says so from 5 on.
    """
    if modality not in _GERMAN:
        unknown = "the kind of scan is not known, so no figure of the guidance on lossy compression can be compared"
        return f"{ratio:.3g} times smaller: {unknown}." if ratio > _BRAIN_CT else ""
    german, canadian, said = _GERMAN[modality], _CANADIAN[modality], _SAID[modality]
    told = f"{ratio:.3g} times smaller than 16 bits a voxel is"
    if ratio > canadian:
        return (
            f"{told} more than any guidance accepts for {said} (Canada {canadian:g}, Germany {german:g}; summarised by"
            " the European Society of Radiology)."
        )
    if ratio > german:
        return (
            f"{told} more than the {german:g} that the German guidance accepts for {said}; the Canadian one accepts"
            f" {canadian:g}{' (12 for the brain)' if modality == 'CT' else ''}."
        )
    if modality == "CT" and ratio > _BRAIN_CT:
        return f"{told} acceptable by the guidance for CT, but for the brain the German one accepts only {_BRAIN_CT}."
    return ""
