"""Dialogs are written down instead of shown: what the user would have read, and the answer that the test gave."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6 import QtWidgets


@dataclass(frozen=True)
class Dialog:
    """One dialog; kind is "info", "warning", "error", "confirm", "message", "dialog", "menu", "file" or "input"."""

    kind: str
    text: str
    title: str = ""
    details: str = ""
    answer: Any = None


dialogs: list[Dialog] = []
_answers: deque[Any] = deque()


def answer(*values: Any) -> None:
    """Queue the answers of the next dialogs: True or False for confirmations, a path for file dialogs, else a code."""
    _answers.extend(values)


def clear() -> None:
    """Forget the dialogs shown and the answers not yet used."""
    dialogs.clear()
    _answers.clear()


def install(qt: Any, util: Any) -> None:
    """Replace the message boxes of slicer.util and everything in Qt that would wait for a user."""
    _patch_slicer_util(qt, util)
    _patch_exec(qt)
    _patch_message_boxes(qt)
    _patch_choosers(qt)


def _note(kind: str, text: str, default: Any, title: str = "", details: str = "") -> Any:
    given = _answers.popleft() if _answers else default
    dialogs.append(Dialog(kind, str(text), str(title or ""), str(details or ""), given))
    return given


def _patch_slicer_util(qt: Any, util: Any) -> None:
    kinds = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}
    box = qt.QMessageBox

    def message_display(  # the parameters are those of slicer.util._messageDisplay
        logLevel: int,
        text: str,
        testingReturnValue: Any,
        mainWindowNeeded: bool = False,
        parent: Any = None,
        windowTitle: str | None = None,
        **options: Any,
    ) -> Any:
        logging.log(logLevel, text)
        asks = testingReturnValue is not None
        kind = "confirm" if asks else kinds.get(logLevel, "message")
        given = _note(kind, text, None, windowTitle or "", options.get("detailedText", ""))
        if given is None:
            # Unanswered: what Slicer does in testing mode. Its True is no button, so confirm...Display returns False.
            return testingReturnValue
        if not isinstance(given, bool):
            return given
        buttons = int(options.get("standardButtons", 0))
        yes, no = (box.Yes, box.No) if buttons & int(box.Yes) else (box.Ok, box.Cancel)
        return yes if given else no

    def message_box(text: str, parent: Any = None, **options: Any) -> Any:
        return _note("message", text, box.Ok, options.get("windowTitle", ""), options.get("detailedText", ""))

    util._messageDisplay = message_display
    util.messageBox = message_box


def _patch_exec(qt: Any) -> None:
    """`dialog.exec_()` answers at once: the queued answer, else 0 (rejected)."""

    def execute(self: Any, *_where: Any) -> Any:
        is_box = isinstance(self, QtWidgets.QMessageBox)
        text = self.text if is_box else self.windowTitle
        details = self.informativeText if is_box else ""
        given = _note("message" if is_box else "dialog", text, 0, self.windowTitle, details)
        return int(given)

    for cls in (qt.QDialog, qt.QMessageBox, qt.QFileDialog, qt.QInputDialog, qt.QProgressDialog, qt.QColorDialog):
        cls.exec_ = cls.exec = execute

    def execute_menu(self: Any, *_where: Any) -> Any:
        return _note("menu", self.title, None)

    qt.QMenu.exec_ = qt.QMenu.exec = execute_menu


def _patch_message_boxes(qt: Any) -> None:
    box = qt.QMessageBox
    defaults = {"information": box.Ok, "warning": box.Ok, "critical": box.Ok, "question": box.No, "about": None}
    for name, default in defaults.items():
        setattr(box, name, staticmethod(_message_box("confirm" if name == "question" else name, default)))


def _message_box(kind: str, default: Any) -> Callable[..., Any]:
    def show(_parent: Any, title: str, text: str, *_buttons: Any) -> Any:
        return _note(kind, text, default, title)

    return show


def _patch_choosers(qt: Any) -> None:
    """File and input dialogs return what PythonQt returns: a plain text (or a tuple of texts), "" when cancelled."""
    for cls, kind, defaults in (
        (qt.QFileDialog, "file", {"getOpenFileName": "", "getSaveFileName": "", "getExistingDirectory": ""}),
        (qt.QFileDialog, "file", {"getOpenFileNames": ()}),
        (qt.QInputDialog, "input", {"getText": "", "getItem": "", "getInt": 0, "getDouble": 0.0}),
    ):
        for name, default in defaults.items():
            setattr(cls, name, staticmethod(_chooser(kind, default)))


def _chooser(kind: str, default: Any) -> Callable[..., Any]:
    def choose(_parent: Any = None, title: str = "", *_rest: Any, **_options: Any) -> Any:
        return _note(kind, title, default, title)

    return choose
