"""The user's own models on the command line: in, out, another name, away; hostile archives; ONNX files."""

from __future__ import annotations

import importlib.util
import json
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import save_small_model
from panel_tools import HOSTILE, deep, write_hostile, write_model
from safetensors.numpy import load_file, save
from train_tools import run

from MedAELib import archive, bundle, library, models_command
from MedAELib.bundle import METADATA, WEIGHTS, find_bundle, identity, models_folder, read_bundle, read_spec
from MedAELib.errors import BadInput, BadModel, DiskFull
from MedAELib.model import Model


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own models, empty."""
    folder = tmp_path / "own"
    monkeypatch.setenv("MEDAE_MODELS", str(folder))
    return folder


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """A model folder of somebody else's."""
    save_small_model(tmp_path / "elsewhere" / "guest", "guest", modality="MR")
    return tmp_path / "elsewhere" / "guest"


def zipped(folder: Path, target: Path, top: str = "guest/", **more: bytes) -> Path:
    """A zip file of a model folder, with more members."""
    with zipfile.ZipFile(target, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, top + path.relative_to(folder).as_posix())
        for name, data in more.items():
            file.writestr(name, data)
    return target


def test_a_model_comes_in_is_found_by_name_and_goes_out_again(own: Path, guest: Path, tmp_path: Path, capsys) -> None:
    assert run("models", "import", guest) == 0
    assert find_bundle("guest").folder == own / "guest"
    assert run("models", "export", "guest", tmp_path / "out.zip") == 0
    assert run("models", "export", "guest", tmp_path / "out") == 0
    assert read_bundle(tmp_path / "out").sha256 == read_bundle(guest).sha256
    assert run("models", "import", tmp_path / "out.zip", "--name", "other") == 0
    assert run("models", "import", tmp_path / "out.zip") == 0  # the name is taken
    capsys.readouterr()
    assert run("models", "list") == 0
    said = capsys.readouterr().out
    assert all(f"\n{name}\t" in said for name in ("guest", "guest-2", "other")) and "MB" in said
    assert sorted(path.name for path in own.iterdir()) == ["guest", "guest-2", "other"]


def changed(folder: Path, **values: object) -> None:
    """Say something else in the metadata of a model, and that it belongs to the weights there."""
    metadata = json.loads((folder / METADATA).read_text())
    metadata["description"] = values.pop("description", metadata["description"])
    own = metadata["medae"] | values
    own["sha256"] = identity(read_spec(own), (folder / WEIGHTS).read_bytes())
    (folder / METADATA).write_text(json.dumps({**metadata, "medae": own}))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"network": "unheard"}, "'unheard' is unknown"),
        ({"arguments": {"channels": 4, "blocks": 2}}, "wrong shape"),
        ({"description": "Fine.\x1b[2J"}, "control characters"),
        ({"limits": ["One.\ntwo"]}, "control characters"),
        ({"training_data": ["ab\u202ecd"]}, "control characters"),
        ({"training_data": ["T1\u200b"]}, "control characters"),
        ("not finite", "is not finite"),
        ("no weights", "not a complete safetensors file"),
    ],
)
def test_what_cannot_be_built_or_hides_something_does_not_come_in(own: Path, guest: Path, capsys, fault, told) -> None:
    if isinstance(fault, dict):
        changed(guest, **fault)
    else:
        weights = load_file(guest / WEIGHTS)
        weights["level.conv.bias"][0] = np.nan
        (guest / WEIGHTS).write_bytes(b"none" if fault == "no weights" else save(weights))
        changed(guest)
    assert run("models", "import", guest) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert not any(hidden in said for hidden in (".medae-incoming", "\x1b", "\u202e"))
    assert not own.exists() or not list(own.iterdir())


