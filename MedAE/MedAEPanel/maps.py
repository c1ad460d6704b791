"""The maps of one run that can lie over the scan: the default one, and those that it is made of or compared with."""

from slicer.i18n import tr as _

from MedAELib.anomaly.names import MAP, OTHERS, STEP, STEPS

from .choices import Choices

FIRST = "anomaly"
_SAME = ("modelSHA256", "parameters")  # of the provenance: maps of another run have another scale
_LABELS = {
    FIRST: _("Default"),
    "unlike": _("unlike: changed, by the network"),
    "residual": _("residual: far from the typical scan"),
    "average": _("average: far from the average scan"),
    "bright": _("bright: brighter than the rest"),
    "contrast": _("contrast: unlike what is around"),
    "asymmetry": _("asymmetry: unlike the other side"),
    "smooth": _("smooth: lacks fine detail"),
}
_NONE_BESIDE = _("Tick ‘Also make the other maps’ and press Apply to choose among them.")  # noqa: RUF001
_SEVERAL = _("The map that lies over the scan; all are in z, so one threshold serves for all.")


def outputs():
    """The names of the outputs that the other maps may be."""
    return [f"{MAP}{name}" for name in OTHERS]


def outputsOf(typical, others, steps):
    """The wanted outputs of the task, each a new node."""
    names = [FIRST, "regions", *(("typical", "residual") if typical else ()), *(outputs() if others else ())]
    return dict.fromkeys([*names, *((f"{STEP}{name}" for name in STEPS) if steps else ())])


def of(results):
    """The default map and those that were made with it, of results by output name; empty where there is none."""
    from MedAELib import nodes

    first = results.get(FIRST)
    if first is None:
        return {}
    told = nodes.provenance(first)
    beside = {name: results[name] for name in outputs() if name in results}
    same = {
        name: node for name, node in beside.items()
        if all(nodes.provenance(node).get(key) == told.get(key) for key in _SAME)
    }  # fmt: skip
    return {FIRST: first, **same}


def isMap(node, source):
    """Whether a node is a map of this scan, of whichever run."""
    from MedAELib import nodes

    if node is None or nodes.input_of(node) is not source:
        return False
    return nodes.provenance(node).get("output") in (FIRST, *outputs())


class MapChoice:
    """The box in which one of the maps is chosen; `onChosen(name)` is called when the user picks another one."""

    def __init__(self, box, onChosen):
        self._box, self._choices = box, Choices(box, onChosen)

    def offer(self, maps, chosen):
        """Let the user choose among maps by output name."""
        pairs = [(_LABELS[name.removeprefix(MAP)], name) for name in maps] or [(_LABELS[FIRST], FIRST)]
        self._choices.offer(pairs, chosen)
        self._box.enabled = len(maps) > 1
        self._box.toolTip = _SEVERAL if len(maps) > 1 else _NONE_BESIDE
