"""The compression benchmark's picture: what quality each codec reaches with how many bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.denoise_pictures import blank

OURS = "MedAE"
_TICKS = [mantissa * 10**power for power in range(-3, 2) for mantissa in (1, 2, 5)]  # bits per voxel
_SLICES, _VIDEO, _VOLUMES = "--", "-.", ":"
_STYLES: dict[str, tuple[str, str]] = {
    "JPEG 2000": ("tab:blue", _SLICES), "HTJ2K": ("tab:cyan", _SLICES), "JPEG-XL": ("tab:gray", _SLICES),
    "JPEG 2000 3D": ("tab:blue", _VOLUMES), "SPERR": ("tab:green", _VOLUMES), "SZ3": ("tab:olive", _VOLUMES),
    "ZFP": ("tab:brown", _VOLUMES), "HEVC": ("tab:orange", _VIDEO), "HEVC slower": ("tab:pink", _VIDEO),
    "AV1": ("tab:red", _VIDEO), "VVC": ("tab:purple", _VIDEO), OURS: ("black", "-"),
}  # fmt: skip


def rate_distortion(found: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], path: Path) -> None:
    """PSNR by bits per voxel, on a logarithmic axis; a panel for each scan, a line for each codec: those on slices
    dashed, of video dash-dotted, on volumes dotted."""
    figure = blank(3.1 * len(found) + 1.2, 3.3)
    for number, (scan, curves) in enumerate(found.items(), 1):
        axes = figure.add_subplot(1, len(found), number)
        for name, curve in curves.items():
            quality, bits = zip(*sorted(curve), strict=True)
            colour, line = _STYLES[name]
            wide = 2.5 if name == OURS else 1
            axes.plot(bits, quality, line, color=colour, label=name, marker=".", markersize=4, linewidth=wide)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        shown = [bits for bits in _TICKS if low <= bits <= high]
        axes.set_xticks(shown, [f"{bits:g}" for bits in shown])
        axes.set_xticks([], minor=True)
        axes.tick_params(labelsize=7)
        axes.set_title(scan, fontsize=9)
        axes.set_xlabel("bits per voxel")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("PSNR, dB")
    figure.axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
