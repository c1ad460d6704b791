"""Brains with slices that repeat, do not fit or were lost, and with ghosts, are told as such; right ones are not."""

from __future__ import annotations

import numpy as np
import pytest
from anomaly_tools import on_few_cells
from benchmarks import anomaly_kspace as kspace
from generated_bodies import body
from generated_heads import CENTRE, head, rotation, with_ball
from scipy.ndimage import gaussian_filter, zoom

from MedAELib.anomaly import prepare as preparing
from MedAELib.anomaly.artefacts import artefacts
from MedAELib.anomaly.prepare import Prepared, prepare, prepare_body, prepare_images
from MedAELib.tasks.anomaly import anomaly
from MedAELib.volume import Volume

AXES = ("first", "second", "third")


@pytest.fixture(autouse=True)
def few_cells(monkeypatch) -> None:
    on_few_cells(monkeypatch)


@pytest.fixture(scope="module")
def right() -> Volume:
    return head((3.0, 3.0, 3.0))[0]


@pytest.fixture(scope="module")
def finer() -> Volume:
    """On smaller voxels, with air around as it was measured."""
    scan = head((2.5, 2.5, 2.5))[0]
    scan = Volume(np.pad(scan.array, [(0, 0), *[(12, 12)] * 3]), scan.affine, scan.meta)
    noise = np.random.default_rng(2).normal(0, 6, (2, *scan.array.shape))
    return scan.like(np.hypot(scan.array + noise[0], noise[1]).astype(np.float32))


@pytest.fixture(scope="module")
def scan(right) -> Prepared:
    with pytest.MonkeyPatch.context() as patched:
        on_few_cells(patched)
        return prepare(right)


def told(volume: Volume) -> tuple[str, ...]:
    return artefacts(volume, prepare(volume))


def changed(volume: Volume, axis: int, change) -> Volume:
    """The volume whose slices along an axis, `[n, ...]`, were changed in place."""
    voxels = volume.array[0].copy()
    change(np.moveaxis(voxels, axis, 0))
    return volume.like(voxels[None])


def times(volume: Volume, axis: int, slices, factor: float) -> Volume:
    def change(stack):
        stack[slices] *= factor

    return changed(volume, axis, change)


def without(volume: Volume, axis: int, slices: range) -> Volume:
    return Volume(np.delete(volume.array, slices, axis + 1), volume.affine, volume.meta)


def ghosted(volume: Volume, axis: int, strength: float) -> Volume:
    shift = volume.shape[axis] // 2
    return volume.like(volume.array + np.float32(strength) * np.roll(volume.array, shift, axis + 1))