def test_all_named_models_are_checked_though_one_is_broken(own: Path, guest: Path, capsys) -> None:
    assert run("models", "import", guest) == 0
    assert run("models", "import", guest, "--name", "broken") == 0
    (own / "broken" / WEIGHTS).write_bytes(b"other")
    capsys.readouterr()
    assert run("models", "check", "broken", "absent", "guest") == 2
    told = capsys.readouterr()
    assert told.out.startswith("guest\tis whole") and "broken" in told.err and "absent" in told.err
    assert run("models", "check", "guest") == 0


def test_a_bundled_model_that_is_broken_is_told_and_the_others_are_listed_and_checked(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    bundled = tmp_path / "bundled"
    for name in ("first", "second"):
        save_small_model(bundled / name, name)
    (bundled / "first" / WEIGHTS).write_bytes(b"other")
    monkeypatch.setattr(bundle, "models_folder", lambda: bundled)
    monkeypatch.setattr(models_command, "models_folder", lambda: bundled)
    for action, said in (("list", "second\tdenoise"), ("check", "second\tis whole")):
        assert run("models", action) == 2
        told = capsys.readouterr()
        assert said in told.out and "first" in told.err and "Traceback" not in told.err


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_model_does_not_come_in_and_hides_no_other(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, said: tuple[str, ...]
) -> None:
    for module in (bundle, models_command):
        monkeypatch.setattr(module, "models_folder", lambda: tmp_path / "bundled")
    source = write_hostile(tmp_path / "hostile", *said)
    assert run("models", "import", source) == 2
    assert str(source) in (told := capsys.readouterr().err) and told.count("\n") == 1 and len(told) < 400
    assert not own.exists() or not list(own.iterdir())
    write_model(own / "guest", "MR")
    write_hostile(own / "hostile", *said)
    for action in (["list"], ["check", "hostile"], ["rename", "hostile", "x"], ["export", "hostile", tmp_path / "x"]):
        assert run("models", *action) == 2
        found = capsys.readouterr()
        assert str(own / "hostile") in found.err and found.err.count("\n") == 1
        assert ("guest\t" in found.out) == (action == ["list"])
    assert sorted(path.name for path in own.iterdir()) == ["guest", "hostile"] and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "figures", ['{"a": 1e999}', '{"a": ' + deep(900) + "}", '{"a": ' + deep(20, ",".join("0" * 100_000)) + "}"],
    ids=["a number", "deep", "wide"],
)  # fmt: skip
def test_nothing_stays_of_a_model_that_cannot_be_read_under_its_new_name(own: Path, tmp_path: Path, figures) -> None:
    source = write_hostile(tmp_path / "guest", figures, "medae", "figures")
    write_model(own / "guest", "MR")
    with pytest.raises(BadModel) as error:
        library.import_model(source)
    assert str(source) in str(error.value) and str(own) not in str(error.value)
    assert [path.name for path in own.iterdir()] == ["guest"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_monai_would_run_is_never_taken_over_and_all_else_comes_out_as_it_came_in(
    own: Path, guest: Path, tmp_path: Path
) -> None:
    sound = files_of(guest)
    (guest / "configs" / "inference.json").write_text('{"network_def": {"_target_": "os.system", "command": "true"}}')
    (guest / "configs" / "train.json").write_text('{"a": "$1"}')
    (guest / "models" / "model.pt").write_bytes(b"a pickle")
    assert run("models", "export", guest, tmp_path / "straight") == 0
    assert run("models", "import", guest) == 0 and run("models", "import", zipped(guest, tmp_path / "x.zip")) == 0
    assert run("models", "export", "guest", tmp_path / "out.zip") == 0
    Model.load(guest).export(tmp_path / "by-library")
    (tmp_path / "by-library" / "models" / "model.pt").unlink()
    with zipfile.ZipFile(tmp_path / "out.zip") as file:
        out = {name.removeprefix("guest/"): file.read(name) for name in file.namelist()}
    assert out == sound == files_of(own / "guest")
    assert sound == files_of(tmp_path / "straight") == files_of(tmp_path / "by-library")
    assert files_of(own / "guest-2").keys() == sound.keys()
    assert (own / "guest-2" / "configs" / "inference.json").read_bytes() == sound["configs/inference.json"]
    (own / "guest" / "configs" / "inference.json").write_text('{"a": "$1"}')
    assert run("models", "rename", "guest", "pet") == 0
    assert (own / "pet" / "configs" / "inference.json").read_bytes() == sound["configs/inference.json"]
    for folder in bundle.bundled_folders():
        there = {name: data for name, data in files_of(folder).items() if not name.endswith(archive.INFERENCE)}
        assert files_of(folder) == {**there, archive.INFERENCE: archive.inference(read_bundle(folder).spec)}


@pytest.mark.parametrize("name", ["bad/name", "../out", ".", "a b", "n" * 65])
def test_a_model_does_not_come_in_under_what_is_no_name(own: Path, guest: Path, capsys, name: str) -> None:
    assert run("models", "import", guest, "--name", name) == 2
    assert "is no name for a model" in capsys.readouterr().err and not own.exists()


def test_a_damaged_model_is_told_and_the_others_are_listed(own: Path, guest: Path, tmp_path: Path, capsys) -> None:
    assert run("models", "import", guest) == 0
    assert run("models", "import", guest, "--name", "broken") == 0
    (own / "broken" / "configs" / "metadata.json").write_text("{")
    capsys.readouterr()
    assert run("models", "list") == 2
    told = capsys.readouterr()
    assert "\nguest\t" in told.out and "broken" in told.err and "Traceback" not in told.err
    assert run("models", "list", "--models", tmp_path / "nowhere") == 2
    assert "nowhere is not a folder" in capsys.readouterr().err


def test_a_new_name_stands_in_folder_metadata_and_card(own: Path, guest: Path) -> None:
    (guest / "docs" / "README.md").write_text("# guest\n\nText.\n")
    run("models", "import", guest)
    before = find_bundle("guest").sha256
    assert run("models", "rename", "guest", "pet") == 0
    bundle = find_bundle("pet")
    assert (bundle.name, bundle.sha256, bundle.card) == ("pet", before, "# pet\n\nText.\n")
    assert not (own / "guest").exists()
    run("models", "import", guest)
    assert run("models", "rename", "guest", "pet") == 2  # taken
    assert run("models", "rename", "guest", "../pet") == 2
    assert sorted(path.name for path in own.iterdir()) == ["guest", "pet"]


def test_only_own_models_are_removed_and_only_when_it_is_meant(own: Path, guest: Path, capsys) -> None:
    run("models", "import", guest)
    assert run("models", "remove", "guest") == 2
    assert "--yes" in capsys.readouterr().err and (own / "guest").is_dir()
    assert run("models", "remove", "guest", "--yes") == 0
    assert list(own.iterdir()) == []
    assert run("models", "remove", "ct-denoise", "--yes") == 2
    assert "came with MedAE" in capsys.readouterr().err
    assert run("models", "remove", guest, "--yes") == 2  # elsewhere
    assert guest.is_dir() and (models_folder() / "ct-denoise").is_dir()


def test_another_folder_can_be_named(own: Path, guest: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    assert run("models", "import", guest, "--models", there) == 0
    assert run("models", "rename", "guest", "pet", "--models", there) == 0
    assert run("models", "remove", "pet", "--yes", "--models", there) == 0
    assert list(there.iterdir()) == [] and not own.exists()


@pytest.mark.parametrize(
    "name",
    ["../evil", "guest/../../evil", "/evil", "C:/evil", "guest\\..\\evil", "a/./../../b", "\\\\host\\share\\evil"],
)
def test_an_archive_with_a_name_that_leads_out_is_refused(own: Path, guest: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadModel, match="leave its folder"):
        library.import_model(zipped(guest, tmp_path / "x.zip", **{name: b"evil"}))
    assert not own.exists() and not list(tmp_path.rglob("evil"))


def test_links_special_files_and_encrypted_members_are_refused(own: Path, guest: Path, tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR):
        path = zipped(guest, tmp_path / "x.zip")
        with zipfile.ZipFile(path, "a") as file:
            member = zipfile.ZipInfo("guest/link")
            member.create_system, member.external_attr = 3, (kind | 0o777) << 16
            file.writestr(member, "/etc/passwd")
        with pytest.raises(BadModel, match="link or another special file"):
            library.import_model(path)
    data = bytearray(zipped(guest, tmp_path / "x.zip").read_bytes())
    at = data.find(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BadModel, match="encrypted"):
        library.import_model(tmp_path / "x.zip")
    assert not own.exists()


def test_huge_doubled_and_too_many_members_are_refused(
    own: Path, guest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.zip"
    zipped(guest, path, **{f"junk/{number}": b"" for number in range(1001)})
    with pytest.raises(BadModel, match="files, so it is no model"):
        library.import_model(path)
    zipped(guest, path, **{"second/" + METADATA: b"{}"})
    with pytest.raises(BadModel, match="several models"):
        library.import_model(path)
    zipped(guest, path)
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "a") as file:
        file.writestr("guest/" + WEIGHTS, b"other")
    with pytest.raises(BadModel, match="twice"):
        library.import_model(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:  # a bomb: a few kB that become 8 MB
        for name in (*archive.NEEDED,):
            file.writestr(name, (guest / name).read_bytes() if name != WEIGHTS else bytes(8 << 20))
    monkeypatch.setattr(archive, "LARGEST_WEIGHTS", 1 << 20)
    with pytest.raises(BadModel, match="more than 1 MiB"):
        library.import_model(path)
    assert not own.exists()


@given(data=st.data())
def test_any_damaged_archive_is_refused_or_a_whole_model(data: st.DataObject, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = zipped(write_model(folder / "m", "MR"), folder / "x.zip")
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        bundle = library.import_model(path, folder / "own")
    except BadModel:
        assert not (folder / "own").exists() or list((folder / "own").iterdir()) == []
        return
    assert bundle.sha256 == read_bundle(folder / "m").sha256


def test_a_model_folder_with_links_or_damage_is_refused(own: Path, guest: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (guest / "LICENSE").unlink()
    (guest / "LICENSE").symlink_to(secret)
    with pytest.raises(BadModel, match="link"):
        library.import_model(guest)
    (guest / "LICENSE").unlink()
    with pytest.raises(BadModel, match="missing"):
        library.import_model(guest)
    (guest / "LICENSE").write_text("mine\n")
    (guest / WEIGHTS).write_bytes(b"other")
    with pytest.raises(BadModel, match="SHA-256"):
        library.import_model(guest)
    assert not own.exists() or list(own.iterdir()) == []


def test_a_full_disk_leaves_nothing(own: Path, guest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(library, "replace_folder", full)
    with pytest.raises(DiskFull):
        library.import_model(guest)
    assert list(own.iterdir()) == []


def test_an_export_never_writes_over_something(own: Path, guest: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(BadInput, match="there already"):
        library.export_model(read_bundle(guest), tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_onnx_without_its_packages_is_one_plain_sentence(own: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    pytest.importorskip("torch")
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else there(name))
    assert run("models", "export", "ct-denoise", "--onnx", tmp_path / "x.onnx") == 2
    assert "ONNX files need the Python packages onnxscript, which are not installed" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_an_onnx_file_has_the_size_that_is_asked_for(own: Path, tmp_path: Path, capsys) -> None:
    save_small_model(own / "small", network="plain")
    assert run("models", "export", "small", "--onnx", tmp_path / "x.onnx", "--size", 16) == 0
    assert (tmp_path / "x.onnx").stat().st_size > 1000
    assert run("models", "export", "small", "--onnx", tmp_path / "y.onnx", "--size", 14) == 2
    assert not (tmp_path / "y.onnx").exists() and "multiples of" in capsys.readouterr().err
    assert run("models", "export", "small") == 2
