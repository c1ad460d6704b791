"""Files and models are whole or not there, wherever the program is interrupted or killed while it writes."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from models import save_small_model

from MedAELib import Volume, atomic, bundle
from MedAELib.atomic import check_folder_takes, replace_folder, write_text
from MedAELib.errors import BadInput, DiskFull
from MedAELib.model import Model

ROOT = Path(__file__).resolve().parents[1]
OLD, NEW, BUNDLED = "old", "new", "bundled"

# Replaces a copy of the old model by the new one again and again, and dies before the first, second, third ... thing
# that it does to the disk, until nothing is left to die before.
KILLED = """
import itertools, os, shutil, sys
from pathlib import Path
from MedAELib.atomic import replace_folder

def die_before(number):
    left = itertools.count(-number)
    touching = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
    sys.addaudithook(lambda event, _: os._exit(9) if event in touching and next(left) == 0 else None)

work = Path(sys.argv[1])
new = [path for path in (work / "new").rglob("*") if path.is_file()]
files = {path.relative_to(work / "new").as_posix(): path.read_bytes() for path in new}
for number in itertools.count():
    folder = work / "killed" / str(number) / "bundled"
    shutil.copytree(work / "old", folder)
    child = os.fork()
    if child == 0:
        die_before(number)
        replace_folder(folder, files)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> dict[str, Model]:
    """An old and a new model."""
    folder = tmp_path_factory.mktemp("two")
    return {name: save_small_model(folder / name, seed=seed) for name, seed in ((OLD, 1), (NEW, 2))}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_model_is_the_old_or_the_new_one_wherever_its_replacement_is_killed(two, monkeypatch):
    work = two[OLD].bundle.folder.parent
    subprocess.run([sys.executable, "-c", KILLED, work], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    found = []
    for folder in sorted((work / "killed").iterdir(), key=lambda path: int(path.name)):
        untouched = Path(shutil.copytree(folder, folder.with_name(f"{folder.name} by name")))
        assert contents(bundle.find_bundle(folder / BUNDLED).folder) in (contents(work / OLD), contents(work / NEW))

        monkeypatch.setattr(bundle, "models_folder", lambda untouched=untouched: untouched)
        (model,) = bundle.bundled_models()
        assert bundle.find_bundle(BUNDLED).sha256 == model.sha256
        found.append(next(name for name in two if two[name].bundle.sha256 == model.sha256))

        save_small_model(folder / BUNDLED, seed=3)
        assert [path.name for path in folder.iterdir()] == [BUNDLED], "the next save leaves nothing of the killed one"
    assert len(found) > 15
    assert found == sorted(found, reverse=True), "first always the old model, then always the new one"
    assert set(found) == {OLD, NEW}


@pytest.mark.parametrize("failing", [0, 1])
def test_a_model_that_cannot_be_put_in_place_leaves_the_old_one(two, tmp_path, monkeypatch, failing):
    folder = Path(shutil.copytree(two[OLD].bundle.folder, tmp_path / BUNDLED))
    before, replaced = contents(folder), []

    def replace(source, target):
        replaced.append(source)
        if len(replaced) == failing + 1:
            raise OSError(28, "No space left on device")
        return Path(source).rename(target)

    monkeypatch.setattr(atomic.os, "replace", replace)
    with pytest.raises(DiskFull, match="disk is full"):
        save_small_model(folder, seed=2)
    assert contents(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


def test_a_first_model_for_which_there_is_no_room_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        replace_folder(tmp_path / "m", {"a/b": b"1"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_new_files_may_be_read_by_whom_the_user_lets(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "report.json", "{}")
        Volume(np.zeros((1, 2, 2, 2), "int16"), np.eye(4)).save(tmp_path / "scan.nrrd")
        replace_folder(tmp_path / "model", {"LICENSE": b"mine"})
    finally:
        os.umask(before)
    for path in (tmp_path / "report.json", tmp_path / "scan.nrrd", tmp_path / "model" / "LICENSE"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(28, "No space left on device"), UnicodeError()])
def test_an_interrupted_text_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch, fault):
    path = tmp_path / "report.json"
    path.write_text("old")

    def interrupted(self, text, **_):
        with self.open("w") as file:
            file.write(text[:3])
        raise fault

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(type(fault)):
        write_text(path, "new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("use", [check_folder_takes, lambda path: write_text(path, "all of it")])
def test_an_interrupt_as_soon_as_a_new_file_is_there_leaves_none(tmp_path, monkeypatch, use):
    opened = Path.open

    def interrupted(path, *arguments, **options):
        opened(path, *arguments, **options).close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            use(tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="this system has no folder that nobody can write to")
def test_a_folder_that_takes_no_file_is_told_by_the_name_that_was_asked_for():
    for write in (lambda path: write_text(path, ""), atomic.check_folder_takes):
        with pytest.raises(BadInput, match=r"^/proc/report\.json cannot be written"):
            write(Path("/proc/report.json"))
    with pytest.raises(BadInput, match=r"^/proc/model cannot be written"):  # and not that the disk is full
        save_small_model(Path("/proc/model"))
    with pytest.raises(BadInput, match=r"^/proc/scan\.nrrd cannot be written"):
        Volume(np.zeros((1, 2, 2, 2), "int16"), np.eye(4)).save("/proc/scan.nrrd")
