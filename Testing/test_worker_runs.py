"""The run folder: voxels arrive as they were, a result is complete or not there, a dead Slicer's results are found."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_tools import another_slicer, finished_run, prepared_run, small_volume

from MedAELib.errors import BadInput, DiskFull, MedAEError
from MedAELib.volume import Volume
from MedAELib.worker import arrays, runs
from MedAELib.worker.outputs import Outputs

LAYOUTS = {
    "as Slicer holds a volume": lambda kji: kji.transpose(2, 1, 0)[None],
    "as Slicer holds vectors": lambda kji: np.stack([kji, kji + 1], -1).transpose(3, 2, 1, 0),
    "in C order": lambda kji: np.ascontiguousarray(kji.transpose(2, 1, 0)[None]),
    "channels in C order": lambda kji: np.stack([kji, kji[::-1]]),
    "frame by frame": lambda kji: np.stack([kji, kji + 1]).transpose(0, 3, 2, 1),
    "cropped": lambda kji: kji.transpose(2, 1, 0)[None, 1:, ::2, 1:4],
    "turned round": lambda kji: kji.transpose(2, 1, 0)[None, ::-1, :, ::-1],
    "one voxel": lambda kji: kji[None, :1, :1, :1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("dtype", "max_bytes"), [("i2", 50), (">i2", 7), ("?", 1), ("f4", 1 << 20), ("f8", 100), ("f2", 9)]
)
def test_an_input_arrives_as_it_was(tmp_path: Path, layout: str, dtype: str, max_bytes: int) -> None:
    kji = (np.arange(210).reshape(7, 6, 5) % 97).astype(dtype)
    sent = Volume(LAYOUTS[layout](kji), small_volume().affine, {"name": "head", "list": [1, {"a": None}]})
    run = runs.create_run(tmp_path, "denoise", {}, {})
    writer = runs.InputWriter(run, "input", sent)
    fractions = [writer.fraction]
    while not writer.step(max_bytes):
        fractions.append(writer.fraction)
        assert runs.read_inputs(run) == {}
    assert fractions == sorted(set(fractions))
    assert fractions[0] == 0
    assert writer.fraction == 1
    assert writer.step(max_bytes)
    received = runs.read_inputs(run)["input"]
    assert received.array.dtype == sent.array.dtype
    assert np.array_equal(received.array, sent.array)
    assert np.array_equal(received.affine, sent.affine)
    assert received.meta == sent.meta
    assert not received.array.flags.writeable


def test_an_export_goes_in_small_steps(tmp_path: Path) -> None:
    kji = np.zeros((40, 100, 100), np.float32)
    run = runs.create_run(tmp_path, "denoise", {}, {})
    writer = runs.InputWriter(run, "input", Volume(kji.transpose(2, 1, 0)[None], np.eye(4)))
    steps = 1
    while not writer.step(100_000):
        steps += 1
    assert steps == 16


def test_an_export_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path, "denoise", {}, {})
    writer = runs.InputWriter(run, "input", small_volume())
    writer.step(10)
    writer.close()
    assert list((run / "inputs").iterdir()) == []


def test_the_job_arrives_as_it_was(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path, "denoise", {"strength": 0.5, "removed": True}, {"node": "ä\ud800"})
    job = runs.read_job(run)
    assert (job.task, job.parameters, job.origin) == (
        "denoise",
        {"strength": 0.5, "removed": True},
        {"node": "ä\ud800"},
    )


@pytest.mark.skipif(os.name != "posix", reason="rights of files are other on Windows")
def test_nobody_else_may_look_into_a_run_folder(tmp_path: Path) -> None:
    assert runs.create_run(tmp_path, "denoise", {}, {}).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [{"x": float("nan")}, {"x": object()}, {"x": {1, 2}}, {"x": "y" * (17 << 20)}])
def test_what_is_no_plain_json_is_refused_and_leaves_nothing(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="cannot be handed to the worker"):
        runs.create_run(tmp_path, "denoise", content, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "a\\b", "A", "1", "a.b", "a" * 65, "a\0", "con:", "ä", None, 1]
)
def test_names_that_could_lead_elsewhere_are_refused(tmp_path: Path, name: Any) -> None:
    run = runs.create_run(tmp_path, "denoise", {}, {})
    with pytest.raises(BadInput):
        runs.InputWriter(run, name, small_volume())
    with pytest.raises(BadInput):
        Outputs(run).allocate(name, (1, 2, 2, 2), np.dtype("i2"))
    if isinstance(name, str):
        with pytest.raises(BadInput):
            runs.create_run(tmp_path, name, {}, {})


def test_a_result_is_read_back_with_its_report_and_job(tmp_path: Path) -> None:
    run, volume = finished_run(tmp_path, strength=0.5), small_volume()
    result = runs.read_result(run, verify=True)
    assert np.array_equal(result.outputs["denoised"].array, volume.array * 2)
    assert np.array_equal(result.outputs["denoised"].affine, volume.affine)
    assert result.outputs["denoised"].name == "head denoised"
    assert result.report == {"seconds": 1.5}
    assert result.job.origin == {"node": "vtkMRMLScalarVolumeNode1"}


def test_a_result_lies_as_vtk_wants_it(tmp_path: Path) -> None:
    """So that the import into Slicer is one straight copy."""
    array = runs.read_result(finished_run(tmp_path)).outputs["denoised"].array
    assert array[0].transpose(2, 1, 0).flags.c_contiguous


def test_an_output_that_the_task_made_elsewhere_is_taken_too(tmp_path: Path) -> None:
    run, volume = prepared_run(tmp_path), small_volume()
    outputs = Outputs(run)
    outputs.allocate("denoised", (1, 1, 1, 1), np.dtype("u1"))
    outputs.finish({"denoised": volume, "removed": volume.like(volume.array * 3)}, {})
    result = runs.read_result(run, verify=True)
    assert np.array_equal(result.outputs["denoised"].array, volume.array)
    assert np.array_equal(result.outputs["removed"].array, volume.array * 3)


def test_there_is_no_result_before_all_of_it_is_there(tmp_path: Path) -> None:
    run, volume = prepared_run(tmp_path), small_volume()
    outputs = Outputs(run)
    outputs.allocate("denoised", volume.array.shape, volume.array.dtype)
    with pytest.raises(BadInput, match="no complete result"):
        runs.read_result(run)
    with pytest.raises(BadInput, match="report"):
        outputs.finish({"denoised": volume}, {"seconds": float("inf")})
    assert not runs.is_finished(run)


def damages() -> dict[str, Any]:
    """Ways to damage a result: a file, and its new size, its new content, or (keys, value) in its JSON."""
    files: dict[str, Any] = {
        f"{name} is {size} bytes": (name, size) for name in ("result.json", "job.json") for size in (0, 9)
    }
    files |= {f"voxels end after {size} bytes": ("outputs/denoised.npy", size) for size in (0, 5, 64, 128, 200)}
    files["result.json is no text"] = ("result.json", b"\xff\xfe{}")
    files["result.json is a list"] = ("result.json", b"[]")
    files["voxels are a pickle"] = ("outputs/denoised.npy", b"\x80\x04K\x01.")
    header = b"{'descr': '|O', 'fortran_order': True, 'shape': (1, 3, 4, 5), }"
    files["voxels are objects"] = ("outputs/denoised.npy", b"\x93NUMPY\x01\x00" + bytes([118, 0]) + header.ljust(118))
    deep = b"(" * 5000
    files["the header is nested"] = ("outputs/denoised.npy", b"\x93NUMPY\x01\x00" + (5000).to_bytes(2, "little") + deep)
    for value in (None, 1, "x", [], {}, True, -1, [[1, 2], [3]], [1, 3, 4, 6], "<i4", "|O8", "<f2", 1e308, "a" * 300):
        for field in ("shape", "dtype", "affine", "meta", "crc32"):
            if not (field == "meta" and value == {}):
                files[f"{field} becomes {str(value)[:30]!r}"] = ("result.json", (["outputs", "denoised", field], value))
    for name in ("../../job", "/etc/passwd", "", "a" * 70, "missing", "Denoised"):
        files[f"an output is named {name[:20]!r}"] = ("result.json", (["outputs", name], {"shape": [1]}))
    files["a number of the report is none"] = ("result.json", (["report", "seconds"], float("nan")))
    for field in ("format", "report"):
        files[f"{field} is 7"] = ("result.json", ([field], 7))
    for field in ("format", "task", "parameters", "origin", "created"):
        files[f"{field} of the job is wrong"] = ("job.json", ([field], ["../x"]))
    return files


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_result_is_refused_in_one_sentence(tmp_path: Path, damage: str) -> None:
    run = finished_run(tmp_path)
    name, change = damages()[damage]
    path = run / name
    if isinstance(change, int):
        os.truncate(path, change)
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        (*outer, last), value = change
        content = inner = json.loads(path.read_bytes())
        for key in outer:
            inner = inner[key]
        inner[last] = value
        path.write_text(json.dumps(content))
    with pytest.raises(MedAEError) as refusal:
        runs.read_result(run, verify=True)
    assert "\n" not in str(refusal.value)


def test_voxels_that_changed_on_the_disk_are_noticed(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    with (run / "outputs/denoised.npy").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\x55")
    runs.read_result(run)
    with pytest.raises(BadInput, match="checksum"):
        runs.read_result(run, verify=True)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
@pytest.mark.parametrize("name", ["result.json", "job.json", "outputs/denoised.npy"])
def test_links_in_a_run_folder_are_not_followed(tmp_path: Path, name: str) -> None:
    run = finished_run(tmp_path)
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput):
        runs.read_result(run)


@given(st.binary(max_size=400))
def test_any_bytes_for_a_result_are_refused_and_never_crash(tmp_path_factory: Any, content: bytes) -> None:
    run = tmp_path_factory.getbasetemp() / "hostile"
    if not run.exists():
        finished_run(tmp_path_factory.getbasetemp()).rename(run)
    (run / "result.json").write_bytes(content)
    with pytest.raises(MedAEError):
        runs.read_result(run)


# ---- a full disk ----


def test_a_disk_without_room_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path, "denoise", {}, {})
    with pytest.raises(DiskFull, match=r"no room: .* MB are needed and 1 MB are free"):
        runs.InputWriter(run, "input", small_volume(), free=lambda _: 1_000_000)
    with pytest.raises(DiskFull):
        Outputs(run, free=lambda _: 20_000_000).allocate("denoised", (1, 100, 100, 1000), np.dtype("f4"))
    assert list((run / "inputs").iterdir()) == list((run / "outputs").iterdir()) == []


LIMITED = """
import resource, signal
from MedAELib.errors import DiskFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
volume = Volume(np.ones((1, 100, 100, 40), "f4"), np.eye(4))
run = runs.create_run(folder, "denoise", {}, {})
writer = runs.InputWriter(run, "input", volume)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
for work in (lambda: [writer.step(100_000) for _ in range(20)],
             lambda: Outputs(run).allocate("denoised", volume.array.shape, volume.array.dtype)):
    try:
        work()
    except DiskFull as fault:
        print(fault)
