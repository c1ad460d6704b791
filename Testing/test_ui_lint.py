"""The panel's .ui files are wired, bound, explained and loadable in Slicer with Qt 5 and Qt 6."""

import re
from pathlib import Path

import pytest

from SlicerHost import ui_lint

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "Testing" / "SlicerHost" / "sample"
GOOD = (SAMPLE / "Resources" / "UI" / "HostSample.ui").read_text(encoding="utf-8")
PARAMETERS = ui_lint.parameter_names((SAMPLE / "HostSample.py").read_text(encoding="utf-8"))

# what is replaced, by what, and the finding
BAD = {
    "a selector that gets no scene": (
        "<receiver>removedSelector</receiver>",
        "<receiver>sigma</receiver>",
        "qMRMLNodeComboBox 'removedSelector' is not connected",
    ),
    "a scoped enum": ("<enum>Qt::Vertical</enum>", "<enum>Qt::Orientation::Vertical</enum>", "scoped enum"),
    "a button without tooltip": (
        '<property name="toolTip"><string>Choose a volume</string></property>',
        "",
        "QPushButton 'applyButton' has no tooltip",
    ),
    "a field whose label has no tooltip": (
        '<property name="toolTip"><string>Scan to smooth</string></property>',
        "",
        "QLabel 'inputLabel' has no tooltip",
    ),
    "a misspelt parameter": ("<string>verbose</string>", "<string>verbos</string>", "'verbos' is no member"),
    "two widgets for one parameter": ("<string>verbose</string>", "<string>sigma</string>", "2 widgets are bound"),
    "two widgets of one name": ('name="verbose"', 'name="sigma"', "2 widgets are named 'sigma'"),
    "a plain top widget": ('<widget class="qMRMLWidget" name', '<widget class="QWidget" name', "the top widget"),
    "an undeclared custom widget": (
        "<class>ctkSliderWidget</class><extends>",
        "<class>ctkOther</class><extends>",
        "ctkSliderWidget is not declared",
    ),
}


@pytest.mark.parametrize(("old", "new", "finding"), BAD.values(), ids=BAD)
def test_a_bad_ui_file_is_found(old: str, new: str, finding: str) -> None:
    assert old in GOOD
    findings = ui_lint.lint_ui(GOOD.replace(old, new), PARAMETERS)
    assert any(finding in text for text in findings), findings


def test_a_good_ui_file_has_no_finding() -> None:
    assert ui_lint.lint_ui(GOOD, PARAMETERS) == []


def test_members_of_the_parameter_class_are_read_from_the_source() -> None:
    assert {"inputVolume", "removedVolume", "sigma", "verbose"} == PARAMETERS


def module_parameters() -> set[str]:
    sources = (ROOT / "MedAE").rglob("*.py")
    return set().union(*(ui_lint.parameter_names(path.read_text(encoding="utf-8")) for path in sources))


def test_the_panels_ui_files_have_no_finding() -> None:
    folder = ROOT / "Resources" / "UI"
    assert list(folder.glob("*.ui")), f"nothing to check in {folder}"
    assert ui_lint.lint_ui_folder(folder, module_parameters()) == []


def test_the_panels_ui_files_load_without_a_word(slicer_host) -> None:
    import slicer

    for path in sorted((ROOT / "Resources" / "UI").glob("*.ui")):
        assert slicer.util.loadUI(str(path)) is not None
        slicer_host.check()


def test_the_loader_reports_what_it_does_not_know(slicer_host, tmp_path: Path) -> None:
    import slicer

    changes = [
        ('<widget class="ctkSliderWidget" name', '<widget class="ctkSlidingWidget" name', "ctkSlidingWidget"),
        ('<property name="singleStep">', '<property name="singleStp">', "no property 'singleStp'"),
        ('<property name="text"><string>Apply', '<property name="txt"><string>Apply', "no property 'txt'"),
        ("<receiver>inputSelector</receiver>", "<receiver>inputSelect</receiver>", "no such widget"),
        ("<slot>setMRMLScene(vtkMRMLScene*)</slot>", "<slot>setScene(vtkMRMLScene*)</slot>", "setScene"),
        ("<signal>mrmlSceneChanged(vtkMRMLScene*)</signal>", "<signal>sceneChanged()</signal>", "no signal"),
    ]
    for index, (old, new, finding) in enumerate(changes):
        path = tmp_path / f"{index}.ui"
        path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
        with slicer_host.expected(re.escape(finding)):
            slicer.util.loadUI(str(path))
        slicer_host.take()  # the unknown class is reported twice: as custom widget and when it is built
