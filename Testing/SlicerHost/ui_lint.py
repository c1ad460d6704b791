"""Finds in .ui files what Designer does not complain about but Slicer's users would: unwired, unbound, unexplained."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

# Containers and displays; every other widget takes the user's input and so must explain itself.
PASSIVE = frozenset(
    {
        *("QWidget", "QFrame", "QLabel", "QProgressBar", "QGroupBox", "QTabWidget", "QStackedWidget", "QScrollArea"),
        *("QSplitter", "Line", "QTextBrowser", "ctkCollapsibleButton", "ctkCollapsibleGroupBox"),
        *("ctkFittedTextBrowser", "qMRMLWidget", "qSlicerWidget", "qMRMLCollapsibleButton", "qMRMLTableView"),
    }
)
_TOP_WIDGETS = ("qMRMLWidget", "qSlicerWidget")
_NEED_NO_SCENE = (*_TOP_WIDGETS, "qMRMLCollapsibleButton")


def parameter_names(source: str) -> set[str]:
    """Names of the members of every class decorated with parameterNodeWrapper."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        if any("parameterNodeWrapper" in ast.unparse(decorator) for decorator in node.decorator_list):
            names |= {ast.unparse(item.target) for item in node.body if isinstance(item, ast.AnnAssign)}
    return names


def lint_ui(text: str, parameters: Collection[str], name: str = "<ui>") -> list[str]:
    """Return one "file: what is wrong" for each finding; `parameters` are the members of the parameter node class."""
    root = ElementTree.fromstring(text)
    findings = [
        *_top(root),
        *_names(root),
        *_wiring(root),
        *_enums(root),
        *_tooltips(root),
        *_bindings(root, parameters),
        *_custom_widgets(root),
    ]
    return [f"{name}: {finding}" for finding in findings]


def lint_ui_folder(folder: Path, parameters: Collection[str]) -> list[str]:
    """Findings of every .ui file below a folder."""
    findings = []
    for path in sorted(folder.rglob("*.ui")):
        findings += lint_ui(path.read_text(encoding="utf-8"), parameters, path.name)
    return findings


def _label(widget: ElementTree.Element) -> str:
    return f"{widget.get('class')} {widget.get('name')!r}"


def _property(widget: ElementTree.Element, name: str) -> str:
    for entry in widget.findall("property"):
        if entry.get("name") == name:
            return "".join(entry.itertext()).strip()
    return ""


def _top(root: ElementTree.Element) -> Iterator[str]:
    top = root.find("widget")
    if top is None or top.get("class") not in _TOP_WIDGETS:
        yield f"the top widget must be one of {_TOP_WIDGETS}, so that it can pass the scene on"


def _names(root: ElementTree.Element) -> Iterator[str]:
    counts = Counter(widget.get("name") for widget in root.iter("widget"))
    yield from (f"{count} widgets are named {name!r}" for name, count in counts.items() if count > 1)


def _wiring(root: ElementTree.Element) -> Iterator[str]:
    """In Slicer a MRML widget without scene stays empty and grey."""
    top = root.find("widget")
    sender = top.get("name") if top is not None else ""
    wanted = (sender, "mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
    wired = {
        entry.findtext("receiver")
        for entry in root.iter("connection")
        if (entry.findtext("sender"), entry.findtext("signal"), entry.findtext("slot")) == wanted
    }
    for widget in root.iter("widget"):
        is_mrml = widget.get("class", "").startswith("qMRML") and widget.get("class") not in _NEED_NO_SCENE
        if is_mrml and widget.get("name") not in wired:
            yield f"{_label(widget)} is not connected to {sender}.mrmlSceneChanged(vtkMRMLScene*)"


def _enums(root: ElementTree.Element) -> Iterator[str]:
    for entry in (*root.iter("enum"), *root.iter("set")):
        for value in (entry.text or "").split("|"):
            if value.count("::") > 1:
                yield f"{value}: scoped enum; Qt 5 knows only {value.split('::')[0]}::{value.split('::')[-1]}"


def _tooltips(root: ElementTree.Element) -> Iterator[str]:
    for widget in root.iter("widget"):
        read_only = _property(widget, "readOnly") == "true"
        if widget.get("class") not in PASSIVE and not read_only and not _property(widget, "toolTip"):
            yield f"{_label(widget)} has no tooltip"
    for item in (item for form in root.iter("layout") for item in form.findall("item[@column='0']")):
        label = item.find("widget[@class='QLabel']")  # of the field beside it: whoever points at it asks the same
        if item.get("colspan") is None and label is not None and not _property(label, "toolTip"):
            yield f"{_label(label)} has no tooltip"


def _bindings(root: ElementTree.Element, parameters: Collection[str]) -> Iterator[str]:
    bound: Counter[str] = Counter()
    for widget in root.iter("widget"):
        parameter = _property(widget, "SlicerParameterName")
        if not parameter:
            continue
        bound[parameter] += 1
        if parameter not in parameters:
            yield f"{_label(widget)}: SlicerParameterName {parameter!r} is no member of the parameter node class"
    yield from (f"{count} widgets are bound to {parameter!r}" for parameter, count in bound.items() if count > 1)


def _custom_widgets(root: ElementTree.Element) -> Iterator[str]:
    declared = {entry.findtext("class") for entry in root.iter("customwidget")}
    used = {widget.get("class", "") for widget in root.iter("widget")}
    for name in sorted(used - declared):
        if not name.startswith("Q") and name != "Line":
            yield f"{name} is not declared among the custom widgets"
