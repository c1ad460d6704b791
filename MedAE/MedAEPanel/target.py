"""Which nodes a run belongs to: fixed when it starts, checked when it ends, and kept with the run as plain JSON."""

from dataclasses import dataclass, field

from slicer.i18n import tr as _

from MedAELib.anomaly.names import MAP, OTHERS, STEP
from MedAELib.explain.names import MARK

from . import latents, sequences

NO_FRAMES = _("The results of a sequence are new sequences; an existing volume cannot receive them.")
PER_FRAME = ("denoised", "removed")  # outputs that are sequences when the input is one
TITLES = {
    "denoised": "denoised", "removed": "removed noise", "noise": "noise map", "trust": "trust figures",
    "anomaly": "unlike normal", "regions": "regions", "found": "table of regions", "typical": "nearest typical",
    "residual": "minus typical", "translated": "translated", "uncertainty": "uncertainty of the translation",
    "attribution": "what made the score", "residual_1_7mm": "minus typical 1.7 mm",
    "residual_4mm": "minus typical 4 mm", "baseline_residual_1_7mm": "minus median 1.7 mm",
    "baseline_residual_4mm": "minus median 4 mm", "features": "features", "code": "code", "similar": "similar cases",
    "traversal_1": "code moved 1", "traversal_2": "code moved 2", "traversal_3": "code moved 3",
    "latent": "compressed", "decoded": "decoded", "lost": "lost by compression",
    **{f"{MAP}{name}": f"map {name}" for name in OTHERS}, f"{STEP}mask": "mask",
    f"{STEP}field": "uneven brightness", f"{STEP}seen": "as the model sees it",
}  # fmt: skip
PREVIEW_TITLES = {"denoised": "preview"}


def titleOf(name, titles=TITLES):
    """What an output is called in the scene, after the name of the input."""
    plain, mark, modality = name.partition(MARK)
    return titles.get(plain, plain) + (f" of {modality}" if mark else "")


class NodeReference:
    """A node without keeping it alive: None once it is deleted or its scene closed, even if its ID is used again."""

    def __init__(self, node):
        import vtk

        self._id = node.GetID()
        self._weak = vtk.vtkWeakReference()
        self._weak.Set(node)

    def node(self):
        """The node while it is in the scene, else None."""
        import slicer

        found = slicer.mrmlScene.GetNodeByID(self._id)
        return found if found is not None and found is self._weak.Get() else None


@dataclass
class Target:
    """Input, place and outputs of a run. `wanted` maps the name of an output to the name of a new node for it.

    `index` tells the frames of a sequence apart (see `sequences.indexOf`); None for a volume.
    """

    place: object
    wanted: dict
    input: NodeReference | None = None
    outputs: dict = field(default_factory=dict)
    index: dict | None = None
    inScene = True  # the result is nodes, which a closed scene cannot receive
    stage = _("Adding the result to the scene")

    @staticmethod
    def of(inputNode, outputNodes, titles=TITLES):
        """The target of a run that is about to start; `outputNodes` maps each wanted output to a node or None.

        New nodes are named after the input and their title.

        Raises BadInput when an output is the input, when two outputs are the same node, and when an existing node is to
        receive frames.
        """
        from MedAELib.errors import BadInput

        chosen = [node for node in outputNodes.values() if node is not None]
        if any(node is inputNode or node is sequences.shown(inputNode) for node in chosen):
            sentence = _("'{name}' is both input and output.").format(name=inputNode.GetName())
            raise BadInput(sentence, _("Choose another output volume."))
        if len({node.GetID() for node in chosen}) < len(chosen):
            sentence = _("'{name}' is chosen for two outputs.").format(name=chosen[0].GetName())
            raise BadInput(sentence, _("Choose another output volume."))
        if sequences.isSequence(inputNode) and any(outputNodes.get(name) is not None for name in PER_FRAME):
            raise BadInput(NO_FRAMES, _("Leave that output empty."))
        place = latents.placeOf(inputNode) if latents.isLatent(inputNode) else sequences.placeOf(inputNode)
        return Target(
            place=place,
            wanted={name: f"{place.name} {titleOf(name, titles)}" for name in outputNodes},
            input=NodeReference(inputNode),
            outputs={name: NodeReference(node) for name, node in outputNodes.items() if node is not None},
            index=sequences.indexOf(inputNode) if sequences.isSequence(inputNode) else None,
        )

    def toJson(self):
        """What a later Slicer needs to bring the result into a scene."""
        return {"place": self.place.to_json(), "wanted": dict(self.wanted), "index": self.index}

    @staticmethod
    def fromJson(origin):
        """The target of a run of an earlier scene: new nodes, beside the input if the very same one is there again."""
        from MedAELib import nodes

        place = nodes.Place.from_json(origin.get("place") or {})
        wanted = {str(name): str(title) for name, title in (origin.get("wanted") or {}).items()}
        return Target(place=place, wanted=wanted, index=origin.get("index"))

    def importer(self, result, run):
        """What brings a finished result into the scene."""
        from .results import ResultImport

        return ResultImport(result, self)

    def inputNode(self):
        """The input while it is in the scene, else None."""
        return self.input.node() if self.input is not None else None

    def outputNode(self, name):
        """The node that the user chose for an output while it is in the scene, else None: a new one is to be made."""
        reference = self.outputs.get(name)
        return reference.node() if reference is not None else None
