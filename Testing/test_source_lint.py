"""The module's sources use only what Slicer's PythonQt, Qt 5.15 and 6 and Python 3.12 understand."""

from pathlib import Path

import pytest

from SlicerHost import qt_names, source_lint

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "MedAE"
SAMPLE = ROOT / "Testing" / "SlicerHost" / "sample"

BAD = {
    "import PySide6": "import PySide6",
    "from PySide6.QtCore import QTimer": "import PySide6",
    "from PythonQt.QtGui import QLabel": "import PythonQt",
    "import imp": "import imp",
    "from qt import Signal": "qt.Signal",
    "class A:\n    done = qt.Signal(int)": "qt.Signal",
    "qt.QTextCodec.codecForName('UTF-8')": "qt.QTextCodec",
    "pattern = qt.QRegExp('a')": "qt.QRegExp",
    "label.setAlignment(qt.Qt.AlignmentFlag.AlignLeft)": "write qt.Qt.AlignLeft",
    "box.setSizePolicy(qt.QSizePolicy.Policy.Expanding, qt.QSizePolicy.Fixed)": "write qt.QSizePolicy.Expanding",
    "box.stateChanged.connect(f)": "use toggled",
    "box.connect('stateChanged(int)', f)": "use toggled(bool)",
    "combo.connect('currentIndexChanged(QString)', f)": "use currentTextChanged",
    "layout.margin = 0": "use setContentsMargins",
    "layout.setMargin(0)": "use setContentsMargins",
    "dialog.exec()": "use exec_()",
    "label = qt.QLabel('a', parent=self)": "no keyword arguments",
    "settings.value('a', False, type=bool)": "PySide only",
    "_(f'{name} is done')": "must be literal",
    "while not done():\n    slicer.app.processEvents()": "use a QTimer",
    "pattern = '\\d'": "invalid escape sequence",
}

GOOD = """
import qt, ctk, slicer
from slicer.i18n import tr as _
label.setAlignment(qt.Qt.AlignLeft | qt.Qt.AlignVCenter)
label.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
box.toggled.connect(f)
layout.setContentsMargins(0, 0, 0, 0)
print(layout.margin)
dialog.exec_()
qt.QTimer.singleShot(0, f)
_("{name} is done").format(name=name)
ctk.ctkPathLineEdit.Dirs
slicer.app.processEvents()
"""


@pytest.mark.parametrize(("source", "finding"), BAD.items(), ids=[source.splitlines()[0] for source in BAD])
def test_what_slicer_does_not_understand_is_found(source: str, finding: str) -> None:
    findings = source_lint.lint_source(source)
    assert any(finding in text for text in findings), findings


def test_the_idioms_of_slicer_pass() -> None:
    assert source_lint.lint_source(GOOD) == []


def test_a_finding_names_file_and_line() -> None:
    assert source_lint.lint_source("import qt\nimport imp\n", "a.py")[0].startswith("a.py:2: ")


def test_a_name_that_qt_does_not_have_is_found(slicer_host) -> None:
    import ctk
    import qt

    source = "import qt\nqt.QLabel\nqt.QTimer.singleShot\nqt.QLable('x')\nqt.Qt.AlignLefft\nctk.ctkSliderWidget\n"
    assert qt_names.unknown_names(source, {"qt": qt, "ctk": ctk}, "a.py") == [
        "a.py:4: qt.QLable does not exist",
        "a.py:5: qt.Qt.AlignLefft does not exist",
    ]


@pytest.mark.parametrize("folder", [MODULE, SAMPLE], ids=["MedAE", "sample"])
def test_the_sources_have_no_finding(folder: Path, slicer_host) -> None:
    import ctk
    import qt

    assert list(folder.rglob("*.py")), f"nothing to check in {folder}"
    assert source_lint.lint_folder(folder) == []
    assert qt_names.unknown_names_in_folder(folder, {"qt": qt, "ctk": ctk}) == []
