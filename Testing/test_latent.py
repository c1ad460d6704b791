"""Latents to compute with: round trips through several networks, place of the cells, arithmetic, files, commands."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import save_small_model

from MedAELib import latent as latents
from MedAELib.bundle import Spec, Window
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, BadModel, OutOfMemory
from MedAELib.latent import Latent, average, interpolate, nearest
from MedAELib.model import Model
from MedAELib.tasks.latents import LATTICE, coarse_lattice, decode, encode
from MedAELib.volume import Volume

AFFINE = np.array([[0.8, 0.1, 0, -20], [-0.1, 0.8, 0, 30], [0, 0, 2, -40], [0, 0, 0, 1.0]])
NETWORKS: list[tuple[str, int, dict[str, Any]]] = [
    ("plain", 3, {"channels": [4, 8], "strides": [2, 2]}),
    ("plain", 2, {"channels": [4, 8], "strides": [2, 2]}),
    ("sparse", 3, {"channels": [4, 8], "strides": [2, 2]}),
    ("variational", 3, {"channels": [4, 8], "strides": [2, 2], "latent": 3}),
    ("quantised", 3, {"channels": [4, 8], "strides": [2, 2], "entries": 16}),
    ("recurrent", 3, {"channels": [4, 8], "strides": [2, 2]}),
    ("dense", 2, {"grid": 8, "hidden": [16], "latent": 5}),
]


def _volume(seed: int = 0, size: tuple[int, int, int] = (22, 18, 13)) -> Volume:
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in size], indexing="ij"))
    voxels = 800 * (np.sqrt((grid**2).sum(0)) < 0.7 + 0.05 * seed) + np.random.default_rng(seed).normal(0, 20, size)
    return Volume(voxels.astype(np.int16)[None], AFFINE, {"name": f"scan {seed}", "modality": "CT"})


def _model(folder: Path, network: str = "plain", dims: int = 3, seed: int = 0, **arguments: Any) -> Model:
    import torch

    torch.manual_seed(seed)
    model = Model.create(Spec(network, arguments, dims, "reconstruct", "CT", Window("fixed", -100.0, 1000.0)))
    texts = {"description": "For tests.", "card": "# test\n", "licence": "Apache-2.0\n"}
    return model.save(folder, name="small", figures={}, limits=[], training_data=[], **texts)


@pytest.mark.parametrize(("network", "dims", "arguments"), NETWORKS, ids=lambda value: str(value)[:12])
def test_a_latent_decodes_to_what_the_network_makes_of_the_volume(
    tmp_path: Path, network: str, dims: int, arguments: dict[str, Any]
) -> None:
    model, volume = _model(tmp_path / "model", network, dims, **arguments), _volume()
    made = encode(volume, model, device="cpu")
    made.save(tmp_path / "code.npz")
    back = decode(latents.load(tmp_path / "code.npz"), model, device="cpu")
    wanted = model.reconstruct(volume, engine=Engine("cpu", "float32"))
    assert np.abs(back.array.astype(int) - wanted.array).max() <= 1  # rounded to whole numbers on two ways
    np.testing.assert_array_equal(back.affine, volume.affine)
    assert back.array.dtype == np.int16 and made.source.limits == (-100.0, 1000.0)
    assert made.sha256 == model.bundle.sha256  # type: ignore[union-attr]


def test_a_cell_lies_where_its_voxels_are(tmp_path: Path) -> None:
    volume = _volume()
    made = encode(volume, _model(tmp_path / "model", channels=[4, 8], strides=[2, 2]), device="cpu")
    assert made.code.shape == (8, 6, 5, 4)
    np.testing.assert_allclose(made.affine @ [2, 1, 3, 1], volume.affine @ [8, 4, 12, 1])
    assert made.as_volume().spacing == pytest.approx([4 * along for along in volume.spacing])
    whole = encode(volume, _model(tmp_path / "vector", "dense", 2, grid=8, hidden=[16], latent=5), device="cpu")
    middle = [(n - 1) / 2 for n in volume.shape[:2]]
    np.testing.assert_allclose(whole.affine @ [0, 0, 3, 1], volume.affine @ [*middle, 3, 1])


def test_the_model_must_be_the_one_that_made_it_and_must_decode_alone(tmp_path: Path) -> None:
    one, other = (_model(tmp_path / name, seed=seed, channels=[4], strides=[2]) for seed, name in enumerate("ab"))
    made = encode(_volume(), one, device="cpu")
    with pytest.raises(BadModel, match="which small is not"):
        decode(made, other, device="cpu")
    with pytest.raises(BadModel, match="There is no model 'small'"):
        decode(made)
    denoising = save_small_model(tmp_path / "denoising")
    with pytest.raises(BadModel, match="needs the scan beside the code"):
        encode(_volume(), denoising, device="cpu")
    with pytest.raises(BadInput, match="do not make a latent"):
        encode(Volume(np.zeros((2, 8, 8, 8), np.int16), np.eye(4)), one, device="cpu")
    conditional = _model(tmp_path / "conditional", "conditional", channels=[4], strides=[2])
    with pytest.raises(BadModel, match="decoder of the model small needs more than the code"):
        encode(_volume(), conditional, device="cpu")


def test_arithmetic(tmp_path: Path) -> None:
    model = _model(tmp_path / "model", channels=[4], strides=[2])
    some = [encode(_volume(seed), model, device="cpu") for seed in range(3)]
    np.testing.assert_allclose(average(some).code, np.mean([one.code for one in some], 0), atol=1e-6)
    half = interpolate(some[0], some[1], 0.25)
    np.testing.assert_allclose(half.code, 0.75 * some[0].code + 0.25 * some[1].code, atol=1e-6)
    assert half.source.name == "scan 0"
    np.testing.assert_array_equal(interpolate(some[0], some[1], 1).code, some[1].code)
    index, far = nearest(interpolate(some[0], some[2], 0.9), some)
    assert index == 2
    assert far == pytest.approx(0.1 * nearest(some[0], [some[2]])[1], rel=1e-4)
    with pytest.raises(BadInput, match="weights"):
        average(some, [1, -1, 0])


def test_latents_that_differ_are_not_computed_with(tmp_path: Path) -> None:
    models = [_model(tmp_path / name, seed=seed, channels=[4], strides=[2]) for seed, name in enumerate("ab")]
    first = encode(_volume(), models[0], device="cpu")
    with pytest.raises(BadInput, match="another model"):
        average([first, encode(_volume(), models[1], device="cpu")])
    with pytest.raises(BadInput, match="another size"):
        interpolate(first, encode(_volume(size=(26, 18, 13)), models[0], device="cpu"), 0.5)
    moved = Volume(_volume().array, AFFINE + np.eye(4, k=3), {"modality": "CT"})
    with pytest.raises(BadInput, match="lies elsewhere"):
        nearest(first, [encode(moved, models[0], device="cpu")])
    for nothing in (lambda: average([]), lambda: nearest(first, [])):
        with pytest.raises(BadInput, match="no latent"):
            nothing()


def test_the_coarse_lattice_is_what_the_first_part_of_a_file_holds() -> None:
    from MedAELib.codec.reader import decompress
    from MedAELib.codec.volumes import compress

    volume = _volume()
    made = coarse_lattice(volume)
    coarse = decompress(compress(volume), coarser=5)
    np.testing.assert_array_equal(made.code, coarse.array)
    np.testing.assert_allclose(made.affine, coarse.affine)
    assert made.model == LATTICE
    back = decode(made)
    steps = [round(n) for n in np.diag(np.linalg.solve(volume.affine, made.affine))[:3]]
    np.testing.assert_array_equal(back.array[:, :: steps[0], :: steps[1], :: steps[2]], coarse.array)
    assert back.array.dtype == np.int16 and back.shape == volume.shape


def test_files_that_are_no_latents_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.npz"
    made = coarse_lattice(_volume())
    made.save(path)
    good = path.read_bytes()
    told = latents.describe(made)
    arrays = {"code": made.code, "affine": made.affine, "source_affine": made.source.affine}

    def write(save: Any = np.savez, change: Any = (), **more: Any) -> None:
        save(path, **{**arrays, "description": np.array(json.dumps({**told, **dict(change)})), **more})

    hostile = [
        lambda: path.write_bytes(good[:200]),
        lambda: path.write_bytes(b"no archive"),
        lambda: write(np.savez_compressed),
        lambda: write(change={"format": 2}),
        lambda: write(change={"source": {**told["source"], "shape": [1 << 40, 1, 1]}}),
        lambda: write(change={"source": {**told["source"], "dtype": "O"}}),
        lambda: write(change={"source": {**told["source"], "limits": [0, float("nan")]}}),
        lambda: write(change={"model": 7}),
        lambda: write(code=np.full((1, 2, 2, 2), np.nan, np.float32)),
        lambda: write(affine=np.zeros((4, 4))),
        lambda: write(code=np.array([{}], dtype=object)),
        lambda: write(more=np.zeros(3)),
    ]
    for number, damage in enumerate(hostile):
        damage()
        with pytest.raises(BadInput):
            latents.load(path)
            pytest.fail(f"number {number} was read")
    with pytest.raises(BadInput, match="does not exist"):
        latents.load(tmp_path / "nothing.npz")
    with pytest.raises(BadInput, match=r"\.npz or \.nrrd"):
        made.save(tmp_path / "code.txt")


def _with_member(path: Path, name: str, content: bytes) -> None:
    """Put other bytes in the place of an array of a latent's file."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member, kept in members.items():
            archive.writestr(member, content if member == name else kept)


