"""The section of the user's own models: a list with their sizes, import, export (ONNX too), another name, removal."""

from pathlib import Path

from slicer.i18n import tr as _

from MedAELib.errors import MedAEError

from . import faults
from .goals import FileTarget
from .locations import chooseModelsFolder, modelsFolder
from .request import Request

ONNX_PACKAGES = ("onnx", "onnxscript")  # which nothing else of MedAE needs


class ModelManager:
    """The widgets of the section; `panel` shows faults and is brought up to date after each change."""

    def __init__(self, ui, panel):
        import ctk

        self._ui, self._panel = ui, panel
        self._shown, self._busy = None, False
        self._bundles = []
        ui.ownModelsFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        ui.ownModelsFolderEdit.connect("currentPathChanged(QString)", self._onFolder)
        ui.ownModelsList.connect("itemChanged(QListWidgetItem*)", self._onRenamed)
        ui.ownModelsList.connect("currentRowChanged(int)", self._onRow)
        ui.importFolderButton.connect("clicked(bool)", self._onImportFolder)
        ui.importFileButton.connect("clicked(bool)", self._onImportFile)
        ui.exportModelButton.connect("clicked(bool)", self._onExport)
        ui.exportOnnxButton.connect("clicked(bool)", self._onExportOnnx)
        ui.removeModelButton.connect("clicked(bool)", lambda checked=False: self._ask(True))
        ui.removeNoButton.connect("clicked(bool)", lambda checked=False: self._ask(False))
        ui.removeYesButton.connect("clicked(bool)", self._onRemove)
        ui.ownModelsCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self._ask(False))
        self._ask(False)

    def update(self):
        """Show the models that are there now."""
        from MedAELib.library import disk_use, is_own

        folder = modelsFolder()
        self._bundles = [bundle for bundle in self._panel.models.everything() if is_own(bundle, folder)]
        shown = (str(folder), [(bundle.name, bundle.sha256) for bundle in self._bundles])
        if shown == self._shown:
            self._enable()
            return
        self._shown, self._busy = shown, True
        try:
            self._fill([disk_use(bundle.folder) for bundle in self._bundles], folder)
        finally:
            self._busy = False
        self._ask(False)

    def _fill(self, sizes, folder):
        import qt

        view = self._ui.ownModelsList
        view.clear()
        for bundle, size in zip(self._bundles, sizes):
            item = qt.QListWidgetItem(bundle.name)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEditable)
            item.setToolTip(f"{bundle.description}\n{bundle.spec.network}, {bundle.spec.dims}D, {_size(size)}")
            view.addItem(item)
        self._ui.ownModelsLabel.text = _total(sizes)
        if self._ui.ownModelsFolderEdit.currentPath != str(folder):
            self._ui.ownModelsFolderEdit.currentPath = str(folder)
        self._onRow()

    @property
    def chosen(self):
        """The model that is selected in the list, or None."""
        row = self._ui.ownModelsList.currentRow
        return self._bundles[row] if 0 <= row < len(self._bundles) else None

    def _enable(self):
        """Only what can be done now: the worker, which writes ONNX files, does one thing at a time."""
        ui, chosen = self._ui, self.chosen is not None
        ui.exportModelButton.enabled = ui.removeModelButton.enabled = chosen
        ui.exportOnnxButton.enabled = chosen and not self._panel.controller.busy

    def _onRow(self, row=-1):
        self._enable()
        if not self._busy:
            self._ask(False)

    def _ask(self, on):
        """Ask whether the chosen model shall really go; nothing is deleted before the answer."""
        from MedAELib.library import disk_use

        bundle = self.chosen if on else None
        if bundle is not None:
            self._ui.removeLabel.text = _("Delete {name} ({size}) for good?").format(
                name=bundle.name, size=_size(disk_use(bundle.folder))
            )
        self._ui.removeFrame.setVisible(bundle is not None)

    # ---- what the user does ----

    def _do(self, act, said):
        """Do something with a model and say so, or what is wrong."""
        try:
            done = act()
            self._panel.runView.say(said(done))
        except MedAEError as error:
            self._panel.runView.say(faults.sentences(error))
        except Exception as error:
            self._panel.runView.say(faults.sentences(faults.plain(error)))
        self._shown = None
        self._panel.update()

    def _import(self, source):
        from MedAELib.library import import_model

        if source:
            said = _("{name} is imported.")
            self._do(lambda: import_model(Path(source), modelsFolder()), lambda made: said.format(name=made.name))

    def _onImportFolder(self, checked=False):
        import qt

        self._import(qt.QFileDialog.getExistingDirectory(self._ui.importFolderButton, _("Model folder")))

    def _onImportFile(self, checked=False):
        import qt

        self._import(_path(qt.QFileDialog.getOpenFileName(self._ui.importFileButton, _("Model"), "", "Zip (*.zip)")))

    def _exported(self, button, ending, kind):
        """The chosen model, and the file of that ending that the user names for it; "" for none."""
        import qt

        bundle = self.chosen
        if bundle is None:
            return None, ""
        wish = f"{bundle.name}{ending}"
        target = _path(qt.QFileDialog.getSaveFileName(button, _("Export"), wish, f"{kind} (*{ending})"))
        return bundle, target + ending if target and not target.lower().endswith(ending) else target

    def _onExport(self, checked=False):
        from MedAELib.library import export_model

        bundle, path = self._exported(self._ui.exportModelButton, ".zip", "Zip")
        if path:
            said = _("{name} is exported to {path}.")
            self._do(
                lambda: export_model(bundle, Path(path)), lambda made: said.format(name=bundle.name, path=made)
            )

    def _onExportOnnx(self, checked=False):
        """Let the worker write the network; torch is needed, and never comes into Slicer."""
        bundle, path = self._exported(self._ui.exportOnnxButton, ".onnx", "ONNX")
        if path:
            wish = {"model": str(bundle.folder)}
            goal = FileTarget(bundle.name, path)
            self._panel.start(lambda: Request(None, "onnx", wish, inputs={}, goal=goal), ONNX_PACKAGES)

    def _onRenamed(self, item):
        from MedAELib.library import rename_model

        row = self._ui.ownModelsList.row(item)
        if self._busy or not 0 <= row < len(self._bundles):
            return
        bundle, name = self._bundles[row], item.text().strip()
        if name == bundle.name:
            return

        def rename():
            made = rename_model(bundle, name, modelsFolder())
            self._panel.renamed(str(bundle.folder), str(made.folder))
            return made

        self._do(rename, lambda made: _("{before} is now {after}.").format(before=bundle.name, after=made.name))

    def _onRemove(self, checked=False):
        from MedAELib.library import remove_model

        bundle = self.chosen
        if bundle is not None:
            said = _("{name} is removed.").format(name=bundle.name)
            self._do(lambda: remove_model(bundle, modelsFolder()), lambda done: said)

    def _onFolder(self, folder):
        if not self._busy and folder != str(modelsFolder()) and (not folder or Path(folder).is_dir()):
            chooseModelsFolder(folder)
            self._panel.update()


def _total(sizes):
    """How many models of one's own there are, and how much room they take."""
    if not sizes:
        return _("None yet: train one, or import one.")
    told = _("1 model, {size}.") if len(sizes) == 1 else _("{count} models, {size}.")
    return told.format(count=len(sizes), size=_size(sum(sizes)))


def _size(size):
    return f"{size / 1e6:.1f} MB"


def _path(answer):
    """What a file dialog gave: a path, or in other versions of Qt a path with its filter."""
    return answer[0] if isinstance(answer, (tuple, list)) else answer
