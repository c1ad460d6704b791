"""Which nodes a run belongs to: fixed when it starts, checked when it ends, and kept with the run as plain JSON."""

from dataclasses import dataclass, field

from . import latents, sequences

NO_FRAMES = "The results of a sequence are new sequences; an existing volume cannot receive them."
PER_FRAME = ("denoised", "removed")  # outputs that are sequences when the input is one
TITLES = {
    "denoised": "denoised", "removed": "removed noise", "noise": "noise map", "trust": "trust figures",
    "anomaly": "unlike normal", "regions": "regions", "found": "table of regions", "typical": "nearest typical",
    "residual": "minus typical", "latent": "compressed", "decoded": "decoded", "lost": "lost by compression",
}  # fmt: skip
PREVIEW_TITLES = {"denoised": "preview"}


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
            raise BadInput(f"'{inputNode.GetName()}' is both input and output.", "Choose another output volume.")
        if len({node.GetID() for node in chosen}) < len(chosen):
            raise BadInput(f"'{chosen[0].GetName()}' is chosen for two outputs.", "Choose another output volume.")
        if sequences.isSequence(inputNode) and any(outputNodes.get(name) is not None for name in PER_FRAME):
            raise BadInput(NO_FRAMES, "Leave that output empty.")
        place = latents.placeOf(inputNode) if latents.isLatent(inputNode) else sequences.placeOf(inputNode)
        return Target(
            place=place,
            wanted={name: f"{place.name} {titles.get(name, name)}" for name in outputNodes},
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


@dataclass
class ModelTarget:
    """Where a training leads: a model of that name in the folder of the user's models, whatever scene is open then."""

    name: str
    folder: str
    inScene = False

    @property
    def place(self):
        """What the run is called."""
        from MedAELib import nodes

        return nodes.Place(name=self.name)

    def toJson(self):
        """What a later Slicer needs to keep the model."""
        return {"place": {"name": self.name}, "folder": self.folder}

    @staticmethod
    def fromJson(origin):
        """The target of a training of an earlier Slicer."""
        return ModelTarget(str((origin.get("place") or {}).get("name") or "model"), str(origin.get("folder") or ""))

    def importer(self, result, run):
        """What keeps the model of a finished training."""
        return ModelImport(self, run)


class ModelImport:
    """Takes the model out of the run folder to the user's models; see `results.ResultImport`."""

    def __init__(self, target, run):
        self._target, self._run, self.fraction = target, run, 0.0

    def step(self, maxBytes):
        """There is nothing to do beforehand."""
        return True

    def commit(self):
        """Keep the model. Raises BadModel and DiskFull; then it can be recovered from the run."""
        from pathlib import Path

        from MedAELib.library import import_model
        from MedAELib.worker.live import MODEL

        from .locations import modelsFolder

        folder = Path(self._target.folder) if self._target.folder else modelsFolder()
        import_model(self._run / MODEL, folder, self._target.name)
        return {}


def targetOf(job):
    """The target of a job of an earlier scene or Slicer."""
    return ModelTarget.fromJson(job.origin) if job.task == "train" else Target.fromJson(job.origin)
