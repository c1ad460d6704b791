"""The cases of the translation benchmark: T1, T2 and FLAIR of three people with multiple sclerosis, on one grid each.

Every visit's T2 and FLAIR are registered rigidly onto its T1 (mutual information: Mattes et al. 2003), everything is
brought to 1 mm within slices of 3 mm along the T1's own axes, and what is not brain becomes 0. Patient 26 comes
registered and without its skull at 1 mm: three slices are averaged to one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import binary_fill_holes, binary_opening, label

from MedAELib.anomaly.grid import from_grid
from MedAELib.anomaly.prepare import prepare
from MedAELib.files import from_image, to_image
from MedAELib.volume import Volume

KINDS = ("T1", "T2", "FLAIR")
VISITS = {
    f"patient{number}_study{study}": [f"ms_longitudinal/patient{number}_study{study}_{kind}.nii.gz"
                                      for kind in ("T1W", "T2W", "FLAIR")]
    for number in ("01", "12") for study in (1, 2)
} | {"patient26_study1": [f"ms_patient26/{kind}.nii.gz" for kind in KINDS]}  # fmt: skip
_IN_PLANE, _THICK = 1.0, 3.0  # mm


def cohort(data: Path, folder: Path) -> Path:
    """A folder of files such as patient01_study1_T1.nii.gz, made once."""
    for visit, names in VISITS.items():
        paths = [folder / f"{visit}_{kind}.nii.gz" for kind in KINDS]
        if all(path.is_file() for path in paths):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for volume, path in zip(_registered([data / name for name in names]), paths, strict=True):
            volume.save(path)
    return folder


def _registered(paths: list[Path]) -> list[Volume]:
    """T1, T2 and FLAIR of a visit on one grid, without what is not brain, cut to the brain."""
    images = [sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32) for path in paths]
    native = from_image(images[0], {"name": "T1", "modality": "MR"}, str(paths[0]))
    prepared = prepare(native)
    brain = from_grid(prepared.mask, prepared.grid, native, nearest=True) > 0.5
    mask = _onto(sitk.Cast(to_image(native.like(brain[None])), sitk.sitkFloat32), _grid(images[0]))
    inside = _freed(sitk.GetArrayFromImage(mask).T > 0.5, sitk.GetArrayFromImage(_onto(images[0], mask)).T)
    ends = np.argwhere(inside)
    box = tuple(slice(int(low), int(high) + 1) for low, high in zip(ends.min(0), ends.max(0), strict=True))
    made = []
    for image in images:
        transform = sitk.Transform() if images[1].GetSize() == images[0].GetSize() else _rigid(images[0], image)
        found = from_image(_onto(_softened(image), mask, transform), {"name": "", "modality": "MR"}, "")
        voxels = np.where(inside, np.maximum(found.array[0], 0), 0)
        cut = found.like(voxels[None].astype(np.float32))
        for axis, side in enumerate(box):
            cut = cut.slab(axis, side.start, side.stop)
        made.append(cut)
    return made


def _freed(brain: np.ndarray, t1: np.ndarray) -> np.ndarray:
    """The brain's mask without fat (bright in T1) and thin things around it, slice by slice without holes."""
    tissue = brain & (t1 > 0) & (t1 < 1.5 * np.median(t1[brain]))
    tissue = binary_opening(tissue, np.ones((5, 5, 1)))
    pieces, _ = label(tissue)
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return np.stack([binary_fill_holes(largest[..., k]) for k in range(largest.shape[2])], 2)


def _grid(image: sitk.Image) -> sitk.Image:
    """An empty image over the same place with the benchmark's voxels."""
    spacing = np.array([_IN_PLANE, _IN_PLANE, _THICK])
    size = np.round(np.array(image.GetSize()) * image.GetSpacing() / spacing).astype(int)
    grid = sitk.Image(size.tolist(), sitk.sitkFloat32)
    grid.SetSpacing(spacing.tolist())
    grid.SetDirection(image.GetDirection())
    shift = (spacing - image.GetSpacing()) / 2
    direction = np.array(image.GetDirection()).reshape(3, 3)
    grid.SetOrigin((np.array(image.GetOrigin()) + direction @ shift).tolist())
    return grid


def _softened(image: sitk.Image) -> sitk.Image:
    """Without detail that the benchmark's voxels cannot hold: thin slices become thick ones."""
    widths = [
        0.4 * (wanted**2 - given**2) ** 0.5 if wanted > given else 0.0
        for wanted, given in zip((_IN_PLANE, _IN_PLANE, _THICK), image.GetSpacing(), strict=True)
    ]
    for axis, width in enumerate(widths):
        if width:
            image = sitk.RecursiveGaussian(image, width, direction=axis)
    return image


def _onto(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform | None = None) -> sitk.Image:
    return sitk.Resample(image, grid, transform or sitk.Transform(), sitk.sitkLinear, 0.0)


def _rigid(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """The rigid motion between two scans of one session, starting from the scanner's own coordinates."""
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(40)
    registration.SetMetricSamplingStrategy(registration.REGULAR)
    registration.SetMetricSamplingPercentage(0.1)
    registration.SetInterpolator(sitk.sitkLinear)
    middle = fixed.TransformContinuousIndexToPhysicalPoint([size / 2 for size in fixed.GetSize()])
    start = sitk.Euler3DTransform()
    start.SetCenter(middle)
    registration.SetInitialTransform(start, inPlace=False)
    registration.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetShrinkFactorsPerLevel([2, 1])
    registration.SetSmoothingSigmasPerLevel([1, 0])
    return registration.Execute(fixed, moving)
