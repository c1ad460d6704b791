"""Off-screen slice and 3D views, drawn by Slicer's own displayable managers."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

DEFAULT_SIZE = (400, 400)
_SLICE_MANAGERS = (
    "VolumeGlyphSliceDisplayableManager",
    "ModelSliceDisplayableManager",
    "CrosshairDisplayableManager",
    "OrientationMarkerDisplayableManager",
    "RulerDisplayableManager",
    "ScalarBarDisplayableManager",
    "SegmentationsDisplayableManager2D",
    "MarkupsDisplayableManager",
    "TransformsDisplayableManager2D",
    "ColorLegendDisplayableManager",
)
_THREE_D_MANAGERS = (
    "VolumeRenderingDisplayableManager",
    "CameraDisplayableManager",
    "ViewDisplayableManager",
    "ModelDisplayableManager",
    "ThreeDReformatDisplayableManager",
    "OrientationMarkerDisplayableManager",
    "RulerDisplayableManager",
    "SegmentationsDisplayableManager3D",
    "MarkupsDisplayableManager",
    "TransformsDisplayableManager3D",
    "ColorLegendDisplayableManager",
)


class OffscreenWindow:
    """Render window, renderer and displayable managers of one view node."""

    def __init__(self, factory_class: Any, managers: tuple[str, ...], node: Any) -> None:
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)  # the same picture on every machine
        self.window.SetSize(*DEFAULT_SIZE)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        self.annotation = vtk.vtkCornerAnnotation()
        self.renderer.AddViewProp(self.annotation)
        factory = factory_class.GetInstance()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(f"vtkMRML{name}"):
                factory.RegisterDisplayableManager(f"vtkMRML{name}")
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.group.Initialize(factory, self.renderer)
        self.group.SetMRMLDisplayableNode(node)

    def grab(self) -> np.ndarray:
        """Draw and return the picture as height x width x 3, uint8, first row on top."""
        self.window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.ReadFrontBufferOff()
        grabber.ShouldRerenderOff()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _depth = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()


class SliceView:
    """One slice view: its logic exists from the start, its window from the first picture on."""

    def __init__(self, node: Any) -> None:
        application_logic = slicer.app.applicationLogic()
        self.node = node
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetSliceNode(node)
        self.logic.ResizeSliceNode(*DEFAULT_SIZE)
        self._offscreen: OffscreenWindow | None = None
        self._actor: Any = None

    @property
    def composite(self) -> Any:
        """The node that says which volumes the view shows."""
        return self.logic.GetSliceCompositeNode()

    def offscreen(self) -> OffscreenWindow:
        """The window, made on first use."""
        if self._offscreen is None:
            factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory
            self._offscreen = OffscreenWindow(factory, _SLICE_MANAGERS, self.node)
            self._offscreen.renderer.GetActiveCamera().ParallelProjectionOn()
            mapper = vtk.vtkImageMapper()
            mapper.SetColorWindow(255)
            mapper.SetColorLevel(127.5)
            self._actor = vtk.vtkActor2D()
            self._actor.SetMapper(mapper)
            self._actor.GetProperty().SetDisplayLocationToBackground()
            self._offscreen.renderer.AddViewProp(self._actor)
        return self._offscreen

    def resize(self, width: int, height: int) -> None:
        """Set the view's size in pixels."""
        if tuple(self.offscreen().window.GetSize()) != (width, height):
            self.offscreen().window.SetSize(width, height)
        self.logic.ResizeSliceNode(width, height)

    def fit(self) -> None:
        """Show the whole background volume, on a voxel's centre plane."""
        self.logic.FitSliceToBackground()
        self.logic.SnapSliceOffsetToIJK()

    def grab(self) -> np.ndarray:
        """Draw and return the picture (height x width x 3, uint8)."""
        window = self.offscreen()
        connection = self.logic.GetImageDataConnection()
        if connection is not None:
            self._actor.GetMapper().SetInputConnection(connection)
        self._actor.SetVisibility(connection is not None)
        return window.grab()


class ThreeDView:
    """One 3D view; its window is made on first use."""

    def __init__(self, node: Any) -> None:
        application_logic = slicer.app.applicationLogic()
        self.node = node
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self._offscreen: OffscreenWindow | None = None

    def offscreen(self) -> OffscreenWindow:
        """The window, made on first use."""
        if self._offscreen is None:
            factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory
            self._offscreen = OffscreenWindow(factory, _THREE_D_MANAGERS, self.node)
        return self._offscreen

    def fit(self) -> None:
        """Show everything."""
        self.offscreen().renderer.ResetCamera()

    def resize(self, width: int, height: int) -> None:
        """Set the view's size in pixels."""
        self.offscreen().window.SetSize(width, height)

    def grab(self) -> np.ndarray:
        """Draw and return the picture (height x width x 3, uint8)."""
        return self.offscreen().grab()
