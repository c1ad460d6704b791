"""Which kind of scan the input is, what is made of it, and further scans that a model can fuse: in Translate, Explain
and Features."""

from slicer.i18n import tr as _

from . import choices

TASKS = ("translate", "explain", "features")
ROLE = "MedAE.translateWith."  # of the node references of the parameter node; the kind follows


def kindsOf(bundle, task):
    """The kinds of scan that can be chosen among, by name; none where the model sees one kind only."""
    from MedAELib.channels import fused_names

    if bundle is None or task not in TASKS or (task == "explain" and bundle.spec.task == "translate"):
        return []
    return list(fused_names(bundle.spec))


def directionOf(wanted, kinds):
    """The kinds from which and to which, as chosen; else by the name of the volume, and the last of the others.

    The second is empty for tasks that make none.
    """
    from MedAELib.naming import told_kind

    name = wanted.inputVolume.GetName() or "" if wanted.inputVolume is not None else ""
    likely = told_kind(name, kinds) or kinds[0]
    source = wanted.translateSource if wanted.translateSource in kinds else likely
    target = wanted.translateTarget
    if wanted.task != "translate":
        return source, ""
    return source, target if target in kinds else ([kind for kind in kinds if kind != source] or kinds)[-1]


def furtherScan(parameterNode, kind):
    """The further scan of a kind that was chosen and is in the scene, else None."""
    return parameterNode.GetNodeReference(_role(kind))


def chooseFurther(parameterNode, kind, node):
    """Choose a further scan of a kind, or none."""
    parameterNode.SetNodeReferenceID(_role(kind), node.GetID() if node is not None else None)


def _role(kind):
    """A role that the scene's file can hold, whatever the kind is called."""
    return ROLE + kind.encode().hex()


class Translating:
    """The widgets of the task in Analyse.ui; `panel` has the parameter node and the model."""

    def __init__(self, ui, panel):
        self._ui, self._panel, self._busy = ui, panel, False
        self._rows, self._kinds = [], []  # (label, selector), and which kind of scan each row is for; None: hidden
        self._combos = {
            name: choices.Choices(box, lambda value, name=name: self._onChosen(name, value))
            for name, box in {
                "translateSource": ui.translateSourceComboBox, "translateTarget": ui.translateTargetComboBox,
            }.items()
        }  # fmt: skip

    def update(self):
        """Bring the widgets up to date with the parameter node and the model."""
        wanted, bundle = self._panel.parameters, self._panel.bundle
        kinds = kindsOf(bundle, wanted.task)
        self._ui.translateFrame.setVisible(bool(kinds))
        if not kinds:
            return
        for widget in (self._ui.translateTargetLabel, self._ui.translateTargetComboBox):
            widget.setVisible(wanted.task == "translate")
        self._busy = True
        try:
            source, target = directionOf(wanted, kinds)
            for name, value in (("translateSource", source), ("translateTarget", target)):
                if value:
                    self._combos[name].offer([(kind, kind) for kind in kinds], value)
            self._updateRows([kind for kind in kinds if kind not in (source, target)])
        finally:
            self._busy = False

    def _updateRows(self, kinds):
        """A row for each kind that may be given besides; rows are kept and hidden, for Qt deletes widgets later."""
        while len(self._rows) < len(kinds):
            self._addRow()
        for number, (label, selector) in enumerate(self._rows):
            kind = kinds[number] if number < len(kinds) else None
            label.setVisible(kind is not None)
            selector.setVisible(kind is not None)
            self._kinds[number] = kind
            if kind is not None:
                label.text = f"{kind}:"
                selector.setCurrentNode(furtherScan(self._panel.parameters.parameterNode, kind))

    def _addRow(self):
        import qt
        import slicer

        label, selector = qt.QLabel(), slicer.qMRMLNodeComboBox()
        label.toolTip = selector.toolTip = _(
            "A scan of this kind of the same place, registered to the input; the model does without it where there is"
            " none. One with other voxels is resampled."
        )
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.noneEnabled, selector.addEnabled, selector.removeEnabled = True, False, False
        selector.noneDisplay = _("None: it is missing")
        selector.setMRMLScene(slicer.mrmlScene)
        number = len(self._rows)
        selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._onFurther(number, node))
        self._ui.translateFrame.layout().addRow(label, selector)
        self._rows.append((label, selector))
        self._kinds.append(None)

    # ---- what is asked for ----

    def problem(self):
        """Why the task cannot start, in one sentence; empty when it can."""
        wanted, bundle = self._panel.parameters, self._panel.bundle
        if wanted.task not in TASKS or bundle is None:
            return ""
        kinds = kindsOf(bundle, wanted.task)
        if wanted.task == "translate" and wanted.makeUncertainty and bundle.spec.network != "ensemble":
            return _("The model is no ensemble, so it cannot tell how sure it is; leave the uncertainty out.")
        if not kinds:
            return ""
        source, target = directionOf(wanted, kinds)
        if source == target:
            told = _("The scan is {kind} already; choose another kind to make, or another kind that it is.")
            return told.format(kind=source)
        scans = [wanted.inputVolume, *self._further().values()]
        if len({node.GetID() for node in scans if node is not None}) < len(scans):
            return _("One scan is chosen as two kinds; choose another one for one of them, or none.")
        return ""

    def parameters(self):
        """What the run needs besides the common parameters of the task."""
        wanted = self._panel.parameters
        kinds = kindsOf(self._panel.bundle, wanted.task)
        if not kinds:
            return {}
        source, target = directionOf(wanted, kinds)
        chosen = {"source": source, "target": target} if target else {"modality": source}
        return {**chosen, "others": dict(zip(self._names(), self._further()))}

    def inputs(self):
        """The further scans that the run reads, by the names of the inputs."""
        return dict(zip(self._names(), self._further().values()))

    def endings(self):
        """How the outputs of the further scans end that are made besides those of the input."""
        return list(self.scans())

    def scans(self):
        """The further scans that have results of their own, by how the names of these end."""
        from MedAELib.explain.names import endings

        wanted = self._panel.parameters
        if wanted.task != "explain":
            return {}
        ends = endings(kindsOf(self._panel.bundle, wanted.task))
        return {ends[kind]: node for kind, node in self._further().items()}

    def _names(self):
        """What the inputs of the further scans are called in the run."""
        return [f"with_{number}" for number in range(len(self._further()))]

    def _further(self):
        """The further scans that were chosen, by their kind."""
        wanted = self._panel.parameters
        kinds = kindsOf(self._panel.bundle, wanted.task)
        found = {kind: furtherScan(wanted.parameterNode, kind) for kind in kinds}
        used = directionOf(wanted, kinds) if kinds else ()
        return {kind: node for kind, node in found.items() if node is not None and kind not in used}

    # ---- what the user does ----

    def _onChosen(self, name, value):
        if self._panel.parameters is not None and not self._busy:
            setattr(self._panel.parameters, name, value)

    def _onFurther(self, number, node):
        kind = self._kinds[number]
        if self._panel.parameters is not None and not self._busy and kind is not None:
            chooseFurther(self._panel.parameters.parameterNode, kind, node)
            self._panel.update()
