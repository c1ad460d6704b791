"""Compare: before and after in the same views, side by side and linked, and the data probe under the mouse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan


def backgrounds() -> dict[str, Any]:
    """Name of the volume that each of the user's own slice views shows."""
    import slicer

    found = {}
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        node = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
        found[composite.GetLayoutName()] = node.GetName() if node else None
    return {name: shown for name, shown in found.items() if name in ("Red", "Green", "Yellow")}


def show(node: Any) -> None:
    import slicer

    slicer.util.setSliceViewerLayers(background=node, fit=True)


def side_by_side_after_a_run(panel: OpenPanel) -> tuple[Any, int]:
    """Run on a scan that is shown and press the button: the layout manager, and the layout before."""
    import slicer

    scan = add_scan()
    show(scan)
    panel.run(scan)
    manager = slicer.app.layoutManager()
    before = manager.layout
    panel.ui.sideBySideButton.click()
    return manager, before


def test_after_a_run_the_views_show_the_result_and_before_brings_back_the_input(panel: OpenPanel) -> None:
    scan = add_scan()
    show(scan)
    panel.run(scan)
    assert set(backgrounds().values()) == {"CT chest denoised"}
    assert "removed noise side by side" in panel.ui.sideBySideButton.toolTip
    panel.ui.beforeButton.click()
    assert set(backgrounds().values()) == {"CT chest"}
    panel.ui.beforeButton.click()
    assert set(backgrounds().values()) == {"CT chest denoised"}


def test_headings_and_tooltips_say_what_the_task_lets_compare(panel: OpenPanel) -> None:
    ui = panel.ui
    panel.choose(add_scan())
    for task, heading, word in (
        ("denoise", "Denoised", "denoised volume"), ("anomaly", "Typical", "nearest typical scan"),
        ("compress", "Decoded", "decoded volume"), ("translate", "Translated", "translated scan"),
    ):  # fmt: skip
        panel.parameters.task = task
        assert ui.probeOutputHeading.text == heading
        said = ui.sideBySideButton.toolTip
        assert said.startswith("Nothing to compare yet") and word in said and not ui.compareCollapsibleButton.isHidden()
        assert ("denoised" in ui.beforeButton.toolTip) == (task == "denoise")
        assert ui.probeDifferenceLabel.isHidden() == (task == "translate")
    panel.parameters.task = "features"
    assert ui.compareCollapsibleButton.isHidden()  # a table has nothing to compare


def test_a_run_that_makes_nothing_to_compare_leaves_the_views_alone(panel: OpenPanel) -> None:
    scan = add_scan()
    show(scan)
    panel.run(scan)
    show(scan)  # the user looks at the input again
    panel.parameters.task = "features"
    panel.run()
    assert panel.controller.state == "done"
    assert set(backgrounds().values()) == {"CT chest"}


def test_there_is_a_way_back_from_side_by_side_when_the_result_is_gone(panel: OpenPanel) -> None:
    import slicer

    manager, before = side_by_side_after_a_run(panel)
    slicer.mrmlScene.RemoveNode(panel.controller.results["denoised"])
    panel.widget.panel.update()
    assert panel.ui.sideBySideButton.enabled and not panel.ui.beforeButton.enabled
    panel.ui.sideBySideButton.click()
    assert manager.layout == before
    assert not panel.ui.sideBySideButton.enabled


def test_a_task_without_comparison_returns_to_the_user_s_layout(panel: OpenPanel) -> None:
    manager, before = side_by_side_after_a_run(panel)
    assert manager.layout != before
    panel.parameters.task = "train"
    assert manager.layout == before and not panel.ui.sideBySideButton.checked


def test_a_view_that_shows_something_else_is_left_alone(panel: OpenPanel) -> None:
    import slicer

    scan, other = add_scan(), add_scan("other scan")
    show(scan)
    green = slicer.app.layoutManager().sliceWidget("Green").mrmlSliceCompositeNode()
    green.SetBackgroundVolumeID(other.GetID())
    panel.run(scan)
    assert backgrounds() == {"Red": "CT chest denoised", "Green": "other scan", "Yellow": "CT chest denoised"}


