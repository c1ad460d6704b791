"""The peers of the denoising benchmark: every filter with its grid of settings, and which of them are installed.

Strengths are in units of the noise's true deviation, which peers are told unless their name says that it is estimated.
For MR, filters made for noise that is equally strong everywhere work on the stabilised magnitude. Packages are imported
when a peer first runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from benchmarks.denoise_cases import Image, Scan
from benchmarks.denoise_stabilised import destabilise, rician_level, stabilise
from scipy.ndimage import gaussian_filter

from MedAELib.quality import noise_level

Setting = Mapping[str, float]
Filter = Callable[[Scan, Setting], Image]
CHOICES = ("none", "filters", "strongest", "fast", "all")
CHOSEN = {
    "filters": ("Gaussian", "Gaussian in plane", "bilateral", "total variation"),
    "strongest": ("BM4D stabilised, true level", "BM4D, noise spectrum"),  # of MR and CT, each told what it wants
}


@dataclass(frozen=True, eq=False)
class Peer:
    """A filter and the settings to choose from; `package` is what it imports, `install` what pip calls that."""

    name: str
    apply: Filter
    settings: tuple[Setting, ...]
    package: str = ""
    install: str = ""
    slow: bool = False

    def missing(self) -> str:
        """Why it cannot run here, with advice; empty when it can."""
        if not self.package:
            return ""
        try:
            importlib.import_module(self.package)
        except Exception as error:  # a package built for another numpy fails in its own ways
            return f"{type(error).__name__}: {error}; try: pip install {self.install}"
        return ""

    def identity(self) -> dict[str, Any]:
        """All that its result depends on besides the scan: settings and the package's version."""
        version = ""
        if self.install:
            try:
                version = importlib.metadata.version(self.install)
            except importlib.metadata.PackageNotFoundError:
                version = "unknown"
        return {"settings": [dict(setting) for setting in self.settings], "package": self.package, "version": version}


def peers(modality: str, choice: str = "fast") -> list[Peer]:
    """All peers of a modality (`all`), those that take seconds (`fast`), some by name (`CHOSEN`), or `none`."""
    if choice == "none":
        return []
    found = [
        *_local_filters(),
        *_skimage(),
        _dipy(),
        _ants(modality),
        *(_bm4d_mr() if modality == "MR" else _bm4d_ct()),
    ]
    if choice in CHOSEN:
        return [peer for peer in found if peer.name in CHOSEN[choice]]
    return [peer for peer in found if choice == "all" or not peer.slow]


def present(found: Iterable[Peer]) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can run here, and why the others cannot, by name."""
    reasons = {peer: peer.missing() for peer in found}
    return [p for p, reason in reasons.items() if not reason], {p.name: r for p, r in reasons.items() if r}


def grid(**values: Iterable[float]) -> tuple[Setting, ...]:
    """Every combination of the values."""
    return tuple(dict(zip(values, chosen)) for chosen in product(*values.values()))


def in_units_of_noise(inner: Callable[[Image, Setting], Image], scan: Scan, setting: Setting) -> Image:
    """A filter for noise of deviation 1: on the stabilised magnitude for MR, on HU over the deviation for CT."""
    if scan.modality == "MR":
        return destabilise(inner(stabilise(scan.noisy, scan.level), setting), scan.level)
    return inner(scan.noisy / scan.level, setting) * scan.level


def blind(apply: Filter, scan: Scan, setting: Setting) -> Image:
    """The same filter, told an estimate of the noise's level and nothing of its spectrum."""
    estimate = rician_level(scan.noisy) if scan.modality == "MR" else noise_level(scan.noisy)
    return apply(replace(scan, level=estimate, spectrum=None), setting)


def _local_filters() -> list[Peer]:
    widths = (0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.3, 1.7)
    itk: dict[str, Any] = {"package": "SimpleITK", "install": "SimpleITK"}
    return [
        Peer("Gaussian", _gaussian, grid(width=widths, flat=[0])),
        Peer("Gaussian in plane", _gaussian, grid(width=widths, flat=[1])),
        Peer("median", _median, grid(radius=[1], radius_k=[0, 1]), **itk),
        Peer("bilateral", _bilateral, grid(width=[0.7, 1.0, 1.5], range=[1.0, 1.5, 2.0, 3.0]), **itk),
        Peer("curvature diffusion", _diffusion, grid(conductance=[0.25, 0.5, 1, 2], rounds=[2, 5, 10]), **itk),
    ]


def _gaussian(scan: Scan, setting: Setting) -> Image:
    width = setting["width"]
    return np.asarray(gaussian_filter(scan.noisy, (width, width, 0 if setting["flat"] else width)))


def _itk(scan: Scan, change: Callable[[Any, Any], Any]) -> Image:
    """Through SimpleITK, whose axes run the other way."""
    import SimpleITK

    made = change(SimpleITK, SimpleITK.GetImageFromArray(np.ascontiguousarray(scan.noisy.T, dtype=np.float32)))
    return np.asarray(SimpleITK.GetArrayFromImage(made)).T


def _median(scan: Scan, setting: Setting) -> Image:
    radius = [int(setting["radius"])] * 2 + [int(setting["radius_k"])]
    return _itk(scan, lambda itk, image: itk.Median(image, radius))


def _bilateral(scan: Scan, setting: Setting) -> Image:
    height = setting["range"] * scan.level
    return _itk(scan, lambda itk, image: itk.Bilateral(image, domainSigma=setting["width"], rangeSigma=height))


