"""What each task needs from the panel: its parameters, its outputs, and the widgets that belong to it."""

from slicer.i18n import tr as _

from MedAELib.anomaly.names import SCAN
from MedAELib.tasks import TASKS

from . import analysing, compressing, maps, models, sequences

NO_MODEL = "none"  # of the anomaly task: brightness alone
_WIDGETS = {  # sections with a file of their own are hidden as a whole: an empty one would leave a gap
    "denoise": (
        "outputsCollapsibleButton", "adaptCheckBox", "adaptSpinBox", "passesLabel", "passesComboBox", "previewCheckBox",
        "trustCollapsibleButton",
    ),
    "anomaly": ("Anomaly", "calibrationLabel", "calibrationComboBox"),
    "compress": ("Compress",),
    "train": ("Train",),
}  # fmt: skip
_MODEL = ("modelComboLabel", "modelComboBox", "modelFolderButton")
_NETWORK = ("precisionLabel", "precisionComboBox", "tileLabel", "tileSpinBox")
# What a task lets compare with the input: the outputs that are shown as result and beside it, and how they are called.
COMPARED = {
    "denoise": (("denoised", "removed"), (_("denoised volume"), _("removed noise"))),
    "anomaly": (("typical", "residual"), (_("nearest typical scan"), _("difference from it"))),
    "compress": (("decoded", "lost"), (_("decoded volume"), _("what was lost"))),
    "explain": (("typical", "residual_1_7mm"), (_("nearest typical scan"), _("difference from it at 1.7 mm"))),
    "translate": (("translated", "uncertainty"), (_("translated scan"), _("its uncertainty"))),
}
_HEADINGS = {
    "denoised": _("Denoised"), "typical": _("Typical"), "decoded": _("Decoded"), "translated": _("Translated"),
}  # fmt: skip
_HIDDEN = {
    "features": ("compareCollapsibleButton",),  # makes a table
    "train": ("inputsCollapsibleButton", "compareCollapsibleButton", *_MODEL, *_NETWORK),  # no volume; makes its model
    "compress": (*_MODEL, *_NETWORK),  # the codec has one model, and its files name it
}


def showFor(ui, wanted):
    """Show the widgets of the task and hide those of the others."""
    task = wanted.task
    ui.taskComboBox.toolTip = TASKS[task].description if task in TASKS else ""
    for name, widgets in _WIDGETS.items():
        for widget in widgets:
            getattr(ui, widget).setVisible(name == task)
    ui.calibrationComboBox.enabled = wanted.model != NO_MODEL
    analysing.showFor(ui, task, wanted.featuresPer == "segment")
    for widget in {name for names in _HIDDEN.values() for name in names}:
        getattr(ui, widget).setVisible(widget not in _HIDDEN.get(task, ()))


def tellCompared(ui, task, possible):
    """Let headings and tooltips under 'Compare' say what the task lets compare, or that it is not `possible` yet."""
    (name, _beside), (result, beside) = COMPARED[task]
    ui.probeOutputHeading.text = _HEADINGS[name]
    for widget in (ui.probeOutputHeading, ui.probeOutputLabel):
        widget.toolTip = _("Value of the {result} there.").format(result=result)
    for widget in (ui.probeDifferenceHeading, ui.probeDifferenceLabel):
        widget.toolTip = _("Input minus {result} there.").format(result=result)
        widget.setVisible(task != "translate")  # intensities of two kinds of scan have no difference
    if not possible:
        return (_("Nothing to compare yet: this volume has no {result} in the scene.").format(result=result),) * 2
    switch = _("Switch all slice views between the input and the {result}.")
    show = _("Show input, {result} and {beside} side by side in linked views; press again to return to your layout.")
    return switch.format(result=result), show.format(result=result, beside=beside)


def tellStrength(ui, taken, asked):
    """Say below the strength slider when it asks for more than the result was made with; `taken` None: no result."""
    more = taken is not None and asked > taken
    told = _("The result was made with strength {taken:g}: the views show up to that, Apply makes more.")
    ui.strengthNoteLabel.text = told.format(taken=taken) if more else ""
    ui.strengthNoteLabel.setVisible(more)


