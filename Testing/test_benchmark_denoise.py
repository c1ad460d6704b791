"""The denoising benchmark's parts do what they say, on tiny generated cases."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import denoise_report as report
from benchmarks.costs import measured
from benchmarks.denoise import Benchmark
from benchmarks.denoise_adapted import figures as adapted_figures
from benchmarks.denoise_adapted import text as adapted_text
from benchmarks.denoise_cache import Cache
from benchmarks.denoise_cases import Case, Scan, body, cases, middle, spectrum
from benchmarks.denoise_figures import best
from benchmarks.denoise_medae import NAME, ONE_PASS, SCALE, noise_map_ratio, safety
from benchmarks.denoise_pairs import pairs
from benchmarks.denoise_peers import CHOICES, Peer, peers, present
from benchmarks.denoise_stabilised import destabilise, rician_level, stabilise
from benchmarks.denoise_trust import LESIONS, flat_lesions, trust_figures
from conftest import data_folder_path
from models import small_model
from scipy.ndimage import gaussian_filter

from MedAELib.quality import psnr
from MedAELib.training.publish import _summary
from MedAELib.volume import Volume

SIGMA = 0.05


def rician(signal: Any, sigma: float, seed: int = 0) -> Any:
    """Magnitudes with Rician noise."""
    random = np.random.default_rng(seed)
    shape = np.shape(signal)
    return np.hypot(signal + sigma * random.standard_normal(shape), sigma * random.standard_normal(shape))


def small_case(modality: str = "MR", level: float = 0.09, size: int = 24) -> Case:
    """A bright ball in a darker body, with noise."""
    grid = np.indices((size,) * 3) - (size - 1) / 2
    inside = np.sqrt((grid**2).sum(axis=0)) < size / 4
    clean = (0.3 + 0.4 * inside if modality == "MR" else 0.04 + 0.06 * inside).astype(np.float32)
    noise = level * np.random.default_rng(1).standard_normal(clean.shape)
    noisy = (rician(clean, level) if modality == "MR" else clean + noise).astype(np.float32)
    known = spectrum(noise) if modality == "CT" else None
    return Case("ball", clean, body(clean, modality), {level: Scan(noisy, modality, level, known)})


def only_scan(case: Case) -> Scan:
    return next(iter(case.scans.values()))


@pytest.mark.parametrize("ratio", [0.0, 1.0, 2.0, 5.0, 20.0, 50.0])
def test_stabilised_noise_has_deviation_one_and_the_mean_comes_back_without_bias(ratio: float) -> None:
    stabilised = stabilise(rician(np.full(300_000, ratio * SIGMA), SIGMA), SIGMA)
    assert stabilised.std() == pytest.approx(1, abs=0.015)
    back = float(destabilise(np.array(stabilised.mean()), SIGMA)) / SIGMA
    # Around zero a magnitude hardly depends on the signal, so that its mean tells little.
    assert back == pytest.approx(ratio, rel=0.01, abs=0.01 if ratio else 0.2)


def test_the_rician_level_is_estimated() -> None:
    smooth = 0.6 + 0.3 * gaussian_filter(np.random.default_rng(2).standard_normal((32, 32, 32)), 8)
    assert rician_level(rician(smooth, SIGMA)) == pytest.approx(SIGMA, rel=0.03)


def test_a_spectrum_holds_the_power_of_its_noise() -> None:
    noise = gaussian_filter(np.random.default_rng(3).standard_normal((32, 30, 8)), (1, 1, 0))
    found = spectrum(noise)
    assert found.shape == noise.shape
    assert found.mean() / noise.size == pytest.approx(np.mean(noise**2))
    assert found[1, 1, 0] > 20 * found[16, 15, 0]


def shifted(calls: list[float]) -> Any:
    """A filter whose result is one number, 0.3 more than its offset, and which notes its calls."""

    def apply(scan: Scan, setting: Any) -> Any:
        calls.append(setting["offset"])
        return scan.noisy * 0 + 0.3 + setting["offset"]

    return apply


def test_the_setting_with_the_best_psnr_counts() -> None:
    case = small_case()
    calls: list[float] = []
    peer = Peer("constant", shifted(calls), ({"offset": 0.5}, {"offset": 0.02}, {"offset": -0.2}))
    found = best(peer, case, only_scan(case))
    assert calls == [0.5, 0.02, -0.2] and found.setting == {"offset": 0.02}
    assert found.figures["psnr"] == pytest.approx(psnr(case.clean, found.image, 1.0, case.mask))
    assert {"ssim", "seconds_per_million", "cpu_seconds_per_million", "megabytes_per_million"} <= set(found.figures)


def test_a_peer_is_run_once_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    case = small_case()
    calls: list[float] = []
    peer = Peer("constant", shifted(calls), ({"offset": 0.02},))
    first = Benchmark(small_model(modality="MR"), "MR", "none", tmp_path)._figures(peer, case, only_scan(case))
    again = Benchmark(small_model(modality="MR"), "MR", "none", tmp_path)._figures(peer, case, only_scan(case))
    assert calls == [0.02] and again[0] == first[0]
    assert again[1] == pytest.approx(first[1], abs=1e-3)
    other = Peer("constant", shifted(calls), ({"offset": 0.03},))
    Benchmark(small_model(modality="MR"), "MR", "none", tmp_path)._figures(other, case, only_scan(case))
    assert calls == [0.02, 0.03], "another setting is another result"
    louder = small_case(level=0.1)
    assert louder.fingerprint != case.fingerprint
    assert Cache(tmp_path / "peers-MR").get("nothing") is None


def test_a_missing_package_is_reported_with_advice(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    absent = Peer("Magic", lambda scan, setting: scan.noisy, ({},), "no_such_package_here", "magic-filter")
    found, reasons = present([absent, *peers("MR", "fast")[:1]])
    assert [peer.name for peer in found] == ["Gaussian"]
    assert "pip install magic-filter" in reasons["Magic"]
    monkeypatch.setattr("benchmarks.denoise.peers", lambda modality, choice: [absent])
    benchmark = Benchmark(small_model(modality="MR"), "MR", "all", tmp_path)
    assert "absent: Magic" in capsys.readouterr().out
    assert "## Absent" in report.text(benchmark.result, "MR") and "Magic" in report.text(benchmark.result, "MR")


def test_fast_leaves_out_what_is_slow_and_none_leaves_out_all() -> None:
    names = {choice: [peer.name for peer in peers("CT", choice)] for choice in CHOICES}
    assert names["none"] == [] and set(names["fast"]) < set(names["all"])
    assert not any("BM4D" in name or "ANTs" in name for name in names["fast"])
    assert any("spectrum" in name for name in names["all"])
    assert names["strongest"] == ["BM4D, noise spectrum"] and len(names["filters"]) == 4
    assert [peer.name for peer in peers("MR", "strongest")] == ["BM4D stabilised, true level"]


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_every_peer_that_is_installed_removes_noise(modality: str) -> None:
    case = small_case(modality)
    scan = only_scan(case)
    found, _ = present(peers(modality, "all"))
    assert {"Gaussian", "median", "bilateral", "curvature diffusion"} <= {peer.name for peer in found}
    before = psnr(case.clean, scan.noisy, 1.0, case.mask)
    for peer in found:
        image = peer.apply(scan, peer.settings[len(peer.settings) // 2])
        assert image.shape == scan.noisy.shape, peer.name
        assert psnr(case.clean, image, 1.0, case.mask) > before + 1, peer.name


def test_the_peak_of_memory_counts_though_it_was_given_back() -> None:
    with measured() as cost:
        np.ones(8_000_000).sum()
    assert 60e6 < cost.memory < 100e6 and cost.seconds > 0
    assert cost.per_million(2_000_000)["megabytes_per_million"] == pytest.approx(cost.memory / 2e6)


def test_the_trust_figures_of_a_peer_come_from_its_own_second_pass() -> None:
    case = small_case(level=0.03, size=48)
    scan = only_scan(case)
    calls: list[tuple[int, ...]] = []

    def half(noisy: Any) -> Any:
        """Half of every difference from the mean is kept, so half of a lesion's contrast too."""
        calls.append(noisy.shape)
        return 0.5 * noisy + 0.2

    figures = trust_figures(scan, half(scan.noisy), half)
    assert len(calls) == 2
    found = [value for name, value in figures.items() if name.startswith(LESIONS)]
    assert len(found) == 3 and found == pytest.approx([50, 50, 50], abs=1)
    text = report.lesions([{"case": "a", "level": 0.03, "method": "half", "trust": figures}], "MR")
    assert "| half | 50 / 50 / 50 |" in text