@pytest.mark.parametrize(
    ("name", "described", "shape"),
    [
        ("code.npy", "<f4", (1, 1 << 20, 1 << 20, 1 << 20)),
        ("code.npy", "<f4", (1, 1000, 1000, 1000)),
        ("code.npy", "<f4", (0, 1 << 62, 1 << 62, 4)),
        ("affine.npy", "<f8", (1 << 40, 4)),
        ("description.npy", "<U500000000", ()),
    ],
)
def test_no_array_is_made_that_the_file_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, described: str, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "code.npz"
    coarse_lattice(_volume()).save(path)
    header = io.BytesIO()
    told = {"descr": described, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, told)  # type: ignore[arg-type]
    _with_member(path, name, header.getvalue() + bytes(64))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("arrays were made"))
    with pytest.raises(BadInput, match="is not a latent"):
        latents.load(path)


def test_a_volume_that_does_not_fit_the_memory_is_told_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = coarse_lattice(_volume())
    huge = replace(made, source=replace(made.source, shape=(1 << 16, 1 << 16, 1 << 16)))
    with pytest.raises(OutOfMemory, match="memory"):
        decode(huge)

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "take", full)
    with pytest.raises(OutOfMemory, match="memory"):
        decode(made)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32", "uint32", "int8"])
def test_the_largest_numbers_do_not_become_the_smallest(dtype: str) -> None:
    bounds = np.iinfo(dtype)
    for value in (bounds.max, bounds.min):
        back = decode(coarse_lattice(Volume(np.full((1, 9, 8, 7), value, dtype), AFFINE)))
        assert {abs(int(some) - value) * 10**6 // (abs(value) + 1) for some in np.unique(back.array)} == {0}


def test_a_latent_does_not_change() -> None:
    made = coarse_lattice(_volume())
    with pytest.raises(ValueError, match="read-only"):
        made.code[0] = 0
    assert isinstance(made, Latent)


def test_the_command_line_writes_and_decodes_latents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from MedAELib.__main__ import main

    scan, model = tmp_path / "scan.nii.gz", tmp_path / "model"
    _volume().save(scan)
    _model(model, channels=[4, 8], strides=[2, 2])
    code, back, picture = tmp_path / "code.npz", tmp_path / "back.nrrd", tmp_path / "code.nrrd"
    options = ["--latent-only", "--model", str(model), "--device", "cpu"]
    assert main(["compress", str(scan), str(code), *options]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [8, 6, 5, 4]
    assert main(["decompress", str(code), str(back), "--model", str(model), "--device", "cpu"]) == 0
    assert main(["compress", str(scan), str(picture), *options]) == 0
    shown = Volume.load(picture)
    np.testing.assert_allclose(shown.array, latents.load(code).code)
    np.testing.assert_allclose(shown.affine, latents.load(code).affine, atol=1e-4)
    assert Volume.load(back).shape == _volume().shape
    assert main(["compress", str(scan), str(tmp_path / "lattice.npz"), "--latent-only"]) == 0
    assert main(["decompress", str(tmp_path / "lattice.npz"), str(back)]) == 0
    capsys.readouterr()
    file, latent = "x.maez", "x.npz"
    for wrong in ([file, "--latent-only"], [file, "--device", "cpu"], [latent, "--latent-only", "--ratio", "3"]):
        assert main(["compress", str(scan), str(tmp_path / wrong[0]), *wrong[1:]]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
