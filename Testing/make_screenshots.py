"""Make the pictures of README and Extensions Manager from the real module: `python Testing/make_screenshots.py`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]

SCREENSHOTS = ROOT / "Resources" / "Screenshots"


def main() -> None:
    from demo import pictures
    from demo.__main__ import BRAIN_WINDOW, NOISE
    from demo.session import Session
    from phantom import add_noise, head

    from MedAELib.volume import Volume

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    phantom = head("CT", seed=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "head.nrrd"
        Volume(add_noise(phantom, NOISE)[np.newaxis], phantom.affine).save(file)
        with Session(Path(folder) / "runs") as session:
            node = session.load(file, "head CT", BRAIN_WINDOW)
            run = session.apply(node)
            pictures.panel(session, SCREENSHOTS / "panel.png")
            session.widget.ui.cardCollapsibleButton.collapsed = False
            session.widget.ui.advancedCollapsibleButton.collapsed = False
            pictures.panel(session, SCREENSHOTS / "panel-details.png")
            shown = {"before": node, "after": run.nodes["denoised"], "removed noise": run.nodes["removed"]}
            spot = phantom.lesions[1].centre
            pictures.before_after(session, list(shown.values()), list(shown), SCREENSHOTS / "before-after.png", spot)
    for path in sorted(SCREENSHOTS.glob("*.png")):
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
