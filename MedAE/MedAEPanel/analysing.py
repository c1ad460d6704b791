"""The tasks that look at a scan through a model: translate, features, explain; their parameters, outputs and tables."""

from slicer.i18n import tr as _

from . import segments
from .probe import toLocal

TASKS = ("translate", "features", "explain")
ROWS = [(_("the volume"), "volume"), (_("each slice"), "slice"), (_("each segment"), "segment")]
WIDGETS = {
    "translate": ("uncertaintyCheckBox",),
    "features": (
        "featuresPerLabel", "featuresPerComboBox", "knownCasesLabel", "knownCasesEdit", "rememberCheckBox",
        "similarBrowser", "codeCheckBox",
    ),
    "explain": (
        "attributionCheckBox", "traversalFrame",
    ),
}
# A model of any task has a code to read and a way back to explain.
ANY_MODEL = ("features", "explain")
_EXPLANATIONS = ("typical", "residual_1_7mm", "residual_4mm", "baseline_residual_1_7mm", "baseline_residual_4mm")


def showFor(ui, task, perSegment=False):
    """Show what belongs to the task, in the section that the three share."""
    ui.Analyse.setVisible(task in TASKS)
    for name, widgets in WIDGETS.items():
        for widget in widgets:
            getattr(ui, widget).setVisible(name == task)
    for widget in (ui.segmentsLabel, ui.segmentsSelector):
        widget.setVisible(task == "features" and perSegment)


def refusal(wanted):
    """Why the task cannot do what is asked for, in one sentence; empty when it can."""
    if wanted.task == "features" and wanted.featuresPer == "segment" and wanted.segments is None:
        return _("Choose the segmentation whose segments the features shall describe.")
    return ""


def inputsOf(wanted):
    """The nodes that the run reads besides the scan, by the names of the inputs."""
    return {"segments": wanted.segments} if wanted.task == "features" and wanted.featuresPer == "segment" else {}


def parametersOf(wanted, common):
    """The parameters of the run; `common` are the model, the device and what else all networks need."""
    if wanted.task == "translate":
        return {**common, "uncertainty": wanted.makeUncertainty}
    if wanted.task == "features":
        remember = wanted.rememberCase and bool(wanted.knownCases)
        names = segments.namesOf(wanted.segments) if wanted.featuresPer == "segment" else {}
        return {**common, "per": wanted.featuresPer, "index": wanted.knownCases, "remember": remember,
                "file": fileOf(wanted.inputVolume), "segment_names": names, "latent": wanted.makeCode}  # fmt: skip
    parts = ["residual", "attribution"] if wanted.makeAttribution else ["residual"]
    return {**common, "parts": parts, "point": crosshairIn(wanted.inputVolume)}


def outputsOf(wanted):
    """The wanted outputs, each a new node."""
    if wanted.task == "translate":
        return dict.fromkeys(("translated", "uncertainty") if wanted.makeUncertainty else ("translated",))
    if wanted.task == "features":
        return dict.fromkeys(("code",) if wanted.makeCode else ())
    return dict.fromkeys((*_EXPLANATIONS, *(("attribution",) if wanted.makeAttribution else ())))


def fileOf(node):
    """The file that a volume was loaded from or saved to, as a whole path; empty where there is none."""
    storage = node.GetStorageNode()
    known = storage is not None and storage.GetFileName()
    return (storage.GetFullNameFromFileName() or "") if known else ""


def crosshairIn(node):
    """The crosshair as [R, A, S] in millimetres of the volume, before any parent transform, or [] where it lies outside
    of it or is not known."""
    import numpy as np
    import slicer

    from MedAELib import nodes

    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is None or node is None or not node.IsA("vtkMRMLVolumeNode") or node.GetImageData() is None:
        return []
    point = toLocal(node, crosshair.GetCrosshairRAS())
    voxel = (np.linalg.inv(nodes.affine_of(node)) @ [*point, 1])[:3]
    inside = all(0 <= x <= size - 1 for x, size in zip(voxel, node.GetImageData().GetDimensions(), strict=True))
    return point if inside else []


def rows(report, name):
    """The rows of a table in a report; each feature is a column of its own."""
    found = report.get(name) or []
    if name != "features" or not found:
        return found
    names = report["names"]
    return [
        {"item": str(row["item"]), "r": row["r"], "a": row["a"], "s": row["s"], **dict(zip(names, row["values"]))}
        for row in found
    ]
