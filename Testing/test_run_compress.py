"""Compressing as a task of the worker: figures, what was lost, files in run folders, hostile ones, the guidance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MedAELib.codec.container import open_container
from MedAELib.codec.guidance import guidance, guidance_ratio
from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import BadInput, BadModel, Cancelled, DiskFull
from MedAELib.quality import psnr, ssim
from MedAELib.tasks.run import run_task
from MedAELib.volume import Volume
from MedAELib.worker import payload, runs
from MedAELib.worker.outputs import Outputs


def _scan(dtype: str = "int16", size: tuple[int, int, int] = (20, 18, 40)) -> Volume:
    voxels = np.random.default_rng(5).normal(100, 30, (1, *size))
    voxels[:, :6] = 0
    affine = np.diag([0.8, 0.8, 2.0, 1.0])
    return Volume(np.abs(voxels).astype(dtype), affine, {"name": "scan", "modality": "MR"})


def _quiet(stage: str, done: int, total: int) -> None:
    pass


def _run(task: str, given: Any, **parameters: Any) -> Any:
    return run_task(task, {"input": given}, parameters, progress=_quiet)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_the_figures_are_those_of_what_comes_back(dtype: str) -> None:
    scan = _scan(dtype)
    made = _run("compress", scan, mode="max-error", value=4.0, lost=True)
    back = _run("decompress", made.files["latent"]).outputs["decoded"]
    report, span = made.report, float(np.ptp(scan.array.astype(float)))
    assert report["max_error"] == np.abs(scan.array.astype(float) - back.array).max() <= 4
    assert report["psnr"] == pytest.approx(psnr(scan.array, back.array, span))
    assert report["ssim"] == pytest.approx(ssim(scan.array[0], back.array[0], span))
    assert report["bytes"] == len(made.files["latent"])
    assert report["ratio"] == pytest.approx(scan.array.nbytes / report["bytes"])
    lost = made.outputs["lost"].array
    np.testing.assert_allclose(lost, scan.array.astype(float) - back.array, atol=1e-4)
    np.testing.assert_array_equal(back.affine, scan.affine)
    assert back.array.dtype == scan.array.dtype
    header = open_container(made.files["latent"], "it").header
    assert header["figures"] == {name: report[name] for name in ("psnr", "ssim", "max_error")}
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("scale", [1e-180, 1e200, 1e-300])
def test_the_figures_do_not_depend_on_the_unit(scale: float) -> None:
    plain = _scan("float64", (12, 10, 9))
    tiny = Volume(plain.array * scale, plain.affine, plain.meta)
    made, same = (_run("compress", one, mode="max-error", value=4 * unit, lost=True).report
                  for one, unit in ((tiny, scale), (plain, 1.0)))  # fmt: skip
    assert made["psnr"] == pytest.approx(same["psnr"], abs=0.1)
    assert made["ssim"] == pytest.approx(same["ssim"], abs=0.01)
    assert 0 < made["max_error"] <= 4 * scale
    json.dumps(made, allow_nan=False)


def test_what_was_lost_of_64_bit_integers_is_exact() -> None:
    low = np.random.default_rng(0).integers(0, 1000, (1, 12, 10, 9))
    plain = _run("compress", Volume(low.astype(np.int16), np.eye(4)), mode="max-error", value=3.0, lost=True)
    for lifted in (low.astype(np.uint64) + np.uint64(2**60), low - 2**61):
        made = _run("compress", Volume(lifted, np.eye(4)), mode="max-error", value=3.0, lost=True)
        assert np.array_equal(made.outputs["lost"].array, plain.outputs["lost"].array)
        assert made.report["max_error"] == 3 and made.report["psnr"] == pytest.approx(plain.report["psnr"])
        assert 0 < made.report["ssim"] <= 1


@pytest.mark.filterwarnings("error")
def test_nothing_was_lost_of_voxels_that_are_not_finite_and_the_figures_leave_them_out() -> None:
    voxels = _scan("float32").array.copy()
    odd = np.zeros(voxels.shape, bool)
    odd[0, :3, :2, :2], odd[0, 5, 5, :3] = True, True
    voxels[odd] = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), odd.sum())
    scan = Volume(voxels, np.eye(4))
    made = _run("compress", scan, mode="max-error", value=4.0, lost=True)
    back = _run("decompress", made.files["latent"]).outputs["decoded"].array
    lost = made.outputs["lost"].array
    assert np.array_equal(back[odd].view(np.uint32), voxels[odd].view(np.uint32)) and (lost[odd] == 0).all()
    known, span = ~odd, float(np.ptp(voxels[~odd]))
    assert 0 < np.abs(lost).max() <= 4
    assert made.report["psnr"] == pytest.approx(psnr(voxels[known], back[known], span), abs=1e-3)
    assert made.report["ssim"] is None and made.report["mode"]["kind"] == "max-error"


def test_a_lossless_file_says_so_and_how_it_was_shown() -> None:
    scan = _scan()
    made = _run("compress", scan, window=350.0, level=40.0)
    assert (made.report["psnr"], made.report["ssim"], made.report["max_error"]) == (None, 1.0, 0.0)
    assert made.report["warnings"] == [] and "lost" not in made.outputs
    header = open_container(made.files["latent"], "it").header
    assert header["display"] == {"window": 350.0, "level": 40.0}
    assert decompress(made.files["latent"]).array.tobytes() == scan.array.tobytes()


def test_the_run_can_be_cancelled_while_it_compresses_and_while_it_decodes() -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_task("compress", {"input": _scan()}, {}, progress=stop)
    with pytest.raises(Cancelled):
        run_task("decompress", {"input": compress(_scan())}, {}, progress=stop)


def test_tasks_refuse_inputs_of_the_other_kind() -> None:
    with pytest.raises(BadInput, match="exactly one volume"):
        _run("compress", b"bytes")
    with pytest.raises(BadInput, match="exactly one file"):
        _run("decompress", _scan())
    with pytest.raises(BadInput, match=r"not a \.maez file"):
        _run("decompress", b"bytes")
    with pytest.raises(BadInput, match="not known"):
        _run("compress", _scan(), mode="guess")


def _finished(folder: Path, data: bytes = b"a file") -> Path:
    run = runs.create_run(folder / "runs", "compress", {}, {})
    Outputs(run).finish({"lost": _scan()}, {}, {"latent": data})
    return run


def test_files_travel_in_runs_beside_volumes(tmp_path: Path) -> None:
    result = runs.read_result(_finished(tmp_path), verify=True)
    assert result.files == {"latent": b"a file"} and set(result.outputs) == {"lost"}
    run = runs.create_run(tmp_path / "runs", "decompress", {}, {})
    writer = runs.PayloadWriter(run, "input", b"0123")
    assert writer.step() and writer.fraction == 1
    assert runs.read_inputs(run) == {"input": b"0123"}


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": 1 << 40}, {"bytes": 5}, {"bytes": -1}, {"bytes": True}, {"bytes": "6"}, {"crc32": 1}, {"crc32": None},
    ],
)  # fmt: skip
def test_hostile_descriptions_of_files_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run = _finished(tmp_path)
    content = json.loads((run / "result.json").read_text())
    content["outputs"]["latent"] |= change
    (run / "result.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match="missing or damaged"):
        runs.read_result(run)


def test_links_names_and_missing_files_are_refused(tmp_path: Path) -> None:
    run = _finished(tmp_path)
    path = run / "outputs" / "latent.bin"
    path.unlink()
    with pytest.raises(BadInput, match="missing or damaged"):
        runs.read_result(run)
    (tmp_path / "secret").write_bytes(b"a file")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="missing or damaged"):
        runs.read_result(run)
    for name in ("../secret", "", "A"):
        with pytest.raises(BadInput, match="not a name"):
            payload.read_payload(run / "outputs", name, {"kind": "file", "bytes": 6, "crc32": 0})


def test_a_file_is_not_written_to_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        payload.write_payload(tmp_path, "latent", b"data", free=lambda folder: 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("modality", "ratio", "said"),
    [
        ("CT", 4.9, ""), ("CT", 6, "for the brain"), ("CT", 9, "more than the 8"), ("CT", 16, "any guidance"),
        ("MR", 6.9, ""), ("MR", 8, "more than the 7"), ("MR", 25, "any guidance"), ("", 4, ""), ("", 9, "not known"),
    ],
)  # fmt: skip
def test_the_guidance_is_by_modality(modality: str, ratio: float, said: str) -> None:
    sentence = guidance(modality, ratio)
    assert said in sentence and bool(sentence) == bool(said)


def test_the_guidance_counts_from_16_bits_whatever_the_type() -> None:
    assert guidance_ratio(2) == 8


@pytest.fixture
def without_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that lacks the codec's model."""
    from MedAELib.codec import model_file

    def missing(folder: Path | None = None) -> Any:
        raise BadModel("The model is missing.")

    monkeypatch.setattr(model_file, "load_codec_model", missing)


