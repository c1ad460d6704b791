"""Opens .maez files by drag and drop, and offers them in Save: Slicer's plugins for reading and writing files.

Opening takes a moment whatever the size: the file comes into the scene as a compressed volume, and the worker decodes
it while Slicer goes on. Saving a volume compresses it losslessly in the worker, behind a dialog with Cancel.
"""

import logging

from slicer.i18n import tr as _

FILE_TYPE = "MedAECompressedVolume"
DESCRIPTION = _("Compressed volume (MedAE)")
FILTER = _("Compressed volume") + " (*.maez)"
_MAGIC = b"\x8bMAEZ"
_LOOK_MS = 50  # how often the dialog looks at the run, and at its Cancel button


class _Plugin:
    """What the reader and the writer both tell Slicer of the kind of file."""

    def __init__(self, parent):
        self.parent = parent

    def description(self):
        """What the user reads in Add Data and in Save."""
        return DESCRIPTION

    def fileType(self):
        """The name of the kind of file, for scripts."""
        return FILE_TYPE


class FileReader(_Plugin):
    """Slicer calls it for each file that is opened."""

    def __init__(self, parent):
        from . import latents

        super().__init__(parent)
        latents.watch()  # Slicer makes the reader when it starts: from then on compressed volumes are kept whole

    def extensions(self):
        """The name filters."""
        return [FILTER]

    def canLoadFileConfidence(self, path):
        """High for a file that begins as one of ours, low for one that has only the name."""
        if not str(path).lower().endswith(".maez"):
            return 0.0
        try:
            with open(path, "rb") as file:
                return 0.9 if file.read(len(_MAGIC)) == _MAGIC else 0.2
        except OSError:
            return 0.0

    def canLoadFile(self, path):
        """The same as a yes or no, for older versions of Slicer."""
        return self.canLoadFileConfidence(path) > 0

    def load(self, properties):
        """Bring the file into the scene and have it decoded; why that cannot be done is a warning to the user."""
        import vtk

        from MedAELib.errors import MedAEError

        from . import faults, latents, shared

        try:
            latent = latents.read(properties["fileName"])
        except (MedAEError, OSError, MemoryError) as error:
            return _refuse(self.parent, error)
        if properties.get("name"):
            latent.SetName(properties["name"])
        self.parent.loadedNodes = [latent.GetID()]
        if properties.get("decode", True):
            try:
                shared.controller().decoding.add(latent)
            except MedAEError as error:
                self.parent.userMessages().AddMessage(vtk.vtkCommand.WarningEvent, faults.sentences(error))
        return True


class FileWriter(_Plugin):
    """Slicer calls it for each node that is saved as .maez."""

    def extensions(self, node):
        """The name filters."""
        return [FILTER]

    def canWriteObjectConfidence(self, node):
        """First choice for a compressed volume, one among others for a volume."""
        from . import latents

        if latents.isLatent(node):
            return 0.9
        return 0.3 if node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode" else 0.0

    def canWriteObject(self, node):
        """The same as a yes or no, for older versions of Slicer."""
        return self.canWriteObjectConfidence(node) > 0

    def write(self, properties):
        """Write the file, wholly or not at all."""
        import slicer

        from MedAELib.errors import MedAEError

        from . import latents

        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        try:
            if latents.isLatent(node):
                latents.write(node, properties["fileName"])
            elif not _compressTo(node, properties["fileName"]):
                return False
        except (MedAEError, OSError, MemoryError) as error:
            return _refuse(self.parent, error)
        self.parent.writtenNodes = [node.GetID()]
        return True


def _compressTo(node, path):
    """Compress a volume losslessly into a file, with a dialog that can cancel; False when it was."""
    import slicer

    from . import compressing, latents, shared
    from .request import Request

    controller = shared.controller()
    window, level = compressing.shownWindow(node)
    wish = {"mode": "lossless", "value": 0.0, "lost": False, "window": window, "level": level}
    controller.apply(Request(node, "compress", wish, {latents.OUTPUT: None}))
    if slicer.app.testingEnabled():  # no dialogs in tests
        controller.wait()
    else:
        _waitBehindDialog(controller)
    if controller.state == "failed":
        raise controller.failure
    made = controller.results.get(latents.OUTPUT)
    if made is None:
        return False
    try:
        latents.write(made, path)
    finally:
        slicer.mrmlScene.RemoveNode(made)
    return True


def _waitBehindDialog(controller):
    """Wait for the end of a run while Slicer goes on, behind a dialog whose Cancel ends the run."""
    import qt
    import slicer

    loop = qt.QEventLoop()
    dialog = slicer.util.createProgressDialog(labelText=_("Compressing without loss"), maximum=1000)
    dialog.hide()  # it comes without being modal, which can only be changed while it is not shown
    dialog.setWindowModality(qt.Qt.ApplicationModal)
    dialog.show()

    def look():
        if not controller.busy:
            loop.quit()
        elif dialog.wasCanceled:
            controller.cancel()
        else:
            dialog.value = int(999 * controller.fraction)

    timer = qt.QTimer()
    timer.setInterval(_LOOK_MS)
    timer.timeout.connect(look)
    timer.start()
    try:
        loop.exec_()
    finally:
        timer.stop()
        dialog.close()
        dialog.deleteLater()


def _refuse(parent, error):
    """Tell the user, in Slicer's own window, why a file was not read or written."""
    import vtk

    from . import faults

    text = faults.sentences(faults.plain(error))
    logging.error("MedAE: %s", text)
    parent.userMessages().AddMessage(vtk.vtkCommand.ErrorEvent, text)
    return False
