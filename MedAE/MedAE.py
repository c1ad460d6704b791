"""MedAE in 3D Slicer: the module, its panel, a logic for scripts, and the self-test. Nothing heavy is imported here."""

import os
import sys

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


def _makeLibraryImportable():
    """Installed, MedAELib lies beside this file; in the source tree it lies one folder up."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (here, os.path.dirname(here)):
        if os.path.isdir(os.path.join(folder, "MedAELib")) and folder not in sys.path:
            sys.path.append(folder)
    if here not in sys.path:
        sys.path.append(here)


def _resource(name):
    """A file of Resources: beside this file where installed, one folder up in the source tree."""
    here = os.path.dirname(os.path.abspath(__file__))
    beside = os.path.join(here, "Resources", name)
    return beside if os.path.exists(beside) else os.path.join(os.path.dirname(here), "Resources", name)


_makeLibraryImportable()

# Slicer looks for these names: they open .maez files, and offer them in Save.
from MedAEPanel.exchange import FileReader as MedAEFileReader  # noqa: E402, F401
from MedAEPanel.exchange import FileWriter as MedAEFileWriter  # noqa: E402, F401


class MedAE(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("MedAE")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Filtering")]
        parent.dependencies = []
        parent.contributors = ["The MedAE developers"]
        parent.helpText = _(
            "Autoencoders for CT and MRI: removes noise and shows what was taken away, compresses, shows what is unlike"
            " normal, trains on your own scans. Works in a process of its own. For research use only."
        )
        parent.acknowledgementText = _(
            "MedAE is free software under the Apache License 2.0. It computes with PyTorch and MONAI."
        )
        icon = _resource("Icons/MedAE.png")
        if os.path.isfile(icon):
            parent.icon = qt.QIcon(icon)


class MedAEWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel's life in Slicer; what the panel does is in MedAEPanel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None
        self._parameterNode = self._parameterNodeGuiTag = None

    def resourcePath(self, filename):
        return _resource(filename)

    def setup(self):
        """The user opens the module for the first time, or reloads it."""
        ScriptedLoadableModuleWidget.setup(self)
        from MedAEPanel import sections
        from MedAEPanel.panel import Panel

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedAE.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = sections.add(uiWidget, self.resourcePath)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = MedAELogic()
        self.panel = Panel(self.ui, self.logic.controller)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self):
        """Slicer closes or the module is reloaded; a run goes on, its controller belongs to the application."""
        if self.panel is not None:
            self.setParameterNode(None)
            self.panel.close()
        self.removeObservers()

    def enter(self):
        """The user comes to this module."""
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self):
        """The user goes to another module."""
        self.setParameterNode(None)
        self.panel.leave()

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        self.panel.onSceneClosed()
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Bind the panel to the scene's parameter node, and choose an input if there is none yet."""
        parameterNode = self.logic.getParameterNode()
        if parameterNode.inputVolume is None:
            parameterNode.inputVolume = self.logic.firstScan()
        self.setParameterNode(parameterNode)

    def setParameterNode(self, parameterNode):
        """Let the panel show another parameter node, or none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.panel.update)
        self._parameterNode = self.panel.parameters = parameterNode
        if parameterNode is not None:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.panel.update)
            self.panel.update()

    def onReload(self):
        """Reload the library and the panel's package too, not only this file."""
        for name in list(sys.modules):
            if name.partition(".")[0] in ("MedAELib", "MedAEPanel"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class MedAELogic(ScriptedLoadableModuleLogic):
    """MedAE for scripts: `MedAELogic().denoise(getNode("CT"))` returns the denoised volume node."""

    def getParameterNode(self):
        from MedAEPanel.parameters import MedAEParameterNode

        return MedAEParameterNode(super().getParameterNode())

    @property
    def controller(self):
        """The run controller of this Slicer."""
        from MedAEPanel import shared

        return shared.controller()

    def firstScan(self):
        """The first volume in the scene that is no result of MedAE, or None."""
        from MedAEPanel import scripting

        return scripting.firstScan()

    def denoise(
        self, inputNode, outputNode=None, removedNode=None, model=None, strength=1.0, removed=False,
        device="auto", precision="auto", tile=0, passes=0, waitForCompletion=True,
    ):  # fmt: skip
        """Denoise a volume node, or every frame of a sequence node, in the worker process.

        outputNode, removedNode: receive the results; None makes new nodes, named after the input. The results of a
        sequence are always new sequences, which join the input's sequence browser.
        model: name of a bundled model or a model folder; None takes the one that fits the volume.
        strength: 0..1. removed: also make the volume of removed noise. device: "auto", "cpu", "cuda:0", "mps".
        precision: "auto", "float32", "bfloat16", "float16". tile: edge in voxels; passes: 1, 2, 4, 8; 0: automatic.
        waitForCompletion: True returns the denoised node, or None when the run was cancelled; False returns the run
        controller at once. Raises MedAEError with one plain sentence. The packages have to be installed.
        """
        parameters = {
            "model": str(model or ""), "device": device, "precision": precision, "tile": int(tile),
            "strength": float(strength), "passes": int(passes), "removed": bool(removed or removedNode is not None),
        }  # fmt: skip
        outputs = {"denoised": outputNode, **({"removed": removedNode} if parameters["removed"] else {})}
        return self.run("denoise", inputNode, waitForCompletion, outputs=outputs, **parameters)

    def findUnlike(
        self, inputNode, model=None, rate=0.01, leastVolume=0.1, typical=False, device="auto", waitForCompletion=True,
        others=False, steps=False, calibration="scan",
    ):  # fmt: skip
        """Find where a brain MRI is unlike the training data, in the worker process.

        model: name of a bundled model, a model folder, or "none" for brightness alone; None takes the one that fits.
        rate: share of normal tissue above the threshold. leastVolume: smallest region in millilitres.
        typical, others, steps: also make the nearest typical scan and its difference, the other maps, the steps.
        calibration: what scores are relative to, "scan" (this one) or "population" (the model's normal scans).
        waitForCompletion: True returns the map of z, or None when the run was cancelled, and False the run controller
        at once; its `results` hold "anomaly", "regions" (a segmentation) and "found" (a table, if there are any).
        Raises MedAEError with one plain sentence. The packages have to be installed.
        """
        from MedAEPanel import scripting

        wanted = model, device, rate, leastVolume, calibration, typical, others, steps
        return self._start(scripting.unlikeRequest(inputNode, *wanted), waitForCompletion)

    def compress(self, inputNode, mode="lossless", value=0.0, lost=False, waitForCompletion=True):
        """Compress a volume node in the worker process; returns the compressed volume, a node that holds a .maez file.

        mode: "lossless", "max-error" (value: grey values), "psnr" (dB) or "ratio" (times smaller, from 1). lost: also
        make the difference. Otherwise as `denoise`.
        """
        from MedAEPanel import coding

        return self._start(coding.compressRequest(inputNode, mode, value, lost), waitForCompletion)

    def decompress(self, pathOrNode, waitForCompletion=True):
        """Decode a .maez file, or a compressed volume of the scene, beside its input; returns the volume node."""
        from MedAEPanel import coding

        return self._start(coding.decodeRequest(pathOrNode), waitForCompletion)

    def train(self, volumes, name="my-model", network="plain", minutes=10.0, waitForCompletion=True, **more):
        """Train a model on volume nodes, or on what lies below a folder, in the worker process; returns its folder.

        A name that is taken gets a number. `more`: as the options of `python -m MedAELib train`: dims, size, start,
        learn_from, steps, seed, device. Otherwise as `denoise`.
        """
        from MedAEPanel import scripting

        return self._start(scripting.trainRequest(volumes, name, network, minutes, more), waitForCompletion)

    def run(self, task, inputNode, waitForCompletion=True, segments=None, outputs=None, **parameters):
        """Run any task on a node, such as "features", "explain" or "translate"; returns its nodes by output name.

        parameters: as the options of the task's command, such as per="slice", others={"T2": node}. segments: the node
        of per="segment". outputs: those that are wanted, a node each or None for a new one. Otherwise as `denoise`.
        """
        from MedAEPanel import scripting

        request = scripting.taskRequest(task, inputNode, segments, outputs or {}, parameters)
        return self._start(request, waitForCompletion)

    def _start(self, request, waitForCompletion):
        from MedAEPanel import scripting

        return scripting.run(self.controller, request, waitForCompletion)


class MedAETest(ScriptedLoadableModuleTest):
    """Self-test on generated volumes: no dialogs, no network, no main window. Each test stands alone."""

    def setUp(self):
        slicer.mrmlScene.Clear()
        self.logic = MedAELogic()
        self.logic.controller.cancel()
        self.logic.controller.wait()

    def tearDown(self):
        self.logic.controller.cancel()
        self.logic.controller.wait()
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        """All tests, as the button 'Reload and Test' does; a test that cannot run here says why."""
        import unittest

        for name in unittest.TestLoader().getTestCaseNames(type(self)):
            self.setUp()
            try:
                getattr(self, name)()
                self.delayDisplay(f"{name}: passed")
            except unittest.SkipTest as reason:
                self.delayDisplay(f"{name}: skipped, {reason}")
            finally:
                self.tearDown()

    def phantom(self, *arguments, **options):
        from MedAEPanel import selftest

        return selftest.phantom(*arguments, **options)

    def skipWithoutWorker(self):
        from MedAEPanel import selftest

        reason = selftest.whyNoWorker()
        if reason:
            self.skipTest(reason)

    def test_the_panel_opens_without_heavy_imports(self):
        heavy = {"torch", "monai"} - set(sys.modules)
        self.assertIsNotNone(slicer.modules.medae.widgetRepresentation())
        self.assertFalse(heavy & set(sys.modules))

    def test_a_node_is_read_without_copying(self):
        import numpy as np

        from MedAELib import nodes

        node = self.phantom()
        volume = nodes.read(node)
        self.assertEqual(volume.shape, (32, 28, 20))
        self.assertTrue(np.shares_memory(volume.array, slicer.util.arrayFromVolume(node)))
        self.assertFalse(volume.array.flags.writeable)

    def test_denoising_makes_a_volume_beside_the_input_with_its_provenance(self):
        self.skipWithoutWorker()
        import numpy as np

        from MedAELib import nodes

        source = self.phantom("CT phantom")
        before = slicer.util.arrayFromVolume(source).copy()
        result = self.logic.denoise(source, removed=True)
        self.assertEqual(result.GetName(), "CT phantom denoised")
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(source), before)
        np.testing.assert_allclose(nodes.affine_of(result), nodes.affine_of(source), atol=1e-6)
        after = slicer.util.arrayFromVolume(result)
        self.assertEqual(after.dtype, before.dtype)
        inside = before > -500
        self.assertLess(after[inside].std(), before[inside].std())
        told = nodes.provenance(result)
        self.assertEqual(told["inputName"], "CT phantom")
        self.assertEqual(len(told["modelSHA256"]), 64)
        self.assertIs(nodes.input_of(result), source)
        self.assertIsNotNone(nodes.results_of(source).get("removed"))

    def test_a_sequence_is_denoised_frame_by_frame_and_plays_in_step(self):
        self.skipWithoutWorker()
        import numpy as np

        from MedAEPanel import selftest, sequences

        source, browser = selftest.phantomSequence("perfusion")
        result = self.logic.denoise(source, removed=True, passes=1)
        self.assertEqual(result.GetName(), "perfusion denoised")
        self.assertEqual(sequences.indexOf(result), sequences.indexOf(source))
        browser.SetSelectedItemNumber(1)
        shown, voxels = sequences.shown(result), sequences.voxelNodes(result)[1]
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(shown), slicer.util.arrayFromVolume(voxels))
        before = slicer.util.arrayFromVolume(sequences.shown(source))
        inside = before > -500
        self.assertLess(slicer.util.arrayFromVolume(shown)[inside].std(), before[inside].std())

    def test_a_model_is_trained_on_volumes_of_the_scene(self):
        self.skipWithoutWorker()
        from MedAEPanel import selftest

        card = selftest.cardOfTraining(self.logic, [self.phantom(f"CT {seed}", seed=seed) for seed in range(3)])
        self.assertIn("CT 1", card)
        self.assertEqual(len(self.logic.controller.learning.rows), 3)

    def test_a_cancelled_run_leaves_the_scene_as_it_was(self):
        self.skipWithoutWorker()
        source = self.phantom(size=(96, 96, 64))
        count = slicer.mrmlScene.GetNumberOfNodes()
        controller = self.logic.denoise(source, waitForCompletion=False)
        controller.tick()
        controller.cancel()
        self.assertEqual(controller.wait(), "cancelled")
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), count)

    def test_the_input_is_never_taken_as_output(self):
        from MedAELib.errors import MedAEError

        source = self.phantom()
        with self.assertRaisesRegex(MedAEError, "both input and output"):
            self.logic.denoise(source, outputNode=source)

    def test_a_volume_without_voxels_is_refused_by_name(self):
        from MedAELib.errors import MedAEError

        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing in it")
        with self.assertRaisesRegex(MedAEError, "nothing in it"):
            self.logic.denoise(empty)

    def test_what_is_unlike_normal_becomes_a_map_a_segmentation_and_a_table(self):
        self.skipWithoutWorker()
        from MedAELib import nodes
        from MedAEPanel import selftest

        source, spot = selftest.phantomHead("head")
        result = self.logic.findUnlike(source, model="none")
        self.assertEqual(result.GetName(), "head unlike normal")
        found = self.logic.controller.results
        first = nodes.table_rows(found["found"])[0]
        for name, wanted in zip(("right_mm", "front_mm", "head_mm"), spot):
            self.assertAlmostEqual(float(first[name]), wanted, delta=3)
        self.assertGreaterEqual(found["regions"].GetSegmentation().GetNumberOfSegments(), 1)

    def test_a_compressed_volume_comes_back_bit_for_bit(self):
        self.skipWithoutWorker()
        from MedAELib import nodes

        source = self.phantom("CT phantom")
        decoded = self.logic.decompress(self.logic.compress(source))
        self.assertEqual(nodes.read(decoded).array.tobytes(), nodes.read(source).array.tobytes())
