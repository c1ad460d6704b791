"""What the panel says about the chosen volume: what it looks like, and why a model may not suit it."""

import math

from slicer.i18n import tr as _

from . import faults, sequences
from .source import changes

_TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"
_ADDED = _("Looks like a CT with 1024 added to its Hounsfield units; if it is one, choose a model for CT")
_ANOTHER = _("Choose a volume that holds a scan.")
_SAID = {"CT": "CT", "MR": "MRI", "": _("Kind of scan unknown")}


class InputFacts:
    """Facts on the input, worked out once per volume, content and model: the panel asks for them at every change.

    `volume` is what the model is chosen by: of a sequence the frame in the middle. `nothing` says that no two voxels of
    it differ, or that none is a number; `problem` why it cannot be read at all; either is empty for a scan.
    """

    def __init__(self):
        self._key = self._modelKey = None
        self.volume, self.text, self.nothing, self.problem, self.warnings = None, "", "", "", []

    def update(self, node, bundleOf):
        """Look at the node again if it has changed; returns `bundleOf(volume)`, the model to use, or None."""
        key = self._identity(node)
        if key != self._key:
            self._key, self._modelKey = key, None
            self._look(node)
        bundle = bundleOf(self.volume)
        modelKey = bundle.sha256 if bundle is not None else ""
        if modelKey != self._modelKey:
            self._modelKey = modelKey
            self.warnings = self._compare(bundle)
        return bundle

    def forget(self):
        """Let go of the volume's memory."""
        self._key = self._modelKey = self.volume = None

    def _identity(self, node):
        if node is None:
            return ()
        whole = sequences.sequenceOf(node)
        key = [node.GetID(), node.GetName(), whole.GetName() if whole is not None else ""]
        for holder in sequences.voxelNodes(node):
            image = holder.GetImageData() if holder.IsA("vtkMRMLVolumeNode") else None
            if image is not None:
                key += [*changes(image), *holder.GetSpacing(), *holder.GetOrigin()]
        return key

    def _look(self, node):
        from MedAELib.errors import MedAEError
        from MedAELib.modality import guess_modality

        self.volume, self.text, self.nothing, self.problem = None, "", "", ""
        if node is None:
            self.problem = _("Choose a volume first.")
            return
        try:
            frames = sequences.read(node)
        except MedAEError as error:
            self.problem = faults.sentences(error)
            return
        middle = len(frames) // 2
        volume = frames[middle]
        kind = guess_modality(thinned(volume))
        ends = _ends(volume, sequences.voxelNodes(node)[middle].GetImageData())
        told = describe(volume, kind, ends, len(frames)), ofSequence(node)
        self.text = " ".join(filter(None, told))
        self.nothing = _nothing(volume, ends, len(frames))
        self.volume = volume.like(volume.array, modality=kind)  # the guess is made only once

    def _compare(self, bundle):
        from MedAELib.modality import check_domain

        if self.volume is None or bundle is None:
            return []
        return check_domain(self.volume, bundle.spec)


def _ends(volume, image):
    """Smallest and largest value of a volume that are numbers; no numbers where it holds none."""
    from MedAELib.quality import ends

    return ends(volume.array) if volume.array.dtype.kind == "f" else image.GetScalarRange()  # which Slicer knows


def _nothing(volume, valueRange, frames):
    """What is wrong with a volume in which nothing is to be seen; empty for others."""
    low, high = valueRange
    name = _("The middle frame of {name}").format(name=volume.name) if frames > 1 else volume.name or _("The volume")
    if math.isnan(low):
        return _("{name} holds no voxel that is a number.").format(name=name) + " " + _ANOTHER
    if low == high:
        told = _("{name} has the same value, {value}, everywhere.").format(name=name, value=_written(low))
        return told + " " + _ANOTHER
    return ""


def _written(value):
    return f"{value:.5g}".replace("-", "\N{MINUS SIGN}")


def thinned(volume, voxels=200_000):
    """A coarse grid of the volume's voxels, enough to tell what kind of scan it is without a pause of the panel."""
    step = max(1, round((volume.array.size / voxels) ** (1 / 3)))
    step = min(step, *volume.shape)
    return type(volume)(volume.array[:, ::step, ::step, ::step], volume.affine, volume.meta)


def describe(volume, kind, valueRange, frames=1):
    """One line: kind of scan, size in voxels, spacing in millimetres, range of values; `volume` is the middle frame."""
    from MedAELib.modality import added_to_hounsfield

    said = _ADDED if not kind and added_to_hounsfield(volume) else _SAID.get(kind, kind)
    if kind and not volume.meta.get("modality"):
        said = _("{kind} by its values").format(kind=said)
    size = _TIMES.join(map(str, volume.shape))
    spacing = _TIMES.join(f"{step:.3g}" for step in volume.spacing) + "\N{NO-BREAK SPACE}mm"
    if frames > 1:
        sentence = _("{frames} frames of {size} voxels of {spacing}, {values} in the middle frame.")
    else:
        sentence = _("{size} voxels of {spacing}, {values}.")
    values = _values(*valueRange)
    return f"{said}. " + sentence.format(frames=frames, size=size, spacing=spacing, values=values)


def _values(low, high):
    if math.isnan(low):
        return _("none of them a number")
    if low == high:
        return _("all of the value {value}").format(value=_written(low))
    return _("values {low} to {high}").format(low=_written(low), high=_written(high))


def ofSequence(node):
    """How to have all frames, where the volume is what shows one frame of a sequence; else empty."""
    whole = sequences.sequenceOf(node)
    if whole is None:
        return ""
    told = _("One frame of the sequence '{name}'; choose the sequence to have all frames denoised.")
    return told.format(name=whole.GetName())
