"""Where MedAE keeps runs on this computer, and where its list of packages lies."""

import os
from pathlib import Path


def runsFolder():
    """Folder of run folders, in the user's own data; MEDAE_RUNS names another one."""
    chosen = os.environ.get("MEDAE_RUNS")
    if chosen:
        return Path(chosen)
    import qt

    return Path(qt.QStandardPaths.writableLocation(qt.QStandardPaths.AppLocalDataLocation)) / "MedAE" / "runs"


def writableRunsFolder():
    """The folder of run folders, made if need be; Slicer's temporary folder where the user's own cannot be written."""
    import slicer

    folder = runsFolder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(slicer.app.temporaryPath) / "MedAE-runs"
        folder.mkdir(parents=True, exist_ok=True)
    return folder


_MODELS_FOLDER = "MedAE/ModelsFolder"  # in Slicer's settings: it belongs to the computer, not to the scene


def modelsFolder():
    """Folder of the user's own models: that of MEDAE_MODELS, else the chosen one, else in the user's data."""
    import qt

    from MedAELib.bundle import own_models_folder

    chosen = "" if os.environ.get("MEDAE_MODELS") else qt.QSettings().value(_MODELS_FOLDER)
    return Path(chosen) if chosen else own_models_folder()


def chooseModelsFolder(folder):
    """Keep the user's models in another folder from now on; empty for the usual one."""
    import qt

    qt.QSettings().setValue(_MODELS_FOLDER, folder)


def requirementsFile():
    """The list of packages that the worker needs: beside MedAE.py where installed, one folder up in the source tree."""
    module = Path(__file__).resolve().parents[1]
    beside = module / "requirements.txt"
    return beside if beside.is_file() else module.parent / "requirements.txt"
