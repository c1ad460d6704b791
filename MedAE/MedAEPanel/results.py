"""A finished run becomes nodes beside its input: voxels slab by slab over several ticks, the scene in one batch."""

import datetime

from .target import TITLES

_REPORTED = {
    "device": "device", "precision": "precision", "tile": "tile", "seconds": "seconds", "model": "model",
    "model_sha256": "modelSHA256", "versions": "versions", "noise_before": "noiseBefore", "noise_after": "noiseAfter",
    "warnings": "warnings", "verdict": "verdict",
}  # fmt: skip


class ResultImport:
    """Brings the outputs of a finished run into the scene.

    `step` fills images outside the scene; `commit` then adds or changes the nodes and returns them by output name.
    Either happens completely or the scene stays as it was.
    """

    def __init__(self, result, target):
        from MedAELib import nodes
        from MedAELib.errors import InternalFault

        self._result, self._target = result, target
        wanted = target.wanted or dict.fromkeys(result.outputs, "result")
        missing = [name for name in wanted if name not in result.outputs]
        if missing:
            raise InternalFault(f"The result has no output '{missing[0]}'.")
        self._fillings = {name: nodes.Filling(result.outputs[name]) for name in wanted}
        self._names = wanted

    @property
    def fraction(self):
        """How much of the voxels has been copied, 0..1."""
        return sum(filling.fraction for filling in self._fillings.values()) / max(1, len(self._fillings))

    def step(self, maxBytes):
        """Copy the next slab; True when all images are complete."""
        for filling in self._fillings.values():
            if filling.fraction < 1:
                filling.step(maxBytes)
                return False
        return True

    def commit(self):
        """Put the filled images into the scene, beside the input, with their provenance."""
        import slicer

        from MedAELib import nodes

        original, made, results = self._target.inputNode(), [], {}
        try:
            with nodes.batch():
                for name, filling in self._fillings.items():
                    chosen = self._target.outputNode(name)
                    volume = self._result.outputs[name]
                    node = nodes.write(
                        filling.image, volume.affine, self._target.place, self._names[name], chosen, original,
                        removed_window=filling.spread() if name == "removed" else None,
                        top=filling.spread() if name == "noise" else None,
                    )  # fmt: skip
                    if chosen is None:
                        made.append(node)
                    nodes.stamp(node, self._provenance(name), original)
                    results[name] = node
                if self._result.report.get("trust"):
                    table = nodes.write_table(
                        f"{self._target.place.name} {TITLES['trust']}", self._result.report["trust"], original
                    )
                    made.append(table)
                    nodes.stamp(table, self._provenance("trust"), original)
                    results["trust"] = table
        except Exception:
            for node in made:
                slicer.mrmlScene.RemoveNode(node)
            raise
        return results

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
