"""The host's parameter node wrapper keeps, checks and binds parameters as Slicer's does (it runs on either)."""

import enum
import pathlib
from typing import Annotated

import pytest


class Mode(enum.Enum):
    """A choice with a text for the user."""

    FAST = 1
    EXACT = 2

    def label(self):
        return self.name.capitalize()


@pytest.fixture
def wrapper(slicer_host):
    """A parameter node class with one member of each kind, and a node for it."""
    import slicer
    from slicer.parameterNodeWrapper import (
        Choice,
        Decimals,
        Default,
        Maximum,
        Minimum,
        SingleStep,
        WithinRange,
        parameterNodeWrapper,
    )

    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        strength: Annotated[float, WithinRange(0, 1), Decimals(3), SingleStep(0.05)] = 0.5
        tile: Annotated[int, Minimum(0), Maximum(512)] = 96
        removed: bool
        device: str = "auto"
        precision: Annotated[str, Choice(["auto", "float32"])] = "auto"
        mode: Annotated[Mode, Default(Mode.EXACT)]
        folder: pathlib.Path

    Parameters.__annotations__["volume"] = slicer.vtkMRMLScalarVolumeNode
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    return parameterNodeWrapper(Parameters)(node)


def test_members_that_were_never_set_have_their_defaults(wrapper) -> None:
    assert wrapper.volume is None
    assert (wrapper.strength, wrapper.tile, wrapper.removed, wrapper.device) == (0.5, 96, False, "auto")
    assert (wrapper.precision, wrapper.mode, wrapper.folder) == ("auto", Mode.EXACT, pathlib.Path())
    assert wrapper.default("tile").value == 96


def test_values_are_kept_as_the_texts_that_slicer_writes(wrapper) -> None:
    import slicer

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    wrapper.volume, wrapper.strength, wrapper.removed, wrapper.mode = volume, 0.25, True, Mode.FAST
    node = wrapper.parameterNode
    assert node.GetNodeReferenceID("volume") == volume.GetID()
    assert [node.GetParameter(name) for name in ("strength", "removed", "mode")] == ["0.25", "True", "FAST"]
    assert wrapper.volume is volume
    assert (wrapper.strength, wrapper.removed, wrapper.mode) == (0.25, True, Mode.FAST)
    wrapper.volume = None
    assert wrapper.volume is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("strength", 1.5), ("tile", -1), ("tile", 513), ("tile", 1.5), ("precision", "int8"), ("device", 3), ("mode", 1)],
)
def test_a_value_that_is_not_allowed_is_refused_and_the_old_one_stays(wrapper, name: str, value) -> None:
    before = getattr(wrapper, name)
    with pytest.raises((ValueError, TypeError)):
        setattr(wrapper, name, value)
    assert getattr(wrapper, name) == before


def test_widgets_and_members_follow_each_other_until_they_are_disconnected(wrapper) -> None:
    import ctk
    import qt
    import slicer

    widgets = {
        "volume": slicer.qMRMLNodeComboBox(),
        "strength": ctk.ctkSliderWidget(),
        "tile": qt.QSpinBox(),
        "removed": qt.QCheckBox(),
        "device": qt.QLineEdit(),
        "precision": qt.QComboBox(),
        "mode": qt.QComboBox(),
        "folder": ctk.ctkPathLineEdit(),
    }
    widgets["volume"].setMRMLScene(slicer.mrmlScene)
    tag = wrapper.connectParametersToGui(widgets)
    assert widgets["strength"].decimals == 3
    assert (widgets["strength"].maximum, widgets["tile"].maximum) == (1, 512)
    assert [widgets["mode"].itemText(index) for index in range(2)] == ["Fast", "Exact"]
    assert widgets["volume"].nodeTypes == ("vtkMRMLScalarVolumeNode",)

    widgets["strength"].value = 0.125
    widgets["tile"].value = 64
    widgets["removed"].checked = True
    widgets["device"].text = "cpu"
    widgets["precision"].currentIndex = 1
    widgets["mode"].currentIndex = 0
    widgets["folder"].currentPath = "wheels"
    volume = widgets["volume"].addNode()
    assert (wrapper.strength, wrapper.tile, wrapper.removed, wrapper.device) == (0.125, 64, True, "cpu")
    assert (wrapper.precision, wrapper.mode, wrapper.folder) == ("float32", Mode.FAST, pathlib.Path("wheels"))
    assert wrapper.volume is volume

    wrapper.strength, wrapper.mode, wrapper.folder, wrapper.volume = 1.0, Mode.EXACT, pathlib.Path("other"), None
    assert (widgets["strength"].value, widgets["mode"].currentText) == (1.0, "Exact")
    assert widgets["folder"].currentPath == "other"
    assert widgets["volume"].currentNode() is None

    wrapper.disconnectGui(tag)
    wrapper.tile = 32
    widgets["strength"].value = 0.5
    assert (widgets["tile"].value, wrapper.strength) == (64, 1.0)


def test_a_widget_that_slicer_cannot_bind_is_refused(wrapper) -> None:
    import qt

    for name, widget in {"device": qt.QPlainTextEdit(), "strength": qt.QSpinBox(), "tile": qt.QLabel()}.items():
        with pytest.raises(RuntimeError):
            wrapper.connectParametersToGui({name: widget})
    with pytest.raises(RuntimeError, match="Choice"):
        wrapper.connectParametersToGui({"device": qt.QComboBox()})
    with pytest.raises(ValueError, match="Cannot find"):
        wrapper.connectParametersToGui({"devise": qt.QLineEdit()})


def test_two_wrappers_of_one_node_see_the_same_values(wrapper) -> None:
    other = type(wrapper)(wrapper.parameterNode)
    wrapper.tile = 128
    assert other.tile == 128
