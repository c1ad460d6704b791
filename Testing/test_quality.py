"""Quality figures against known truth, the modality guess, and the domain check's reasons."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from MedAELib import Volume
from MedAELib.bundle import Spec, Window
from MedAELib.modality import added_to_hounsfield, check_domain, fitting_model, guess_modality
from MedAELib.quality import limits, noise_level, psnr, sample, ssim

CT = Spec("denoising", {}, 3, "denoise", "CT", Window("fixed", 0, 1000))
MR = Spec("denoising", {}, 3, "denoise", "MR", Window("percentile", 0, 99.9))
FLAT = Spec("denoising", {}, 2, "denoise", "MR", Window("percentile", 0, 99.9))


def anatomy(seed=0, shape=(60, 60, 40)) -> np.ndarray:
    """Smooth tissue in air: a body of about 1 with structure of 0.3 that varies over centimetres, air 0."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    body = (grid**2).sum(0) < 0.8
    structure = gaussian_filter(rng.normal(size=shape), 6)
    return np.where(body, 1 + 0.3 * structure / structure.std(), 0)


@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.2])
def test_the_noise_level_of_white_noise_is_found_within_20_percent(sigma):
    noisy = anatomy() + np.random.default_rng(1).normal(0, sigma, (60, 60, 40))
    assert noise_level(noisy) == pytest.approx(sigma, rel=0.2)


@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_noise_that_is_correlated_in_plane_counts_in_full(sigma):
    rng = np.random.default_rng(1)
    noise = gaussian_filter(rng.normal(size=(60, 60, 40)), (0.8, 0.8, 0))
    noisy = anatomy() + sigma * noise / noise.std()
    assert noise_level(noisy) == pytest.approx(sigma, rel=0.25)


def test_the_noise_level_scales_with_the_units_and_is_zero_without_variation():
    noisy = anatomy() + np.random.default_rng(1).normal(0, 0.1, (60, 60, 40))
    assert noise_level(noisy * 1000) == pytest.approx(1000 * noise_level(noisy))
    assert noise_level(np.full((20, 20, 20), 3)) == 0
    for shape in ((1, 1, 1), (1, 50, 1), (2, 2, 1)):
        assert math.isfinite(noise_level(np.random.default_rng(0).normal(size=shape)))


def test_the_noise_level_survives_voxels_that_are_not_finite():
    noisy = anatomy() + np.random.default_rng(1).normal(0, 0.1, (60, 60, 40))
    noisy[::9, ::9, ::9] = np.nan
    assert noise_level(noisy) == pytest.approx(0.1, rel=0.2)


def test_psnr_is_the_textbook_figure():
    reference = np.zeros((10, 10, 10))
    assert psnr(reference, reference + 0.1, 1) == pytest.approx(20)
    assert psnr(reference, reference, 1) == math.inf
    mask = np.zeros((10, 10, 10), bool)
    mask[0] = True
    spoilt = reference.copy()
    spoilt[1:] = 5
    assert psnr(reference, spoilt + 0.01, 1, mask) == pytest.approx(40)


def test_ssim_is_one_for_equals_and_falls_with_noise():
    image, rng = anatomy(), np.random.default_rng(0)
    values = [ssim(image, image + rng.normal(0, s, image.shape), 1.5) for s in (0, 0.05, 0.2)]
    assert values[0] == pytest.approx(1)
    assert values[0] > values[1] > values[2]


def test_ssim_agrees_with_monai_away_from_the_border():
    import torch
    from monai.metrics import SSIMMetric

    image = anatomy()
    noisy = image + np.random.default_rng(0).normal(0, 0.1, image.shape)
    tensors = [torch.from_numpy(a)[None, None].double() for a in (noisy, image)]
    theirs = float(SSIMMetric(3, data_range=2.0, win_size=11)(*tensors))
    middle = (slice(5, -5),) * 3
    inside = np.zeros(image.shape, bool)
    inside[middle] = True
    assert ssim(image, noisy, 2.0, inside) == pytest.approx(theirs, abs=5e-3)


def test_a_sample_is_small_finite_and_always_the_same():
    big = np.broadcast_to(np.arange(400, dtype=np.float32), (1, 400, 400, 400))
    picked = sample(big)
    assert picked.size <= 8_000_000 and np.array_equal(picked, sample(big))
    assert np.abs(np.percentile(picked, 50) - 199.5) < 3
    assert sample(np.array([[[[np.nan, 1.0]]]])).tolist() == [1.0]


