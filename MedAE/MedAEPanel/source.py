"""What a run reads: the voxels of a volume, some slices of it, or all frames of a sequence, where they lie."""

from . import latents, sequences


class Source:
    """The frames of an input node, one for a volume; they outlive the node. Raises BadInput for what cannot be read.

    Of a compressed volume it is the file.
    """

    def __init__(self, node, slab=None):
        self.data, self._images = None, []
        if latents.isLatent(node):
            self.data, self._before = latents.bytesOf(node), []
            return
        frames = sequences.read(node)
        self.frames = [frame.slab(*slab) for frame in frames] if slab else frames
        self._images = [holder.GetImageData() for holder in sequences.voxelNodes(node)]
        self._before = [changes(image) for image in self._images]

    def writer(self, run):
        """What writes the input into a run folder, step by step. Raises DiskFull and BadInput."""
        from MedAELib.worker import runs

        if self.data is not None:
            return runs.PayloadWriter(run, "input", self.data)
        return runs.InputWriter(run, "input", self.frames)

    def changed(self):
        """Whether somebody has written into the voxels since."""
        return [changes(image) for image in self._images] != self._before


def changes(image):
    """When the voxels of an image were last changed."""
    scalars = image.GetPointData().GetScalars()
    return image.GetMTime(), scalars.GetMTime() if scalars is not None else 0
