"""Files and folders that are whole or not there, also when the program is interrupted or killed while it writes."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import is_disk_full, unwritable

_ENDING = ".medae-saving"


@contextmanager
def whole_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """A new empty file beside `path` to write to; it takes the place of `path` if all goes well, else it is deleted.

    Raises BadInput, which names `path`, when its folder takes no new file.
    """
    with _new_file(path, suffix) as temporary:
        yield temporary
        os.replace(temporary, path)


def check_folder_takes(path: Path) -> None:
    """Raise BadInput, which names `path`, when no file can be made in its folder."""
    with _new_file(path):
        pass


@contextmanager
def _new_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """An empty file with a hidden name beside `path`, for a while.

    Its name is known before it is there, so that an interrupt at any moment finds what to delete.
    """
    temporary = path.parent / f".medae-{secrets.token_hex(8)}{suffix}"
    try:
        _create(temporary, path)
        yield temporary
    finally:
        with suppress(OSError):  # it is not there where it took its place, or could not be made
            temporary.unlink()


def _create(temporary: Path, path: Path) -> None:
    try:
        temporary.open("xb").close()  # not by tempfile, whose files others may not read, whatever the user's umask
    except OSError as error:
        if is_disk_full(error):
            raise
        raise unwritable(path, error) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file, wholly or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Let the folder hold exactly these files; whoever reads by `restore_folder` sees the old folder or the new one.

    Raises OSError; the folder is then as it was.
    """
    restore_folder(folder)
    beside = _beside(folder)
    shutil.rmtree(beside, ignore_errors=True)
    try:
        for name, content in files.items():
            path = beside / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # a power cut must not leave a renamed folder of empty files
        if folder.exists():
            os.replace(folder, beside / "old")
        os.replace(beside / "new", folder)
    finally:
        restore_folder(folder)
        if folder.exists() or not (beside / "old").exists():
            shutil.rmtree(beside, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Put back a folder that was about to be replaced when the program was killed; else do nothing."""
    try:
        if not folder.exists() and (_beside(folder) / "old").exists():
            os.replace(_beside(folder) / "old", folder)
    except (OSError, ValueError):  # a disk that cannot be written, or a name that no file system takes
        pass


def restore_folders(parent: Path) -> None:
    """The same for all folders in a folder."""
    for beside in parent.glob(f".*{_ENDING}"):
        restore_folder(parent / beside.name[1 : -len(_ENDING)])


def _beside(folder: Path) -> Path:
    """A hidden folder that holds what comes and what goes, one level too deep to be taken for a model."""
    return folder.parent / f".{folder.name}{_ENDING}"
