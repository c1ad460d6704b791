"""Where a run leads whose result is no node: a model among the user's own, a file outside Slicer."""

from dataclasses import dataclass

from slicer.i18n import tr as _

from .target import Target


@dataclass
class _Goal:
    """A target outside the scene, whatever scene is open then; `name` is what the run is called."""

    name: str
    inScene = False

    @property
    def place(self):
        """What the run is called."""
        from MedAELib import nodes

        return nodes.Place(name=self.name)


class _Import:
    """Brings a finished run to its goal in one step; see `results.ResultImport`."""

    def __init__(self, target, run):
        self._target, self._run, self.fraction = target, run, 0.0

    def step(self, maxBytes):
        """There is nothing to do beforehand."""
        return True


@dataclass
class ModelTarget(_Goal):
    """Where a training leads: a model of that name in the folder of the user's models, whatever scene is open then."""

    folder: str
    stage = _("Keeping the model")

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


class ModelImport(_Import):
    """Takes the model out of the run folder to the user's models."""

    def commit(self):
        """Keep the model. Raises BadModel and DiskFull; then it can be recovered from the run."""
        from pathlib import Path

        from MedAELib.library import import_model
        from MedAELib.worker.live import MODEL

        from .locations import modelsFolder

        folder = Path(self._target.folder) if self._target.folder else modelsFolder()
        import_model(self._run / MODEL, folder, self._target.name)
        return {}


@dataclass
class FileTarget(_Goal):
    """Where the ONNX file of a model leads: to a path that the user has named."""

    file: str
    stage = _("Writing the file")

    def toJson(self):
        """What a later Slicer needs to write the file."""
        return {"place": {"name": self.name}, "file": self.file}

    @staticmethod
    def fromJson(origin):
        """The target of a run of an earlier Slicer."""
        return FileTarget(str((origin.get("place") or {}).get("name") or "model"), str(origin.get("file") or ""))

    def importer(self, result, run):
        """What puts the file in its place."""
        return FileImport(self, run)


class FileImport(_Import):
    """Copies the file of a run to where it is wanted, wholly or not at all."""

    def commit(self):
        """Write the file. Raises BadInput where it cannot be; then it can be recovered from the run."""
        import shutil
        from pathlib import Path

        from MedAELib.atomic import whole_file
        from MedAELib.errors import BadInput
        from MedAELib.worker.live import ONNX

        path = Path(self._target.file)
        try:
            with whole_file(path, path.suffix) as temporary:
                shutil.copyfile(self._run / ONNX, temporary)
        except OSError as error:
            sentence = _("{path} cannot be written ({reason}).").format(path=path, reason=error.strerror)
            raise BadInput(sentence, _("Name another file.")) from None
        return {}


def targetOf(job):
    """The target of a job of an earlier scene or Slicer."""
    return {"train": ModelTarget, "onnx": FileTarget}.get(job.task, Target).fromJson(job.origin)