def test_side_by_side_shows_three_linked_views_and_returns_to_the_user_s_layout(panel: OpenPanel) -> None:
    import slicer

    manager, before = side_by_side_after_a_run(panel)
    assert set(manager.sliceViewNames()) == {"MedAEBefore", "MedAEAfter", "MedAERemoved"}
    shown, places = {}, []
    for name in manager.sliceViewNames():
        logic = manager.sliceWidget(name).sliceLogic()
        composite = logic.GetSliceCompositeNode()
        shown[name] = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID()).GetName()
        assert composite.GetLinkedControl()
        matrix = logic.GetSliceNode().GetSliceToRAS()
        places.append([round(matrix.GetElement(r, c), 6) for r in range(4) for c in range(4)])
    assert shown == {
        "MedAEBefore": "CT chest",
        "MedAEAfter": "CT chest denoised",
        "MedAERemoved": "CT chest removed noise",
    }
    assert places[0] == places[1] == places[2]
    panel.ui.sideBySideButton.click()
    assert manager.layout == before
    assert set(backgrounds().values()) == {"CT chest denoised"}


def layers() -> dict[str, tuple[Any, Any, float]]:
    """Background, foreground and its opacity of the user's own slice views."""
    import slicer

    found = {}
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        ids = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
        names = (slicer.mrmlScene.GetNodeByID(identifier or "") for identifier in ids)
        shown = tuple(node.GetName() if node else None for node in names)
        found[composite.GetLayoutName()] = (*shown, round(composite.GetForegroundOpacity(), 3))
    return {name: found[name] for name in ("Red", "Green", "Yellow")}


def test_the_strength_slider_acts_at_once_after_the_run_and_changes_no_voxel(panel: OpenPanel) -> None:
    import slicer

    scan = add_scan()
    show(scan)
    panel.run(scan)
    result = panel.controller.results["denoised"]
    voxels = slicer.util.arrayFromVolume(result).copy()
    panel.ui.strengthSlider.value = 0.4
    assert set(layers().values()) == {("CT chest", "CT chest denoised", 0.4)}
    panel.ui.beforeButton.click()
    assert set(layers().values()) == {("CT chest", None, 0.0)}
    panel.ui.beforeButton.click()
    panel.ui.strengthSlider.value = 1.0
    assert set(layers().values()) == {("CT chest denoised", None, 0.0)}
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), voxels)


def test_what_is_shown_at_a_strength_looks_like_the_voxels_mixed_at_that_strength(panel: OpenPanel) -> None:
    import slicer

    import SlicerHost

    scan = add_scan(size=(40, 40, 20))
    show(scan)
    panel.run(scan)
    result = panel.controller.results["denoised"]
    before, after = (slicer.util.arrayFromVolume(node).astype(float) for node in (scan, result))
    after = after + 60.0  # a change that can be seen
    slicer.util.updateVolumeFromArray(result, after)
    panel.ui.strengthSlider.value = 0.5
    mixed = SlicerHost.render_slice("Red").astype(int)
    panel.ui.strengthSlider.value = 1.0
    slicer.util.updateVolumeFromArray(result, (before + after) / 2)
    assert np.abs(SlicerHost.render_slice("Red").astype(int) - mixed).mean() < 1.5


def test_a_run_at_half_strength_shows_half_of_it_at_a_quarter(panel: OpenPanel) -> None:
    scan = add_scan()
    show(scan)
    panel.choose(scan)
    panel.parameters.strength = 0.5
    panel.run()
    assert set(layers().values()) == {("CT chest denoised", None, 0.0)}
    panel.parameters.strength = 0.25
    assert set(layers().values()) == {("CT chest", "CT chest denoised", 0.5)}
    assert panel.ui.strengthNoteLabel.isHidden()
    panel.parameters.strength = 0.9  # more than was computed: the result as it is, until Apply
    assert set(layers().values()) == {("CT chest denoised", None, 0.0)}
    assert not panel.ui.strengthNoteLabel.isHidden()
    assert "was made with strength 0.5" in panel.ui.strengthNoteLabel.text
    panel.run()
    assert panel.ui.strengthNoteLabel.isHidden()


