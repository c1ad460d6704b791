"""The frames of a sequence in a run folder: written one by one where they are, read and computed as one volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from worker_tools import small_volume

from MedAELib.volume import Volume
from MedAELib.worker import runs
from MedAELib.worker.outputs import Outputs


def frames(count: int = 3, order: str = "as VTK") -> list[Volume]:
    """Frames that differ in every voxel, in VTK's order in memory, or in another one."""
    first = small_volume()
    made = [first.array + 100 * index for index in range(count)]
    if order == "cropped":
        made = [np.pad(array, 1)[1:-1, 1:-1, 1:-1, 1:-1] for array in made]
    elif order == "in rows":
        made = [np.ascontiguousarray(array) for array in made]
    return [first.like(array) for array in made]


@pytest.mark.parametrize("order", ["as VTK", "cropped", "in rows"])
@pytest.mark.parametrize("max_bytes", [1, 50, 1 << 20])
def test_frames_arrive_as_the_channels_of_one_volume(tmp_path: Path, order: str, max_bytes: int) -> None:
    sent = frames(order=order)
    run = runs.create_run(tmp_path, "denoise", {}, {})
    writer = runs.InputWriter(run, "input", sent)
    fractions = [writer.fraction]
    while not writer.step(max_bytes):
        fractions.append(writer.fraction)
        assert runs.read_inputs(run) == {}
    assert fractions[0] == 0 and fractions == sorted(set(fractions)) and writer.fraction == 1
    received = runs.read_inputs(run)["input"]
    assert np.array_equal(received.array, np.concatenate([frame.array for frame in sent]))
    assert np.array_equal(received.affine, sent[0].affine)
    assert received.meta == {**sent[0].meta, "frames": True}


def test_each_frame_lies_in_one_piece_in_the_files(tmp_path: Path) -> None:
    """Else every frame that is computed or imported would read the whole file."""
    run = runs.create_run(tmp_path, "denoise", {}, {})
    writer = runs.InputWriter(run, "input", frames())
    while not writer.step():
        pass
    received = runs.read_inputs(run)["input"]
    result = Outputs(run).allocate("denoised", received.array.shape, received.array.dtype)
    for array in (received.array, result):
        assert all(frame.flags.f_contiguous for frame in array)


def test_a_result_of_several_frames_is_read_back_and_its_checksum_holds(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path, "denoise", {}, {})
    outputs, volume = Outputs(run), small_volume()
    voxels = np.concatenate([frame.array for frame in frames()])
    room = outputs.allocate("denoised", voxels.shape, voxels.dtype)
    room[...] = voxels
    outputs.finish({"denoised": volume.like(room), "removed": volume.like(voxels * 2)}, {})
    result = runs.read_result(run, verify=True)
    assert np.array_equal(result.outputs["denoised"].array, voxels)
    assert np.array_equal(result.outputs["removed"].array, voxels * 2)


def test_one_frame_is_a_volume_of_one_channel(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path, "denoise", {}, {})
    writer = runs.InputWriter(run, "input", frames(1))
    while not writer.step():
        pass
    assert np.array_equal(runs.read_inputs(run)["input"].array, small_volume().array)
