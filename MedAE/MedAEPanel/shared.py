"""The one run controller of this Slicer, which panels and scripts share and which outlives a reload of the module."""

from .controller import RunController
from .decoding import Decoding
from .learning import Learning
from .locations import writableRunsFolder
from .preview import Preview

_ATTRIBUTE = "MedAERunController"  # of slicer.modules, which lives as long as Slicer


def controller():
    """The controller, made on first use. After a reload it is a new one, unless the old one is at work."""
    import slicer

    found = getattr(slicer.modules, _ATTRIBUTE, None)
    if found is not None and not found.closed and (type(found) is RunController or found.busy):
        return found
    if found is not None:
        found.close()
    return replace(RunController(writableRunsFolder()))


def replace(newController):
    """Let everybody use another controller, with all that belongs to it; the one before, if any, is left as it is."""
    import slicer

    newController.preview = Preview(newController)
    newController.learning = Learning(newController)
    newController.decoding = Decoding(newController)
    setattr(slicer.modules, _ATTRIBUTE, newController)
    return newController