def test_a_noise_map_is_compared_with_the_noise_that_was_put_on(monkeypatch: Any) -> None:
    case = small_case(level=0.05)

    def constant(volume: Volume, model: Any) -> tuple[Volume, Volume]:
        return volume, volume.like(np.full_like(volume.array, 0.1 * SCALE))

    monkeypatch.setattr("benchmarks.denoise_medae.task.denoise_and_map", constant, raising=False)
    assert noise_map_ratio(small_model(modality="MR"), case, only_scan(case)) == pytest.approx(2, rel=0.05)


def row(case: str, method: str, psnr: float, ssim: float = 0.9) -> dict[str, Any]:
    return {"case": case, "level": 0.05, "method": method, "psnr": psnr, "ssim": ssim}


def test_the_worst_case_is_counted_against_the_best_peer_of_that_case() -> None:
    rows = [row("a", "noisy", 99), row("a", "x", 30), row("a", "y", 31), row("a", NAME, 33)]
    rows += [row("b", "noisy", 20), row("b", "x", 28), row("b", "y", 25), row("b", NAME, 27)]
    found = report.against_best_peer(rows, "psnr")
    assert [(r["case"], r["peer"], r["margin"]) for r in found] == [("a", "y", 2), ("b", "x", -1)]
    text = report.margins(rows, "MR")
    assert "| 5 % | +0.50 | -1.00 (b; x) | 1 of 2 |" in text


