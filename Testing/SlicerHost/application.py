"""`slicer.app`: scene, application logic and everything that slicer.util expects of the application object."""

from __future__ import annotations

import os
import shutil
import tempfile
import types
from atexit import register as at_exit
from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from . import scene_files, slicer_modules, subject_hierarchy
from .io_manager import CoreIOManager
from .qt_properties import as_python_qt


class Application(QtCore.QObject):
    """Stand-in for qSlicerApplication."""

    startupCompleted = QtCore.Signal()
    mrmlSceneChanged = QtCore.Signal(object)
    host_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    applicationName, majorVersion, minorVersion, revision, repositoryRevision = "Slicer", 5, 12, "host", "host"
    applicationVersion, platform, arch = "5.12.0", "linux-amd64", "amd64"
    documentationBaseUrl = "https://slicer.readthedocs.io/"

    def __init__(self) -> None:
        super().__init__()
        folder = tempfile.mkdtemp(prefix="slicerhost-")
        at_exit(shutil.rmtree, folder, True)
        self._folder = folder
        self._testing = True
        self._layout_manager: Any = None
        self._scene = slicer.vtkMRMLScene()
        self._scene.SetRootDirectory(folder)
        slicer.mrmlScene = self._scene
        slicer.app = self
        self._logic = self._make_application_logic()
        self._data_io = self._make_data_io()
        slicer.modules = types.SimpleNamespace()
        self._modules = slicer_modules.ModuleManager()
        for name, logic in slicer_modules.create_logics(self._scene, self._logic, folder).items():
            self._modules.add(slicer_modules.Module(name, logic))
        self._io = CoreIOManager(self)
        subject_hierarchy.watch(self._scene)

    def _make_application_logic(self) -> Any:
        scene = self._scene
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        scene.AddNode(crosshair)
        logic = slicer.vtkSlicerApplicationLogic()
        logic.SetMRMLScene(scene)
        logic.GetColorLogic().SetMRMLScene(scene)
        logic.GetColorLogic().AddDefaultColorNodes()
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.SetViewLogics(vtk.vtkCollection())
        logic.SetTemporaryPath(self._folder)
        logic.SetHomeDirectory(self._folder)
        logic.SetShareDirectory("share")
        Path(self._folder, "share", "ColorFiles").mkdir(parents=True)  # Slicer's colour files are not in the wheel
        slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(logic)
        slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(logic)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
        return logic

    def _make_data_io(self) -> tuple[Any, Any]:
        """Reading .mrb needs a data manager with a cache folder."""
        cache = Path(self._folder, "cache")
        cache.mkdir()
        remote = slicer.vtkMRMLRemoteIOLogic()
        remote.SetMRMLScene(self._scene)
        remote.SetMRMLApplicationLogic(self._logic)
        remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        manager = slicer.vtkDataIOManagerLogic()
        manager.SetMRMLScene(self._scene)
        manager.SetMRMLApplicationLogic(self._logic)
        manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
        remote.AddDataIOToScene()
        return remote, manager

    # ---- parts

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene

    def applicationLogic(self) -> Any:
        """Slicer's application logic."""
        return self._logic

    def coreIOManager(self) -> CoreIOManager:
        """Loading and saving."""
        return self._io

    ioManager = coreIOManager

    def moduleManager(self) -> slicer_modules.ModuleManager:
        """The modules."""
        return self._modules

    def moduleLogic(self, name: str) -> Any:
        """Logic of a module."""
        return self._modules.module(name).logic()

    def layoutManager(self) -> Any:
        """The views, or None as in a Slicer without main window."""
        return self._layout_manager

    def setLayoutManager(self, manager: Any) -> None:
        """Give or take away the views (host only)."""
        self._layout_manager = manager

    def pythonConsole(self) -> None:
        """The host has no console."""

    def mainWindow(self) -> None:
        """The host has no main window."""

    # ---- paths and settings

    @property
    def temporaryPath(self) -> str:
        """Folder for temporary files; deleted when the process ends."""
        return self._folder

    @property
    def slicerHome(self) -> str:
        """Folder of the installation."""
        return self._folder

    defaultScenePath = slicerHome
    slicerUserSettingsFilePath = property(lambda self: QtCore.QSettings().fileName())

    def userSettings(self) -> Any:
        """The user's settings (a temporary file)."""
        return QtCore.QSettings()

    settings = revisionUserSettings = userSettings

    def startupEnvironment(self) -> dict[str, str]:
        """Environment without Slicer's own changes."""
        return dict(os.environ)

    def moduleDocumentationUrl(self, name: str) -> str:
        """Address of a module's page."""
        return self.documentationBaseUrl + name

    # ---- behaviour

    def testingEnabled(self) -> bool:
        """Whether Slicer runs in testing mode, where no dialog is shown."""
        return self._testing

    def setTestingEnabled(self, on: bool) -> None:
        """Switch testing mode (host only; Slicer decides it on its command line)."""
        self._testing = bool(on)

    def commandOptions(self) -> Any:
        """The command line that a module may look at."""
        return types.SimpleNamespace(noMainWindow=True, testingEnabled=self._testing, runPythonAndExit=False)

    def processEvents(self, *arguments: Any) -> None:
        """Let Qt handle what is waiting."""
        QtWidgets.QApplication.processEvents(*arguments)

    def setOverrideCursor(self, cursor: Any = None) -> None:
        """Show another mouse cursor."""
        QtWidgets.QApplication.setOverrideCursor(QtGui.QCursor(cursor) if cursor is not None else QtGui.QCursor())

    def restoreOverrideCursor(self) -> None:
        """Show the usual mouse cursor."""
        QtWidgets.QApplication.restoreOverrideCursor()

    def overrideCursor(self) -> Any:
        """The other mouse cursor, or None."""
        return QtWidgets.QApplication.overrideCursor()

    def pauseRender(self) -> None:
        """Stop drawing for a while."""
        self._logic.PauseRender()

    def resumeRender(self) -> None:
        """Draw again."""
        self._logic.ResumeRender()

    def topLevelWidgets(self) -> tuple[Any, ...]:
        """All windows."""
        return as_python_qt(QtWidgets.QApplication.topLevelWidgets())

    def screens(self) -> tuple[Any, ...]:
        """All screens."""
        return as_python_qt(QtWidgets.QApplication.screens())

    def palette(self) -> Any:
        """Colours of the widgets."""
        return QtWidgets.QApplication.palette()

    def clipboard(self) -> Any:
        """The clipboard."""
        return QtWidgets.QApplication.clipboard()

    def thread(self) -> Any:
        """The thread of the widgets."""
        return QtCore.QCoreApplication.instance().thread()

    def translate(self, _context: str, text: str) -> str:
        """Translation of a text: the host speaks English only."""
        return text

    def restart(self) -> None:
        """Restart the application: noted nowhere, done never."""

    def isInstalled(self) -> bool:
        """An installed Slicer, not a build tree."""
        return True

    def errorLogModel(self) -> None:
        """The host has no error log."""

    def toSlicerHomeRelativePath(self, path: str) -> str:
        """Path relative to the installation."""
        return path

    def saveScene(self, path: str) -> bool:
        """Write the scene (host only; slicer.util.saveScene comes here)."""
        return scene_files.save(self._scene, str(path))

    def loadScene(self, path: str, clear: bool) -> bool:
        """Read a scene (host only; slicer.util.loadScene comes here)."""
        return scene_files.load(self._scene, str(path), clear)
