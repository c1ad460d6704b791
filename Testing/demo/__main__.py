"""`python -m demo [VOLUME] --output DIR`: denoise through the panel; write volumes, pictures and a report."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from phantom import Phantom, add_noise, head

from MedAELib.errors import MedAEError
from MedAELib.volume import Volume

from . import pictures
from .judge import judge
from .report import write_report
from .session import Run, Session

NOISE = 12.0  # HU, in the middle of the head: a scan with a low dose
BRAIN_WINDOW = (0.0, 80.0)  # HU


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("volume", nargs="?", type=Path, metavar="VOLUME")
    parser.add_argument("--output", type=Path, metavar="DIR", required=True)
    parser.add_argument("--model", default="", metavar="NAME|FOLDER", help="default: the model that fits the volume")
    options = parser.parse_args()
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="medae-demo-") as runs:
            figures = demo(options.volume, options.output, options.model, Path(runs))
    except (MedAEError, RuntimeError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    tell(figures, options.output)
    return 0


def demo(path: Path | None, output: Path, model: str, runs: Path) -> dict[str, Any]:
    """Run it all; returns the figures of the report."""
    phantom = None
    if path is None:
        print("Generating a head CT of a person who does not exist ...", flush=True)
        phantom = head("CT", seed=1)
        noisy = add_noise(phantom, level=NOISE)
        Volume(noisy[np.newaxis], phantom.affine, {"modality": "CT"}).save(output / "input.nrrd")
        Volume(phantom.clean[np.newaxis], phantom.affine, {"modality": "CT"}).save(output / "noise-free.nrrd")
    else:
        Volume.load(path).save(output / "input.nrrd")
    name = path.name.split(".")[0] if path else "head CT"
    print("Opening MedAE's panel on Slicer's MRML scene ...", flush=True)
    with Session(runs) as session:
        node = session.load(output / "input.nrrd", name, BRAIN_WINDOW if phantom else None)
        run = session.apply(node, model, Progress())
        return save(session, node, run, phantom, output)


def save(session: Session, node: Any, run: Run, phantom: Phantom | None, output: Path) -> dict[str, Any]:
    """Write volumes, pictures and report; returns the figures."""
    import slicer

    from MedAELib import nodes

    volume = nodes.read(node)
    for name in ("denoised", "removed"):
        file = {"denoised": "denoised.nrrd", "removed": "removed-noise.nrrd"}[name]
        if not slicer.util.saveNode(run.nodes[name], str(output / file)):
            raise RuntimeError(f"Slicer could not write {output / file}.")
    figures: dict[str, Any] = {
        "input": node.GetName(),
        "size": " x ".join(map(str, volume.shape)),
        "spacing": " x ".join(f"{s:.3g}" for s in volume.spacing),
        "seconds": round(run.seconds, 2),
        "seconds_of_parts": {part: round(seconds, 3) for part, seconds in run.parts.items()},
        "longest_stall_seconds": round(run.longest_stall, 4),
        "longest_import_stall_seconds": round(run.longest_import_stall, 4),
        "slicer_process_imported_torch": "torch" in sys.modules,
        "run": run.report,
        "provenance": nodes.provenance(run.nodes["denoised"]),
    }
    shown = {"before": node, "after": run.nodes["denoised"], "removed noise": run.nodes["removed"]}
    pictures.panel(session, output / "panel.png")
    spot = None
    if phantom is not None:
        figures["truth"] = judge(phantom, volume.array[0], nodes.read(run.nodes["denoised"]).array[0])
        spot = phantom.lesions[1].centre
        shown["noise-free"] = session.load(output / "noise-free.nrrd", "noise-free", BRAIN_WINDOW)
    pictures.before_after(session, list(shown.values()), list(shown), output / "before-after.png", at=spot)
    write_report(output, figures)
    return figures


class Progress:
    """The run's progress, a line every few seconds."""

    def __init__(self) -> None:
        self.shown, self.stage = 0.0, ""

    def __call__(self, stage: str, fraction: float) -> None:
        now = time.monotonic()
        if stage and (stage != self.stage or now - self.shown > 5):
            self.shown, self.stage = now, stage
            print(f"  {stage} {100 * fraction:.0f} %".replace(" 0 %", ""), flush=True)


def tell(figures: dict[str, Any], output: Path) -> None:
    """The outcome in a few lines."""
    run = figures["run"]
    noise = f"estimated noise {run['noise_before']:.3g} -> {run['noise_after']:.3g} {run.get('units', '')}".rstrip()
    print(f"Done in {figures['seconds']:.1f} s on {run['device']} with {run['model']}: {noise}.")
    if "truth" in figures:
        for row in figures["truth"]["psnr_db"]:
            print(
                f"PSNR, {row['region']}: {row['noisy']:.1f} dB noisy, {row['gaussian']:.1f} dB best Gaussian filter, "
                f"{row['denoised']:.1f} dB MedAE."
            )
    for file in sorted(output.iterdir()):
        print(f"  {file}")


if __name__ == "__main__":
    sys.exit(main())
