"""Make the icon, and the pictures of README and Extensions Manager from the real module.

python Testing/make_screenshots.py [--icon-only | --unlike-only]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]

SCREENSHOTS = ROOT / "Resources" / "Screenshots"
ICON = ROOT / "Resources" / "Icons" / "MedAE.png"


def icon() -> None:
    """A generated head, noisy on its left half and clean on its right one, 128 pixels square."""
    from phantom import add_noise, head
    from scipy.ndimage import binary_fill_holes, zoom

    phantom = head("MR", seed=5, shape=(152, 192, 24), spacing=(1.25, 1.25, 1.5), tilt=0, turn=0)
    noisy, clean = add_noise(phantom, level=110.0, seed=2)[:, :, 16], phantom.clean[:, :, 16]
    inside = binary_fill_holes(clean > 150)
    columns = np.flatnonzero(inside.any(axis=1))
    middle = (columns[0] + columns[-1]) // 2
    picture = np.where(np.arange(len(clean))[:, None] < middle, noisy, clean)
    grey = np.clip(picture / 760 * 255, 0, 255)
    side = max(clean.shape)
    margins = [((side - n) // 2, side - n - (side - n) // 2) for n in clean.shape]
    square = [np.pad(a, margins) for a in (grey, inside * 255.0)]
    grey, alpha = (np.clip(zoom(a, 128 / side * 1.12, order=1), 0, 255) for a in square)
    cut = (len(grey) - 128) // 2
    grey, alpha = (a[cut : cut + 128, cut : cut + 128].T for a in (grey, alpha))
    # A cool tint for the clean half, so that the two differ at 16 pixels too.
    tint = np.where(np.arange(128)[None, :, None] < 64, [1.0, 1.0, 1.0], [0.72, 0.9, 1.0])
    colour = np.concatenate([grey[..., None] * tint, alpha[..., None]], axis=2).astype(np.uint8)
    ICON.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colour, "RGBA").save(ICON, optimize=True)
    print(f"{ICON.relative_to(ROOT)}: {ICON.stat().st_size // 1024} KB")


def main() -> None:
    if "--unlike-only" not in sys.argv:
        icon()
    if "--icon-only" not in sys.argv:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        if "--unlike-only" not in sys.argv:
            screenshots()
        unlike()
        made = "unlike.png" if "--unlike-only" in sys.argv else "*.png"
        for path in sorted(SCREENSHOTS.glob(made)):
            Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB")


def screenshots() -> None:
    """The panel after a run, and its result in Slicer's slice views."""
    from demo import pictures
    from demo.__main__ import BRAIN_WINDOW, NOISE
    from demo.session import Session
    from phantom import add_noise, head

    from MedAELib.volume import Volume

    phantom = head("CT", seed=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "head.nrrd"
        Volume(add_noise(phantom, NOISE)[np.newaxis], phantom.affine).save(file)
        with Session(Path(folder) / "runs") as session:
            node = session.load(file, "head CT", BRAIN_WINDOW)
            session.panel.parameters.makeTrust = True
            run = session.apply(node)
            pictures.panel(session, SCREENSHOTS / "panel.png")
            shown = {"before": node, "after": run.nodes["denoised"], "removed noise": run.nodes["removed"]}
            spot = phantom.lesions[1].centre
            pictures.before_after(session, list(shown.values()), list(shown), SCREENSHOTS / "before-after.png", spot)


def unlike() -> None:
    """A generated MRI head with two bright places, and the map of plain brightness over it, in Slicer's slice views."""
    from demo import pictures
    from demo.session import Session
    from generated_heads import CENTRE, head, with_ball

    scan = head((1.2, 1.2, 1.2))[0]
    places = [CENTRE + [28.0, 8.0, 14.0], CENTRE + [-24.0, -20.0, 14.0]]
    for place, radius in zip(places, (9.0, 6.0), strict=True):
        scan = with_ball(scan, place, radius, 150.0)[0]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "head.nrrd"
        scan.save(file)
        with Session(Path(folder) / "runs") as session:
            node = session.load(file, "MRI head", (0.0, 520.0))
            view = "Red", (400, 400), float(places[0][2])
            before = session.host.light_box([node], *view)  # without the outlines that the run will draw
            session.panel.parameters.task = "anomaly"
            over = session.apply(node, "none").nodes["anomaly"]
            tiles = [before, session.host.light_box([node], *view, (), over, 0.8)]
            texts = ["a generated head", "what is unlike the rest of it"]
            picture = [pictures.captions(texts, view[1][0]), np.concatenate(tiles, axis=1)]
            session.host.save_png(np.concatenate(picture, axis=0), SCREENSHOTS / "unlike.png")


if __name__ == "__main__":
    main()
