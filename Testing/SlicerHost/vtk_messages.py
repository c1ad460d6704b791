"""VTK's errors and warnings, which are only printed, become problems of the test that caused them."""

from __future__ import annotations

from typing import Any

import vtk

from . import problems

# Printed by VTK itself on machines without a graphics card; they say nothing about the module under test.
_HARMLESS = ("bad X server connection", "Failed to load EGL", "vtkEGLRenderWindow", "libEGL")
_window: Any = None


def watch() -> None:
    """Send VTK's messages to a window of our own instead of the terminal and record errors and warnings."""
    global _window
    if _window is not None:
        return
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    _window = vtk.vtkStringOutputWindow()

    @vtk.calldata_type(vtk.VTK_STRING)
    def on_message(_caller: Any, event: str, text: str) -> None:
        if text and not any(part in text for part in _HARMLESS):
            problems.record("vtk", f"{event}: {text}")

    for event in ("ErrorEvent", "WarningEvent"):
        _window.AddObserver(event, on_message)
    vtk.vtkOutputWindow.SetInstance(_window)
