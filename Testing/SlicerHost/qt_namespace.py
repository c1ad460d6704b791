"""The module `qt`: PySide6 with PythonQt's manners, off-screen, with settings in a temporary file."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
import types
from atexit import register as at_exit
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

from . import problems, qt_attributes, qt_properties

_MODULES = (QtNetwork, QtUiTools, QtGui, QtWidgets, QtCore)
# Said by Qt about the off-screen platform or about fonts; they say nothing about the module under test.
_HARMLESS = ("propagateSizeHints", "QFontDatabase", "qt.qpa", "XDG_RUNTIME_DIR", "This plugin does not support")


def install() -> Any:
    """Create the application object and the module `qt`; the second call returns the first one's module."""
    if "qt" in sys.modules:
        return sys.modules["qt"]
    _keep_constants_alive()
    _use_temporary_settings()
    QtCore.qInstallMessageHandler(_on_qt_message)
    qt: Any = types.ModuleType("qt")
    qt.host_application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    for module in _MODULES:
        for name in dir(module):
            if name.startswith("Q"):
                setattr(qt, name, getattr(module, name))
    classes = {value for value in vars(qt).values() if isinstance(value, type) and issubclass(value, QtCore.QObject)}
    qt_properties.patch_properties(classes)
    qt_attributes.patch_attributes(qt, classes)
    sys.modules["qt"] = qt
    return qt


def _keep_constants_alive() -> None:
    """PySide 6.12 loses a reference to True or None with many calls; before Python 3.12 that would end the process."""
    if sys.version_info < (3, 12):
        for constant in (True, False, None):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


def _use_temporary_settings() -> None:
    folder = tempfile.mkdtemp(prefix="slicerhost-settings-")
    at_exit(shutil.rmtree, folder, True)
    QtCore.QCoreApplication.setOrganizationName("SlicerHost")
    QtCore.QCoreApplication.setApplicationName("Slicer")
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
        QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, folder)


def _on_qt_message(kind: Any, _context: Any, text: str) -> None:
    if kind == QtCore.QtMsgType.QtDebugMsg or kind == QtCore.QtMsgType.QtInfoMsg:
        return
    if not any(part in text for part in _HARMLESS):
        problems.record("qt", text)
