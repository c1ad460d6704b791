"""The preview: the slab that the user looks at is denoised first and shown; then the whole volume replaces it."""

from . import sequences, views
from .request import Request
from .target import NodeReference

SMALLEST = 1_000_000  # voxels: smaller volumes are ready about as soon as their preview would be
_AROUND = 8  # slices on each side of the visible one: what the network needs to see, nearly
_CELL = 4  # voxels: a slab that begins amid a cell of the network would look otherwise than the whole volume


def visibleSlab(inputNode):
    """The slab around the slice of it, or of a result of it, that the user looks at: (axis, start, stop) in voxels, or
    None when neither is shown."""
    import slicer

    image = inputNode.GetImageData()
    toVoxels = _worldToVoxels(inputNode)
    if image is None or toVoxels is None:
        return None
    found = {view.GetLayoutName(): view for view in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    for composite in views.lookingAt(inputNode):
        view = found.get(composite.GetLayoutName())
        if view is None:
            continue
        axes = [[view.GetSliceToRAS().GetElement(row, column) for row in range(3)] for column in (2, 3)]
        normal, place = (
            toVoxels.MultiplyPoint([*axis, weight])[:3] for axis, weight in zip(axes, (0.0, 1.0), strict=True)
        )
        axis = max(range(3), key=lambda a: abs(normal[a]))
        size, at = image.GetDimensions()[axis], round(place[axis])
        if 0 <= at < size:
            return axis, max(0, at - _AROUND) // _CELL * _CELL, min(size, at + _AROUND + 1)
    return None


def _large(node):
    """Whether a preview is worth it; never of a sequence, whose frames come one after another anyway."""
    image = None if sequences.isSequence(node) else node.GetImageData()
    return image is not None and image.GetNumberOfPoints() >= SMALLEST


def _worldToVoxels(node):
    """From world RAS to voxels; None under a transform that is not linear."""
    import vtk

    matrix, local = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(matrix)
    parent = node.GetParentTransformNode()
    if parent is not None:
        if not parent.IsTransformToWorldLinear():
            return None
        parent.GetMatrixTransformFromWorld(local)
        vtk.vtkMatrix4x4.Multiply4x4(matrix, local, matrix)
    return matrix


def withoutPreviews(found):
    """The finished runs that are results; previews, which a crash can leave behind, are deleted."""
    from MedAELib.errors import MedAEError
    from MedAELib.worker import runs

    results = []
    for run in found:
        try:
            preview = runs.read_job(run).origin.get("preview")
        except MedAEError:  # whoever recovers it is told what is wrong
            preview = False
        if not preview:
            results.append(run)
        elif runs.claim(run):
            runs.discard(run)
    return results


class Preview:
    """Runs the slab before the volume; like its controller it goes on whatever becomes of the panel."""

    def __init__(self, controller):
        self._controller = controller
        self._request = None  # the whole run, while its preview is on the way
        self._shown = None  # the preview in the scene
        self._covered = []  # (view, ID of the foreground that it hides there, its opacity)
        controller.listeners.append(self.update)

    def apply(self, request, wanted=True):
        """Start the run, with its preview first where that is wanted and worth it. Raises MedAEError."""
        slab = visibleSlab(request.inputNode) if wanted and _large(request.inputNode) else None
        if slab is None:
            self._controller.apply(request)
            return
        hasty = {"removed": False, "noise": False, "trust": False, "adapt": 0, "passes": 1}
        parameters = {**request.parameters, **hasty}
        self._controller.apply(Request(request.inputNode, request.task, parameters, {"denoised": None}, slab))
        self._request = request

    def update(self):
        """Go on with the whole volume once the slab is there or failed; take the slab away once the run has ended."""
        import qt

        if self._controller.busy:
            return
        if self._request is None:
            self._remove()
        elif self._controller.state == "cancelled":
            self._request = None
        else:  # also after a preview that failed: nothing but padding may lie around the visible slice
            if self._controller.state == "done":
                self._show(self._controller.results.get("denoised"))
            qt.QTimer.singleShot(0, self._whole)

    @property
    def pending(self):
        """Whether the preview is on its way, or the whole run about to start."""
        return self._request is not None

    def _remove(self):
        """Take the preview out of the scene; what it covered, such as a result at half strength, is seen again."""
        import slicer

        node = self._shown.node() if self._shown is not None else None
        covered, self._shown, self._covered = self._covered, None, []
        for composite, before, opacity in covered:
            if node is not None and composite.GetForegroundVolumeID() == node.GetID():
                composite.SetForegroundVolumeID(before if before and slicer.mrmlScene.GetNodeByID(before) else None)
                composite.SetForegroundOpacity(opacity)
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)

    def _whole(self):
        from MedAELib.errors import MedAEError

        request, self._request = self._request, None
        if request is None or self._controller.busy:
            return
        try:
            self._controller.apply(request)
        except MedAEError as error:
            self._controller.refuse(error)

    def _show(self, node):
        """Lay the slab over the input, or a result, in the user's views; it is neither offered in lists nor saved."""
        if node is None:
            return
        source = self._request.inputNode
        node.SetHideFromEditors(1)
        node.SetSaveWithScene(False)
        node.SetAttribute("MedAE.output", "preview")
        self._shown = NodeReference(node)
        for composite in views.lookingAt(source):
            if views.coverable(composite, source):
                covered = composite.GetForegroundVolumeID(), composite.GetForegroundOpacity()
                self._covered.append((composite, *covered))
                composite.SetForegroundVolumeID(node.GetID())
                composite.SetForegroundOpacity(1.0)