def _diffusion(scan: Scan, setting: Setting) -> Image:
    options = {"conductanceParameter": setting["conductance"], "numberOfIterations": int(setting["rounds"])}
    return _itk(scan, lambda itk, image: itk.CurvatureAnisotropicDiffusion(image, timeStep=0.0625, **options))


def _skimage() -> list[Peer]:
    package: dict[str, Any] = {"package": "skimage.restoration", "install": "scikit-image"}
    means = grid(strength=[0.2, 0.3, 0.4, 0.55], distance=[4])
    variation = grid(weight=[0.15, 0.25, 0.4, 0.6, 0.9, 1.4])
    return [
        Peer("scikit-image non-local means", partial(in_units_of_noise, _non_local_means), means, **package),
        Peer("total variation", partial(in_units_of_noise, _total_variation), variation, **package),
    ]


def _non_local_means(image: Image, setting: Setting) -> Image:
    from skimage.restoration import denoise_nl_means

    options: dict[str, Any] = {"patch_size": 3, "patch_distance": int(setting["distance"]), "fast_mode": True}
    return np.asarray(denoise_nl_means(image, h=setting["strength"], sigma=1.0, **options))


def _total_variation(image: Image, setting: Setting) -> Image:
    from skimage.restoration import denoise_tv_chambolle

    return np.asarray(denoise_tv_chambolle(image, weight=setting["weight"]))


def _dipy() -> Peer:
    settings = grid(factor=[0.85, 1.0, 1.2, 1.6], patch=[1, 2])
    return Peer("DIPY non-local means", _dipy_means, settings, "dipy.denoise.nlmeans", "dipy")


def _dipy_means(scan: Scan, setting: Setting) -> Image:
    """The classic variant: the blockwise one of DIPY 1.12 stays below the noisy input. Wider blocks gain nothing."""
    from dipy.denoise.nlmeans import nlmeans

    level = scan.level * setting["factor"]
    options = {"patch_radius": int(setting["patch"]), "block_radius": 3, "method": "classic"}
    # It compares the ratio of means, which fails below zero.
    lift = 1.1 if scan.modality == "CT" else 0.0
    noisy = scan.noisy.astype(np.float64) + lift
    return np.asarray(nlmeans(noisy, sigma=level, rician=scan.modality == "MR", **options)) - lift


def _ants(modality: str) -> Peer:
    """It finds the noise's level itself, from the ratio of means, so how far CT lies above zero is a setting too."""
    if modality == "MR":
        settings = grid(search=[1, 2], rician=[0, 1], lift=[0])
    else:
        settings = grid(search=[1, 2], rician=[0], lift=[0]) + grid(search=[1], rician=[0, 1], lift=[0.5])
    return Peer("ANTs DenoiseImage", _ants_image, settings, "ants", "antspyx", slow=True)


def _ants_image(scan: Scan, setting: Setting) -> Image:
    import ants

    scale, lift = 1000.0, setting["lift"]  # the units that scanners write
    model = "Rician" if setting["rician"] else "Gaussian"
    image = ants.from_numpy(np.ascontiguousarray((scan.noisy + lift) * scale, dtype=np.float32))
    denoised = ants.denoise_image(image, p=1, r=int(setting["search"]), noise_model=model)
    return np.asarray(denoised.numpy()) / scale - lift


def _bm4d_mr() -> list[Peer]:
    package: dict[str, Any] = {"package": "bm4d", "install": "bm4d", "slow": True}
    stabilised, told, once = partial(in_units_of_noise, _bm4d_unit), grid(factor=[0.85, 1.0, 1.2]), grid(factor=[1.0])
    return [
        Peer("BM4D stabilised, true level", stabilised, told, **package),
        Peer("BM4D stabilised, estimated level", partial(blind, stabilised), once, **package),
        Peer("BM4D, true level", _bm4d_white, told, **package),
        Peer("BM4D, estimated level", partial(blind, _bm4d_white), once, **package),
    ]


def _bm4d_ct() -> list[Peer]:
    package: dict[str, Any] = {"package": "bm4d", "install": "bm4d", "slow": True}
    return [
        Peer("BM4D, noise spectrum", _bm4d_spectrum, grid(factor=[0.85, 1.0, 1.2]), **package),
        Peer("BM4D white, true level", _bm4d_white, grid(factor=[0.7, 1.0, 1.5]), **package),
        Peer("BM4D white, estimated level", partial(blind, _bm4d_white), grid(factor=[1.0]), **package),
    ]


def _bm4d_unit(image: Image, setting: Setting) -> Image:
    from bm4d import bm4d

    return np.asarray(bm4d(image, setting["factor"])).reshape(image.shape)


def _bm4d_white(scan: Scan, setting: Setting) -> Image:
    return _bm4d_unit(scan.noisy / scan.level, setting) * scan.level


def _bm4d_spectrum(scan: Scan, setting: Setting) -> Image:
    from bm4d import bm4d

    if scan.spectrum is None:
        raise Unfit("the noise spectrum of this scan is not known")
    if scan.spectrum.shape != scan.noisy.shape:
        raise Unfit("the noise spectrum belongs to a scan of another size")
    if not hasattr(np, "trapz"):  # bm4d 4.2 calls it by the name that NumPy 2.4 dropped
        np.trapz = np.trapezoid  # type: ignore[attr-defined]  # noqa: NPY201
    return np.asarray(bm4d(scan.noisy, setting["factor"] ** 2 * scan.spectrum)).reshape(scan.noisy.shape)


class Unfit(Exception):
    """A filter cannot be used on this scan, and why."""
