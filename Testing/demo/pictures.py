"""Pictures from Slicer's own slice views: before, after and removed noise side by side, and the panel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from .session import Session

Picture = npt.NDArray[np.uint8]
CAPTION_HEIGHT = 30


def slices(
    session: Session, nodes: Sequence[Any], view: str, size: tuple[int, int], at: Sequence[float] | None, zoom: float
) -> Picture:
    """The same slice of several volumes side by side, in the first volume's own planes (it may be oblique).

    `at`: a point (RAS mm) that the slice goes through, None for the middle; `zoom` 2 shows the inner half.
    """
    import slicer

    node = slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode()
    node.RotateToVolumePlane(nodes[0])
    offset = None
    if at is not None:
        normal = [node.GetSliceToRAS().GetElement(row, 2) for row in range(3)]
        offset = float(np.dot(normal, at))
    width, height = (round(length * zoom) for length in size)
    box = session.host.light_box(nodes, view, (width, height), offset)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    tiles = [box[top : top + size[1], n * width + left : n * width + left + size[0]] for n in range(len(nodes))]
    return np.concatenate(tiles, axis=1)


def captions(texts: Sequence[str], width: int) -> Picture:
    """A strip with one text over each tile of that width."""
    strip = Image.new("RGB", (width * len(texts), CAPTION_HEIGHT), (24, 24, 24))
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(size=16)
    for index, text in enumerate(texts):
        draw.text((index * width + width / 2, CAPTION_HEIGHT / 2), text, fill=(235, 235, 235), font=font, anchor="mm")
    return np.asarray(strip)


def before_after(
    session: Session, nodes: Sequence[Any], texts: Sequence[str], path: Path, at: Sequence[float] | None = None
) -> None:
    """Axial and coronal slices of the volumes, one row each, one column a volume, written as PNG."""
    width = 400
    rows = [
        captions(texts, width),
        slices(session, nodes, "Red", (width, 400), at, zoom=1.15),
        slices(session, nodes, "Green", (width, 350), at, zoom=1.0),
    ]
    session.host.save_png(np.concatenate(rows, axis=0), path)


def panel(session: Session, path: Path, width: int = 460) -> None:
    """The panel as it stands, written as PNG."""
    session.host.grab_widget(session.widget.parent, width=width)  # lays it out at this width, which changes its height
    session.host.grab_widget(session.widget.parent, path, width=width)
