"""Which models there are, and which one fits the input."""

from contextlib import contextmanager
from pathlib import Path

from slicer.i18n import tr as _

from MedAELib.errors import MedAEError

from .analysing import ANY_MODEL
from .locations import modelsFolder

_MODALITIES = {"CT": "CT", "MR": "MRI", "any": _("CT and MRI")}


class Models:
    """The bundled models, the user's own and the folders that were added, each read again when it has changed;
    `complain` is told of unusable ones."""

    def __init__(self, complain):
        self._bundles, self._stamps, self._complain = {}, {}, complain
        self._once, self._looked = False, False

    @contextmanager
    def lookedForOnce(self):
        """Until the block ends the folders are looked through once at the most, however often models are asked for."""
        self._once, self._looked = True, False
        try:
            yield
        finally:
            self._once = False

    def all(self, task):
        """All usable models for a task, bundled ones first."""
        return [bundle for bundle in self.everything() if suits(bundle, task)]

    def everything(self):
        """All usable models for any task, bundled ones first."""
        if not (self._once and self._looked):
            self._look()
            self._looked = True
        return [bundle for bundle in self._bundles.values() if bundle is not None]

    def _look(self):
        from MedAELib.bundle import bundled_folders, own_folders

        known = [folder for folder in self._bundles if folder.is_dir()]
        found = dict.fromkeys([*bundled_folders(), *own_folders(modelsFolder()), *known])
        self._bundles = {folder: self._read(folder) for folder in found if folder.is_dir()}

    def _read(self, folder):
        from MedAELib.bundle import read_bundle

        stamp = _stamp(folder)
        if folder not in self._bundles or stamp != self._stamps.get(folder):
            self._stamps[folder] = stamp
            try:
                self._bundles[folder] = read_bundle(folder)
            except MedAEError as error:
                self._bundles[folder] = None
                self._complain(str(error))
        return self._bundles[folder]

    def add(self, folder):
        """Add a model folder of the user's own. Raises BadModel."""
        from MedAELib.bundle import read_bundle

        folder = Path(folder)
        self._stamps[folder], self._bundles[folder] = _stamp(folder), read_bundle(folder)
        return self._bundles[folder]

    def named(self, task, name):
        """The model that a parameter names: a bundled model's name or a folder; None when it cannot be used."""
        found = next((bundle for bundle in self.all(task) if name in (bundle.name, str(bundle.folder))), None)
        if found is None and name and Path(name).is_dir():
            found = self._read(Path(name))
        return found if found is not None and suits(found, task) else None

    def anywhere(self, name):
        """The model that a parameter names, whatever its task; None when it cannot be used."""
        found = (bundle for bundle in self.everything() if name in (bundle.name, str(bundle.folder)))
        return next(found, None) if name else None

    def chosen(self, task, name, volume):
        """The model to use: the named one, or for an empty name the one that fits the volume; None if there is none."""
        from MedAELib.modality import fitting_model

        if name:
            return self.named(task, name)
        if task in ANY_MODEL:
            return None  # the run chooses
        bundled = [bundle for bundle in self.all(task) if parameter(bundle) == bundle.name]
        return fitting_model(volume, bundled) if volume is not None else None

    def choices(self, task, chosen):
        """(label, value) pairs for the combo box; the first one is automatic."""
        automatic = _("Automatic")
        if chosen is not None:
            automatic = _("Automatic ({name})").format(name=chosen.name)
        return [(automatic, ""), *((label(bundle), parameter(bundle)) for bundle in self.all(task))]


def suits(bundle, task):
    """Whether the task can work with a model: with one that was made for it, or with any."""
    return bundle.spec.task == task or task in ANY_MODEL


def _stamp(folder):
    """What changes when a model is trained anew into its folder, or damaged; None where there is no model."""
    from MedAELib.bundle import METADATA, WEIGHTS

    try:
        return tuple((folder / name).stat().st_mtime_ns for name in (METADATA, WEIGHTS))
    except OSError:
        return None


def parameter(bundle):
    """What names a model in a run and in a saved scene: its name if it is bundled, else its folder."""
    from MedAELib.bundle import models_folder

    return bundle.name if bundle.folder.parent == models_folder() else str(bundle.folder)


def label(bundle):
    """A model in the combo box."""
    return f"{bundle.name} ({_MODALITIES.get(bundle.spec.modality, bundle.spec.modality)}, {bundle.spec.dims}D)"


def summary(bundle):
    """One line on a model."""
    return bundle.description.strip().split("\n")[0]
