"""The Train section of the panel: what to learn from and how, the curve while it learns, and the stop that keeps it."""

from pathlib import Path

from slicer.i18n import tr as _

from . import choices, models
from .goals import ModelTarget
from .learning import PRECISION
from .locations import modelsFolder
from .request import Request

VOLUME_ROLE = "MedAE.trainVolume"  # of the node references of the parameter node
SOURCES = [(_("Volumes of the scene"), "scene"), (_("A folder of files or DICOM"), "folder")]
GOALS = [
    (_("Remove noise, from good scans"), "denoise"),
    (_("Remove noise, from noisy scans alone"), "noise"),
    (_("Rebuild scans from short codes"), "reconstruct"),
    (_("Make one kind of scan of another"), "translate"),
    (_("Find what is unlike normal scans"), "anomaly"),
]
NETWORKS = {
    "plain": _("Plain"), "denoising": _("Denoising"), "sparse": _("Sparse"), "variational": _("Variational"),
    "quantised": _("Vector-quantised"), "conditional": _("Conditional on spacing"),
    "recurrent": _("Recurrent over slices"), "adversarial": _("Adversarial"), "dense": _("Fully connected"),
    "fusion": _("Fusion of kinds of scan"), "translating": _("Translating"),
    "normative": _("Normative"),
}  # fmt: skip
_OF_GOAL = {
    "denoise": ["denoising"],
    "noise": ["plain", "sparse", "variational"],
    "reconstruct": [
        "plain", "sparse", "variational", "quantised", "conditional", "recurrent", "adversarial", "dense", "fusion",
    ],
    "translate": ["translating", "fusion", "plain"],
    "anomaly": ["normative"],
}  # fmt: skip
DIMS = [("3D", 3), ("2D", 2)]
OBJECTIVES = [
    (_("As usual for the network"), ""),
    (_("Squared error and structure (SSIM)"), "mse=1,ssim=0.1"),
    (_("Absolute error"), "l1=1"),
    (_("Absolute error, smooth at 0 (Charbonnier)"), "charbonnier=1"),
    (_("Absolute error and edges"), "l1=1,gradient=0.5"),
    (_("Cross-entropy of intensities"), "cross_entropy=0.01"),
]
SIZES = [(_("Small"), "small"), (_("Medium"), "medium"), (_("Large"), "large")]


def networksFor(goal):
    """(label, value) pairs of the networks that can learn it."""
    return [(NETWORKS[name], name) for name in _OF_GOAL.get(goal, [])]


def dimsFor(network):
    """(label, value) pairs of what a network can see."""
    return {"normative": [(_("As the scans are"), 3)], "dense": DIMS[1:]}.get(network, DIMS)


def kindsOf(text):
    """The texts that tell kinds of scan, as the user writes them: with spaces, commas or both between them."""
    return list(dict.fromkeys(text.replace(",", " ").split()))


def volumesOf(parameterNode):
    """The volumes that were chosen to learn from and are in the scene."""
    count = parameterNode.GetNumberOfNodeReferences(VOLUME_ROLE)
    found = (parameterNode.GetNthNodeReference(VOLUME_ROLE, index) for index in range(count))
    return [node for node in found if node is not None]


def choose(parameterNode, node, chosen):
    """Choose a volume to learn from, or leave it out."""
    ids = [other.GetID() for other in volumesOf(parameterNode) if other is not node]
    ids += [node.GetID()] if chosen else []
    before = parameterNode.StartModify()
    parameterNode.RemoveNodeReferenceIDs(VOLUME_ROLE)
    for nodeID in ids:
        parameterNode.AddNodeReferenceID(VOLUME_ROLE, nodeID)
    parameterNode.EndModify(before)


def patientOf(node):
    """The patient that a volume is of in the subject hierarchy; empty when nobody knows."""
    import slicer

    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    patient = hierarchy.GetItemAncestorAtLevel(item, "Patient") if item else 0
    return f"{hierarchy.GetItemName(patient)} {patient}" if patient else ""


def subjectsIn(nodes):
    """How many people the volumes show: those of one patient one, each other one of its own."""
    return len({patientOf(node) or node.GetID() for node in nodes})


def request(name, parameters, volumes=()):
    """A training that leads to a model of that name; `parameters` are those of `MedAELib.tasks.run_train`."""
    inputs = {f"volume_{number}": node for number, node in enumerate(volumes)}
    told = {
        **parameters,
        "name": name,
        "names": {key: node.GetName() for key, node in inputs.items()},
        "subjects": {key: patientOf(node) for key, node in inputs.items() if patientOf(node)},
    }
    return Request(None, "train", told, inputs=inputs, goal=ModelTarget(name, str(modelsFolder())))