def moved(volume: Volume, axis: int, voxels: int) -> Volume:
    """The head of which the outer half of what was measured along an axis comes from another place."""
    there = np.moveaxis(volume.array[0], axis, 0)
    size = len(there)
    first, second = (np.fft.fft(place, axis=0) for place in (there, np.roll(there, voxels, (0, 1))))
    outer = np.abs(np.fft.fftfreq(size)) > 0.05
    first[outer & (np.arange(size) > size // 2)] = second[outer & (np.arange(size) > size // 2)]
    return volume.like(np.moveaxis(np.abs(np.fft.ifft(first, axis=0)).astype(np.float32), 0, axis)[None])


def test_a_right_head_is_told_of_nothing_however_it_was_scanned(right):
    noise = np.random.default_rng(5).normal(0, 10, (2, *right.array.shape))
    lesion, _ = with_ball(right, CENTRE + [30.0, -15.0, 15.0], 16.0, 200.0)
    uneven = right.like(right.array * np.linspace(0.7, 1.3, right.shape[2], dtype=np.float32))
    cases = {
        "as it is": right,
        "without its skull": head((4.0, 4.0, 4.0), skull=False)[0],
        "noisy": right.like(np.hypot(right.array + noise[0], noise[1]).astype(np.float32)),
        "thick slices": head((2.0, 2.0, 6.0), seed=2)[0],
        "uneven": uneven,
        "a lesion": lesion,
        "a part": without(right, 2, range(15)),
        "its air set to 0": right.like(np.where(right.array < 40, 0, right.array)),
        "without its face": changed(right, 1, lambda stack: stack[-22:, :, :20].fill(0)),
    }
    assert {name: said for name, volume in cases.items() if (said := told(volume))} == {}


def test_slices_between_others_and_between_copies_of_voxels_are_a_right_head_too(right):
    for factor, order in ((1.6, 1), (2.0, 0)):
        finer = zoom(right.array[0], (1, 1, factor), order=order)
        assert told(Volume(finer[None], right.affine @ np.diag([1, 1, 1 / factor, 1]), right.meta)) == ()


def test_a_fold_that_is_dark_between_the_halves_of_the_brain_is_no_fault_of_thick_slices():
    thick = head((4.0, 3.0, 3.0))[0]
    middle = thick.shape[0] // 2
    assert told(thick) == () and told(times(thick, 0, [middle], 0.6)) == ()
    assert "leaps" in told(times(thick, 0, [middle + 7], 0.6))[0]


def test_a_scan_made_larger_without_interpolation_repeats_no_slices(right):
    larger = zoom(right.array[0], (1, 1, 1.2), order=0)
    assert told(Volume(larger[None], right.affine @ np.diag([1, 1, 1 / 1.2, 1]), right.meta)) == ()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_that_repeat_are_named(right, scan, axis):
    def copy(stack):
        stack[30:33] = stack[29]
        stack[40] = stack[36]

    said = artefacts(changed(right, axis, copy), scan)
    assert len(said) == 1 and f"repeats slices along its {AXES[axis]} axis (30 to 32, 40 hold" in said[0]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("slices", "factor", "where"), [
    (slice(30, 31), 0.7, "30 to 31"), (slice(30, 31), 1.4, "30 to 31"), (slice(26, 33), 0.7, "26"),
    (slice(None, None, 2), 0.8, ""),
])  # fmt: skip
def test_slices_that_are_too_dark_or_too_bright_are_named(right, scan, axis, slices, factor, where):
    said = artefacts(times(right, axis, slices, factor), scan)
    assert len(said) == 1 and f"leaps from slice to slice along its {AXES[axis]} axis" in said[0]
    assert where in said[0]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_that_were_lost_and_the_others_moved_together_are_told_where(right, axis):
    middle = right.shape[axis] // 2 + 8
    said = told(without(right, axis, range(middle - 4, middle + 4)))
    assert len(said) == 1 and f"jumps from slice to slice along its {AXES[axis]} axis (at {middle - 4})" in said[0]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ghosts_by_half_of_the_field_of_view_and_those_of_motion_are_told_apart(right, axis):
    wide = [(0, 0)] * 4
    wide[axis + 1] = (14, 14)
    scan = Volume(np.pad(right.array, wide), right.affine, right.meta)
    noise = np.random.default_rng(1).normal(0, 6, (2, *scan.array.shape))
    scan = scan.like(np.hypot(scan.array + noise[0], noise[1]).astype(np.float32))
    assert told(scan) == ()
    said = told(ghosted(scan, axis, 0.15))
    assert len(said) == 1 and f"half of the field of view away along its {AXES[axis]} axis" in said[0]
    assert any(f"in line with the head along the {AXES[axis]} axis" in said for said in told(moved(scan, axis, 5)))


@pytest.mark.parametrize("axis", [0, 2])
def test_a_coil_that_sees_the_middle_of_a_head_better_than_its_ends_is_no_motion(right, axis):
    coil = np.exp(-1.2 * np.linspace(-1, 1, right.shape[axis]) ** 2).astype(np.float32)
    seen = changed(right, axis, lambda stack: np.multiply(stack, coil[:, None, None], out=stack))
    assert told(seen) == ()


def test_a_head_that_moved_suddenly_or_with_each_breath_is_told_along_its_axis(finer):
    moved_along = [(kspace.moved(finer, axis, 7, 4), axis) for axis in (0, 2)]
    for wrong, axis in (*moved_along, (kspace.to_and_fro(finer, 1, 3, 12), 1)):
        assert any(f"in line with the head along the {AXES[axis]} axis" in said for said in told(wrong))
    assert told(kspace.moved(finer, 1, 3, 0)) == ()


@pytest.mark.parametrize("across", [None, 0, 2])
def test_stripes_over_all_or_over_one_slice_are_told(finer, across):
    said = told(kspace.striped(finer, 4, 0.05, across))
    assert len(said) == 1 and said[0].startswith("Even stripes lie over slices of head along its ")
    if across is not None:
        assert f"along its {AXES[across]} axis ({finer.shape[across] // 2})" in said[0]


def test_what_is_folded_over_is_told_and_what_is_cut_off_is_not():
    axis, turned = 1, head((2.5, 2.5, 2.5), rotation(0.3, 0.2))[0]
    turned = turned.like(gaussian_filter(turned.array, (0, 1, 1, 1)))  # its folds are finer than real ones
    said = told(kspace.folded(turned, axis, 0.8))
    assert any(f"at one end of its {AXES[axis]} axis goes on at the other" in text for text in said)
    size = turned.shape[axis]
    for volume in (turned, head((2.5, 2.5, 2.5))[0]):
        cut = volume.slab(axis, size // 5, size - size // 5)
        assert not any("folded" in text for text in artefacts(cut, prepare(volume)))


def test_noise_alone_is_told_as_such_and_nothing_else_however_it_was_made(finer):
    noise = kspace.noise_alone(finer, 0)
    soft = noise.like(gaussian_filter(noise.array, (0, 0.7, 0.7, 0.7)))
    uneven = noise.like(noise.array * np.linspace(0.5, 1.5, noise.shape[0], dtype=np.float32)[:, None, None])
    neck = body()[0]
    dose = neck.like(np.random.default_rng(0).normal(0, 300, neck.array.shape).astype(np.float32))
    for volume in (noise, soft, uneven):
        (said,) = told(volume)
        assert "holds noise alone" in said
    assert ["noise alone" in said for said in artefacts(dose, prepare_body(neck))] == [True]
    strong = np.random.default_rng(1).normal(0, 90, (2, *finer.array.shape))
    assert not any("noise alone" in said for said in told(finer.like(np.hypot(finer.array + strong[0], strong[1]))))


def test_of_bodies_and_of_single_images_less_is_told(right):
    neck, _ = body()
    assert artefacts(neck, prepare_body(neck)) == ()
    twice = changed(neck, 2, lambda stack: stack[30:32].__setitem__(slice(None), stack[29]))
    assert len(artefacts(twice, prepare_body(twice))) == 1
    assert artefacts(twice, prepare_images(twice, 4.0)) == ()


def test_the_task_tells_of_artefacts_with_and_without_a_model(right):
    lost = without(right, 1, range(38, 46))
    assert any("jumps from slice to slice" in said for said in anomaly(lost, None).report["warnings"])
    assert not any("slice" in said for said in anomaly(right, None).report["warnings"])


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["IXI012", "IXI014", "IXI034", "IXI039"])
def test_real_heads_pass_and_slices_lost_between_halves_that_mirror_each_other_are_told(data_folder, name, monkeypatch):
    found = sorted((data_folder / "brain_t1_ixi").glob(f"{name}-*"))
    if not found:
        pytest.skip(f"no real scan: {data_folder / 'brain_t1_ixi'} holds no {name}")
    monkeypatch.setattr(preparing, "SPACING", 2.0)
    volume = Volume.load(found[0])
    assert told(volume) == ()
    assert any("jumps" in said for said in told(without(volume, 2, range(40, 50))))
