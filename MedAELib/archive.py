"""A model as the few files that make it up, from a folder or a zip archive of anybody's: read as hostile data."""

from __future__ import annotations

import json
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from .atomic import restore_folder
from .bundle import CARD, LARGEST_WEIGHTS, LICENCE, METADATA, WEIGHTS, Bundle, Spec, read_bundle, read_inside
from .errors import BadInput, BadModel

INFERENCE = "configs/inference.json"
_OF_THE_SYSTEM = (".DS_Store", "Thumbs.db", "desktop.ini")  # what file browsers leave in folders
NEEDED = (METADATA, WEIGHTS, CARD, LICENCE)
_OPTIONAL = (INFERENCE,)
_LARGEST_TEXT = 1 << 20
_MOST_MEMBERS = 1000


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that a new model must not take the place of: what is neither empty nor a sound model of MedAE
    with nothing else in it. Raises BadInput."""
    restore_folder(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"{folder} is a file.", "Name a folder for the model.")
    if not any(folder.iterdir()):
        return
    if not (folder / METADATA).is_file():
        raise BadInput(f"{folder} is a folder with other things in it.", "Name a new folder for the model.")
    check_alone(folder)
    try:
        read_bundle(folder)
    except BadModel as error:
        raise BadInput(
            f"{folder} holds something else, or a model that is damaged: {error}", "Name a new folder for the model."
        ) from None


def check_alone(folder: Path) -> None:
    """Raise BadInput when a model's folder holds something besides the model, which would be lost with it."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        known = {*NEEDED, *_OPTIONAL} if not path.is_dir() else {Path(file).parent.as_posix() for file in NEEDED}
        if name not in known and path.name not in _OF_THE_SYSTEM:
            raise BadInput(
                f"{folder} holds {name} besides the model, which would be lost.",
                "Move it away, or name another folder.",
            )


def inference(spec: Spec) -> bytes:
    """The `network_def` that MONAI's tools build the network from: plain data, generated, never read by MedAE."""
    arguments = {"name": spec.network, "dims": spec.dims, "arguments": dict(spec.arguments)}
    definition = {"network_def": {"_target_": "MedAELib.networks.build", **arguments}}
    return (json.dumps(definition, indent=2, allow_nan=False) + "\n").encode()


def bundle_files(bundle: Bundle) -> dict[str, bytes]:
    """The files of a model by name, to be handed on: what MONAI's tools run is MedAE's own, whatever was there."""
    return {**contents(bundle.folder), INFERENCE: inference(bundle.spec)}


def contents(source: Path) -> dict[str, bytes]:
    """The files of the model in a folder or zip archive, by name; whatever else is there is left behind.

    Raises BadModel for a missing file, a link, an archive that is damaged, encrypted or not made for good, and for a
    file that is too large. Nothing is written.
    """
    if source.is_dir():
        there = [name for name in (*NEEDED, *_OPTIONAL) if name in NEEDED or (source / name).exists()]
        return {name: read_inside(source, name, _largest(name)).read_bytes() for name in there}
    if not source.is_file():
        raise BadModel(f"{source} does not exist.", "Choose the folder of a model, or a zip file of one.")
    try:
        with zipfile.ZipFile(source) as archive:
            return _from_zip(archive, source.name)
    except zipfile.BadZipFile:
        raise BadModel(f"{source.name} is no zip file, or damaged.", "Choose a model folder or a zip file.") from None
    except (NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError, OSError) as error:
        raise BadModel(f"{source.name} cannot be read ({type(error).__name__}).", "Have it made again.") from None


def _largest(name: str) -> int:
    return LARGEST_WEIGHTS if name == WEIGHTS else _LARGEST_TEXT


def _from_zip(archive: zipfile.ZipFile, called: str) -> dict[str, bytes]:
    """The model in an archive, at its top or in one folder; every member is looked at before any is read."""
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise BadModel(f"{called} holds {len(members)} files, so it is no model.")
    for member in members:
        _refuse_tricks(member, called)
    files = {member.filename: member for member in members if not member.is_dir()}
    if len(files) < sum(not member.is_dir() for member in members):
        raise BadModel(f"{called} holds the same file twice, so it is not used.")
    tops = [name[: -len(METADATA)] for name in files if name == METADATA or name.endswith("/" + METADATA)]
    if len(tops) != 1:
        raise BadModel(f"{called} holds {'no model' if not tops else 'several models'}.", "Choose another zip file.")
    found = {}
    for name in (*NEEDED, *_OPTIONAL):
        if tops[0] + name in files:
            found[name] = _read(archive, files[tops[0] + name], called, _largest(name))
        elif name in NEEDED:
            raise BadModel(f"{called} has no {name}, so it is no whole model.")
    return found


def _refuse_tricks(member: zipfile.ZipInfo, called: str) -> None:
    """Refuse names that lead out of a folder, links, and what is encrypted."""
    name = member.orig_filename
    path = PurePosixPath(name)
    leads_out = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
    if leads_out:
        raise BadModel(f"{called} holds a file that would leave its folder ({name[:60]!r}), so it is not used.")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadModel(f"{called} holds a link or another special file ({name[:60]!r}), so it is not used.")
    if member.flag_bits & 1:
        raise BadModel(f"{called} is encrypted.", "Unpack it, and choose the folder.")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, called: str, largest: int) -> bytes:
    """The bytes of a member, never more than it may have, whatever it announces."""
    with archive.open(member) as file:
        data = b"" if member.file_size > largest else file.read(largest + 1)
    if member.file_size > largest or len(data) > largest:
        raise BadModel(f"{called} holds a file of more than {largest >> 20} MiB, so it is not used.")
    return data