def test_window_limits_always_differ():
    assert limits(Window("fixed", 0, 1000), np.zeros((2, 2, 2))) == (0, 1000)
    low, high = limits(Window("percentile", 0, 99.9), anatomy() * 500)
    assert low == 0 and 500 < high < 1500
    for array in (np.zeros((3, 3, 3)), np.full((3, 3, 3), -7.0), np.full((3, 3, 3), np.nan)):
        low, high = limits(Window("percentile", 0, 99.9), array)
        assert high > low


def ct() -> Volume:
    hounsfield = np.where(anatomy() > 0, 40 + 200 * (anatomy() - 1), -1000)
    return Volume(hounsfield[None].astype("int16"), np.eye(4), {"name": "chest"})


def mr() -> Volume:
    return Volume((anatomy() * 400)[None].clip(0).astype("int16"), np.eye(4), {"name": "brain"})


def test_ct_and_mri_are_told_apart_by_their_values():
    assert guess_modality(ct()) == "CT"
    assert guess_modality(mr()) == "MR"
    fat_muscle_and_bone = np.random.default_rng(0).choice([-100, 50, 400], (1, 9, 9, 9), p=[0.3, 0.6, 0.1])
    assert guess_modality(Volume(fat_muscle_and_bone, np.eye(4))) == "CT"
    assert guess_modality(Volume(np.zeros((1, 4, 4, 4)), np.eye(4))) == ""
    assert guess_modality(Volume(mr().array, np.eye(4), {"modality": "CT"})) == "CT"


def stored_without_intercept(seed: int = 0, noise: float = 15.0, shape=(60, 60, 40)) -> Volume:
    """A generated CT of fat, muscle and bone in air with 1024 added to all values, as some programs store it."""
    rng = np.random.default_rng(seed)
    tissue = gaussian_filter(rng.normal(size=shape), 3)
    tissue = np.select([tissue > 1.5 * tissue.std(), tissue > -0.4 * tissue.std()], [600.0, 50.0], -100.0)
    hounsfield = np.where(anatomy(seed, shape) > 0, tissue, -1000.0) + rng.normal(0, noise, shape)
    return Volume(np.round(hounsfield + 1024).clip(0)[None].astype("uint16"), np.eye(4), {"name": "chest"})


@pytest.mark.parametrize("noise", [5.0, 20.0, 40.0])
def test_a_ct_with_1024_added_is_no_mri_and_no_model_is_chosen_for_it(noise):
    from MedAELib.bundle import bundled_models

    scan = stored_without_intercept(noise=noise)
    assert added_to_hounsfield(scan) == 1024 and guess_modality(scan) == ""
    assert fitting_model(scan, bundled_models("denoise")) is None
    for spec, then in ((CT, "denoising takes that into account"), (MR, "choose a model for CT")):
        (warning,) = check_domain(scan, spec)
        assert warning.startswith("chest looks like a CT with 1024 added") and then in warning


def test_a_scan_that_says_what_it_is_is_believed():
    scan = stored_without_intercept()
    said_mr, said_ct = (Volume(scan.array, scan.affine, {"modality": kind}) for kind in ("MR", "CT"))
    assert added_to_hounsfield(said_mr) == 0 and check_domain(said_mr, MR) == []
    assert added_to_hounsfield(said_ct) == 1024 and guess_modality(said_ct) == "CT"
    assert "1024 added" in check_domain(said_ct, CT)[0]


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_neither_hounsfield_units_nor_mri_of_any_brightness_look_as_if_1024_was_added(kind):
    from phantom import add_noise, head

    clean = head(kind, seed=2, shape=(64, 80, 40), spacing=(2.9, 2.9, 4.5))
    noisy = add_noise(clean, level=20.0 if kind == "CT" else 30.0)
    for gain in (1.0,) if kind == "CT" else np.geomspace(0.2, 20, 40):
        scan = Volume(np.round(noisy * gain)[None].clip(-32768, 32767).astype(np.int16), clean.affine)
        assert added_to_hounsfield(scan) == 0, gain
    if kind == "CT":
        assert added_to_hounsfield(Volume(np.round(noisy + 1024)[None].astype(np.int16), clean.affine)) == 1024


