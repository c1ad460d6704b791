"""compress, decompress and info as a user meets them: files, folders, shares, and one line for whatever is wrong."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from codec_tools import scan, take_model_away

from MedAELib import Volume
from MedAELib.__main__ import main
from MedAELib.codec.container import read_container
from MedAELib.errors import OutOfMemory


def run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(4):
        scan((9, 8, 7), seed=number).save(tmp_path / "in" / f"scan{number}.nii.gz")
    return tmp_path / "in"


def test_a_volume_there_and_back(folder, tmp_path, capsys):
    source, packed, target = folder / "scan0.nii.gz", tmp_path / "a.maez", tmp_path / "b.nrrd"
    assert run("compress", source, packed) == 0
    (told,) = lines(capsys)
    assert told["bytes"] == packed.stat().st_size and told["mode"] == {"kind": "lossless"} and told["seconds"] >= 0
    assert run("decompress", packed, target) == 0
    before, after = Volume.load(source), Volume.load(target)
    assert np.array_equal(before.array, after.array) and np.allclose(before.affine, after.affine, atol=1e-5)


def test_the_bound_is_kept_and_told(folder, tmp_path, capsys):
    packed = tmp_path / "a.maez"
    assert run("compress", folder / "scan0.nii.gz", packed, "--max-error", 3) == 0
    assert lines(capsys)[0]["mode"] == {"kind": "max-error", "bound": 3.0}
    assert run("decompress", packed, tmp_path / "b.mha") == 0
    difference = Volume.load(tmp_path / "b.mha").array.astype(int) - Volume.load(folder / "scan0.nii.gz").array
    assert 0 < np.abs(difference).max() <= 3


def test_a_bound_beyond_the_range_of_the_type_is_kept_as_well(folder, tmp_path):
    assert run("compress", folder / "scan0.nii.gz", tmp_path / "a.maez", "--max-error", 1e300) == 0
    assert run("decompress", tmp_path / "a.maez", tmp_path / "b.mha") == 0
    assert Volume.load(tmp_path / "b.mha").array.dtype == Volume.load(folder / "scan0.nii.gz").array.dtype


def test_an_unexpected_fault_of_one_case_does_not_end_the_others(folder, tmp_path, capsys, monkeypatch):
    from MedAELib.codec import volumes

    whole, done = volumes.compress, []

    def faulty(*arguments, **options):
        done.append(1)
        if len(done) == 2:
            raise ZeroDivisionError
        return whole(*arguments, **options)

    monkeypatch.setattr(volumes, "compress", faulty)
    assert run("compress", folder, tmp_path / "out") == 2
    told = lines(capsys)
    assert len(told) == 4 and [("error" in line) for line in told].count(True) == 1
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_quality_and_a_size_can_be_asked_for(folder, tmp_path, capsys):
    assert run("compress", folder / "scan0.nii.gz", tmp_path / "a.maez", "--psnr", 40) == 0
    assert run("compress", folder / "scan0.nii.gz", tmp_path / "b.maez", "--ratio", 1) == 0
    quality, size = lines(capsys)
    assert quality["mode"] == {"kind": "psnr", "decibels": 40.0}
    assert size["mode"] == {"kind": "lossless"} and size["ratio"] >= 1  # without any loss it is as small


@pytest.mark.parametrize("ratio", [0.3, 0.999, 0.9999999, 0, -8, "nan", "inf"])
def test_a_file_larger_than_the_volume_is_not_a_size_to_ask_for(folder, tmp_path, capsys, ratio):
    """Who asks for it has the ratio upside down: 0.3 for a file of 0.3 of the size, which is a ratio of 3.3."""
    assert run("compress", folder / "scan0.nii.gz", tmp_path / "b.maez", "--ratio", ratio) == 2
    told = capsys.readouterr().err
    assert told.startswith("medae: ") and told.count("\n") == 1 and "ratio" in told and str(ratio) in told
    assert "1 or more" in told
    assert not [*tmp_path.glob("b.maez*")]


def test_info_tells_without_decoding(folder, tmp_path, capsys, monkeypatch):
    packed = tmp_path / "a.maez"
    run("compress", folder / "scan1.nii.gz", packed)
    capsys.readouterr()
    monkeypatch.setattr("MedAELib.codec.reader.decode_chunk", None)
    assert run("info", packed) == 0
    (told,) = lines(capsys)
    assert told["shape"] == [1, 9, 8, 7] and told["dtype"] == "int16" and told["complete"]
    assert told["model"]["sha256"] and told["mode"] == {"kind": "lossless"}


def test_a_prefix_and_a_slab(folder, tmp_path, capsys):
    packed, cut, size = tmp_path / "a.maez", tmp_path / "cut.maez", (24, 20, 18)
    scan(size).save(folder / "scan0.nii.gz")  # one of a few hundred voxels is packed as a whole
    run("compress", folder / "scan0.nii.gz", packed)
    cut.write_bytes(packed.read_bytes()[:-1])
    assert run("decompress", cut, tmp_path / "b.nrrd") == 2
    assert not (tmp_path / "b.nrrd").exists()
    assert run("decompress", cut, tmp_path / "b.nrrd", "--prefix") == 0
    assert 0 < Volume.load(tmp_path / "b.nrrd").array.size < np.prod(size)
    assert run("decompress", packed, tmp_path / "c.nrrd", "--slices", 2, 5) == 0
    assert np.array_equal(Volume.load(tmp_path / "c.nrrd").array, Volume.load(folder / "scan0.nii.gz").array[..., 2:5])


def test_folders_in_shares_skip_and_go_on(folder, tmp_path, capsys):
    packed, restored = tmp_path / "packed", tmp_path / "restored"
    (folder / "scan2.nii.gz").write_bytes(b"no volume")
    assert run("compress", folder, packed, "--part", 1, "--of", 2) == 2
    first = lines(capsys)
    assert [Path(line["input"]).name for line in first] == ["scan0.nii.gz", "scan2.nii.gz"]
    assert "scan2.nii.gz" in first[1]["error"]
    assert run("compress", folder, packed, "--part", 2, "--of", 2) == 0
    assert {path.name for path in packed.iterdir()} == {"scan0.maez", "scan1.maez", "scan3.maez"}
    capsys.readouterr()
    assert run("compress", folder, packed) == 2
    assert [line.get("skipped") for line in lines(capsys)] == ["exists", "exists", None, "exists"]
    assert run("decompress", packed, restored) == 0
    for name in ("scan0", "scan1", "scan3"):
        before, after = Volume.load(folder / f"{name}.nii.gz"), Volume.load(restored / f"{name}.nii.gz")
        assert np.array_equal(before.array, after.array)


def test_results_within_the_folder_of_the_scans_are_no_scans(folder, capsys):
    (folder / "notes").mkdir()
    (folder / "notes" / "read me.txt").write_text("no image")
    for _ in range(2):
        assert run("compress", folder, folder / "out") == 0
        assert [Path(line["input"]).name for line in lines(capsys)] == [f"scan{n}.nii.gz" for n in range(4)]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [f"scan{n}.maez" for n in range(4)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["compress"],
        ["compress", "absent.nii.gz", "a.maez"],
        ["compress", "{scan}", "a.zip"],
        ["compress", "{scan}", "absent/a.maez"],
        ["compress", "{scan}", "a.maez", "--max-error", "0"],
        ["compress", "{scan}", "a.maez", "--max-error", "nan"],
        ["compress", "{scan}", "a.maez", "--max-error", "1", "--lossless"],
        ["compress", "{folder}", "{scan}"],
        ["compress", "{folder}", "out", "--part", "3", "--of", "2"],
        ["decompress", "{scan}", "a.nrrd"],
        ["decompress", "absent.maez", "a.nrrd"],
        ["decompress", "{scan}", "a.xyz"],
        ["decompress", "{packed}", "a.png"],
        ["decompress", "{empty}", "out"],
        ["info", "{scan}"],
        ["info", "absent.maez"],
        ["compress", "{scan}", "a.maez", "--part", "3", "--of", "2"],
        ["compress", "{scan}", "a.maez", "--part", "0"],
        ["compress", "{scan}", "a.npz", "--latent-only", "--of", "2"],
        ["compress", "{scan}", "a.npz", "--latent-only", "--max-error", "0"],
        ["compress", "{scan}", "a.npz", "--latent-only", "--ratio", "0"],
        ["decompress", "{packed}", "a.nrrd", "--part", "2", "--of", "2"],
        ["decompress", "{latent}", "a.nrrd", "--coarser", "3"],
        ["decompress", "{latent}", "a.nrrd", "--slices", "1", "2"],
        ["decompress", "{latent}", "a.nrrd", "--prefix"],
        ["decompress", "{latent}", "a.nrrd", "--part", "0"],
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_whatever_is_wrong_is_one_line_and_exit_status_2(arguments, folder, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert run("compress", folder / "scan0.nii.gz", tmp_path / "packed.maez") == 0
    assert run("compress", folder / "scan0.nii.gz", tmp_path / "latent.npz", "--latent-only") == 0
    capfd.readouterr()
    names = {
        "latent": tmp_path / "latent.npz",
        "packed": tmp_path / "packed.maez",
        "scan": folder / "scan0.nii.gz",
        "folder": folder,
        "empty": tmp_path / "empty",
    }
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert run(*[argument.format(**names) for argument in arguments]) == 2
    told = capfd.readouterr()
    assert told.out == "" and len(told.err.strip().splitlines()) == 1 and "Traceback" not in told.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_info_goes_on_after_a_file_that_it_cannot_read(folder, tmp_path, capsys):
    packed, broken = tmp_path / "a.maez", tmp_path / "broken.maez"
    run("compress", folder / "scan1.nii.gz", packed)
    broken.write_bytes(b"nothing")
    capsys.readouterr()
    assert run("info", packed, tmp_path / "absent.maez", broken, packed) == 2
    told = capsys.readouterr()
    first, absent, damaged, last = map(json.loads, told.out.splitlines())
    assert first == last and first["file"] == str(packed)
    assert "does not exist" in absent["error"] and "not a .maez file" in damaged["error"]
    assert len(told.err.splitlines()) == 2


def test_info_tells_how_small_a_file_is_and_what_was_lost(folder, tmp_path, capsys):
    from MedAELib.tasks.run import run_task

    run("compress", folder / "scan1.nii.gz", tmp_path / "a.maez")
    (made,) = lines(capsys)
    scan1, quiet = Volume.load(folder / "scan1.nii.gz"), lambda *_: None
    data = run_task("compress", {"input": scan1}, {"mode": "max-error", "value": 3.0}, progress=quiet).files["latent"]
    (tmp_path / "b.maez").write_bytes(data)
    (tmp_path / "cut.maez").write_bytes(data[:-1])
    assert run("info", tmp_path / "a.maez", tmp_path / "b.maez", tmp_path / "cut.maez") == 0
    plain, told, cut = lines(capsys)
    assert {name: plain[name] for name in ("ratio", "bits_per_voxel", "bytes")} == {
        name: made[name] for name in ("ratio", "bits_per_voxel", "bytes")
    }
    assert "figures" not in plain and 0 < told["figures"]["max_error"] <= 3 and told["figures"]["psnr"] > 20
    assert not cut["complete"] and cut["ratio"] == told["ratio"] and cut["bytes"] == told["bytes"] - 1


def test_info_names_all_models_that_a_file_needs(tmp_path, capsys, monkeypatch):
    fixtures = Path(__file__).parent / "fixtures"
    scan((40, 36, 30)).save(tmp_path / "a.nii.gz")
    assert run("compress", tmp_path / "a.nii.gz", tmp_path / "a.maez", "--with-model") == 0
    capsys.readouterr()
    take_model_away(monkeypatch, "load_front_model")
    assert run("info", fixtures / "v5-psnr.maez", fixtures / "v2-lossless.maez", tmp_path / "a.maez") == 0
    waves, front, carried = (line["models"] for line in lines(capsys))
    assert [model["name"] for model in waves] == ["ct-mr-codec", "ct-mr-codec-subband-2", "ct-mr-codec-restoration-2"]
    assert all(model["installed"] and not model["inside"] and len(model["sha256"]) == 64 for model in waves)
    assert [model["installed"] for model in front] == [True, False] == [model["installed"] for model in carried]
    assert [model["inside"] for model in carried] == [True, True]


def test_packed_voxels_need_no_model(tmp_path, capsys):
    noise = np.frombuffer(np.random.default_rng(0).bytes(2000), np.int16).reshape(1, 10, 10, 10)
    Volume(noise, np.eye(4)).save(tmp_path / "a.nrrd")
    assert run("compress", tmp_path / "a.nrrd", tmp_path / "a.maez", "--with-model") == 0
    assert run("info", tmp_path / "a.maez") == 0
    made, told = lines(capsys)
    assert told["models"] == [] and told["chunks"] == 0 and told["complete"] and told["bytes"] == made["bytes"] < 2200


@pytest.mark.parametrize("command", ["info", "decompress"])
def test_no_more_of_a_file_is_read_than_its_beginning_tells_to(command, folder, tmp_path, capsys):
    run("compress", folder / "scan0.nii.gz", tmp_path / "a.maez")
    (tmp_path / "other.maez").write_bytes(b"something else")
    (tmp_path / "longer.maez").write_bytes((tmp_path / "a.maez").read_bytes())
    for name, said in (("other.maez", "not a .maez file"), ("longer.maez", "longer than it should be")):
        os.truncate(tmp_path / name, 3 << 30)  # a hole, which takes no room on the disk
        tracemalloc.start()
        try:
            assert run(command, tmp_path / name, *([] if command == "info" else [tmp_path / "b.nrrd"])) == 2
            assert tracemalloc.get_traced_memory()[1] < 50 << 20
        finally:
            tracemalloc.stop()
        assert said in capsys.readouterr().err


def test_a_file_that_does_not_fit_the_memory_is_named(folder, tmp_path, monkeypatch):
    run("compress", folder / "scan0.nii.gz", tmp_path / "a.maez")
    whole = Path.open

    class Full:
        """A file whose header can be read, and no more."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def read(self, size=-1):
            if size < 0:
                raise MemoryError
            return self.file.read(size)

    monkeypatch.setattr(Path, "open", lambda path, *arguments: Full(whole(path, *arguments)))
    with pytest.raises(OutOfMemory, match=r"a\.maez needs 1 MB of memory"):
        read_container(tmp_path / "a.maez")


def test_names_that_differ_in_case_alone_are_told(folder, tmp_path, capsys):
    scan((5, 4, 3)).save(folder / "SCAN1.nrrd")
    assert run("compress", folder, tmp_path / "out") == 2
    assert "Two files would become" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_latent_is_of_one_volume(folder, tmp_path, capsys):
    assert run("compress", folder, tmp_path / "a.npz", "--latent-only") == 2
    assert "takes one volume" in capsys.readouterr().err


def test_a_ct_of_a_format_that_names_no_kind_is_told_by_its_values(tmp_path, capsys):
    scan((24, 20, 18)).save(tmp_path / "ct.nii.gz")
    scan((24, 20, 18), "uint16").save(tmp_path / "other.nii.gz")  # is it MRI? nobody knows
    for name in ("ct", "other"):
        assert run("compress", tmp_path / f"{name}.nii.gz", tmp_path / f"{name}.maez") == 0
    capsys.readouterr()
    assert run("info", tmp_path / "ct.maez", tmp_path / "other.maez") == 0
    assert [line["modality"] for line in lines(capsys)] == ["CT", ""]
