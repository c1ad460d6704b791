"""What the user's own views show after one run and another, and what a legend and a preview do there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan, add_shown_scan
from test_panel_compare import backgrounds, layers, show

MINE = ("Red", "Green", "Yellow")


def _composite(name: str) -> Any:
    import slicer

    return slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()


def test_each_apply_makes_new_volumes_by_default(panel: OpenPanel) -> None:
    panel.run(add_shown_scan("CT chest"))
    first = panel.controller.results["denoised"]
    panel.parameters.model = "mr_denoise"
    panel.run()
    second = panel.controller.results["denoised"]
    assert first is not second
    assert first.GetName() != second.GetName()
    assert set(layers().values()) == {(second.GetName(), None, 0.0)}
    panel.ui.beforeButton.click()
    assert set(layers().values()) == {("CT chest", None, 0.0)}
    panel.ui.beforeButton.click()
    panel.ui.strengthSlider.value = 0.3
    assert set(layers().values()) == {("CT chest", second.GetName(), 0.3)}


def test_another_scan_that_was_worked_on_takes_the_views_and_is_seen_there(panel: OpenPanel) -> None:
    import slicer

    panel.run(add_shown_scan("first"))
    second = add_scan("second")
    affine = slicer.util.arrayFromVTKMatrix(_matrix(second))
    affine[:3, 3] += 500.0
    second.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
    panel.run(second)
    assert set(backgrounds().values()) == {"second denoised"}
    bounds = [0.0] * 6
    second.GetRASBounds(bounds)
    offset = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceOffset()
    assert bounds[4] <= offset <= bounds[5]
    panel.ui.beforeButton.click()
    assert set(backgrounds().values()) == {"second"}
    show(slicer.util.getNode("first"))  # an earlier input; the user asks for the second
    panel.ui.beforeButton.click()
    assert set(backgrounds().values()) == {"second denoised"}


def _matrix(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def test_what_the_user_put_into_a_view_stays_there(panel: OpenPanel) -> None:
    panel.run(add_shown_scan("first"))
    removed, other = panel.controller.results["removed"], add_scan("mine")
    _composite("Green").SetBackgroundVolumeID(other.GetID())
    _composite("Yellow").SetBackgroundVolumeID(removed.GetID())
    panel.ui.beforeButton.click()  # the removed noise is looked at beside the switching views
    assert backgrounds() == {"Red": "first", "Green": "mine", "Yellow": "first removed noise"}
    panel.run()
    assert backgrounds() == {"Red": "first denoised_1", "Green": "mine", "Yellow": "first denoised_1"}


def test_before_is_off_with_a_reason_while_all_views_show_the_user_s_own(panel: OpenPanel) -> None:
    scan, other = add_shown_scan("first"), add_scan("mine")
    panel.run(scan)
    button = panel.ui.beforeButton
    show(other)
    assert not button.enabled and "Every slice view shows another volume: show 'first'" in button.toolTip
    assert panel.ui.sideBySideButton.enabled  # has views of its own
    show(scan)
    assert button.enabled and "Every slice view" not in button.toolTip


def test_the_map_lies_over_a_scan_whose_denoised_volume_was_shown_even_half(panel: OpenPanel) -> None:
    scan = add_shown_scan("head")
    for strength in (1.0, 0.4):
        panel.parameters.task, panel.parameters.model = "denoise", ""
        panel.run(scan)
        panel.parameters.strength = strength
        panel.parameters.task, panel.parameters.model = "anomaly", "none"
        panel.run()
        name = panel.controller.results["anomaly"].GetName()
        assert set(layers().values()) == {("head", name, 0.6)}
        assert panel.ui.overlayCheckBox.checked
    panel.parameters.task, panel.parameters.strength = "denoise", 1.0
    panel.parameters.model = ""
    panel.run(add_scan("other"))
    assert set(layers().values()) == {("other denoised", None, 0.0)}  # the map belongs to the first


def test_the_box_of_the_map_tells_what_the_views_show(panel: OpenPanel) -> None:
    import slicer

    panel.choose(add_shown_scan("head"))
    panel.parameters.task, panel.parameters.model = "anomaly", "none"
    panel.run()
    box, mine = panel.ui.overlayCheckBox, add_scan("mine")
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):  # those that other tests made, too
        view.SetForegroundVolumeID(None)
    assert box.enabled and not box.checked
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        view.SetBackgroundVolumeID(mine.GetID())
    assert not box.enabled and "show the scan in one of them first" in box.toolTip


def test_the_legend_goes_with_the_map_when_the_user_opens_another_scan(panel: OpenPanel) -> None:
    import slicer

    from SlicerHost.pictures import render_slice

    panel.choose(add_shown_scan("head"))
    panel.parameters.task, panel.parameters.model = "anomaly", "none"
    render_slice(fit=True)
    panel.run()
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(panel.controller.results["anomaly"])
    panel.module.widgetRepresentation().exit()  # also while another module is open
    slicer.util.setSliceViewerLayers(background=add_scan("other", seed=4), foreground=None)
    other = render_slice()
    legend.SetVisibility(0)
    np.testing.assert_array_equal(render_slice(), other)


def test_the_legend_leaves_the_middle_of_the_view_free(panel: OpenPanel) -> None:
    import slicer

    from SlicerHost.pictures import render_slice

    panel.choose(add_shown_scan("head"))
    panel.parameters.task, panel.parameters.model = "anomaly", "none"
    render_slice(fit=True)
    panel.run()
    shown = render_slice()
    slicer.modules.colors.logic().GetColorLegendDisplayNode(panel.controller.results["anomaly"]).SetVisibility(0)
    rows, columns = np.nonzero((render_slice() != shown).any(axis=2))
    assert rows.size > 300  # there is one
    assert columns.min() > 0.65 * shown.shape[1] and rows.max() < 0.4 * shown.shape[0]


def test_a_panel_that_is_closed_follows_no_view(panel: OpenPanel) -> None:
    import vtk

    panel.run(add_shown_scan("first"))
    views = [_composite(name) for name in MINE]
    inner = panel.widget.panel
    called: list[int] = []
    inner.comparing._watch._listener = lambda: called.append(1)
    show(add_scan("second"))
    assert called
    called.clear()
    inner.comparing.close()
    show(add_scan("third"))
    assert not called and all(view.HasObserver(vtk.vtkCommand.ModifiedEvent) for view in views)  # Slicer's own


def test_the_slab_of_the_preview_follows_a_result_too_and_covers_its_mixture(
    panel: OpenPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedAEPanel.preview import visibleSlab

    scan = add_scan("first", size=(24, 20, 60))
    show(scan)
    before = visibleSlab(scan)
    panel.run(scan)
    assert visibleSlab(scan) == before is not None
    panel.parameters.strength = 0.4
    mixture = ("first", "first denoised", 0.4)
    assert set(layers().values()) == {mixture}
    monkeypatch.setattr("MedAEPanel.preview.SMALLEST", 0)
    panel.behaviour = {"behaviour": "steps", "steps": 10, "seconds": 0.05}
    panel.ui.applyButton.click()
    panel.spin(lambda: all("preview" in str(above) and part == 1 for _under, above, part in layers().values()))
    panel.spin(lambda: panel.controller.state == "running")
    panel.ui.cancelButton.click()
    panel.spin(lambda: not panel.controller.busy)
    assert set(layers().values()) == {mixture}  # as the user had it


def test_regions_refer_to_the_scan_also_after_the_scene_was_saved(panel: OpenPanel, tmp_path: Any) -> None:
    import slicer

    panel.choose(add_shown_scan("head"))
    panel.parameters.task, panel.parameters.model = "anomaly", "none"
    panel.run()
    regions = panel.controller.results["regions"]
    role = regions.GetReferenceImageGeometryReferenceRole()
    assert regions.GetNodeReference(role) is panel.parameters.inputVolume
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    loaded = slicer.util.getNode("head regions")
    assert loaded.GetNodeReference(role) is slicer.util.getNode("head")