class TrainSection:
    """The widgets of the section; `panel` has the parameter node, the models, and is brought up to date by `update`."""

    def __init__(self, ui, panel):
        import ctk
        import slicer

        self._ui, self._panel = ui, panel
        scene = self._scene = slicer.mrmlScene
        self._observations = [
            scene.AddObserver(event, self._onScene)
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent)
        ]
        self._combos = {
            name: choices.Choices(box, lambda value, name=name: self._onChosen(name, value))
            for name, box in {
                "trainSource": ui.trainSourceComboBox, "trainGoal": ui.trainGoalComboBox,
                "trainNetwork": ui.trainNetworkComboBox, "trainDims": ui.trainDimsComboBox,
                "trainSize": ui.trainSizeComboBox, "trainStart": ui.trainStartComboBox,
                "trainObjective": ui.trainObjectiveComboBox,
            }.items()
        }  # fmt: skip
        ui.trainFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        ui.trainFolderEdit.connect("currentPathChanged(QString)", lambda path: self._onChosen("trainFolder", path))
        ui.trainVolumesList.connect("itemChanged(QListWidgetItem*)", self._onItem)
        ui.trainStopButton.connect("clicked(bool)", self._onStop)
        ui.trainShowButton.connect("clicked(bool)", self._onShow)
        ui.trainResumeButton.connect("clicked(bool)", self._onResume)
        ui.trainDropButton.connect("clicked(bool)", self._onDrop)
        self._interrupted = None  # the run that can go on
        self._items = []  # IDs of the volumes in the list
        self._busy = False

    def close(self):
        """Let go of the scene."""
        for observation in self._observations:
            self._scene.RemoveObserver(observation)
        self._observations = []

    # ---- showing ----

    def update(self):
        """Bring the section up to date; cheap while another task is shown."""
        wanted = self._panel.parameters
        if wanted.task != "train":
            return
        self._busy = True
        try:
            self._updateData(wanted)
            self._updateChoices(wanted)
            self.updateCurve()
            self._updateInterrupted()
        finally:
            self._busy = False

    def _updateData(self, wanted):
        ui, scene = self._ui, wanted.trainSource == "scene"
        self._combos["trainSource"].offer(SOURCES, wanted.trainSource)
        ui.trainVolumesList.setVisible(scene)
        ui.trainFolderEdit.setVisible(not scene)
        if not scene and ui.trainFolderEdit.currentPath != wanted.trainFolder:
            ui.trainFolderEdit.currentPath = wanted.trainFolder
        self._updateList(wanted)
        chosen = volumesOf(wanted.parameterNode)
        ui.trainDataLabel.text = _told(len(chosen), subjectsIn(chosen)) if scene else _("A folder is one subject.")
        ui.trainDataLabel.setVisible(bool(ui.trainDataLabel.text))

    def _updateList(self, wanted):
        """The volumes of the scene with their ticks."""
        import qt

        volumes = candidates()
        names = [(node.GetID(), node.GetName()) for node in volumes]
        view = self._ui.trainVolumesList
        if names != self._items:
            view.clear()
            for _nodeID, name in names:
                item = qt.QListWidgetItem(name)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsSelectable)
                item.setCheckState(qt.Qt.Unchecked)  # an item without any state shows no box to tick
                view.addItem(item)
            self._items = names
        chosen = {node.GetID() for node in volumesOf(wanted.parameterNode)}
        for row, (nodeID, _name) in enumerate(names):
            state = qt.Qt.Checked if nodeID in chosen else qt.Qt.Unchecked
            if view.item(row).checkState() != state:
                view.item(row).setCheckState(state)

    def _updateChoices(self, wanted):
        start = self._panel.models.anywhere(wanted.trainStart)
        self._combos["trainStart"].offer([(_("From scratch"), ""), *self._starts()], wanted.trainStart)
        goal, network, dims = wanted.trainGoal, wanted.trainNetwork, wanted.trainDims
        goal = goal if goal in _OF_GOAL else "denoise"  # a scene of a later version may want what is not known here
        offered = networksFor(goal)
        if network not in [value for _label, value in offered]:
            network = offered[0][1]
        if start is not None:  # the network is the model's
            goal = "denoise" if start.spec.network == "denoising" else "noise" if goal == "noise" else "reconstruct"
            network, dims = start.spec.network, start.spec.dims
            offered = [(NETWORKS.get(network, network), network)]
        if dims not in [value for _label, value in dimsFor(network)]:
            dims = dimsFor(network)[0][1]
        self._combos["trainGoal"].offer(GOALS, goal)
        self._combos["trainNetwork"].offer(offered, network)
        self._combos["trainDims"].offer(dimsFor(network), dims)
        self._combos["trainSize"].offer(SIZES, wanted.trainSize)
        free = start is None
        kinds, objective = goal == "translate" or network == "fusion", network not in ("denoising", "normative")
        for widget in (self._ui.trainKindsLabel, self._ui.trainKindsEdit):
            widget.setVisible(kinds)
        self._combos["trainObjective"].offer(OBJECTIVES if objective else OBJECTIVES[:1],
                                             wanted.trainObjective if objective else "")  # fmt: skip
        self._ui.trainObjectiveComboBox.enabled = objective
        self._ui.trainGoalComboBox.enabled = free or start.spec.network != "denoising"
        for box in (self._ui.trainNetworkComboBox, self._ui.trainDimsComboBox, self._ui.trainSizeComboBox):
            box.enabled = free and network != "normative"

    def _starts(self):
        known = [
            bundle for bundle in self._panel.models.everything()
            if bundle.spec.network in NETWORKS and bundle.spec.task not in ("translate", "anomaly")
        ]  # fmt: skip
        return [(models.label(bundle), models.parameter(bundle)) for bundle in known]

    def updateCurve(self):
        """Show how far the training has come."""
        ui, controller, learning = self._ui, self._panel.controller, self._panel.controller.learning
        running = controller.state == "running" and learning.active
        ui.trainStopButton.enabled = running and bool(learning.rows) and not learning.stopping
        ui.trainStopButton.text = _("Stopping…") if learning.stopping else _("Stop and keep the best")
        ui.trainShowButton.enabled = bool(learning.rows)
        ui.trainShowButton.checked = learning.shown
        ui.trainCurveLabel.text = curveText(learning)
        ui.trainCurveLabel.setVisible(bool(ui.trainCurveLabel.text))

    def _updateInterrupted(self):
        """Offer the oldest training that was interrupted, on one line."""
        from MedAELib.worker.live import reached
        from MedAELib.worker.runs import read_job

        found = self._panel.controller.interrupted()
        if (found[0] if found else None) != self._interrupted:
            self._interrupted = found[0] if found else None
            if found:
                name = (read_job(found[0]).origin.get("place") or {}).get("name", "model")
                step, steps = reached(found[0])
                told = _("Interrupted: {name}, after {step} of {steps} steps.")
                self._ui.trainResumeLabel.text = told.format(name=name, step=step, steps=steps)
        self._ui.trainResumeFrame.setVisible(bool(found))

    # ---- what is asked for ----

    def problem(self):
        """Why the training cannot start, in one sentence; empty when it can."""
        from MedAELib.bundle import is_name

        wanted = self._panel.parameters
        if wanted.trainSource == "folder":
            if not wanted.trainFolder or not Path(wanted.trainFolder).is_dir():
                return _("Choose the folder with the volumes to learn from.")
        elif not volumesOf(wanted.parameterNode):
            return _("Tick the volumes to learn from; three or more, so that some can be held out to measure on.")
        if wanted.trainStart and self._panel.models.anywhere(wanted.trainStart) is None:
            told = _("The model {name} cannot be used on this computer; choose another one to start from.")
            return told.format(name=wanted.trainStart)
        kinds, goal = kindsOf(wanted.trainKinds), self._combos["trainGoal"].value
        if goal == "translate" and len(kinds) < 2:
            return _("Say which kinds of scan, from source to target, such as T1 T2: texts in the volumes' names.")
        if goal == "translate" and len(kinds) > 2 and self._combos["trainNetwork"].value != "fusion":
            return _("Only the fusion network learns from more than two kinds of scan; name two, or choose it.")
        if goal == "anomaly" and wanted.trainSource == "scene" and subjectsIn(volumesOf(wanted.parameterNode)) < 2:
            return _("Tick scans of two subjects or more: maps are calibrated on others than are learned from.")
        if not is_name(wanted.trainName):
            return _("Give the model a name of letters, digits, '-', '_' and '.', at most 64.")
        return ""

    def request(self):
        """The training that the widgets ask for."""
        from MedAELib.library import free_name

        wanted = self._panel.parameters
        goal = self._combos["trainGoal"].value
        parameters = {
            "minutes": float(wanted.trainMinutes), "device": wanted.device, "start": wanted.trainStart,
            "learn_from": "blind-spot" if goal == "noise" else "clean",
        }  # fmt: skip
        kinds = kindsOf(wanted.trainKinds)
        if goal == "translate":
            parameters |= {"translate": [kinds[0], kinds[-1]], "modalities": kinds[1:-1]}
        elif self._combos["trainNetwork"].value == "fusion":
            parameters["modalities"] = kinds
        if self._ui.trainObjectiveComboBox.enabled:
            parameters["objective"] = wanted.trainObjective
        if goal == "anomaly":
            parameters["task"] = goal
        elif not wanted.trainStart:
            parameters["network"] = self._combos["trainNetwork"].value
            parameters |= {"dims": int(self._combos["trainDims"].value), "size": wanted.trainSize}
        volumes = volumesOf(wanted.parameterNode) if wanted.trainSource == "scene" else []
        if wanted.trainSource == "folder":
            parameters["folder"] = wanted.trainFolder
        return request(free_name(wanted.trainName, modelsFolder()), parameters, volumes)

    # ---- what the user does ----

    def _onChosen(self, name, value):
        if self._panel.parameters is not None and not self._busy:
            setattr(self._panel.parameters, name, value)

    def _onScene(self, caller=None, event=None):
        if self._panel.parameters is not None and self._panel.parameters.task == "train":
            self._panel.updateSoon()

    def _onItem(self, item):
        import qt
        import slicer

        if self._busy or self._panel.parameters is None:
            return
        nodeID, _name = self._items[self._ui.trainVolumesList.row(item)]
        node = slicer.mrmlScene.GetNodeByID(nodeID)
        if node is not None:
            choose(self._panel.parameters.parameterNode, node, item.checkState() == qt.Qt.Checked)
        self._panel.update()

    def _onStop(self, checked=False):
        self._panel.controller.learning.stopping = True
        self._panel.controller.finish()
        self._panel.update()

    def _onResume(self, checked=False):
        from MedAELib.worker.runs import read_job

        run, controller = self._interrupted, self._panel.controller

        def act():
            controller.resume(run)
            controller.learning.begin(controller.subject, read_job(run).parameters.get("task", ""))

        if run is not None:
            self._panel.attempt(act)

    def _onDrop(self, checked=False):
        if self._interrupted is not None:
            self._panel.controller.discard(self._interrupted)
        self._panel.update()

    def _onShow(self, checked=False):
        self._panel.controller.learning.show(self._ui.trainShowButton.checked)
        self._panel.update()


