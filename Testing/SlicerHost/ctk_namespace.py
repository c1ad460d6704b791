"""The module `ctk`."""

from __future__ import annotations

import sys
import types
from typing import Any

from . import ctk_sliders, ctk_widgets, ui_loader


def install() -> Any:
    """Create the module `ctk` and make its widgets known to .ui files."""
    ctk = types.ModuleType("ctk")
    for source in (ctk_sliders, ctk_widgets):
        for name, value in vars(source).items():
            if name.startswith("ctk") and isinstance(value, type):
                setattr(ctk, name, value)
                if hasattr(value, "staticMetaObject"):
                    ui_loader.register(**{name: value})
    sys.modules["ctk"] = ctk
    return ctk
