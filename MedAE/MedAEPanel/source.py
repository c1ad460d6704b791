"""What a run reads: the voxels of a volume, or all frames of a sequence, where they lie."""

from slicer.i18n import tr as _

from . import latents, segments, sequences


class Source:
    """The frames of an input node, one for a volume; they outlive the node. Raises BadInput for what cannot be read.

    Of a compressed volume it is the file, of a segmentation the labels on the voxels of `scan`. Another volume than
    `scan` is placed as it lies beside it, parent transforms of both included.
    """

    def __init__(self, node, scan=None):
        self.data, self._images = None, []
        if latents.isLatent(node):
            self.data, self._before = latents.bytesOf(node), []
            return
        if node is not None and node.IsA("vtkMRMLSegmentationNode") and scan is not None:
            self.frames, self._before = [segments.labelsOf(node, scan)], []
            return
        self.frames = sequences.read(node)
        if scan is not None and node is not scan:
            self.frames = besides(self.frames, node, scan)
        self._images = [holder.GetImageData() for holder in sequences.voxelNodes(node)]
        self._before = [changes(image) for image in self._images]

    def writer(self, run, name):
        """What writes it into a run folder as input `name`, step by step. Raises DiskFull and BadInput."""
        from MedAELib.worker import runs

        if self.data is not None:
            return runs.PayloadWriter(run, name, self.data)
        return runs.InputWriter(run, name, self.frames)

    def changed(self):
        """Whether somebody has written into the voxels since."""
        return [changes(image) for image in self._images] != self._before


def besides(frames, node, scan):
    """The frames of a node with affines in the coordinates of a scan, which a run sees without its parent transform.

    Raises BadInput where a transform between the two is not linear.
    """
    import slicer
    import vtk

    from MedAELib.errors import BadInput
    from MedAELib.volume import Volume

    shown = [sequences.shown(each) or each for each in (node, scan)]
    own, other = (each.GetParentTransformNode() for each in shown)
    if own is other:
        return frames
    matrix = vtk.vtkMatrix4x4()
    linear = all(parent is None or parent.IsTransformToWorldLinear() for parent in (own, other))
    if not linear or not slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(own, other, matrix):
        sentence = _("'{name}' lies under a transform that is not linear.").format(name=node.GetName())
        raise BadInput(sentence, _("Harden the transform first."))
    moved = slicer.util.arrayFromVTKMatrix(matrix)
    return [Volume(frame.array, moved @ frame.affine, frame.meta) for frame in frames]


class Export:
    """Writes the voxels of sources, by the names of the inputs, into a run folder, piece by piece.

    Raises DiskFull, also in a step, and BadInput.
    """

    def __init__(self, run, sources):
        self._sources, self._writers, self._done = sources, [], 0
        try:
            for name, source in sources.items():
                self._writers.append(source.writer(run, name))
        except Exception:
            self.close()
            raise

    @property
    def fraction(self):
        """The part that is written, 0..1."""
        started = self._writers[self._done].fraction if self._done < len(self._writers) else 0.0
        return (self._done + started) / max(1, len(self._writers))

    def step(self, maxBytes):
        """Write the next piece; True when all is written."""
        if self._done < len(self._writers) and self._writers[self._done].step(maxBytes):
            self._done += 1
        return self._done == len(self._writers)

    def changed(self):
        """The name of a volume into whose voxels somebody has written meanwhile; empty when there is none."""
        found = (source for source in self._sources.values() if source.changed())
        return next((source.frames[0].name or _("The volume") for source in found), "")

    def close(self):
        """Give up what is not written yet."""
        for writer in self._writers:
            writer.close()


def changes(image):
    """When the voxels of an image were last changed."""
    scalars = image.GetPointData().GetScalars()
    return image.GetMTime(), scalars.GetMTime() if scalars is not None else 0
