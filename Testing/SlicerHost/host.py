"""Starting the host once per process, a fresh scene for each test, and the checks at a test's end."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any

from . import problems

_application: Any = None
base_classes = ""  # "own" or "slicer" once started


def start() -> Any:
    """Start the host (once per process) and return `slicer.app`; afterwards `import slicer, qt, ctk, vtk` work.

    The environment variable SLICER_PYTHON_DIR (a Slicer source's Base/Python) chooses Slicer's own base classes.
    """
    global _application, base_classes
    if _application is not None:
        return _application
    from . import qt_namespace, vtk_messages

    qt = qt_namespace.install()  # before any widget class of the host is defined
    from . import ctk_namespace, ui_loader

    qt.QUiLoader = ui_loader.QUiLoader
    ctk_namespace.install()
    slicer = _import_slicer()
    vtk_messages.watch()
    problems.watch_slot_exceptions()
    from . import bases, mrml_widgets, packaging_stub, recorded_dialogs
    from .application import Application
    from .layout import LayoutManager

    mrml_widgets.install(slicer)
    _application = Application()
    packaging_stub.install()
    recorded_dialogs.install(qt, slicer.util)
    base_classes = bases.install()
    _application.setLayoutManager(LayoutManager(_application.mrmlScene()))
    _check_start()
    gc.collect()
    gc.freeze()  # what was imported by now stays: looking through it again at every closed panel would take most time
    return _application


def _check_start() -> None:
    """The host itself must start without a word, except that Slicer's resource files are not in the wheel."""
    missing_files = ("Terminolog", "term.json")
    found = [problem for problem in problems.take() if not any(word in problem.text for word in missing_files)]
    if found:
        raise problems.HostProblems("the host did not start cleanly:\n" + "\n".join(map(str, found)))


def _import_slicer() -> Any:
    import slicer
    import slicer.util
    import vtk

    vtk.vtkMultiThreader.SetGlobalMaximumNumberOfThreads(1)  # threads cost small volumes more than they bring
    # Modules also import Slicer's libraries under these names.
    for name in ("MRMLCore", "MRMLLogic", "MRMLDisplayableManager"):
        sys.modules[f"{name}Python"] = importlib.import_module(f"slicer_core.{name}")
    return slicer


def new_scene() -> None:
    """Empty the scene as 'Close scene' does (singleton nodes stay), forget dialogs, requests and problems."""
    import slicer

    from . import recorded_dialogs
    from .packaging_stub import packaging_calls

    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.SetRootDirectory(slicer.app.temporaryPath)
    manager = slicer.app.layoutManager()
    if manager is not None:
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    slicer.app.setTestingEnabled(True)
    slicer.app.processEvents()
    recorded_dialogs.clear()
    packaging_calls.clear()
    problems.take()


def move_cursor(ras: tuple[float, float, float], view_name: str = "Red") -> None:
    """Put the mouse at a point (mm, RAS) of a slice view: what a data probe observes on the crosshair node."""
    import slicer
    import vtk

    node = slicer.app.layoutManager().sliceWidget(view_name).mrmlSliceNode()
    to_view = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), to_view)
    xyz = to_view.MultiplyPoint((*ras, 1.0))[:3]
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCursorPositionXYZ(list(xyz), node)
