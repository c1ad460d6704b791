"""Connects the widgets of MedAE.ui with the parameter node, the run controller and the views."""

from slicer.i18n import tr as _

from MedAELib import nodes
from MedAELib.errors import MedAEError
from MedAELib.tasks import TASKS

from . import analysing, choices, faults, install, models, options, sequences, trust
from . import card as modelCard
from .comparing import Comparing
from .compressing import PROMISES, WARNING_STYLE, Compressing
from .inputs import InputFacts
from .manager import ModelManager
from .probe import Probe
from .request import Request
from .running import RunView
from .similar import Similar
from .target import NO_FRAMES, PER_FRAME
from .training import TrainSection
from .translating import Translating
from .traversal import Traversal

_WHEEL_FOLDER = "MedAE/WheelFolder"  # in Slicer's settings: it belongs to the computer, not to the scene


class Panel:
    """Everything that the panel shows and does; `parameters` is the parameter node, None while there is none."""

    def __init__(self, ui, controller):
        import ctk
        import qt

        self.ui, self.controller, self.parameters = ui, controller, None
        self.models, self.facts = models.Models(controller.say), InputFacts()
        self.compressing = Compressing(self)
        self.similar = Similar(ui, lambda text: self.runView.say(text))
        self.traversal, self.translating = Traversal(ui, self), Translating(ui, self)
        self.probe = Probe(ui.probeInputLabel, ui.probeOutputLabel, ui.probeDifferenceLabel)
        self.comparing = Comparing(ui, self)
        self._updating = False
        self._watched = None  # (input node, observer tag)
        self._later = qt.QTimer()  # one look at the input after many changes of it
        self._later.setSingleShot(True)
        self._later.setInterval(300)
        self._later.timeout.connect(self.update)
        self._bundle, self._card, self._trust = None, "", ""
        self._combos = {
            name: choices.Choices(box, lambda value, name=name: self._onChosen(name, value))
            for name, box in {
                "task": ui.taskComboBox,
                "model": ui.modelComboBox,
                "device": ui.deviceComboBox,
                "precision": ui.precisionComboBox,
                "passes": ui.passesComboBox,
                "calibration": ui.calibrationComboBox,
                "promise": ui.promiseComboBox,
                "featuresPer": ui.featuresPerComboBox,
            }.items()
        }
        ui.warningLabel.styleSheet = WARNING_STYLE
        ui.wheelFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        ui.wheelFolderEdit.currentPath = self._settings().value(_WHEEL_FOLDER) or ""
        ui.wheelFolderEdit.connect("currentPathChanged(QString)", self._onWheelFolder)
        ui.knownCasesEdit.connect("currentPathChanged(QString)", lambda path: self._onChosen("knownCases", path))
        ui.applyButton.connect("clicked(bool)", self.apply)
        for section in (ui.inputsCollapsibleButton, ui.modelCollapsibleButton, ui.advancedCollapsibleButton):
            # A section that opens shows all that it holds, also what was hidden while it was closed.
            section.connect("contentsCollapsed(bool)", lambda collapsed: self.update())
        ui.modelFolderButton.connect("clicked(bool)", self._onModelFolder)
        self.train, self.manager = TrainSection(ui, self), ModelManager(ui, self)
        self.runView = RunView(ui, controller, self.update, self.train.updateCurve)

    @property
    def bundle(self):
        """The model that the task would use, or None."""
        return self._bundle

    def close(self):
        """Let go of everything; a run goes on."""
        self.runView.close()
        self.train.close()
        self.comparing.close()
        self._later.stop()
        self.leave()
        self.parameters = None

    def enter(self):
        """The user has opened the module."""
        self.probe.watch(True)
        self.runView.offer()
        self.update()

    def leave(self):
        """The user works elsewhere: follow nothing and keep no voxels alive."""
        self._watch(None)
        self.probe.watch(False)
        self.probe.compare(None, None)
        self.facts.forget()

    def _watch(self, node):
        """Look again when the input changes: its voxels may come after the node, or be edited."""
        if self._watched is not None:
            watched, tag = self._watched
            if watched is node:
                return
            watched.RemoveObserver(tag)
            self._watched = None
        if node is not None:
            self._watched = node, node.AddObserver("ModifiedEvent", self._onInputChanged)

    def _onInputChanged(self, node, event):
        if self.facts.volume is None:
            self.update()
        else:
            self.updateSoon()

    def updateSoon(self):
        """Bring the widgets up to date once for many changes in a row."""
        if not self._later.active:
            self._later.start()

    # ---- showing ----

    def update(self, caller=None, event=None):
        """Bring the widgets up to date with the parameter node, the scene and the controller."""
        if self.parameters is None or self._updating:
            return
        self._updating = True
        try:
            with self.models.lookedForOnce():
                self._updateInput()
                self._updateChoices()
                self.translating.update()
                self.train.update()
                self.manager.update()
                self._updateApply()
                self._updateCompare()
                self.compressing.update()
        finally:
            self._updating = False

    def _updateInput(self):
        wanted = self.parameters
        self._watch(wanted.inputVolume)
        self._bundle = self.facts.update(
            wanted.inputVolume, lambda volume: self.models.chosen(wanted.task, wanted.model, volume)
        )
        self.ui.inputLabel.text = self.facts.text or ("" if wanted.inputVolume is None else self.facts.problem)
        self.ui.inputLabel.setVisible(bool(self.ui.inputLabel.text))
        name = wanted.inputVolume.GetName() if wanted.inputVolume is not None else "volume"
        self.ui.outputSelector.baseName = f"{name} denoised"
        self.ui.removedSelector.baseName = f"{name} removed noise"
        self.ui.removedSelector.enabled = wanted.makeRemoved
        self.ui.noiseSelector.baseName = f"{name} noise map"
        self.ui.noiseSelector.enabled = wanted.makeNoise
        self.ui.adaptSpinBox.enabled = wanted.adapt
        options.showFor(self.ui, wanted)

    def _updateChoices(self):
        wanted, bundle = self.parameters, self._bundle
        self._combos["task"].offer([(task.title, name) for name, task in TASKS.items()], wanted.task)
        automatic = self.models.chosen(wanted.task, "", self.facts.volume)
        offered = options.modelChoices(wanted.task, self.models.choices(wanted.task, automatic))
        self._combos["model"].offer(offered, wanted.model)
        self._combos["device"].offer(choices.devices(self.controller.devices), wanted.device)
        self._combos["precision"].offer(choices.PRECISIONS, wanted.precision)
        self._combos["passes"].offer(choices.PASSES, wanted.passes)
        self._combos["calibration"].offer(choices.CALIBRATIONS, wanted.calibration)
        self._combos["promise"].offer(PROMISES, wanted.promise)
        self._combos["featuresPer"].offer(analysing.ROWS, wanted.featuresPer)
        self.ui.rememberCheckBox.enabled = bool(wanted.knownCases)
        if self.ui.knownCasesEdit.currentPath != wanted.knownCases:
            self.ui.knownCasesEdit.currentPath = wanted.knownCases
        lacking = "" if wanted.inputVolume is None or not options.needsModel(wanted) else self._noModel()
        automatic = "" if self.facts.nothing else options.automatic(wanted, bundle)
        said = [models.summary(bundle) if bundle is not None else lacking, automatic]
        self.ui.modelLabel.text = " ".join(filter(None, said))
        self.ui.modelLabel.setVisible(bool(self.ui.modelLabel.text))
        card = modelCard.html(bundle) if bundle is not None else ""
        if card != self._card:
            self._card = card
            self.ui.cardBrowser.setHtml(card)
        self.ui.cardCollapsibleButton.setVisible(bundle is not None and options.choosesModel(wanted.task))
        self.ui.warningLabel.text = "\n".join(self.facts.warnings)
        self.ui.warningLabel.setVisible(bool(self.facts.warnings))

    def problem(self):
        """Why Apply is not possible, in one sentence; empty when it is."""
        wanted = self.parameters
        if self.controller.busy:
            told = _("MedAE is working on '{name}'; wait until it has finished, or cancel it.")
            return told.format(name=self.controller.subject)
        if wanted.task == "train":
            return self.train.problem()
        if self.facts.problem:
            return self.facts.problem
        if self.facts.nothing and wanted.task != "compress" and not sequences.isSequence(wanted.inputVolume):
            return self.facts.nothing
        if options.refusal(wanted):
            return options.refusal(wanted)
        if self._bundle is None and options.needsModel(wanted):
            return self._noModel()
        if self.translating.problem():
            return self.translating.problem()
        chosen = self.outputs()
        outputs = [node for node in chosen.values() if node is not None]
        if any(node is wanted.inputVolume or node is sequences.shown(wanted.inputVolume) for node in outputs):
            return _("The output is the input itself; choose another one, or 'Create new volume'.")
        if len({node.GetID() for node in outputs}) < len(outputs):
            return _("The same volume is chosen for two outputs; choose another one, or 'Create new volume'.")
        if sequences.isSequence(wanted.inputVolume) and any(chosen.get(name) is not None for name in PER_FRAME):
            return NO_FRAMES + " " + _("Choose 'Create new volume'.")
        return ""

    def _noModel(self):
        if self.parameters.model:
            told = _("The model {name} cannot be used on this computer; choose another model.")
            return told.format(name=self.parameters.model)
        if self.facts.nothing:
            return self.facts.nothing
        if self.models.all(self.parameters.task):
            return _("No model was made for this kind of scan; choose one yourself to go on nevertheless.")
        if self.parameters.task == "translate":  # none comes with MedAE
            return _(
                "There is no model for this task; train one with the task 'Train a model', or add the folder of one."
            )
        return _("There is no model for this task; add the folder of one.")

    def outputs(self):
        """The wanted outputs: a node each, or None for a new one."""
        wanted = options.outputsOf(self.parameters)
        return {**wanted, **{f"{name}{end}": None for end in self.translating.endings() for name in wanted}}

    def _updateApply(self):
        problem, training = self.problem(), self.parameters.task == "train"
        doubtful = bool(self.facts.warnings) and not training
        button = self.ui.applyButton
        button.enabled = not problem
        button.text = _("Apply anyway") if doubtful and not problem else _("Apply")
        told = problem in (self.ui.inputLabel.text, self.ui.modelLabel.text) or self.controller.busy
        self.ui.problemLabel.text = "" if told else problem
        self.ui.problemLabel.setVisible(bool(self.ui.problemLabel.text))
        if training:
            button.toolTip = problem or _("Start the training; you can go on working meanwhile.")
            return
        plain, doubted = _("Run the task on the volume."), _("Run the task although the volume may not suit the model.")
        button.toolTip = problem or (doubted if doubtful else plain)

    def _updateCompare(self):
        source = self.parameters.inputVolume
        results = nodes.results_of(source) if source is not None else {}
        made = self.controller.results
        mine = made if source is not None and any(nodes.input_of(node) is source for node in made.values()) else {}
        results.update(mine)
        self.comparing.update(source, results, mine)
        self._updateTrust(results.get("trust"))
        known = results.get("similar")
        self.similar.setRows(nodes.table_rows(known) if known is not None else [])
        self.traversal.setNodes(source, results)

    def _updateTrust(self, table):
        html = trust.NOTHING
        if table is not None:
            verdict, dark = nodes.provenance(table).get("verdict", ""), trust.isDark(self.ui.trustBrowser)
            html = trust.html(verdict, nodes.table_rows(table), dark)
        if html != self._trust:
            self._trust = html
            self.ui.trustBrowser.setHtml(html)

    # ---- what the user does ----

    def apply(self, checked=False):
        """Install what is missing, if the user agrees, and start the run; what is wrong is said in the panel."""
        if self.problem():
            self.runView.say(self.problem())
            return
        self.start(self._request)

    def start(self, makeRequest, packages=()):
        """Start the run that `makeRequest` gives; `packages` are the requirements of it alone, see `install.ensure`."""

        def act():
            request = makeRequest()
            self.controller.preview.apply(request, self.parameters.preview and request.task == "denoise")
            if request.task == "train":
                self.controller.learning.begin(request.goal.name, request.parameters.get("task", ""))

        self.attempt(act, packages)

    def attempt(self, act, packages=()):
        """Do what needs the worker, with all its packages; what is wrong is said in the panel."""
        try:
            if install.ensure(self.ui.wheelFolderEdit.currentPath, further=packages):
                self.controller.release()  # the next worker sees the new packages
            act()
        except MedAEError as error:
            self.runView.say(faults.sentences(error))
        except Exception as error:
            self.runView.say(faults.sentences(faults.plain(error)))

    def _request(self):
        """The run that the parameter node asks for."""
        wanted = self.parameters
        if wanted.task == "train":
            return self.train.request()
        asked = {**options.parametersOf(wanted, self._bundle), **self.translating.parameters()}
        further = {**analysing.inputsOf(wanted), **self.translating.inputs()}
        inputs = {"input": wanted.inputVolume, **further} if further else None
        return Request(wanted.inputVolume, wanted.task, asked, self.outputs(), inputs=inputs)

    def renamed(self, before, after):
        """A model has another folder now: let what was chosen stay chosen."""
        for name in ("model", "trainStart"):
            if getattr(self.parameters, name) == before:
                setattr(self.parameters, name, after)

    def _onChosen(self, name, value):
        if self.parameters is not None and not self._updating:
            setattr(self.parameters, name, value)

    def _onModelFolder(self, checked=False):
        import qt

        folder = qt.QFileDialog.getExistingDirectory(self.ui.modelFolderButton, _("Model folder"))
        if not folder or self.parameters is None:
            return
        try:
            bundle = self.models.add(folder)
        except MedAEError as error:
            self.runView.say(faults.sentences(error))
            return
        if not models.suits(bundle, self.parameters.task):
            title = TASKS[bundle.spec.task].title if bundle.spec.task in TASKS else bundle.spec.task
            told = _("The model {name} was made for another task, '{task}'.")
            self.runView.say(told.format(name=bundle.name, task=title))
            return
        self.parameters.model = models.parameter(bundle)

    def _onWheelFolder(self, folder):
        self._settings().setValue(_WHEEL_FOLDER, folder)

    def onSceneClosed(self):
        """Back to the user's layout, once Slicer has restored the layout: there is nothing to compare any more."""
        import qt

        self.facts.forget()
        qt.QTimer.singleShot(0, self.comparing.stop)

    def _settings(self):
        import qt

        return qt.QSettings()
