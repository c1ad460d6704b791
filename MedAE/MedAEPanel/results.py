"""A finished run becomes nodes beside its input: voxels slab by slab over several ticks, the scene in one batch."""

import datetime
from dataclasses import replace

from slicer.i18n import tr as _

from MedAELib.anomaly.names import MAP, STEP
from MedAELib.explain.names import MARK, plain_name

from . import analysing, latents, maps, overlay, sequences, traversal
from .target import PER_FRAME, TITLES, titleOf

_REPORTED = {
    "device": "device", "precision": "precision", "tile": "tile", "seconds": "seconds", "model": "model",
    "model_sha256": "modelSHA256", "versions": "versions", "noise_before": "noiseBefore", "noise_after": "noiseAfter",
    "warnings": "warnings", "verdict": "verdict", "threshold_z": "thresholdZ", "false_alarm_rate": "falseAlarmRate",
    "above_threshold": "aboveThreshold", "calibration": "calibration", "threshold": "thresholdMeans", "map": "map",
    "shown": "shownMap", "case": "wholeScan", "mode": "mode",
    "bytes": "bytes", "ratio": "ratio", "bits_per_voxel": "bitsPerVoxel", "psnr": "psnr", "ssim": "ssim",
    "max_error": "maxError", "units": "units", "modality": "modality", "modalities": "modalities",
    "passes": "passes", "grid": "grid", "point": "point", "traversal": "traversal",
}  # fmt: skip

# Where the model cannot tell, there is none.
_OPTIONAL = ("typical", "residual", "attribution", f"{STEP}field", *traversal.NAMES, *maps.outputs())
_TABLES = ("trust", "found", "features", "similar")  # rows in the report


class ResultImport:
    """Brings the outputs of a finished run into the scene.

    `step` fills images outside the scene; `commit` then adds or changes the nodes and returns them by output name.
    Either happens completely or the scene stays as it was.
    """

    def __init__(self, result, target):
        from MedAELib import nodes
        from MedAELib.errors import InternalFault

        self._result, self._target = result, target
        every = [*result.outputs, *result.files]  # unless some were asked for
        wanted = target.wanted or {name: f"{target.place.name} {titleOf(name)}" for name in every}
        there = {name for name in wanted if name in result.outputs or plain_name(name) not in _OPTIONAL}
        wanted = {name: title for name, title in wanted.items() if name in there}
        missing = [name for name in wanted if name not in result.outputs and name not in result.files]
        if missing:
            raise InternalFault(_("The result has no output '{name}'.").format(name=missing[0]))
        self._names, self._sequences = wanted, {}  # by output name; those of a sequence are put together on the way
        volumes = [name for name in wanted if name not in result.files]
        self._fillings = {name: [nodes.Filling(frame) for frame in self._frames(name)] for name in volumes}
        self._all = [(name, filling) for name, fillings in self._fillings.items() for filling in fillings]
        self._done = 0

    def _frames(self, name):
        """An output as volumes of one channel: one per frame of a sequence."""
        from MedAELib.errors import InternalFault

        volume, index = self._result.outputs[name], self._target.index
        if plain_name(name) in traversal.NAMES:
            index = traversal.indexOf(self._result.report)
        elif name == "code" and volume.channels > 1:
            index = traversal.indexOfChannels(volume.channels)
        elif index is None or name not in PER_FRAME:
            return [volume]
        if volume.channels != len(index["values"]):
            sentence = _("The result has {found} frames instead of {wanted}.")
            raise InternalFault(sentence.format(found=volume.channels, wanted=len(index["values"])))
        self._sequences[name] = sequences.Assembly(self._names[name], volume.affine, index, self._provenance(name))
        return [volume.like(volume.array[frame : frame + 1]) for frame in range(volume.channels)]

    @property
    def fraction(self):
        """How much of the voxels has been copied, 0..1."""
        started = self._all[self._done][1].fraction if self._done < len(self._all) else 0.0
        return (self._done + started) / max(1, len(self._all))

    def step(self, maxBytes):
        """Copy the next slab; True when all images are complete."""
        if self._done < len(self._all):
            name, filling = self._all[self._done]
            if filling.step(maxBytes):
                self._done += 1
                if name in self._sequences:
                    self._sequences[name].add(filling.image)
        return self._done == len(self._all)

    def commit(self):
        """Put the filled images into the scene, beside the input, with their provenance."""
        from MedAELib import nodes

        original, made, results = latents.originalOf(self._target.inputNode()), [], {}
        try:
            with nodes.batch():
                for name in self._fillings:
                    chosen = self._target.outputNode(name)
                    node = self._write(name, chosen, original)
                    if chosen is None:
                        made.append(node)
                    if name not in self._sequences:
                        nodes.stamp(node, self._provenance(name), original)
                    results[name] = node
                for name in (name for name in self._names if name in self._result.files):
                    told = self._provenance(name)
                    data, place = self._result.files[name], self._target.place
                    results[name] = latents.make(data, place, self._names[name], told, original)
                    made.append(results[name])
                for name in _TABLES:
                    rows = analysing.rows(self._result.report, name)
                    if rows:
                        table = nodes.write_table(f"{self._target.place.name} {TITLES[name]}", rows, original)
                        made.append(table)
                        nodes.stamp(table, self._provenance(name), original)
                        results[name] = table
        except Exception:
            for node in made:
                sequences.remove(node)
            raise
        if any(name in traversal.NAMES for name in results):
            traversal.removeEarlier(original, list(results.values()))
        if latents.isLatent(original) and "decoded" in results:
            latents.showOpened(results["decoded"])
        return results

    def _write(self, name, chosen, original):
        """One output as a node: a volume, or a sequence of one volume per frame, which is stamped already."""
        from MedAELib import nodes

        place, title = self._target.place, self._names[name]
        fillings = self._fillings[name]
        middle = fillings[len(fillings) // 2]
        isMap = name == "anomaly" or name.startswith(MAP)
        signed = plain_name(name) in ("removed", "lost", "attribution") or ("residual" in name and not isMap)
        removed = middle.spread() if signed else None
        if MARK in name:  # of another scan than the input, and so is its window
            place = replace(place, window=None, level=None)
        if name in self._sequences:
            sequence = self._sequences[name].commit(place, original, removed)
            if plain_name(name) in traversal.NAMES:
                traversal.finish(sequence, place, original)
            elif name == "code":  # its numbers are not those of the scan, and so is its window
                traversal.finish(sequence, replace(place, window=None, level=None), original, first=True)
            return sequence
        beside, affine = sequences.shown(original) or original, self._result.outputs[name].affine
        if name == "regions":
            return overlay.segmentation(middle.image, affine, place, title, self._result.report["found"], beside)
        if name.startswith(STEP):  # in units of their own, and so is their window
            place = replace(place, window=None, level=None)
        top = middle.spread() if name in ("noise", "uncertainty") else None
        node = nodes.write(middle.image, affine, place, title, chosen, beside, removed, top)
        if isMap:
            overlay.showMap(node, self._result.report["threshold_z"], self._result.report.get("model") != "none")
        return node

    def _provenance(self, name):
        job, report = self._result.job, self._result.report
        told = {attribute: report[key] for key, attribute in _REPORTED.items() if key in report}
        place = self._target.place
        return {
            "output": name,
            "task": job.task,
            "inputID": place.node_id,
            "inputName": place.name,
            "parameters": dict(job.parameters),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **told,
        }