def test_a_case_whose_reference_seems_noisier_than_the_noise_is_set_apart_and_still_shown(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("benchmarks.denoise.noise_unit", lambda *_: 0.1)
    monkeypatch.setattr("benchmarks.denoise.peers", lambda modality, choice: peers(modality, "fast")[:1])
    benchmark = Benchmark(small_model(modality="MR"), "MR", "fast", tmp_path, trusting=False)
    benchmark._measure(small_case(level=0.09), "rows")
    benchmark._measure(small_case(level=0.2), "rows")
    assert {r["level"] for r in benchmark.result["rows"]} == {0.2}
    assert {r["level"] for r in benchmark.result["apart"]} == {0.09}
    text = report.text(benchmark.result, "MR").split("## Set apart")[1]
    assert "| ball | 9 % | 10.0 % |" in text and "Gaussian" in text


def test_figures_kept_without_trust_are_made_again_when_trust_is_asked_for(tmp_path: Path) -> None:
    case = small_case()
    calls: list[float] = []
    peer = Peer("constant", shifted(calls), ({"offset": 0.02},))
    for trusting, runs in ((False, 1), (False, 1), (True, 2)):
        benchmark = Benchmark(small_model(modality="MR"), "MR", "none", tmp_path, trusting)
        figures, _ = benchmark._figures(peer, case, only_scan(case))
        assert len(calls) >= runs and ("trust" in figures) == trusting
        if not trusting:
            assert len(calls) == 1


def test_a_run_writes_what_the_model_card_reads_and_draws_the_pictures(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("benchmarks.denoise.cases", lambda *_: iter([small_case(level=0.09)]))
    monkeypatch.setattr("benchmarks.denoise.pairs", lambda *_: iter([]))
    monkeypatch.setattr("benchmarks.denoise.peers", lambda modality, choice: peers(modality, "fast")[:1])
    uneven = small_case().clean + np.linspace(0, 0.05, 24, dtype=np.float32)  # what is constant would stay
    monkeypatch.setattr("benchmarks.denoise.noise_free", lambda *_: [uneven])
    monkeypatch.setattr("benchmarks.denoise.safety", partial(safety, size=(20, 20, 12)))
    monkeypatch.setattr("benchmarks.denoise.flat_lesions", partial(flat_lesions, size=(48, 48, 36)))
    benchmark = Benchmark(small_model(modality="MR"), "MR", "fast", tmp_path)
    benchmark.run(tmp_path, (24, 24, 24), None)
    kept = json.loads((tmp_path / "denoise-MR.json").read_text())
    assert [r["method"] for r in kept["rows"]] == ["noisy", "Gaussian", ONE_PASS, NAME]
    assert [r["method"] for r in kept["speed"]] == ["Gaussian", ONE_PASS, NAME]
    summary = _summary(kept, "MR")
    assert summary["cases"] == 1 and summary["trust (%)"]["clean changed"] > 0
    assert 0 < summary["trust (%)"]["flat lesions kept, 5 %"] < 300
    for name in ("denoise-MR.png", "denoise-MR-levels.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    assert "MedAE minus the best peer" in (tmp_path / "denoise-MR.md").read_text()


@pytest.mark.data
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_cases_and_real_pairs_are_read(modality: str) -> None:
    crop = (20, 22, 12)
    found = list(cases(data_folder_path(), modality, crop, 2))
    assert len({case.name for case in found}) == 2
    for case in [*found, *pairs(data_folder_path(), modality, crop)]:
        for level, scan in case.scans.items():
            assert scan.noisy.shape == case.clean.shape == case.mask.shape
            assert case.mask.any() and level > 0 and psnr(case.clean, scan.noisy, 1.0) > 10
            assert scan.spectrum is None or scan.spectrum.shape == scan.noisy.shape
            assert case.repeats is None or case.repeats.shape == case.clean.shape
    assert middle(np.zeros((9, 9, 9)), (4, 20, 1)).shape == (4, 9, 1)


def test_the_table_of_adaptations_says_what_was_learned_and_what_is_used():
    row = {"scan": "head", "noise": 0.05, "before": 30.0, "adapted": 29.5, "kept": False, "used": 30.0}
    row |= {"scores": [0.5, 0.49], "steps": 12, "seconds": 39.6}
    refused = {"scan": "thin", "noise": 0.05, "before": 28.0, "refused": "Too thin."}
    lines = adapted_text([row, refused], "MR").splitlines()
    assert lines[2] == "| head | 5 % | 30.00 | 29.50 | no | 30.00 | 0.500 | 0.490 | 12 | 40 |"
    assert lines[3].startswith("| thin | 5 % | 28.00 | Too thin. | no | 28.00 |")
    assert {line.count("|") for line in lines} == {11}
    assert adapted_text([row | {"noise": 0.04}], "CT").splitlines()[2].startswith("| head | 40 HU |")


def test_where_a_model_cannot_adapt_the_benchmark_says_why():
    found = adapted_figures(small_model(modality="MR"), small_case(), only_scan(small_case()), 5)
    assert "too small to adapt" in found["refused"] and found["before"] > 0
