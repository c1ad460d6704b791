"""Base classes of scripted modules: the host's own, or Slicer's own files instead."""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import slicer

_NAMES = ("i18n", "ScriptedLoadableModule", "parameterNodeWrapper")
SLICER_PYTHON_DIR = "SLICER_PYTHON_DIR"


def install() -> str:
    """Install the base classes and return "own" or "slicer"; the environment variable SLICER_PYTHON_DIR decides.

    Raises FileNotFoundError when the variable names a folder that is no `Base/Python` of a Slicer source tree.
    """
    folder = os.environ.get(SLICER_PYTHON_DIR, "")
    if folder:
        _install_slicers(Path(folder) / "slicer")
        return "slicer"
    _install_own()
    return "own"


def _install_slicers(package: Path) -> None:
    if not (package / "ScriptedLoadableModule.py").is_file():
        where = f"{SLICER_PYTHON_DIR} names {package.parent}"
        raise FileNotFoundError(f"{where}, which holds no slicer/ScriptedLoadableModule.py")
    # At the end, so that slicer.util stays the one of the wheel that belongs to the MRML libraries.
    slicer.__path__ = [*slicer.__path__, str(package)]
    for name in _NAMES:
        setattr(slicer, name, importlib.import_module(f"slicer.{name}"))


def _install_own() -> None:
    from . import i18n, module_classes, parameter_node

    for name, source, exported in (
        ("i18n", i18n, ("tr", "translate")),
        ("ScriptedLoadableModule", module_classes, module_classes.__all__),
        ("parameterNodeWrapper", parameter_node, parameter_node.__all__),
    ):
        module: Any = types.ModuleType(f"slicer.{name}")
        module.__all__ = list(exported)
        for item in exported:
            setattr(module, item, getattr(source, item))
        sys.modules[module.__name__] = module
        setattr(slicer, name, module)