@pytest.fixture(scope="module")
def carrying() -> bytes:
    """A file that carries its model."""
    return compress(_scan(), Mode(), with_model=True)


def test_a_file_that_carries_its_model_decodes_where_it_is_missing(carrying: bytes, without_model: None) -> None:
    assert decompress(carrying).array.tobytes() == _scan().array.tobytes()
    assert decompress(carrying[: len(carrying) - 100], coarser=1).array.shape < _scan().array.shape


def test_a_model_inside_that_was_exchanged_is_refused(carrying: bytes, without_model: None) -> None:
    from MedAELib.codec.container import write_container

    container = open_container(carrying, "it")
    header = dict(container.header)

    def with_model(**change: Any) -> bytes:
        return write_container({**header, "model": {**header["model"], **change}}, [bytes(container.payload)])

    start, size, crc = header["model"]["inside"]
    with pytest.raises(BadModel, match="differs from its SHA-256"):
        decompress(with_model(sha256="0" * 64))
    with pytest.raises(BadInput, match="outside"):
        decompress(with_model(inside=[start, 1 << 40, crc]))
    with pytest.raises(BadInput, match="checksum"):
        decompress(with_model(inside=[start + 1, size, crc]))
    import hashlib
    import zlib

    part = bytes(container.payload[start : start + 9])  # right hash and checksum, but no model
    with pytest.raises(BadModel, match="not a complete safetensors file"):
        decompress(with_model(inside=[start, 9, zlib.crc32(part)], sha256=hashlib.sha256(part).hexdigest()))
