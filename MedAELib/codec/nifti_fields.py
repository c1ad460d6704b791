"""The fields of a NIfTI header that only repeat what a .maez file says anyway: left out when it is written, back when
it is read. What they hold is part of the format (docs/maez.md, chapter 11) and never changes."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

_MARK = "nifti_type"  # the field by which the header of a NIfTI file is told
_TYPES = {
    "uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "int8": 256, "uint16": 512, "uint32": 768,
    "int64": 1024, "uint64": 1280,
}  # fmt: skip
_ZERO = (
    "cal_max", "cal_min", "dim_info", "intent_code", "intent_p1", "intent_p2", "intent_p3", "pixdim[0]", "pixdim[4]",
    "pixdim[5]", "pixdim[6]", "pixdim[7]", "quatern_b", "quatern_c", "scl_inter", "slice_code", "slice_duration",
    "slice_end", "slice_start", "toffset",
)  # fmt: skip
_ONE = (*(f"dim[{n}]" for n in (4, 5, 6, 7)), "nifti_type", "qform_code", "scl_slope", "sform_code")
_SCANNER, _UNPRINTABLE = "NIFTI_XFORM_SCANNER_ANAT", "[UNKNOWN_PRINT_CHARACTERISTICS]\n"
_CONSTANT = {
    **dict.fromkeys(("ITK_FileNotes", "aux_file", "descrip", "intent_name"), ""), "ITK_sform_corrected": "NO",
    **dict.fromkeys(_ZERO, "0"), **dict.fromkeys(_ONE, "1"), "vox_offset": "352", "xyzt_units": "10",
    "qform_code_name": _SCANNER, "sform_code_name": _SCANNER, "qfac": _UNPRINTABLE, "qto_xyz": _UNPRINTABLE,
}  # fmt: skip

Fields = dict[str, Any]
Matrix = Sequence[Sequence[float]]


def without_repeated(header: Mapping[str, str], volume: Mapping[str, Any]) -> Fields | None:
    """Of the fields of a NIfTI file those that `volume`, as a header describes it, does not tell: a text, or None for
    one that is missing. None for the header of any other file."""
    if _MARK not in header:
        return None
    known = _repeated(volume)
    missing = {name: None for name in known if name not in header}
    return {name: text for name, text in header.items() if known.get(name) != text} | missing


def with_repeated(told: Mapping[str, Any], volume: Mapping[str, Any]) -> dict[str, str]:
    """All the fields again."""
    found = {**_repeated(volume), **told}
    return {name: found[name] for name in sorted(found) if isinstance(found[name], str)}


def _repeated(volume: Mapping[str, Any]) -> dict[str, str]:
    """The fields as ITK prints those of a file that it wrote itself."""
    (channels, *sizes), meta, affine = volume["shape"], volume["meta"], volume["affine"]
    kind = str(volume["dtype"])
    spacing = [math.sqrt(sum(float(affine[row][axis]) ** 2 for row in range(3))) for axis in range(3)]
    fields = {**_CONSTANT, "datatype": str(_TYPES.get(kind, 0)), "bitpix": kind.lstrip("uintfloa")}
    fields |= {f"dim[{axis + 1}]": str(size) for axis, size in enumerate(sizes)}
    fields |= {f"pixdim[{axis + 1}]": _printed(along) for axis, along in enumerate(spacing)}
    for row, name in enumerate("xyz"):
        place = float(affine[row][3]) or (-0.0 if name in "xy" else 0.0)  # ITK turns the signs of x and y, of 0 too
        fields[f"qoffset_{name}"] = _printed(place)
        fields[f"srow_{name}"] = " ".join(map(_printed, [*affine[row][:3], place]))
    fields |= {f"quatern_{name}": text for name, text in zip("bcd", _quaternion(affine, spacing), strict=True)}
    fields["dim[0]"] = "3"
    if meta.get("frames") is True:
        apart = float(meta.get("frame_spacing", 1.0))
        fields |= {"dim[0]": "4", "dim[4]": str(channels), "pixdim[4]": _printed(apart)}
    elif channels > 1:
        more = {"dim[5]": str(channels), "intent_code": "1007", "pixdim[4]": "1", "pixdim[5]": "1"}
        fields |= {"dim[0]": "5", **more}
    return fields


def _printed(number: float) -> str:
    """Six digits of a number that was kept in 32 bits, as C++ prints it; no text where 32 bits do not hold it."""
    try:
        (kept,) = struct.unpack("<f", struct.pack("<f", number))
    except OverflowError:
        return ""
    return f"{kept:.6g}"


def _quaternion(affine: Matrix, spacing: Sequence[float]) -> list[str]:
    """b, c and d of the rotation, as NIfTI's own library finds them."""
    if not all(spacing):
        return ["", "", ""]
    r = [[float(affine[row][axis]) / spacing[axis] for axis in range(3)] for row in range(3)]
    minors = [r[1][(n + 1) % 3] * r[2][(n + 2) % 3] - r[1][(n + 2) % 3] * r[2][(n + 1) % 3] for n in range(3)]
    if sum(r[0][n] * minors[n] for n in range(3)) < 0:
        for row in r:
            row[2] = -row[2]
    half = r[0][0] + r[1][1] + r[2][2] + 1
    turned = r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]
    if half > 0.5:
        return [_printed(0.25 * part / (0.5 * math.sqrt(half))) for part in turned]
    squares = [1 + 2 * r[n][n] - (r[0][0] + r[1][1] + r[2][2]) for n in range(3)]
    n = next((place for place in (0, 1) if squares[place] > 1), 2)
    largest = 0.5 * math.sqrt(max(squares[n], 0.0)) or 1.0
    parts = [largest if m == n else 0.25 * (r[m][n] + r[n][m]) / largest for m in range(3)]
    sign = -1 if 0.25 * turned[n] / largest < 0 else 1
    return [_printed(sign * part) for part in parts]
