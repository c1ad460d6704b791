"""The Compress section of the panel: the promise, the compressed volume that is chosen with its figures, Decode."""

from slicer.i18n import tr as _

from . import latents
from .request import Request
from .target import NodeReference

PROMISES = [
    (_("Lossless (bit for bit)"), "lossless"),
    (_("Largest error of a voxel"), "max-error"),
    (_("Quality (PSNR)"), "psnr"),
    (_("Size (how many times smaller)"), "ratio"),
]
ONE_FRAME = _("A sequence cannot be compressed as a whole; choose the volume that its browser shows, one frame of it.")
_PARAMETERS = {"max-error": "largestError", "psnr": "decibels", "ratio": "timesSmaller"}
WARNING_STYLE = "background-color: #fff3cd; color: #664d03; border: 1px solid #ffe69c; border-radius: 3px;"


def parametersOf(wanted):
    """The parameters of the run that the parameter node asks for."""
    window, level = shownWindow(wanted.inputVolume)
    name = _PARAMETERS.get(wanted.promise)
    value = float(getattr(wanted, name)) if name else 0.0
    return {"mode": wanted.promise, "value": value, "lost": wantsLost(wanted), "window": window, "level": level}


def wantsLost(wanted):
    """Whether the difference is made: without loss there is none, and an empty volume would only be in the way."""
    return wanted.makeLost and wanted.promise != "lossless"


def shownWindow(node):
    """Window and level in which a volume is shown; 0, 0 when it is not."""
    display = node.GetDisplayNode()
    shown = display is not None and display.IsA("vtkMRMLScalarVolumeDisplayNode")
    return (float(display.GetWindow()), float(display.GetLevel())) if shown else (0.0, 0.0)


def decodeRequest(latent):
    """The run that decodes a compressed volume beside its input."""
    return Request(latent, "decompress", {}, {"decoded": None})


class Compressing:
    """The widgets of Compress.ui; `panel` gives parameters, facts on the input, and the line where faults are told."""

    def __init__(self, panel):
        self._panel, ui = panel, panel.ui
        self._selected, self._before = "", None  # what was selected by itself, and what was before
        ui.latentSelector.addAttribute("vtkMRMLTextNode", "MedAE.output", latents.OUTPUT)
        ui.guidanceLabel.styleSheet = WARNING_STYLE
        ui.decodeButton.connect("clicked(bool)", self.decode)
        self._boxes = {
            "max-error": (ui.largestErrorLabel, ui.largestErrorSpinBox),
            "psnr": (ui.decibelsLabel, ui.decibelsSpinBox),
            "ratio": (ui.timesSmallerLabel, ui.timesSmallerSpinBox),
        }

    def update(self):
        """Bring the section up to date."""
        wanted, ui, controller = self._panel.parameters, self._panel.ui, self._panel.controller
        for promise, widgets in self._boxes.items():
            for widget in widgets:
                widget.setVisible(promise == wanted.promise)
        ui.lostCheckBox.enabled = wanted.promise != "lossless"
        volume = self._panel.facts.volume
        isCT = volume is not None and volume.meta.get("modality") == "CT"
        ui.largestErrorSpinBox.suffix = " HU" if isCT else ""
        mine = controller.results.get(latents.OUTPUT)
        if controller.state == "done" and mine is not None and mine is not wanted.latent and self._new(mine):
            self._before = None if wanted.latent is None else NodeReference(wanted.latent)
            wanted.latent = mine
        elif wanted.latent is None and self._before is not None and self._gone():
            wanted.latent = self._before.node()  # saving a volume as .maez makes another one for a moment
        latent = wanted.latent
        ui.latentLabel.text = latents.figuresHtml(latent) if latent is not None else _("None yet: press Apply.")
        ui.decodeButton.enabled = latent is not None and not controller.busy
        warning = self._warning(wanted, latent, volume)
        ui.guidanceLabel.text = warning
        ui.guidanceLabel.setVisible(bool(warning))

    def _new(self, node):
        """Whether this result has not been selected before: the user may choose another one after it."""
        new = node.GetID() != self._selected
        self._selected = node.GetID()
        return new

    def _gone(self):
        """Whether what was selected by itself has left the scene, as the user has not chosen anything else."""
        import slicer

        return bool(self._selected) and slicer.mrmlScene.GetNodeByID(self._selected) is None

    def _warning(self, wanted, latent, volume):
        """What the guidance has against the compressed volume, or else against the size that is asked for."""
        from MedAELib.codec.guidance import guidance

        told = latents.warningOf(latent) if latent is not None else ""
        made = latent is not None and latents.modeOf(latent) == {"kind": "ratio", "times": wanted.timesSmaller}
        if wanted.promise == "ratio" and volume is not None and not made:
            asked = wanted.timesSmaller * 16 / (8 * volume.array.dtype.itemsize)  # the guidance counts from 16 bits
            told = guidance(volume.meta.get("modality", ""), asked) or told
        return told

    def decode(self, checked=False):
        """Decode the chosen compressed volume; what is wrong is said in the panel."""
        latent = self._panel.parameters.latent
        if latent is not None:
            self._panel.start(lambda: decodeRequest(latent))
