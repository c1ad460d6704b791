"""What a run reads: the voxels of a volume, some slices of it, or all frames of a sequence, where they lie."""

from . import sequences


class Source:
    """The frames of an input node, one for a volume; they outlive the node. Raises BadInput for what cannot be read."""

    def __init__(self, node, slab=None):
        frames = sequences.read(node)
        self.frames = [frame.slab(*slab) for frame in frames] if slab else frames
        self._images = [holder.GetImageData() for holder in sequences.voxelNodes(node)]
        self._before = [changes(image) for image in self._images]

    def changed(self):
        """Whether somebody has written into the voxels since."""
        return [changes(image) for image in self._images] != self._before


def changes(image):
    """When the voxels of an image were last changed."""
    scalars = image.GetPointData().GetScalars()
    return image.GetMTime(), scalars.GetMTime() if scalars is not None else 0