def choosesModel(task):
    """Whether the task works with a model that the user can choose."""
    return not set(_MODEL) <= set(_HIDDEN.get(task, ()))


def needsModel(wanted):
    """Whether the task cannot run with the model that is chosen now missing."""
    if wanted.task in analysing.ANY_MODEL:
        return bool(wanted.model)
    return wanted.task in ("denoise", "translate") or (wanted.task == "anomaly" and wanted.model not in ("", NO_MODEL))


_AUTOMATIC = {  # what the run chooses where the panel leaves it to it
    "features": _("Automatic takes the encoder of ct-denoise, for MRI too."),
    "explain": _("Automatic takes the anomaly model for MRI, the denoiser for CT."),
}


def automatic(wanted, bundle):
    """What an automatic choice of the model will lead to, where that is decided in the run; else empty."""
    if wanted.model == NO_MODEL and wanted.task == "anomaly":
        return _("The map shows brightness alone.")
    if wanted.model or wanted.inputVolume is None:
        return ""
    if wanted.task != "anomaly":
        return _AUTOMATIC.get(wanted.task, "")
    if bundle is None:
        return _(
            "No model was made for this kind of scan: the map shows brightness alone. Train a model, or choose one."
        )
    return _(
        "It is used where part of the body and tissue are as in its training; else the map shows brightness alone."
    )


def refusal(wanted):
    """Why the task cannot work on what is chosen, in one sentence; empty when it can."""
    if wanted.task not in TASKS:
        told = _("The scene asks for '{task}', which this version of MedAE does not know; choose another task.")
        return told.format(task=wanted.task)
    one = wanted.task == "compress" or wanted.task in analysing.TASKS
    return compressing.ONE_FRAME if one and sequences.isSequence(wanted.inputVolume) else analysing.refusal(wanted)


def modelChoices(task, pairs):
    """The pairs of the model box, with that for no model where a task can do without."""
    return [*pairs, (_("None (brightness alone)"), NO_MODEL)] if task == "anomaly" else pairs


def parametersOf(wanted, bundle):
    """The parameters of the run that the parameter node asks for."""
    if wanted.task == "compress":
        return compressing.parametersOf(wanted)
    common = {"device": wanted.device, "precision": wanted.precision, "tile": wanted.tile}
    if wanted.task in analysing.TASKS:
        model = models.parameter(bundle) if bundle is not None else wanted.model
        return analysing.parametersOf(wanted, {**common, "model": model})
    if wanted.task == "anomaly":
        # An automatic model is chosen in the run, which looks at the tissue and not at the kind of scan alone.
        model = models.parameter(bundle) if bundle is not None and wanted.model not in ("", NO_MODEL) else wanted.model
        return {
            **common, "model": model, "rate": wanted.falseAlarms / 100, "least_ml": wanted.leastVolume,
            "typical": wanted.makeTypical, "others": wanted.makeOthers, "steps": wanted.makeSteps,
            "calibration": SCAN if wanted.model == NO_MODEL else wanted.calibration,  # else no normal scans are known
        }  # fmt: skip
    return {
        **common, "model": models.parameter(bundle), "strength": wanted.strength, "removed": wanted.makeRemoved,
        "noise": wanted.makeNoise, "trust": wanted.makeTrust, "adapt": wanted.adaptSeconds if wanted.adapt else 0,
        "passes": wanted.passes,
    }  # fmt: skip


def outputsOf(wanted):
    """The wanted outputs: a node each, or None for a new one."""
    if wanted.task == "compress":
        return dict.fromkeys(("latent", "lost") if compressing.wantsLost(wanted) else ("latent",))
    if wanted.task in analysing.TASKS:
        return analysing.outputsOf(wanted)
    if wanted.task == "anomaly":
        return maps.outputsOf(wanted.makeTypical, wanted.makeOthers, wanted.makeSteps)
    chosen = {"denoised": wanted.denoisedVolume}
    if wanted.makeRemoved:
        chosen["removed"] = wanted.removedVolume
    if wanted.makeNoise:
        chosen["noise"] = wanted.noiseVolume
    return chosen
