"""The test host runs scripted modules as Slicer does, and nothing that goes wrong out of sight stays unseen."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_host_scene_and_views import scan

TESTING = Path(__file__).resolve().parent
SAMPLE = TESTING / "SlicerHost" / "sample" / "HostSample.py"


@pytest.fixture
def sample(slicer_host):
    """The sample module, loaded."""
    return slicer_host.load_module(SAMPLE)


def module_like_the_sample(folder: Path, name: str, old: str = "", new: str = "", ui_old: str = "", ui_new: str = ""):
    """Write a copy of the sample module under another name, with one place changed."""
    ui = SAMPLE.parent / "Resources" / "UI" / "HostSample.ui"
    source, text = SAMPLE.read_text(encoding="utf-8"), ui.read_text(encoding="utf-8")
    assert old in source
    assert ui_old in text
    path = folder / f"{name}.py"
    (folder / "Resources" / "UI").mkdir(parents=True)
    path.write_text(source.replace(old, new, 1).replace("HostSample", name), encoding="utf-8")
    changed = text.replace(ui_old, ui_new, 1).replace("HostSample", name)
    (folder / "Resources" / "UI" / f"{name}.ui").write_text(changed, encoding="utf-8")
    return path


def run_host(path: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "SlicerHost", str(path), *arguments]
    return subprocess.run(command, cwd=TESTING, capture_output=True, text=True, timeout=120)


# ---- the runner


def test_the_runner_passes_a_good_module_and_takes_pictures(tmp_path: Path) -> None:
    run = run_host(SAMPLE, "--screenshots", str(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "test_panel_applies" in run.stdout
    assert "runTest() of the panel ... ok" in run.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"panel.png", "red.png", "yellow.png", "green.png"}


def test_the_runner_fails_when_only_the_host_saw_the_problem(tmp_path: Path) -> None:
    path = module_like_the_sample(tmp_path, "Quiet", "self.bind()\n\n    def cleanup", "1 / 0\n\n    def cleanup")
    assert run_host(path).returncode == 1
    path = module_like_the_sample(tmp_path / "ui", "QuietUi", ui_old='name="singleStep"', ui_new='name="singleStp"')
    run = run_host(path)
    assert run.returncode == 1
    assert "has no property 'singleStp'" in run.stdout


def test_the_runner_refuses_a_wrong_path_in_one_line(tmp_path: Path) -> None:
    run = run_host(tmp_path / "None.py")
    assert run.returncode == 2
    assert run.stderr.strip() == f"There is no module file {tmp_path / 'None.py'}."


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("SlotFails", "raise OSError('no disk')"),
        ("VtkFails", "slicer.mrmlScene.AddNewNodeByClass('vtkMRMLNoSuchNode')"),
        ("AttributeFails", "self.ui.progressBar.valu = 100"),
        ("MethodFails", "self.ui.progressBar.setValue = 100"),
    ],
)
def test_a_hidden_problem_fails_the_test_that_caused_it(slicer_host, tmp_path: Path, name: str, line: str) -> None:
    done = "self.ui.progressBar.value = 100"
    module = slicer_host.load_module(module_like_the_sample(tmp_path, name, done, f"{done}\n            {line}"))
    slicer_host.open_panel(module)
    with (tmp_path / "out.txt").open("w") as stream:
        result = slicer_host.run_module_tests(module, stream)
    failed = {test.id().rsplit(".", 1)[-1] for test, _text in result.failures + result.errors}
    assert failed == {"test_panel_applies", "test_scene_keeps_parameters", "run_all_as_the_panel_does"}
    assert not slicer_host.take()


@pytest.mark.skipif(not os.environ.get("SLICER_PYTHON_DIR"), reason="SLICER_PYTHON_DIR names no Slicer source")
def test_slicers_own_base_classes_are_used_when_named(slicer_host) -> None:
    from slicer.ScriptedLoadableModule import ScriptedLoadableModule

    source = sys.modules[ScriptedLoadableModule.__module__].__file__ or ""
    assert source.startswith(os.environ["SLICER_PYTHON_DIR"])


# ---- guards


def test_an_exception_in_a_slot_is_raised_at_the_end(slicer_host) -> None:
    import qt

    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    with pytest.raises(slicer_host.HostProblems, match="ZeroDivisionError"):
        slicer_host.check()


def test_an_exception_in_a_vtk_observer_is_raised_at_the_end(slicer_host) -> None:
    import slicer

    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, lambda caller, event: 1 / 0)
    scan()
    slicer.mrmlScene.RemoveObserver(tag)
    with pytest.raises(slicer_host.HostProblems, match="ZeroDivisionError"):
        slicer_host.check()


def test_vtk_errors_and_warnings_are_raised_at_the_end(slicer_host) -> None:
    import vtk

    vtk.vtkContourFilter().Update()  # an error: it has no input
    with pytest.raises(slicer_host.HostProblems, match="vtk"):
        slicer_host.check()


def test_qt_warnings_are_raised_at_the_end(slicer_host) -> None:
    import qt

    widget = qt.QWidget()
    qt.QVBoxLayout(widget)
    qt.QVBoxLayout(widget)
    with pytest.raises(slicer_host.HostProblems, match="already has a layout"):
        slicer_host.check()


def test_an_expected_problem_is_no_problem_but_its_absence_is(slicer_host) -> None:
    import vtk

    with slicer_host.expected("vtkContourFilter|vtk"):
        vtk.vtkContourFilter().Update()
    slicer_host.check()
    with pytest.raises(slicer_host.HostProblems, match="nothing of the kind"), slicer_host.expected("never"):
        pass


def test_a_signal_that_does_not_exist_cannot_be_connected(slicer_host) -> None:
    import qt
    import slicer

    with pytest.raises(ValueError, match=r"no signal clicked\(int\)"):
        qt.QPushButton().connect("clicked(int)", print)
    with pytest.raises(ValueError, match="no signal"):
        slicer.qMRMLNodeComboBox().connect("currentNodeChanged(int)", print)


# ---- PythonQt's manners


def test_properties_are_values_and_setters_remain(slicer_host) -> None:
    import qt

    box = qt.QCheckBox("Verbose")
    box.checked = True
    assert box.checked is True
    assert box.isChecked() is True
    box.setChecked(False)
    assert box.text == "Verbose"
    with pytest.raises(TypeError):
        box.text()
    box.objectName = "verbose"
    assert (box.name, box.objectName) == ("verbose", "verbose")
    assert box.className() == "QCheckBox"


def test_lists_come_out_as_tuples(slicer_host) -> None:
    import qt
    import slicer

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert box.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    parent = qt.QWidget()
    child = qt.QLabel(parent)
    assert parent.children() == (child,)
    assert parent.findChildren("QLabel") == (child,)


def test_children_and_dynamic_properties_are_attributes(slicer_host) -> None:
    import qt

    parent = qt.QWidget()
    child = qt.QLabel(parent)
    child.objectName = "title"
    parent.setProperty("SlicerParameterName", "strength")
    assert parent.title is child
    assert parent.SlicerParameterName == "strength"
    parent.SlicerParameterName = "tile"
    assert parent.property("SlicerParameterName") == "tile"
    with pytest.raises(AttributeError):
        _ = parent.nothing


def test_handlers_may_take_fewer_arguments_and_can_be_disconnected(slicer_host) -> None:
    import qt

    heard = []

    def on_click():
        heard.append("click")

    button = qt.QPushButton()
    button.connect("clicked(bool)", on_click)
    button.connect("clicked(bool)", heard.append)
    button.click()
    assert heard == ["click", False]
    assert button.disconnect("clicked(bool)", on_click)
    assert not button.disconnect("clicked(bool)", on_click)
    button.click()
    assert heard == ["click", False, False]


def test_a_widget_class_of_the_module_may_hold_attributes(slicer_host) -> None:
    import qt

    class Panel(qt.QWidget):
        pass

    panel = Panel()
    panel.rows = 3
    assert panel.rows == 3


def test_timers_run_and_settings_do_not_leave_the_process(slicer_host) -> None:
    import qt

    heard = []
    qt.QTimer.singleShot(0, lambda: heard.append(1))
    assert slicer_host.wait_until(lambda: heard, 5)
    assert not slicer_host.wait_until(lambda: False, 0.02)
    assert "slicerhost" in qt.QSettings().fileName()


def test_a_stall_of_the_event_loop_is_measured(slicer_host) -> None:
    import time

    import qt

    with slicer_host.StallMeter() as meter:
        qt.QTimer.singleShot(10, lambda: time.sleep(0.15))
        slicer_host.wait_until(lambda: meter.worst > 0.1, 5)
    assert 0.14 < meter.worst < 2
    assert meter.stalls


def test_a_thousand_signals_do_not_wear_out_true(slicer_host) -> None:
    import ctk

    before = sys.getrefcount(True)
    slider = ctk.ctkSliderWidget()
    for value in range(1000):
        slider.value = value % 50
    assert sys.getrefcount(True) > 1_000_000 or before == sys.getrefcount(True)


# ---- dialogs and packages


def test_dialogs_are_written_down_and_answered_by_the_test(slicer_host) -> None:
    import qt
    import slicer

    assert slicer.util.confirmYesNoDisplay("Really?") is False  # unanswered: as in Slicer's testing mode
    slicer_host.answer(True, False, "/data/scan.nii.gz", 1)
    assert slicer.util.confirmOkCancelDisplay("Go on?") is True
    assert slicer.util.confirmYesNoDisplay("Sure?") is False
    assert qt.QFileDialog.getOpenFileName(None, "Open") == "/data/scan.nii.gz"
    assert qt.QDialog().exec_() == 1
    slicer.util.errorDisplay("It failed.", detailedText="because")
    kinds = [(dialog.kind, dialog.text) for dialog in slicer_host.dialogs]
    assert kinds[1:4] == [("confirm", "Go on?"), ("confirm", "Sure?"), ("file", "Open")]
    assert kinds[-1] == ("error", "It failed.")
    assert slicer_host.dialogs[-1].details == "because"


def test_an_error_reaches_the_user_outside_testing_mode(slicer_host) -> None:
    import slicer

    slicer.app.setTestingEnabled(False)
    with pytest.raises(OSError, match="disk"), slicer.util.tryWithErrorDisplay("Saving failed.", waitCursor=True):
        raise OSError("the disk is full")
    assert [dialog.text for dialog in slicer_host.dialogs] == ["Saving failed.\n\nthe disk is full"]


def test_requests_for_packages_are_written_down_and_nothing_is_installed(slicer_host, tmp_path: Path) -> None:
    import slicer.packaging

    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# worker\ntorch>=2.2\n-r other.txt\n\nmonai\n", encoding="utf-8")
    calls = slicer_host.packaging_calls
    assert [str(one) for one in slicer.packaging.load_requirements(requirements)] == ["torch>=2.2", "monai"]
    calls.satisfied = False
    assert not slicer.packaging.pip_check("torch")
    slicer.packaging.pip_ensure("torch", requester="MedAE")
    assert slicer.packaging.pip_check("torch")
    calls.failure = RuntimeError("declined")
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_install("torch")
    assert calls.names() == ["load_requirements", "pip_check", "pip_ensure", "pip_check", "pip_install"]


# ---- panel


def test_a_panel_is_opened_left_entered_and_closed(slicer_host, sample) -> None:
    import slicer

    widget = slicer_host.open_panel(sample)
    assert slicer.modules.hostsample.widgetRepresentation().self() is widget
    assert slicer.util.getModuleWidget("HostSample") is widget
    assert slicer.modules.HostSampleWidget is widget
    sample.representation.exit()
    assert widget.parameters is None
    assert slicer_host.open_panel(sample) is widget
    assert widget.parameters is not None
    slicer_host.close_panel(sample)
    assert widget.parameters is None
    assert not hasattr(slicer.modules, "HostSampleWidget")
    assert slicer_host.open_panel(sample) is not widget


def test_a_panel_can_be_reloaded_from_its_source(slicer_host, sample) -> None:
    import slicer

    widget = slicer_host.open_panel(sample)
    scan()
    slicer.util.reloadScriptedModule("HostSample")
    fresh = slicer.util.getModuleWidget("HostSample")
    assert fresh is not widget
    assert widget.parameters is None
    fresh.ui.sigma.value = 1.0
    assert fresh.parameters.sigma == 1.0


def test_a_picture_of_the_panel_is_not_blank(slicer_host, sample, tmp_path: Path) -> None:
    widget = slicer_host.open_panel(sample)
    picture = slicer_host.grab_widget(widget.parent, tmp_path / "panel.png")
    assert picture.shape[1] >= 300
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert (tmp_path / "panel.png").is_file()


def test_widget_and_parameter_node_follow_each_other(slicer_host, sample) -> None:
    widget = slicer_host.open_panel(sample)
    widget.ui.sigma.value = 3.5
    assert widget.parameters.sigma == 3.5
    widget.parameters.sigma = 1.25
    assert widget.ui.sigma.value == 1.25
    volume = scan()
    widget.parameters.removedVolume = volume
    assert widget.ui.removedSelector.currentNode() is volume
    with pytest.raises(ValueError, match=r"range|within"):
        widget.parameters.sigma = 9.0


def test_a_parameter_node_without_views_or_testing_mode_still_works(slicer_host, sample) -> None:
    """Slicer without main window has no layout manager."""
    import slicer

    manager = slicer.app.layoutManager()
    slicer.app.setLayoutManager(None)
    try:
        widget = slicer_host.open_panel(sample)
        scan()
        assert widget.ui.applyButton.enabled
    finally:
        slicer.app.setLayoutManager(manager)
