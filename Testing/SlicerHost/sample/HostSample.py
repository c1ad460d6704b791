"""A small scripted module for the host's own tests: smooths a volume along its axes and shows what was removed."""

from typing import Annotated

import numpy as np
import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class HostSample(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Host sample")
        self.parent.categories = ["Examples"]


@parameterNodeWrapper
class HostSampleParameterNode:
    """What the panel keeps in the scene."""

    inputVolume: vtkMRMLScalarVolumeNode
    removedVolume: vtkMRMLScalarVolumeNode
    sigma: Annotated[float, WithinRange(0, 5)] = 2.0
    verbose: bool = False


class HostSampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameters = None
        self.guiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        top = slicer.util.loadUI(self.resourcePath("UI/HostSample.ui"))
        self.layout.addWidget(top)
        self.ui = slicer.util.childWidgetVariables(top)
        top.setMRMLScene(slicer.mrmlScene)
        self.logic = HostSampleLogic()
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.timer = qt.QTimer()
        self.timer.setInterval(50)
        self.bind()

    def cleanup(self):
        self.release()
        self.removeObservers()

    def enter(self):
        self.bind()

    def exit(self):
        self.release()

    def onSceneStartClose(self, caller, event):
        self.release()

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.bind()

    def bind(self):
        self.release()
        self.parameters = self.logic.getParameterNode()
        self.guiTag = self.parameters.connectGui(self.ui)
        self.addObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
        self.checkCanApply()

    def release(self):
        if self.parameters is not None:
            self.parameters.disconnectGui(self.guiTag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
            self.parameters = None

    def checkCanApply(self, caller=None, event=None):
        self.ui.applyButton.enabled = self.parameters.inputVolume is not None
        self.ui.applyButton.toolTip = _("Smooth the volume") if self.ui.applyButton.enabled else _("Choose a volume")

    def onApply(self):
        with slicer.util.tryWithErrorDisplay(_("Smoothing failed."), waitCursor=True):
            if self.parameters.removedVolume is None:
                self.parameters.removedVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Removed")
            self.logic.process(self.parameters.inputVolume, self.parameters.removedVolume, self.parameters.sigma)
            self.ui.progressBar.value = 100


class HostSampleLogic(ScriptedLoadableModuleLogic):
    """The computation."""

    def getParameterNode(self):
        return HostSampleParameterNode(super().getParameterNode())

    def process(self, inputVolume, removedVolume, sigma):
        """Write what a Gaussian of `sigma` voxels would remove into `removedVolume` and show it."""
        if inputVolume is None or inputVolume.GetImageData() is None:
            raise ValueError("The input volume holds no image.")
        voxels = slicer.util.arrayFromVolume(inputVolume).astype(np.float32)
        smooth = voxels
        kernel = np.exp(-(np.arange(-8, 9) ** 2) / (2 * max(sigma, 1e-3) ** 2))
        for axis in range(3):
            smooth = np.apply_along_axis(np.convolve, axis, smooth, kernel / kernel.sum(), "same")
        matrix = vtk.vtkMatrix4x4()
        inputVolume.GetIJKToRASMatrix(matrix)
        removedVolume.SetIJKToRASMatrix(matrix)
        slicer.util.updateVolumeFromArray(removedVolume, np.abs(voxels - smooth))
        removedVolume.CreateDefaultDisplayNodes()
        display = removedVolume.GetDisplayNode()
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0, 400)
        display.SetThreshold(60, 1e4)
        display.SetApplyThreshold(1)
        slicer.util.setSliceViewerLayers(inputVolume, removedVolume, foregroundOpacity=0.6, fit=True)


class HostSampleTest(ScriptedLoadableModuleTest):
    """Runs the same inside Slicer."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def makeVolume(self):
        k, j, i = np.mgrid[:24, :32, :28]
        inside = ((k - 12) / 10) ** 2 + ((j - 16) / 14) ** 2 + ((i - 14) / 12) ** 2 < 1
        voxels = np.where(inside, 400, 0).astype(np.float32)
        voxels[11:14, 18:21, 8:11] = 900
        angle = 0.4
        self.affine = np.array(
            [
                [2 * np.cos(angle), -2 * np.sin(angle), 0, -20],
                [2 * np.sin(angle), 2 * np.cos(angle), 0, -40],
                [0, 0, 3, -30],
                [0, 0, 0, 1],
            ]
        )
        return slicer.util.addVolumeFromArray(voxels, ijkToRAS=self.affine, name="scan")

    def test_result_keeps_geometry(self):
        volume = self.makeVolume()
        removed = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        HostSampleLogic().process(volume, removed, 2.0)
        matrix = vtk.vtkMatrix4x4()
        removed.GetIJKToRASMatrix(matrix)
        np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), self.affine, atol=1e-6)
        self.assertGreater(slicer.util.arrayFromVolume(removed)[12, 19, 9], 200)

    def test_panel_applies(self):
        widget = slicer.util.getModuleWidget("HostSample")
        self.assertFalse(widget.ui.applyButton.enabled)
        volume = self.makeVolume()
        self.assertIs(widget.ui.inputSelector.currentNode(), volume)
        self.assertTrue(widget.ui.applyButton.enabled)
        widget.ui.sigma.value = 3.0
        self.assertEqual(widget.parameters.sigma, 3.0)
        widget.ui.applyButton.click()
        self.assertEqual(widget.ui.progressBar.value, 100)
        self.assertEqual(widget.ui.removedSelector.currentNode().GetName(), "Removed")

    def test_scene_keeps_parameters(self):
        widget = slicer.util.getModuleWidget("HostSample")
        self.makeVolume()
        widget.ui.sigma.value = 1.5
        widget.ui.verbose.checked = True
        widget.ui.applyButton.click()
        path = slicer.app.temporaryPath + "/HostSample.mrb"
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        self.assertEqual(widget.parameters.sigma, 2.0)
        slicer.util.loadScene(path)
        widget.bind()
        self.assertEqual(widget.parameters.sigma, 1.5)
        self.assertTrue(widget.ui.verbose.checked)
        self.assertEqual(widget.ui.removedSelector.currentNode().GetName(), "Removed")

    def test_missing_input_is_refused(self):
        with self.assertRaises(ValueError):
            HostSampleLogic().process(None, None, 1.0)
