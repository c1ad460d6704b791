"""Denoising figures: MedAE beside other denoisers at their best setting, on held-out subjects and real pairs.

    pip install -r Testing/benchmarks/requirements.txt
    python Testing/benchmarks/denoise.py [--modality MR] [--model NAME|FOLDER] [--data FOLDER] [--output FOLDER]
                                         [--peers none|filters|strongest|fast|all]
                                         [--cases N] [--crop I J K]
    python Testing/benchmarks/denoise.py --modality MR --interpolated [--peers P] [--cases N] [--crop I J K] [...]
    python Testing/benchmarks/denoise.py --repeats [--modality MR] [--data FOLDER]
    python Testing/benchmarks/denoise.py --adapt SECONDS [--levels L ...] [--names NAME ...] [--modality MR] [...]

Noise is put on each reference, held-out subjects and generated anatomy: Rician of 3, 5, 9 and 15 % of the 99.9th
percentile for MR, projection-simulated of 20, 40 and 80 HU in soft tissue for CT; real pairs of a noisy and a cleaner
scan follow. PSNR (range 1 for MR, 400 HU for CT) and SSIM are taken in the body. Every peer is given the setting with
the best PSNR for each volume and level; MedAE is told nothing. Writes denoise-MR.json, denoise-MR.md and pictures.

With --interpolated the noise is put on MRI before they are interpolated to more voxels. With --repeats it prints what
repeated scans tell of the noise map and of denoised sequences. With --adapt it says instead whether adapting to each
scan for so long made the model better, in adapted-MR.md, at the levels and for the scans (beginnings of their names)
that are given.

The peers' figures are kept in the folder `peers-MR` of the output, so another run costs only MedAE's own time, and a
run that was ended goes on where it was. A peer whose package is missing is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import denoise_pictures as pictures
from benchmarks import denoise_report as report
from benchmarks.denoise_adapted import adapted
from benchmarks.denoise_cache import Cache
from benchmarks.denoise_cases import CROP, LEVELS, Case, Crop, Image, Scan, cases, noise_free
from benchmarks.denoise_figures import Result, best, timed
from benchmarks.denoise_interpolated import by_kind, interpolated_cases
from benchmarks.denoise_medae import OURS, medae, noise_map_ratio, safety
from benchmarks.denoise_pairs import pairs
from benchmarks.denoise_peers import CHOICES, Peer, Unfit, peers, present
from benchmarks.denoise_repeats import repeats
from benchmarks.denoise_trust import flat_lesions, trust_figures

from MedAELib.errors import BadInput
from MedAELib.model import Model
from MedAELib.noise import noise_unit
from MedAELib.training.cohort import data_folder

SHOWN = {"MR": "IXI", "CT": "example_ct"}  # how the name of the case begins whose pictures are kept
NOISY = Peer("noisy", lambda scan, setting: scan.noisy, ({},))


class Benchmark:
    """All methods on all cases of one modality; the rows grow case by case and are written after each."""

    def __init__(
        self, model: Model, modality: str, choice: str, output: Path, trusting: bool = True, stem: str = "denoise"
    ) -> None:
        self.model, self.modality, self.output, self.trusting = model, modality, output, trusting
        self.stem = f"{stem}-{modality}"
        self.peers, absent = present(peers(modality, choice))
        self.cache = Cache(output / f"peers-{modality}")
        self.result: dict[str, Any] = {
            "model": str(model.bundle.sha256 if model.bundle else ""),
            "rows": [], "pairs": [], "trust": {}, "speed": [], "noise_map": [], "absent": absent, "failed": {},
            "unsuited": [], "apart": [],
        }  # fmt: skip
        for name, reason in absent.items():
            print(f"absent: {name}: {reason}", flush=True)

    def run(self, data: Path, crop: Crop, count: int | None) -> dict[str, Any]:
        """All rows, costs side by side, real pairs and trust figures; the files are written after each case."""
        for number, case in enumerate(cases(data, self.modality, crop, count)):
            slices = self._measure(case, "rows")
            if number == 0 or case.name.startswith(SHOWN[self.modality]):
                self._show(case, slices)
            self.write()
            if number == 0:
                self.result["speed"] = self._speed(case)
        for case in pairs(data, self.modality, crop):
            self._measure(case, "pairs")
            self.write()
        self.result["trust"] = safety(self.model, self.modality, noise_free(self.modality, crop))
        self.result["trust"] |= flat_lesions(self.model, self.modality)
        self.write()
        return self.result

    def run_interpolated(self, data: Path, crop: Crop, count: int | None) -> dict[str, Any]:
        """The rows of MRI whose noise was interpolated, and their means by kind; written after each case."""
        for case in interpolated_cases(data, crop, count):
            self._measure(case, "rows")
            self.write()
            (self.output / f"{self.stem}.md").write_text(by_kind(self.result))
        return self.result

    def write(self) -> None:
        """JSON, Markdown and the chart of what there is."""
        (self.output / f"{self.stem}.json").write_text(json.dumps(self.result, indent=1))
        (self.output / f"{self.stem}.md").write_text(report.text(self.result, self.modality))
        pictures.chart(self.result["rows"], self.modality, self.output / f"{self.stem}-levels.png")

    def _measure(self, case: Case, kind: str) -> dict[str, Image]:
        """Rows of every method at every level; returns the middle slices of all at the middle level."""
        slices: dict[str, Image] = {}
        own = noise_unit(case.clean, False) if self.modality == "MR" and kind == "rows" else 0.0
        for level, scan in case.scans.items():
            rows = self.result[kind]
            if own > level:  # whoever removes what the reference itself holds would be marked down for it
                self.result["unsuited"].append({"case": case.name, "level": level, "own_noise": own})
                rows = self.result["apart"]
                print(f"{case.name:24s} {level:.3g} set apart: the reference holds {100 * own:.2g} %", flush=True)
            for peer in [NOISY, *self.peers, *medae(self.model)]:
                try:
                    figures, picture = self._figures(peer, case, scan)
                except (Unfit, ValueError, RuntimeError) as error:
                    if peer.name in OURS:
                        raise
                    self.result["failed"][f"{case.name} {peer.name}"] = f"{type(error).__name__}: {error}"
                    print(f"{case.name:24s} {peer.name}: {error}", flush=True)
                    continue
                row = {"case": case.name, "level": level, "method": peer.name, **figures}
                rows.append(row | ({"against": case.label} if case.label else {}))
                if level == self._middle_level() and picture is not None:
                    slices[peer.name] = picture
                print(f"{case.name:24s} {level:.3g} {peer.name:34s} {figures['psnr']:.2f} dB", flush=True)
            ratio = noise_map_ratio(self.model, case, scan)
            if ratio is not None:
                self.result["noise_map"].append({"case": case.name, "level": level, "ratio": ratio})
        return slices

    def _figures(self, peer: Peer, case: Case, scan: Scan) -> tuple[dict[str, Any], Image | None]:
        """A peer's figures and middle slice, from the cache if they are there; MedAE's are always made anew."""
        key = Cache.key(case.name, scan.level, peer.name, case.fingerprint, peer.identity())
        kept = self.cache.get(key) if peer.name not in OURS else None
        if kept is not None and ("trust" in kept[0] or peer is NOISY or not self.trusting):
            return kept
        found = best(peer, case, scan)
        figures = {**found.figures, "setting": dict(found.setting)}
        if peer is not NOISY and self.trusting:
            figures["trust"] = self._trusted(peer, scan, found)
        picture = found.image[:, :, found.image.shape[2] // 2]
        if peer.name not in OURS:
            self.cache.put(key, figures, picture)
        return figures, picture

    def _trusted(self, peer: Peer, scan: Scan, found: Result) -> dict[str, float]:
        """The trust figures; none where a part of the scan cannot be denoised in the same way."""
        try:
            return trust_figures(scan, found.image, lambda part: peer.apply(replace(scan, noisy=part), found.setting))
        except Unfit as reason:
            self.result["failed"][f"{peer.name}, trust figures"] = str(reason)
            return {}

    def _show(self, case: Case, slices: dict[str, Image]) -> None:
        level = self._middle_level()
        psnr = {r["method"]: r["psnr"] for r in self.result["rows"] if r["case"] == case.name and r["level"] == level}
        pictures.crops(case, level, slices, psnr, self.output / f"denoise-{self.modality}.png")

    def _middle_level(self) -> float:
        levels = LEVELS[self.modality]
        return levels[len(levels) // 2]

    def _speed(self, case: Case) -> list[dict[str, Any]]:
        """What every method costs at its best setting, one after the other on one volume: never from the cache."""
        scan, rows = case.scans[self._middle_level()], []
        settings = {r["method"]: r["setting"] for r in self.result["rows"] if r["level"] == self._middle_level()}
        for peer in [*self.peers, *medae(self.model)]:
            if peer.name in settings:
                cost = timed(partial(peer.apply, scan, settings[peer.name]), scan.noisy.size)
                rows.append({"method": peer.name, **cost})
        return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modality", choices=("MR", "CT"), action="append")
    parser.add_argument("--model", default=None, help="only with one modality; default: the bundled model")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"))
    parser.add_argument(
        "--peers", choices=CHOICES, default="fast", help="fast: without BM4D and ANTs; filters: four; strongest: BM4D"
    )
    parser.add_argument("--without-trust", action="store_true", help="PSNR and SSIM alone: in a few minutes")
    parser.add_argument("--cases", type=int, default=None, help="this many, of as many sources as possible")
    parser.add_argument("--crop", type=int, nargs=3, default=CROP, metavar=("I", "J", "K"), help="voxels at most")
    parser.add_argument("--interpolated", action="store_true", help="MRI on more voxels than were measured")
    parser.add_argument("--repeats", action="store_true", help="repeated scans, without simulated noise")
    parser.add_argument("--adapt", type=int, default=0, metavar="SECONDS", help="judge adapting instead")
    parser.add_argument("--levels", type=float, nargs="+", default=(), help="of --adapt: 0.05 for 5 %%, 0.04 for 40 HU")
    parser.add_argument("--names", nargs="+", default=(), help="of --adapt: how the names of the scans begin")
    chosen = parser.parse_args(arguments)
    modalities = chosen.modality or ["MR", "CT"]
    if chosen.model and len(modalities) > 1:
        parser.error("--model needs one --modality")
    if sum(map(bool, (chosen.interpolated, chosen.repeats, chosen.adapt))) > 1:
        parser.error("--interpolated, --repeats and --adapt are runs of their own")
    if chosen.interpolated and modalities != ["MR"]:
        parser.error("--interpolated needs --modality MR")
    chosen.output.mkdir(parents=True, exist_ok=True)
    for modality in modalities:
        model = Model.load(chosen.model or f"{modality.lower()}-denoise")
        if chosen.adapt:
            _adapted(model, modality, chosen)
            continue
        stem = "interpolated" if chosen.interpolated else "denoise"
        benchmark = Benchmark(model, modality, chosen.peers, chosen.output, not chosen.without_trust, stem)
        i, j, k = chosen.crop
        try:
            data = chosen.data or data_folder()
            if chosen.repeats:
                print(f"# Repeated scans, {modality}\n\n{repeats(data, model)}")
                continue
            run = benchmark.run_interpolated if chosen.interpolated else benchmark.run
            run(data, (i, j, k), chosen.cases)
        except BadInput as error:
            print(f"{error} {error.next_step}", file=sys.stderr)
            return 2
        print((chosen.output / f"{benchmark.stem}.md").read_text())
    return 0


def _adapted(model: Model, modality: str, chosen: argparse.Namespace) -> None:
    i, j, k = chosen.crop
    data = chosen.data or data_folder()
    adapted(model, modality, data, (i, j, k), chosen.adapt, chosen.levels, chosen.names, chosen.output)


if __name__ == "__main__":
    sys.exit(main())
