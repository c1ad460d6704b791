"""Pictures of slice views and of the panel: as arrays and as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk


def render_slice(view_name: str = "Red", size: tuple[int, int] = (400, 400), fit: bool = False) -> np.ndarray:
    """Draw a slice view at that size (width, height); height x width x 3, uint8. KeyError for an unknown view."""
    view = _view(view_name)
    view.resize(*size)
    if fit:
        view.fit()
    return view.grab()


def render_three_d(size: tuple[int, int] = (400, 400)) -> np.ndarray:
    """Draw the first 3D view; height x width x 3, uint8."""
    view = slicer.app.layoutManager().threeDWidget(0).view
    view.resize(*size)
    view.fit()
    return view.grab()


def light_box(
    backgrounds: Sequence[Any],
    view_name: str = "Red",
    size: tuple[int, int] = (400, 400),
    offset: float | None = None,
    labels: Sequence[str] = (),
    foreground: Any = None,
    foreground_opacity: float = 0.5,
) -> np.ndarray:
    """The same slice of several volumes side by side, drawn in one slice view, which is left as it was found.

    offset: position of the slice in mm along the view's normal (default: the middle of the first volume).
    Returns height x (width * number of volumes) x 3, uint8.
    """
    view = _view(view_name)
    view.resize(*size)
    composite, logic = view.composite, view.logic
    found = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetForegroundOpacity())
    corner = view.offscreen().annotation
    tiles = []
    for index, volume in enumerate(backgrounds):
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(foreground_opacity)
        if index == 0:
            view.fit()
        if offset is not None:
            logic.SetSliceOffset(offset)
        corner.SetText(vtk.vtkCornerAnnotation.UpperLeft, labels[index] if index < len(labels) else "")
        tiles.append(view.grab())
    corner.SetText(vtk.vtkCornerAnnotation.UpperLeft, "")
    composite.SetBackgroundVolumeID(found[0])
    composite.SetForegroundVolumeID(found[1])
    composite.SetForegroundOpacity(found[2])
    return np.concatenate(tiles, axis=1)


def _view(name: str) -> Any:
    widget = slicer.app.layoutManager().sliceWidget(name)
    if widget is None:
        raise KeyError(f"there is no slice view {name!r}; there are {slicer.app.layoutManager().sliceViewNames()}")
    return widget.view


def save_png(picture: np.ndarray, path: str | Path) -> Path:
    """Write a height x width x 3 (or x 4), uint8 picture as PNG."""
    height, width, channels = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    flat = np.ascontiguousarray(picture[::-1]).reshape(-1, channels)
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True, array_type=vtk.VTK_UNSIGNED_CHAR))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()
    return Path(path)


def grab_widget(widget: Any, path: str | Path | None = None, width: int = 0) -> np.ndarray:
    """Picture of a widget (a panel's `parent`, say), at its preferred height; height x width x 3, uint8."""
    import qt

    hint = widget.sizeHint()
    widget.resize(width or max(hint.width(), 420), max(hint.height(), 50))
    widget.ensurePolished()
    slicer.app.processEvents()
    image = widget.grab().toImage().convertToFormat(qt.QImage.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    picture = rows[:, : image.width() * 3].reshape(image.height(), image.width(), 3).copy()
    if path is not None:
        save_png(picture, path)
    return picture
