"""The user's own models: where they are kept, and how they come in, go out, get another name and go away. No torch."""

from __future__ import annotations

import json
import secrets
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from . import bundle as bundles
from .archive import INFERENCE, bundle_files, check_alone, contents, inference
from .atomic import replace_folder, whole_file
from .bundle import CARD, METADATA, Bundle, is_name, own_models_folder, read_bundle
from .errors import BadInput, BadModel, unwritable
from .sound import check_sound

__all__ = ["disk_use", "export_model", "free_name", "import_model", "is_own", "remove_model", "rename_model"]

_INCOMING = ".medae-incoming-"


def import_model(
    source: Path, into: Path | None = None, name: str = "", check: Callable[[Bundle], object] = check_sound
) -> Bundle:
    """Copy the model in a folder or zip archive into the user's models, under its own or another name.

    A name that is taken gets a number. `check` sees the copy before it gets its place: what can be known without torch,
    or where there is torch, that the network can be built. Raises BadInput for what is no name, BadModel for what is no
    sound model, what `check` raises, DiskFull; then nothing is left.
    """
    if name:
        _check_name(name)
    into = into or own_models_folder()
    files = contents(source)
    return _install(files, into, name, source, check)


def _install(
    files: Mapping[str, bytes], into: Path, name: str, source: Path, check: Callable[[Bundle], object] = check_sound
) -> Bundle:
    beside = into / f"{_INCOMING}{secrets.token_hex(4)}"
    try:
        into.mkdir(parents=True, exist_ok=True)
        replace_folder(beside, files)
        found = read_bundle(beside)
        check(found)
        name = free_name(name or found.name, into)
        named = renamed(files, found.name, name) if name != found.name else files
        named = {**named, INFERENCE: inference(found.spec)}
        if named != files:
            replace_folder(beside, named)
            found = read_bundle(beside)  # what was written anew is seen to be sound before it has its place
        beside.rename(into / name)
    except OSError as error:
        raise unwritable(into, error) from None
    except BadModel as error:  # of the copy, which the user never sees
        raise BadModel(str(error).replace(str(beside), str(source)), error.next_step) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return replace(found, folder=into / name)


def renamed(files: Mapping[str, bytes], before: str, name: str) -> dict[str, bytes]:
    """The files of a model with another name in its metadata and over its card."""
    metadata = json.loads(files[METADATA])
    metadata["medae"]["name"] = name
    title, _, rest = files[CARD].decode("utf-8").partition("\n")
    card = f"# {name}\n{rest}" if title == f"# {before}" else f"{title}\n{rest}"
    return {**files, METADATA: (json.dumps(metadata, indent=2, allow_nan=False) + "\n").encode(), CARD: card.encode()}


def free_name(name: str, folder: Path | None = None) -> str:
    """The name, or with a number that nobody has yet, among the bundled models and those in a folder."""
    folder, wanted, number = folder or own_models_folder(), name, 2
    while (folder / wanted).exists() or (bundles.models_folder() / wanted).exists():
        wanted, number = f"{name[:60]}-{number}", number + 1
    return wanted


def export_model(bundle: Bundle, target: Path) -> Path:
    """Write the model as a MONAI bundle: a zip archive for a target ending so, else a new folder. The target.

    Raises BadInput for a folder that holds something already, DiskFull; then the target is as it was.
    """
    files = bundle_files(bundle)
    try:
        if target.suffix.lower() == ".zip":
            with whole_file(target, ".zip") as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
                for name, data in files.items():
                    file.writestr(f"{bundle.name}/{name}", data)
        elif target.is_file() or (target.is_dir() and any(target.iterdir())):
            raise BadInput(f"{target} is there already.", "Name a new folder, or a .zip file.")
        else:
            replace_folder(target, files)
    except OSError as error:
        raise unwritable(target, error) from None
    return target


def rename_model(bundle: Bundle, name: str, folder: Path | None = None) -> Bundle:
    """Give a model of the user's, all in `folder`, another name.

    Raises BadInput for one elsewhere, one whose folder holds other things too, or a bad name.
    """
    _refuse_foreign(bundle, "renamed", folder)
    _check_name(name)
    if name == bundle.name:
        return bundle
    if not bundle.folder.is_symlink():
        check_alone(bundle.folder)
    if free_name(name, bundle.folder.parent) != name:
        raise BadInput(f"There is a model {name} already.", "Choose another name.")
    files = renamed(contents(bundle.folder), bundle.name, name)
    made = _install(files, bundle.folder.parent, name, bundle.folder)
    remove_model(bundle, folder)
    return made


def remove_model(bundle: Bundle, folder: Path | None = None) -> None:
    """Delete a model of the user's, all in `folder`, for good. Raises BadInput for one that lies elsewhere."""
    _refuse_foreign(bundle, "removed", folder)
    gone = bundle.folder.with_name(f"{_INCOMING}{secrets.token_hex(4)}")
    try:
        if bundle.folder.is_symlink():
            bundle.folder.unlink()
            return
        bundle.folder.rename(gone)  # so that it is whole or not there, whatever happens meanwhile
    except OSError as error:
        raise unwritable(bundle.folder, error) from None
    shutil.rmtree(gone, ignore_errors=True)


def is_own(bundle: Bundle, folder: Path | None = None) -> bool:
    """Whether a model lies among the user's own, all in `folder`, and so may be renamed and removed."""
    own = (folder or own_models_folder()).absolute()
    return bundle.folder.parent.absolute() == own and own != bundles.models_folder()


def disk_use(folder: Path) -> int:
    """Bytes of all files in a model's folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if not path.is_dir() else 0
        except OSError:
            pass  # it was removed meanwhile
    return total


def _check_name(name: str) -> None:
    if not is_name(name):
        raise BadInput(f"{name[:60]!r} is no name for a model.", "Use letters, digits, '-', '_' and '.', at most 64.")


def _refuse_foreign(bundle: Bundle, what: str, folder: Path | None) -> None:
    if bundle.folder.parent == bundles.models_folder():
        raise BadInput(f"{bundle.name} came with MedAE and cannot be {what}.", "Choose a model of your own.")
    if not is_own(bundle, folder):
        raise BadInput(f"{bundle.folder} is not among your models, so it is not {what}.", "Import it first.")