def test_a_foreground_of_the_user_s_own_is_left_alone(panel: OpenPanel) -> None:
    import slicer

    scan, other = add_scan(), add_scan("other scan")
    slicer.util.setSliceViewerLayers(background=scan, foreground=other, foregroundOpacity=0.3)
    panel.run(scan)
    panel.ui.strengthSlider.value = 0.4
    assert set(layers().values()) == {("CT chest denoised", "other scan", 0.3)}


def test_without_removed_noise_two_views_are_enough(panel: OpenPanel) -> None:
    import slicer

    panel.choose(add_scan())
    panel.parameters.makeRemoved = False
    panel.run()
    panel.ui.sideBySideButton.click()
    assert set(slicer.app.layoutManager().sliceViewNames()) == {"MedAEBefore", "MedAEAfter"}


def test_removed_noise_is_drawn_in_its_diverging_colours(panel: OpenPanel) -> None:
    import SlicerHost

    scan = add_scan(size=(40, 40, 20))
    panel.run(scan)
    show(panel.controller.results["removed"])
    picture = SlicerHost.render_slice("Red").astype(int)
    red = (picture[..., 0] > picture[..., 2] + 60).sum()
    white = (picture.min(axis=2) > 230).sum()
    assert red > 500  # the fake worker takes 1 away wherever the value is above 0 ...
    assert white > 500  # ... and nothing elsewhere


def test_closing_the_scene_returns_to_the_user_s_layout(panel: OpenPanel) -> None:
    import slicer

    manager = slicer.app.layoutManager()
    before = manager.layout
    panel.run(add_scan())
    panel.ui.sideBySideButton.click()
    slicer.mrmlScene.Clear()
    panel.spin(lambda: manager.layout == before, 2)
    assert not panel.ui.sideBySideButton.enabled


def test_results_of_a_saved_scene_can_be_compared(panel: OpenPanel, tmp_path: Any) -> None:
    import slicer

    panel.run(add_scan())
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear()
    assert not panel.ui.beforeButton.enabled
    slicer.util.loadScene(str(path))
    assert panel.ui.beforeButton.enabled
    panel.ui.beforeButton.click()
    assert set(backgrounds().values()) == {"CT chest"}


def readout(panel: OpenPanel) -> list[str]:
    ui = panel.ui
    labels = (ui.probeInputLabel, ui.probeOutputLabel, ui.probeDifferenceLabel)
    return [label.text.replace("\N{MINUS SIGN}", "-") for label in labels]


@pytest.mark.parametrize("moved", [False, True])
def test_the_probe_reads_input_result_and_difference_under_the_mouse(panel: OpenPanel, moved: bool) -> None:
    import slicer
    import vtk

    import SlicerHost
    from MedAELib import nodes

    scan = add_scan()
    if moved:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "bed")
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 25.0)
        transform.SetMatrixTransformToParent(matrix)
        scan.SetAndObserveTransformNodeID(transform.GetID())
    panel.run(scan)
    voxels = slicer.util.arrayFromVolume(scan)
    k, j, i = (int(index) for index in np.argwhere(voxels > 20)[0])
    place = (nodes.affine_of(scan) @ (i, j, k, 1))[:3] + ((25, 0, 0) if moved else (0, 0, 0))
    SlicerHost.move_cursor(tuple(place))
    value = int(voxels[k, j, i])
    assert readout(panel) == [str(value), str(value - 1), "1"]
    SlicerHost.move_cursor((9000.0, 0.0, 0.0))
    assert readout(panel) == ["\N{EN DASH}"] * 3


def test_the_probe_follows_nothing_while_another_module_is_open(panel: OpenPanel) -> None:
    import slicer

    panel.run(add_scan())
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    assert crosshair.HasObserver(crosshair.CursorPositionModifiedEvent)
    panel.module.widgetRepresentation().exit()
    assert not crosshair.HasObserver(crosshair.CursorPositionModifiedEvent)
