"""The other codecs are at their best by what is measured, and what was measured once is not measured again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import compress_peers
from benchmarks.compress_lossy import Points, chosen_peers, lossy, measure_all
from benchmarks.compress_peers import Decode, next_rate
from benchmarks.costs import apart, measured, of_program

from MedAELib.volume import Volume

RAMP = np.arange(8 * 8 * 4, dtype=np.int16).reshape(1, 8, 8, 4)


@pytest.mark.parametrize("wanted", [24.0, 31.7, 45.0, 58.0, 70.0])
def test_a_setting_is_sought_until_none_is_nearer(wanted):
    def given(rate: int) -> float:
        return 62 - 0.4 * rate - 8 * (rate > 5)  # a jump, as of codecs near their finest setting

    missed, rate = {}, 30
    while rate not in missed:
        missed[rate] = given(rate) - wanted
        rate = next_rate(missed)
    assert len(missed) < 12
    best = min(range(1, 64), key=lambda tried: abs(given(tried) - wanted))
    assert min(map(abs, missed.values())) == pytest.approx(abs(given(best) - wanted))


def test_encoders_of_video_spend_nothing_for_the_eye(monkeypatch: pytest.MonkeyPatch) -> None:
    """PSNR is measured, and what x265 and VVenC do for the eye otherwise costs them a tenth of their files."""
    asked: dict[str, str] = {}

    def video(voxels: np.ndarray, codec: str, pixels: str, bits: int, options: dict[str, str]) -> Any:
        asked[codec] = options.get("x265-params", "") + options.get("svtav1-params", "")
        return 1, lambda: voxels + 1

    def ffmpeg(options: list[str], data: bytes = b"") -> bytes:
        if "libvvenc" in options:
            asked["libvvenc"] = " ".join(options)
            Path(options[-1]).write_bytes(b"coded")
        return bytes(64 * 64 * 3 * 4)

    monkeypatch.setattr(compress_peers, "_video", video)
    monkeypatch.setattr(compress_peers, "_ffmpeg", ffmpeg)
    for codec in (compress_peers.hevc, compress_peers.av1, compress_peers.vvc):
        codec(RAMP[0].astype(np.int64), 40)[1]()
    assert {"psy-rd=0", "psy-rdoq=0", "aq-mode=0"} < set(asked["libx265"].split(":"))
    assert {"tune=1", "enable-variance-boost=0"} < set(asked["libsvtav1"].split(":"))
    assert "-qpa 0 " in asked["libvvenc"]


def test_a_point_that_was_kept_is_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried: list[float] = []

    def rounding(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
        tried.append(decibels)
        step = float(np.ptp(voxels)) * 10 ** (-decibels / 20) * 12**0.5
        return round(decibels), lambda: np.rint(voxels / step) * step

    volume, file = Volume(RAMP, np.eye(4), {"name": "ramp"}), tmp_path / "rows.json"
    for wanted in ([30.0, 36.0], [30.0, 36.0], [30.0, 42.0]):
        lossy([volume], wanted, {"JPEG 2000": rounding}, Points(file))
    assert tried == [30, 36, 42]
    first, second, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second


@pytest.mark.parametrize("kept", ['{"ramp: AV1, 30 dB": {"psnr": 30, "bits": 1}}', '{"a": [30, 1]}', "[1]", "{"])
def test_rows_of_an_older_form_are_told(tmp_path: Path, kept: str) -> None:
    (tmp_path / "rows.json").write_text(kept)
    with pytest.raises(SystemExit, match=r"rows\.json holds no rows of this form of the benchmark"):
        Points(tmp_path / "rows.json")


def test_curves_that_have_no_quality_in_common_have_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    def coarse(voxels: np.ndarray, decibels: float) -> tuple[int, Decode]:
        return round(decibels), lambda: voxels + 100 - decibels

    lossy([Volume(RAMP, np.eye(4), {"name": "ramp"})], [40.0, 50.0], {"JPEG 2000": coarse}, Points())
    told = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert told["medae_against_percent"] == {"JPEG 2000": None}


@pytest.mark.slow  # torch is imported
def test_pictures_are_of_lossy_curves(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import compress

    monkeypatch.setattr(sys, "argv", ["compress.py", "--lossless", "--pictures", "somewhere"])
    with pytest.raises(SystemExit):
        compress.main()
    assert "--pictures draws the curves of --lossy" in capsys.readouterr().err


def test_a_codec_that_is_not_installed_is_named() -> None:
    installed = dict.fromkeys(["JPEG 2000", "HEVC", "AV1"], compress_peers.hevc)
    assert [*chosen_peers(installed, ["AV1"])] == ["JPEG 2000", "AV1"]
    with pytest.raises(SystemExit, match=r"^VVC cannot be run here"):
        chosen_peers(installed, ["VVC"])


def test_what_another_program_takes_is_counted() -> None:
    """Some codecs are programs of their own."""
    work = "held = bytearray(150_000_000); sum(range(3_000_000)); held[::4096] = held[::4096]; print(len(held))"
    with measured() as cost:
        assert of_program([sys.executable, "-c", work]).strip() == b"150000000"
    assert cost.cpu_seconds > 0.02
    assert 150_000_000 < cost.memory < 400_000_000 or not sys.platform.startswith("linux")
    with measured() as cost:  # what was before is not counted again
        pass
    assert cost.memory < 50_000_000
    with pytest.raises(subprocess.CalledProcessError):
        of_program([sys.executable, "-c", "raise SystemExit(3)"])


def where(volume: Volume, wanted: float) -> dict[str, Any]:
    return {"process": os.getpid(), "name": volume.name, "voxels": volume.array.size, "wanted": wanted}


def test_a_codec_is_measured_in_a_process_of_its_own() -> None:
    found = apart(measure_all, where, Volume(RAMP, np.eye(4), {"name": "ramp"}), [30.0, 40.0])
    assert [(each["name"], each["voxels"], each["wanted"]) for each in found] == [("ramp", 256, 30), ("ramp", 256, 40)]
    assert len({each["process"] for each in found} | {os.getpid()}) == 2


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 12, 13])
def test_jpeg_2000_along_slices_gives_the_volume_back_where_slices_lose_nothing(slices, monkeypatch) -> None:
    class Exact:
        """Slices that come back as they are."""

        @staticmethod
        def jpeg2k_encode(part: np.ndarray, **settings: Any) -> bytes:
            return part.tobytes()

        @staticmethod
        def jpeg2k_decode(data: bytes) -> np.ndarray:
            return np.frombuffer(data, np.uint16).reshape(9, 7)

    monkeypatch.setattr(compress_peers, "imagecodecs", Exact)
    voxels = np.random.default_rng(slices).integers(0, 4096, (9, 7, slices))
    size, decode = compress_peers.jpeg_2000_3d(voxels, 40)
    assert size == 2 * voxels.size
    assert np.abs(decode() - voxels).max() < 1


@pytest.mark.parametrize("best", [1, 2, 3, 4])
def test_jpeg_2000_along_slices_has_the_levels_that_make_the_smallest_file_of_that_quality(best, monkeypatch) -> None:
    voxels = np.random.default_rng(0).integers(0, 1000, (8, 8, 8))

    def along(voxels: np.ndarray, decibels: float, levels: int) -> tuple[int, Decode]:
        reached = decibels - 0.3 * levels  # each misses what it is asked for
        error = np.ptp(voxels) * 10 ** (-reached / 20)
        size = 1000 if levels == best else 1200 - 100 * levels + 200 * (levels > best)
        return round((size + 500 * (levels < best)) * 2 ** (reached / 6)), lambda: voxels + error

    monkeypatch.setattr(compress_peers, "jpeg_2000_along", along)
    size, decode = compress_peers.jpeg_2000_3d(voxels, 40)
    assert size == along(voxels, 40 + 0.3 * best, best)[0]
    assert 20 * np.log10(np.ptp(voxels) / np.abs(decode() - voxels).max()) == pytest.approx(40, abs=0.1)


def test_the_curves_become_a_small_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.compress_pictures import rate_distortion

    curves = {name: [(50.0, 2.0), (30.0, 0.1), (40.0, 0.5)] for name in [*compress_peers.lossy_peers(), "MedAE"]}
    rate_distortion({"head": curves, "chest": curves}, tmp_path / "made" / "curves.png")
    assert 1_000 < (tmp_path / "made" / "curves.png").stat().st_size < 150_000
