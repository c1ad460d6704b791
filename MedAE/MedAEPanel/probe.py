"""The data probe: values of input and result, and their difference, where the mouse or the crosshair is."""


def toLocal(node, position):
    """A position in world RAS millimetres as one in the coordinates of a volume, which a parent transform moves."""
    import slicer
    import vtk

    local = list(position)
    if node.GetParentTransformNode() is not None:
        transform = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, node.GetParentTransformNode(), transform)
        transform.TransformPoint(position, local)
    return local


def valueAt(node, position):
    """The value of a volume at a position in world RAS millimetres, of the nearest voxel; None outside."""
    import vtk

    image = node.GetImageData() if node is not None else None
    if image is None:
        return None
    matrix = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(matrix)
    i, j, k = (round(x) for x in matrix.MultiplyPoint([*toLocal(node, position), 1.0])[:3])
    size = image.GetDimensions()
    if not all(0 <= index < count for index, count in zip((i, j, k), size)):
        return None
    return image.GetScalarComponentAsDouble(i, j, k, 0)


def written(value):
    """A value for the panel: whole numbers without decimals, others with at most four digits."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


class Probe:
    """Keeps three labels up to date while it watches the crosshair node."""

    def __init__(self, inputLabel, outputLabel, differenceLabel):
        self._labels = inputLabel, outputLabel, differenceLabel
        self._input = self._output = self._crosshair = self._tag = self._inputTag = None

    def compare(self, inputNode, outputNode):
        """Which two volumes to read, also when their frame changes; each may be None."""
        if inputNode is not self._input:
            if self._input is not None:
                self._input.RemoveObserver(self._inputTag)
            self._inputTag = inputNode.AddObserver("ModifiedEvent", self.update) if inputNode is not None else None
        self._input, self._output = inputNode, outputNode
        self.update()

    def watch(self, on):
        """Follow the mouse, or stop following it."""
        import slicer

        if self._crosshair is not None:
            self._crosshair.RemoveObserver(self._tag)
            self._crosshair = None
        found = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode") if on else None
        if found is not None:
            self._crosshair = found
            self._tag = found.AddObserver(found.CursorPositionModifiedEvent, self.update)

    def position(self):
        """Where to read, world RAS in millimetres: the mouse in a view, else the crosshair."""
        position = [0.0, 0.0, 0.0]
        if self._crosshair is None:
            return None
        if not self._crosshair.GetCursorPositionRAS(position):
            position = list(self._crosshair.GetCrosshairRAS())
        return position

    def update(self, caller=None, event=None):
        """Read both volumes at the present position."""
        position = self.position()
        before, after = (valueAt(node, position) if position else None for node in (self._input, self._output))
        difference = before - after if before is not None and after is not None else None
        for label, value in zip(self._labels, (before, after, difference)):
            label.setText(written(value))