@pytest.mark.data
def test_every_real_ct_with_1024_added_is_recognised_and_no_real_mri_at_any_brightness(data_folder):
    """The brightness of MRI is arbitrary, so each scan is also looked at at others, rounded as scanners do."""
    told = 0
    for file in sorted(data_folder.rglob("*.nii.gz")):
        if {"labels", "ct_lcd_phantom"} & set(file.parts) or file.name == "lesion.nii.gz":
            continue  # the phantom is stored with 1000 added
        scan = Volume.load(file)
        values = sample(scan.array).astype(np.float32)
        if values.min() < -400:
            assert added_to_hounsfield(scan) == 0, file
            assert added_to_hounsfield(scan.like(scan.array.astype(np.int32) + 1024)) == 1024, file
            assert added_to_hounsfield(scan.like((scan.array.astype(np.int32) + 1024).clip(0))) == 1024, file
            told += 1
        else:
            assert added_to_hounsfield(scan) == 0 and guess_modality(scan) != "CT", file
            some = values.ravel()[:: 1 + values.size // 20_000]
            for gain in np.geomspace(0.2, 60, 24):
                seen = Volume(np.round(some * gain).reshape(1, -1, 1, 1), np.eye(4))
                assert added_to_hounsfield(seen) == 0, (file, gain)
    assert told > 20


def test_the_right_model_gives_no_warning():
    assert check_domain(ct(), CT) == []
    assert check_domain(mr(), MR) == []


@pytest.mark.parametrize(
    "volume, spec, reason",
    [
        (mr(), CT, "trained on CT"),
        (ct(), MR, "trained on MRI"),
        (ct().like(ct().array + 1024), CT, "Hounsfield"),
        (mr(), FLAT, "slice by slice"),
        (Volume(mr().array[..., 18:21], np.eye(4)), MR, "only 3 slice"),
        (Volume(mr().array, np.diag([0.5, 0.5, 5, 1])), MR, "apart"),
        (Volume(np.repeat(mr().array, 2, 0), np.eye(4), {"frames": True}), MR, "2 frames"),
        (mr().like((mr().array > 200).astype("uint8")), MR, "as a label map does"),
        (Volume(np.zeros((1, 9, 9, 9)), np.eye(4)), MR, "same value"),
        (Volume(np.where(np.arange(90) == 80, np.nan, np.tile(mr().array, 3)[..., :90]), np.eye(4)), MR, "not finite"),
        (Volume(np.full((1, 9, 9, 9), np.nan), np.eye(4)), MR, "no finite value"),
    ],
)
def test_each_mismatch_is_told_with_its_reason(volume, spec, reason):
    warnings = check_domain(volume, spec)
    assert any(reason in warning for warning in warnings), warnings
    assert all(warning.endswith((".", ")")) and "\n" not in warning for warning in warnings)


def test_frames_are_told_of_only_where_a_task_works_on_each():
    frames = Volume(np.repeat(mr().array, 2, 0), np.eye(4), {"frames": True})
    assert check_domain(frames, MR, each_channel=False) == []


def test_the_fitting_model_has_the_volumes_modality():
    from MedAELib.bundle import bundled_models

    assert fitting_model(ct(), bundled_models("denoise")).name == "ct-denoise"
    assert fitting_model(mr(), bundled_models("denoise")).name == "mr-denoise"
    assert fitting_model(Volume(np.zeros((1, 4, 4, 4)), np.eye(4)), bundled_models()) is None


@pytest.mark.data
@pytest.mark.parametrize(
    "name, modality",
    [
        ("ct_lidc0314/LIDC-IDRI-0314_3mm.nii.gz", "CT"),
        ("ct_head/human_head_GE.nii.gz", "CT"),
        ("ct_openkbp/pt_100_ct.nii.gz", "CT"),
        ("totalseg_examples/example_ct.nii.gz", "CT"),
        ("brain_t1_ixi/IXI012-HH-1211-T1_ds.nii.gz", "MR"),
        ("ms_patient26/FLAIR.nii.gz", "MR"),
        ("mr_misc/cardiac_mr.nii.gz", "MR"),
        ("mr_misc/spine_epi_30reps.nii.gz", "MR"),
        ("mr_phantom_repeat/epi_ascending_rep1.nii.gz", "MR"),
    ],
)
def test_real_scans_are_told_apart_by_their_values(data_folder, name, modality):
    assert guess_modality(Volume.load(data_folder / name)) == modality


@pytest.mark.data
def test_the_noise_of_a_repeated_scan_is_found(data_folder):
    repeats = [
        Volume.load(data_folder / f"mr_phantom_repeat/epi_ascending_rep{n}.nii.gz").array[0] for n in range(1, 6)
    ]
    bright = np.mean(repeats, 0) > 800
    truth = np.median(np.std(repeats, axis=0, ddof=1)[bright])  # ghosts move at the edges, so not the mean
    assert noise_level(repeats[0]) == pytest.approx(truth, rel=0.4)