def candidates():
    """The volumes of the scene that one may learn from: scans, no results of MedAE."""
    import slicer

    from MedAELib import nodes

    found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    plain = (node for node in found if node.GetClassName() == "vtkMRMLScalarVolumeNode")
    return [node for node in plain if not node.GetHideFromEditors() and not nodes.provenance(node)]


def curveText(learning):
    """Where the training stands, in one line."""
    if not learning.rows:
        return ""
    step, loss, quality = learning.rows[-1]
    told = _("Step {step} of {steps}") if loss is None else _("Step {step} of {steps}, loss {loss:.3g}")
    where = told.format(step=step, steps=learning.steps, loss=loss)
    if quality is None:
        return _("{where}; nothing is held out, so nothing says how good it is.").format(where=where)
    bestStep, best = learning.best
    if learning.quality == PRECISION:
        told = _("{where}, average precision on held-out subjects {quality:.3f}; best {best:.3f} at step {step}.")
        return told.format(where=where, quality=quality, best=best, step=bestStep)
    told = _("{where}, held-out subjects {quality:.2f} dB; best {best:.2f} dB at step {step}.")
    return told.format(where=where, quality=quality, best=best, step=bestStep)


def _told(count, people):
    if not count:
        return ""
    one = _("1 volume of 1 subject.") if count == 1 else _("{count} volumes of 1 subject.")
    said = (one if people == 1 else _("{count} volumes of {people} subjects.")).format(count=count, people=people)
    if people == 1:
        return said + " " + _("Nothing can be held out: no figure will say how good the model is.")
    if people == 2:
        return said + " " + _("One subject decides when to stop and is measured on.")
    kept = _("{fifth} kept aside to decide when to stop, and {fifth} to measure on.")
    return said + " " + kept.format(fifth=max(1, round(people / 5)))
