"""What each task needs from the panel: its parameters, its outputs, and the widgets that belong to it."""

from MedAELib.tasks import TASKS

from . import analysing, compressing, models, sequences

NO_MODEL = "none"  # of the anomaly task: brightness alone
_WIDGETS = {  # sections with a file of their own are hidden as a whole: an empty one would leave a gap
    "denoise": (
        "outputsCollapsibleButton", "adaptCheckBox", "adaptSpinBox", "previewCheckBox", "trustCollapsibleButton",
    ),
    "anomaly": ("Anomaly",),
    "compress": ("Compress",),
    "train": ("Train",),
}  # fmt: skip
_MODEL = ("modelComboLabel", "modelComboBox", "modelFolderButton", "cardCollapsibleButton")
_NETWORK = ("precisionLabel", "precisionComboBox", "tileLabel", "tileSpinBox")
# What a task lets compare with the input: the outputs that are shown as result and beside it, and how they are called.
COMPARED = {
    "denoise": (("denoised", "removed"), ("denoised volume", "removed noise")),
    "anomaly": (("typical", "residual"), ("nearest typical scan", "difference from it")),
    "compress": (("decoded", "lost"), ("decoded volume", "what was lost")),
    "explain": (("typical", "residual_1_7mm"), ("nearest typical scan", "difference from it at 1.7 mm")),
    "translate": (("translated", "uncertainty"), ("translated scan", "its uncertainty")),
}
_HIDDEN = {
    "features": ("compareCollapsibleButton",),  # makes a table
    "train": ("inputsCollapsibleButton", "compareCollapsibleButton", *_MODEL, *_NETWORK),  # no volume; makes its model
    "compress": (*_MODEL, *_NETWORK),  # the codec has one model, and its files name it
}


def showFor(ui, wanted):
    """Show the widgets of the task and hide those of the others."""
    task = wanted.task
    for name, widgets in _WIDGETS.items():
        for widget in widgets:
            getattr(ui, widget).setVisible(name == task)
    analysing.showFor(ui, task, wanted.featuresPer == "segment")
    for widget in {name for names in _HIDDEN.values() for name in names}:
        getattr(ui, widget).setVisible(widget not in _HIDDEN.get(task, ()))


def tellCompared(ui, task):
    """Let headings and tooltips under 'Compare' say what the task lets compare."""
    (name, _beside), (result, beside) = COMPARED[task]
    ui.probeOutputHeading.text = name.capitalize()
    for widget in (ui.probeOutputHeading, ui.probeOutputLabel):
        widget.toolTip = f"Value of the {result} there."
    for widget in (ui.probeDifferenceHeading, ui.probeDifferenceLabel):
        widget.toolTip = f"Input minus {result} there."
        widget.setVisible(task != "translate")  # intensities of two kinds of scan have no difference
    return (
        f"Switch all slice views between the input and the {result}.",
        f"Show input, {result} and {beside} side by side in linked views; press again to return to your layout.",
    )


def needsModel(wanted):
    """Whether the task cannot run with the model that is chosen now missing."""
    return wanted.task in ("denoise", "translate") or (wanted.task == "anomaly" and wanted.model not in ("", NO_MODEL))


_AUTOMATIC = {  # what the run chooses where the panel leaves it to it
    "features": "Automatic takes the encoder of ct-denoise, for MRI too.",
    "explain": "Automatic takes the anomaly model for MRI, the denoiser for CT.",
}


def automatic(wanted, bundle):
    """What an automatic choice of the model will lead to, where that is decided in the run; else empty."""
    if wanted.model == NO_MODEL and wanted.task == "anomaly":
        return "The map shows brightness alone."
    if wanted.model or wanted.inputVolume is None:
        return ""
    if wanted.task != "anomaly":
        return _AUTOMATIC.get(wanted.task, "")
    if bundle is None:
        return "No model was made for this kind of scan: the map shows brightness alone. Train a model, or choose one."
    return "It is used where the brain looks like those it was trained on; else the map shows brightness alone."


def refusal(wanted):
    """Why the task cannot work on what is chosen, in one sentence; empty when it can."""
    if wanted.task not in TASKS:
        return f"The scene asks for '{wanted.task}', which this version of MedAE does not know; choose another task."
    one = wanted.task == "compress" or wanted.task in analysing.TASKS
    return compressing.ONE_FRAME if one and sequences.isSequence(wanted.inputVolume) else analysing.refusal(wanted)


def modelChoices(task, pairs):
    """The pairs of the model box, with that for no model where a task can do without."""
    return [*pairs, ("None (brightness alone)", NO_MODEL)] if task == "anomaly" else pairs


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
            "typical": wanted.makeTypical,
        }  # fmt: skip
    return {
        **common, "model": models.parameter(bundle), "strength": wanted.strength, "removed": wanted.makeRemoved,
        "noise": wanted.makeNoise, "trust": wanted.makeTrust, "adapt": wanted.adaptSeconds if wanted.adapt else 0,
    }  # fmt: skip


def outputsOf(wanted):
    """The wanted outputs: a node each, or None for a new one."""
    if wanted.task == "compress":
        return dict.fromkeys(("latent", "lost") if compressing.wantsLost(wanted) else ("latent",))
    if wanted.task in analysing.TASKS:
        return analysing.outputsOf(wanted)
    if wanted.task == "anomaly":
        names = ("anomaly", "regions", "typical", "residual") if wanted.makeTypical else ("anomaly", "regions")
        return dict.fromkeys(names)
    chosen = {"denoised": wanted.denoisedVolume}
    if wanted.makeRemoved:
        chosen["removed"] = wanted.removedVolume
    if wanted.makeNoise:
        chosen["noise"] = wanted.noiseVolume
    return chosen
