"""Runs an unmodified scripted module of 3D Slicer on Slicer's real MRML core, without the Slicer application.

    import SlicerHost as host
    host.start()                                  # once per process; now `import slicer, qt, ctk, vtk` work
    module = host.load_module("MedAE/MedAE.py")
    widget = host.open_panel(module)              # the module's own MedAEWidget
    picture = host.render_slice("Red", (400, 400))
    host.check()                                  # raises what Qt and VTK would have hidden

What it can prove and what it cannot is written in README.md beside this file.
"""

from .host import move_cursor, new_scene, start
from .problems import HostProblems, Problem, check, expected, take

__all__ = [
    "HostProblems",
    "Problem",
    "StallMeter",
    "answer",
    "check",
    "close_panel",
    "dialogs",
    "expected",
    "grab_widget",
    "light_box",
    "load_module",
    "move_cursor",
    "new_scene",
    "open_panel",
    "packaging_calls",
    "render_slice",
    "render_three_d",
    "run_module_tests",
    "save_png",
    "start",
    "take",
    "wait_until",
]

# These need Qt, which start() sets up first; they are looked up when they are used.
_LATER = {
    "StallMeter": "event_loop",
    "answer": "recorded_dialogs",
    "close_panel": "module_loader",
    "dialogs": "recorded_dialogs",
    "grab_widget": "pictures",
    "light_box": "pictures",
    "load_module": "module_loader",
    "open_panel": "module_loader",
    "packaging_calls": "packaging_stub",
    "render_slice": "pictures",
    "render_three_d": "pictures",
    "run_module_tests": "runner",
    "save_png": "pictures",
    "wait_until": "event_loop",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    start()
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
