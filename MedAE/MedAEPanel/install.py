"""Installs the Python packages that the worker needs: only when the user presses Apply, and only after asking.

torch comes through the PyTorch extension, the rest through slicer.packaging; on a computer without internet
everything comes from a folder of wheel files. MedAE imports none of them in Slicer's process; the PyTorch extension
imports torch once, at the end of its own installation, to see that it works.
"""

import re

from slicer.i18n import tr as _

from MedAELib.errors import MissingPackage

from . import locations

REQUESTER = "MedAE"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def requirements():
    """The lines of requirements.txt, without comments."""
    lines = locations.requirementsFile().read_text(encoding="utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def missing(lines):
    """Those of the requirements that are not satisfied here. Nothing is imported and nothing is asked of a server."""
    try:
        from slicer.packaging import pip_check

        return [line for line in lines if not pip_check(line)]
    except ImportError:
        return [line for line in lines if not _satisfied(line)]


def _satisfied(line):
    """What slicer.packaging.pip_check finds out, for a Slicer that does not have it yet."""
    from packaging.requirements import Requirement

    wanted = Requirement(line)
    version = _installed(wanted.name)
    return version is not None and version in wanted.specifier


def _installed(name):
    """The version of a package that is installed, or None."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def ensure(wheelFolder="", confirm=None, further=()):
    """See to it that every required package is there, asking the user before anything is installed.

    `further` are requirements of what is asked for now, besides those that MedAE always has.
    Returns whether something was installed. Raises MissingPackage when the user declines or the installation fails.
    """
    import slicer

    lacking = missing([*requirements(), *further])
    if not lacking:
        return False
    names = ", ".join(_NAME.match(line).group() for line in lacking)
    if slicer.app.testingEnabled() and confirm is None:  # no dialogs and no installation in tests
        raise MissingPackage(_("MedAE needs Python packages that are not installed: {names}.").format(names=names))
    if wheelFolder:
        _fromFolder(lacking, names, wheelFolder, confirm or slicer.util.confirmOkCancelDisplay)
    else:
        _fromInternet(lacking, names, confirm or slicer.util.confirmOkCancelDisplay)
    still = missing(lacking)
    if still:
        sentence = _("These Python packages are still missing after the installation: {names}.")
        raise MissingPackage(sentence.format(names=", ".join(still)))
    return True


def _declined():
    sentence = _("MedAE cannot work without its Python packages; nothing was installed.")
    return MissingPackage(sentence, _("Press Apply again."))


def _fromFolder(lacking, names, folder, confirm):
    import os

    import slicer

    if not os.path.isdir(folder):
        sentence = _("The folder of wheel files {folder} does not exist.").format(folder=folder)
        raise MissingPackage(sentence, _("Choose it again under Advanced."))
    question = _("MedAE needs these Python packages: {names}.\n\nInstall them from {folder}?")
    if not confirm(question.format(names=names, folder=folder)):
        raise _declined()
    _pip(slicer.util.pip_install, ["--no-index", "--find-links", folder, *lacking], failure=_folderLacks(names, folder))


def _folderLacks(names, folder):
    """What is said when pip does not find all that it needs in the folder of wheel files."""
    import sys

    sentence = _("{names} could not be installed from {folder}; Slicer's error log says what pip missed there.")
    step = _(
        "The folder must hold these packages and all that they need, for Python {version} and this operating system:"
        " README.md says under 'Install in Slicer' how to fetch them."
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return MissingPackage(sentence.format(names=names, folder=folder), step.format(version=version))


def _fromInternet(lacking, names, confirm):
    import slicer

    torch = [line for line in lacking if _NAME.match(line).group() == "torch"]
    others = [line for line in lacking if line not in torch]
    if torch:
        _torch(torch[0], confirm)
    if not others:
        return
    try:
        from slicer.packaging import pip_ensure
    except ImportError:
        if not confirm(_("MedAE needs these Python packages: {names}.\n\nInstall them now?").format(names=names)):
            raise _declined() from None
        _pip(slicer.util.pip_install, others)
        return
    try:
        _pip(pip_ensure, others, requester=REQUESTER)
    except RuntimeError:
        raise _declined() from None


def _torch(line, confirm):
    """torch through the PyTorch extension, which knows the build that fits the graphics card."""
    try:
        import PyTorchUtils
    except ImportError:
        _offerExtension(confirm)
        return
    old, version = _installed("torch"), line[len("torch") :].strip()
    question = _(
        "torch {old} is installed; MedAE needs torch {version}.\n\nReplace it? Other extensions that use torch "
        "will use the new one."
    )
    if old and not confirm(question.format(old=old, version=version)):
        raise _declined()
    install = PyTorchUtils.PyTorchUtilsLogic().installTorch
    if _pip(install, askConfirmation=True, torchVersionRequirement=version) is None:
        raise _declined()


def _offerExtension(confirm):
    import slicer

    if not confirm(
        _("MedAE computes with PyTorch, which comes with the PyTorch extension.\n\nInstall the extension now?")
    ):
        raise _declined()
    model = slicer.app.extensionsManagerModel()
    model.interactive = False
    if model.installExtensionFromServer("PyTorch", False):
        raise MissingPackage(
            _("The PyTorch extension is installed and starts with the next start of Slicer."),
            _("Restart Slicer, then press Apply again."),
        )
    raise MissingPackage(
        _("The PyTorch extension could not be installed."),
        _("Install it in the Extensions Manager, or choose a folder of wheel files under Advanced."),
    )


def _pip(install, *arguments, failure=None, **options):
    """Call `install`. Raises `failure`, or else what is said of an installation from the internet, when pip fails."""
    import subprocess

    try:
        return install(*arguments, **options)
    except subprocess.CalledProcessError:
        raise failure or MissingPackage(
            _("The Python packages could not be installed; Slicer's error log says why."),
            _("Check the connection to the internet, or choose a folder of wheel files under Advanced."),
        ) from None
