"""Several scans of one place as one volume with a channel for each kind that a model knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..anomaly.grid import Grid, onto_grid
from ..bundle import Spec
from ..channels import check_kinds, fused_names, own_name, told_order
from ..errors import BadInput
from ..naming import told_kind
from ..volume import Volume


def by_kind(kinds: Mapping[str, str], further: Mapping[str, Volume], spec: Spec) -> dict[str, Volume]:
    """The further scans by their kind, as the model calls it. Raises BadInput where the two do not belong together."""
    if set(kinds) != set(further) or not all(isinstance(kind, str) for kind in kinds.values()):
        raise BadInput("Every further scan must have its kind, and every kind its scan.")
    own = {name: own_name(kind, fused_names(spec)) for name, kind in kinds.items()}
    if len(set(own.values())) < len(own):
        raise BadInput("Two further scans are of one kind.", "Name one of each kind.")
    return {kind: further[name] for name, kind in own.items()}


def together(
    volume: Volume, source: str, others: Mapping[str, Volume], spec: Spec, gaps: bool = False
) -> tuple[Volume, list[str]]:
    """The volume, of the kind `source` (empty: the model's first), and further scans by their kind, on its grid.

    A channel holds no finite number where there is no scan; a scan that is resampled is as dark as it gets outside of
    what was scanned, or with `gaps` not finite there either. The second result says which scans were resampled, in
    plain sentences. Raises BadInput for kinds that the model does not know, frames, and scans of different places.
    """
    names = fused_names(spec)
    scans = {own_name(source, names) or (names or [""])[0]: volume, **others}
    unknown = [kind for kind in scans if kind not in names]
    if len(scans) <= len(others) or unknown:
        misnamed = unknown and names
        reason = f"The model does not know {unknown[0]!r:.60}." if misnamed else "The model does not fuse these scans."
        raise BadInput(reason, f"It knows {', '.join(names) or 'no kinds of scan'}.")
    notes: list[str] = []
    array = np.full((len(names), *volume.shape), np.nan, np.float32)
    for kind, scan in scans.items():
        if scan.channels != 1:
            raise BadInput(f"{scan.name or kind} has {scan.channels} frames.", "Scans that are fused have one each.")
        same = _on_one_grid(scan, volume)
        array[names.index(kind)] = scan.array[0] if same else _brought(scan, volume, kind, gaps, notes)
    return volume.like(array), notes


def taken(
    volume: Volume, modality: str, others: Mapping[str, Volume], spec: Spec, gaps: bool = False
) -> tuple[Volume, dict[str, Volume], list[str]]:
    """What a network takes; the scans in it by their kind, the volume's first; and notes, as plain sentences.

    `modality` is the volume's kind (empty: what its name tells, or else the first that no other scan is). A volume with
    a channel for each kind holds one scan of each; for a model that sees one scan that is the volume, of no kind by
    name. `gaps` as in `together`. Raises BadInput.
    """
    names = fused_names(spec)
    modality = own_name(modality, names)
    if not names and not others and not modality:
        return volume, {"": volume}, []
    if volume.channels == len(names) and not others:
        return _by_channels(volume, modality, spec)
    left = [name for name in names if name not in others]
    kind = modality or told_kind(volume.name, left) or next(iter(left), "")
    given, notes = together(volume, kind, others, spec, gaps)
    if not modality:
        notes.append(f"{volume.name or 'The volume'} is taken as {kind}.")
    scans = {kind: volume, **others}
    return given, scans, notes + check_kinds(scans, spec)


def _by_channels(volume: Volume, modality: str, spec: Spec) -> tuple[Volume, dict[str, Volume], list[str]]:
    """The same of a volume with a channel for each kind."""
    names, label = fused_names(spec), volume.name or "The volume"
    there = {
        name: volume.like(channel[None], name=f"{label} ({name})", frames=False)
        for name, channel in zip(names, volume.array, strict=True)
        if np.isfinite(channel).any()
    }
    if modality and modality not in there:
        raise BadInput(f"{label} holds no scan of {modality}.", f"It holds {', '.join(there) or 'none'}.")
    first = modality or next(iter(there), "")
    told = f"The {len(names)} channels of {label} are taken as {', '.join(names)} of one place, in this order."
    notes = list(filter(None, [told, told_order(volume.name, names)]))
    return volume, {first: there.get(first, volume), **there}, notes


def _on_one_grid(scan: Volume, volume: Volume) -> bool:
    return scan.shape == volume.shape and np.allclose(scan.affine, volume.affine, atol=0.01)


def _brought(scan: Volume, volume: Volume, kind: str, gaps: bool, notes: list[str]) -> npt.NDArray[Any]:
    """The voxels of a scan on the grid of the volume, linearly; outside of it what is darkest in it, or nothing."""
    grid, voxels = Grid(volume.shape, volume.affine), np.asarray(scan.array[0], np.float32)
    known = np.isfinite(voxels)
    inside = onto_grid(known, scan.affine, grid) > 0.5
    if not inside.any():
        raise BadInput(
            f"{scan.name or kind} and {volume.name or 'the volume'} do not overlap.", "Register one onto the other."
        )
    floor = voxels[known].min()
    found = onto_grid(np.where(known, voxels, floor) - floor, scan.affine, grid) + floor
    notes.append(f"{scan.name or kind} ({kind}) was resampled; it only helps if it is registered to the other.")
    return np.where(inside, found, np.float32(np.nan)) if gaps else found