print([str(p.relative_to(run)) for p in sorted(run.glob("*puts/*"))])
"""


@pytest.mark.skipif(os.name != "posix", reason="a limit of file sizes stands in for a full disk")
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing_half_written(tmp_path: Path) -> None:
    sentence = "The disk became full while voxels were written."
    assert another_slicer(tmp_path, LIMITED) == f"{sentence}\n{sentence}\n[]"


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_room_is_really_taken_where_the_system_cannot_reserve_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    def refuse(*_: Any) -> None:
        assert code is not None
        raise OSError(code, "cannot reserve")

    if code is None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    array = arrays.create_array(tmp_path / "a.npy", (1, 128, 128, 100), np.dtype("i2"))
    assert not array.any()
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= array.nbytes


def _with_files(folder: Path, count: int) -> Path:
    """A training with some files, which could be offered and could go on."""
    run = runs.create_run(folder, "train", {}, {})
    for name in ("result.json", "work/last.pt", "work/plan.json", *(f"outputs/{n}.npy" for n in range(count))):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("{}")
    return run


def test_a_run_that_is_deleted_soon_is_at_once_neither_offered_nor_goes_on(tmp_path: Path) -> None:
    run, deleting = _with_files(tmp_path, 20), runs.Deleting()
    runs.discard_soon(run, deleting)
    assert not deleting.done and len(list(run.rglob("*.npy"))) == 20
    assert not runs.is_finished(run) and not runs.is_resumable(run)
    steps = 1
    while not deleting.step(0.0):
        steps += 1
    assert 20 < steps < 40 and deleting.done and not run.exists()


def test_no_thread_deletes_a_run_as_in_slicer_threads_do_not_get_on(tmp_path: Path) -> None:
    before = threading.active_count()
    run, deleting = _with_files(tmp_path, 5), runs.Deleting()
    runs.discard_soon(run, deleting)
    assert threading.active_count() == before
    assert deleting.step(60) and not run.exists()


def test_what_is_written_while_it_is_deleted_goes_too_and_what_is_in_use_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, deleting = _with_files(tmp_path, 1), runs.Deleting()
    runs.discard_soon(run, deleting)
    deleting.step(0.0)
    (run / "outputs" / "late.npy").write_text("a worker that is being stopped")
    used, unlink = run / "outputs" / "late.npy", os.unlink

    def refuse(path: Any) -> None:
        if str(path) == str(used):
            raise PermissionError
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        for _ in range(10):
            assert not deleting.step(60)
    assert deleting.step(60) and not run.exists()
    run = _with_files(tmp_path, 1)
    runs.discard_soon(run, deleting)
    monkeypatch.setattr(os, "rmdir", lambda path: (_ for _ in ()).throw(PermissionError()))
    steps = 0
    while not deleting.step(60):
        steps += 1
    assert 5 < steps < 100 and run.is_dir()


def test_runs_are_deleted_at_the_latest_when_python_ends(tmp_path: Path) -> None:
    run = _with_files(tmp_path, 50)
    script = (
        "import sys, pathlib; from MedAELib.worker import runs; deleting = runs.Deleting();"
        "runs.discard_soon(pathlib.Path(sys.argv[1]), deleting)"
    )
    subprocess.run([sys.executable, "-c", script, str(run)], check=True, cwd=Path(__file__).parents[1])
    assert not run.exists()
