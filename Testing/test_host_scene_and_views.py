"""The test host's scene, node selector and views behave as Slicer's own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTING = Path(__file__).resolve().parent
SAMPLE = TESTING / "SlicerHost" / "sample" / "HostSample.py"


def scan(name="scan"):
    """A bright box in a dark volume, as a node of the scene."""
    import slicer

    voxels = np.zeros((12, 16, 20), np.int16)
    voxels[4:8, 4:12, 5:15] = 500
    return slicer.util.addVolumeFromArray(voxels, name=name)


# ---- scene


def test_every_shown_node_has_its_place_in_the_subject_hierarchy(slicer_host) -> None:
    import slicer

    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    volume = scan()
    item = hierarchy.GetItemByDataNode(volume)
    assert hierarchy.GetItemName(item) == "scan"
    slicer.mrmlScene.RemoveNode(volume)
    assert hierarchy.GetItemByName("scan") == hierarchy.GetInvalidItemID()


def test_a_saved_scene_comes_back_with_voxels_geometry_and_places(tmp_path: Path) -> None:
    """In a process of its own: late in a long run MRML looks for an item of a scene that is gone."""
    code = (
        "import sys; from pathlib import Path; import SlicerHost; import test_host_scene_and_views as these; "
        "SlicerHost.start(); SlicerHost.new_scene(); these.saved_and_loaded(Path(sys.argv[1])); SlicerHost.check()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=TESTING)
    assert done.returncode == 0, done.stderr


def saved_and_loaded(tmp_path: Path) -> None:
    """Save a scene with a volume in a folder, clear it, load it, and look for all of that."""
    import slicer

    volume = scan()
    voxels = slicer.util.arrayFromVolume(volume).copy()
    volume.SetAttribute("MedAE.model", "ct")
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), folder)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    slicer.util.loadScene(path)
    loaded = slicer.util.getNode("scan")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), voxels)
    assert loaded.GetAttribute("MedAE.model") == "ct"
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    assert hierarchy.GetItemName(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(loaded))) == "Study"


def test_volumes_are_loaded_and_saved_by_name(slicer_host, tmp_path: Path) -> None:
    import slicer

    volume = scan()
    volume.SetSpacing(0.5, 0.6, 2.0)
    for name, ending in {"first scan": ".nii.gz", "second.scan": ".nrrd", "third": ".mha"}.items():
        path = tmp_path / f"{name}{ending}"
        assert slicer.util.saveNode(volume, str(path))
        loaded = slicer.util.loadVolume(str(path))
        assert loaded.GetName() == name
        np.testing.assert_allclose(loaded.GetSpacing(), volume.GetSpacing(), atol=1e-6)
        slicer.mrmlScene.RemoveNode(loaded)
    with pytest.raises(RuntimeError):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"))


def test_a_new_scene_is_empty_but_keeps_views_and_cursor(slicer_host) -> None:
    import slicer

    slicer.util.setSliceViewerLayers(background=scan())
    slicer.app.layoutManager().setLayout(6)
    slicer_host.new_scene()
    assert slicer.util.getNodesByClass("vtkMRMLVolumeNode") == []
    assert set(slicer.app.layoutManager().sliceViewNames()) == {"Red", "Yellow", "Green"}
    assert slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode().GetBackgroundVolumeID() is None
    assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode") is not None


# ---- node selector


def test_a_node_selector_follows_the_scene(slicer_host) -> None:
    import slicer

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.showChildNodeTypes = False
    box.noneEnabled = True
    heard = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    assert not box.enabled
    box.setMRMLScene(slicer.mrmlScene)
    assert box.enabled
    first, second = scan("first"), scan("second")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    assert box.nodeCount() == 2
    assert box.currentNode() is None
    box.setCurrentNode(second)
    box.setCurrentNodeID(first.GetID())
    assert heard == [second, first]
    slicer.mrmlScene.RemoveNode(first)
    assert box.currentNode() is None
    box.addAttribute("vtkMRMLScalarVolumeNode", "MedAE.task", "denoise")
    assert box.nodeCount() == 0
    second.SetAttribute("MedAE.task", "denoise")
    box.removeAttribute("vtkMRMLScalarVolumeNode", "MedAE.task")
    box.addAttribute("vtkMRMLScalarVolumeNode", "MedAE.task", "denoise")
    assert box.nodeFromIndex(0) is second


def test_a_node_selector_adds_renames_and_removes(slicer_host) -> None:
    import slicer

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.renameEnabled = True
    box.baseName = "Denoised"
    box.setMRMLScene(slicer.mrmlScene)
    node = box.addNode()
    assert (node.GetName(), box.currentNode()) == ("Denoised", node)
    slicer_host.answer("Better")
    box.renameCurrentNode()
    assert node.GetName() == "Better"
    box.removeCurrentNode()
    assert box.currentNode() is None
    assert box.nodeCount() == 0


# ---- views


def test_slice_views_draw_background_and_foreground_the_same_each_time(slicer_host) -> None:
    import slicer

    volume = scan()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    grey = slicer_host.render_slice("Red", (200, 160), fit=True)
    assert grey.shape == (160, 200, 3)
    assert grey.dtype == np.uint8
    assert grey[80, 100].tolist() == [255, 255, 255]
    overlay = scan("overlay")
    overlay.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    slicer.util.setSliceViewerLayers(foreground=overlay, foregroundOpacity=1.0)
    coloured = slicer_host.render_slice("Red", (200, 160))
    assert not np.array_equal(coloured, grey)
    np.testing.assert_array_equal(slicer_host.render_slice("Red", (200, 160)), coloured)
    with pytest.raises(KeyError, match="Purple"):
        slicer_host.render_slice("Purple")


def test_a_light_box_shows_volumes_side_by_side_and_leaves_the_view(slicer_host, tmp_path: Path) -> None:
    import slicer

    before, after = scan("before"), scan("after")
    slicer.util.updateVolumeFromArray(after, np.zeros((12, 16, 20), np.int16))
    slicer.util.setSliceViewerLayers(background=before)
    picture = slicer_host.light_box([before, after, before], size=(120, 100))
    assert picture.shape == (100, 360, 3)
    assert picture[:, :120].max() == 255
    assert picture[:, 120:240].max() == 0
    np.testing.assert_array_equal(picture[:, :120], picture[:, 240:])
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == before.GetID()
    path = slicer_host.save_png(picture, tmp_path / "sub" / "box.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("number", [2, 3, 4, 6, 7, 8, 12, 15, 29])
def test_every_usual_layout_can_be_chosen(slicer_host, number: int) -> None:
    import slicer

    manager = slicer.app.layoutManager()
    manager.setLayout(number)
    assert manager.layout == number
    for name in manager.sliceViewNames():
        assert manager.sliceWidget(name).sliceLogic().GetSliceCompositeNode() is not None


def test_a_layout_of_the_module_brings_its_own_views(slicer_host) -> None:
    import slicer

    view = '<item><view class="vtkMRMLSliceNode" singletontag="{0}"><property name="orientation" action="default">Axial'
    view += '</property><property name="viewlabel" action="default">{0}</property></view></item>'
    xml = f'<layout type="horizontal" split="true">{view.format("MedAEBefore")}{view.format("MedAEAfter")}</layout>'
    manager = slicer.app.layoutManager()
    manager.layoutLogic().GetLayoutNode().AddLayoutDescription(5471, xml)
    manager.setLayout(5471)
    assert manager.sliceViewNames() == ("MedAEBefore", "MedAEAfter")
    composite = manager.sliceWidget("MedAEAfter").mrmlSliceCompositeNode()
    composite.SetBackgroundVolumeID(scan().GetID())
    assert slicer_host.render_slice("MedAEAfter", (100, 100), fit=True).max() == 255
    manager.setLayout(3)
    assert set(manager.sliceViewNames()) == {"Red", "Yellow", "Green"}


def test_a_data_probe_hears_where_the_mouse_is(slicer_host) -> None:
    import slicer

    slicer.util.setSliceViewerLayers(background=scan(), fit=True)
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    heard = []
    tag = crosshair.AddObserver(
        slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent, lambda caller, event: heard.append(event)
    )
    slicer_host.move_cursor((1.0, -2.0, 3.0))
    position = [0.0, 0.0, 0.0]
    assert crosshair.GetCursorPositionRAS(position)
    assert heard
    np.testing.assert_allclose(position, (1, -2, 3), atol=1e-3)
    crosshair.RemoveObserver(tag)


def test_a_three_d_view_is_drawn(slicer_host) -> None:
    assert slicer_host.render_three_d((120, 100)).shape == (100, 120, 3)
