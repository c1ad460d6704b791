"""The part of the panel that shows a run: progress with remaining time, how it ended, the log, results to recover."""

from slicer.i18n import tr as _

from MedAELib.remarks import remarks
from MedAELib.tasks import TASKS

from . import faults

_ENDED = {"idle": "", "cancelled": _("Cancelled; the scene is as it was.")}


def remainingText(seconds):
    """Remaining time as people say it."""
    if seconds is None:
        return ""
    if seconds < 1.5:
        return _("about 1 s left")
    if seconds < 90:
        return _("about {count:.0f} s left").format(count=seconds)
    if seconds < 90 * 60:
        return _("about {count:.0f} min left").format(count=seconds / 60)
    return _("about {count:.1f} h left").format(count=seconds / 3600)


def statusText(controller, shown=""):
    """How the last run ended, in a few sentences; those that the panel has `shown` elsewhere are left out."""
    if controller.busy:
        return ""
    if controller.state == "failed":
        return faults.sentences(controller.failure)
    if controller.state != "done":
        return controller.remark or _ENDED[controller.state]
    report = controller.report
    if report.get("task") == "train":
        return _trained(report)
    if report.get("task") == "onnx":
        told = _("The network of {name} is written as ONNX ({checked}).")
        return told.format(name=report["model"], checked=report["checked"])
    # How usual the scan is as a whole, whether the model adapted, and doubts: whether the result can be believed.
    doubts = [] if report.get("task") == "compress" else remarks(report)  # its section shows the guidance
    ended = f"{_what(controller)}: {'; '.join([_done(report), *_found(report)])}."
    said = [ended, report.get("case"), *doubts]
    return " ".join(sentence for sentence in said if sentence and sentence not in shown)


def _what(controller):
    """Which task and volume the last run was about: the panel may show others by now."""
    task = controller.report.get("task", "")
    title = _("Decode") if task == "decompress" else TASKS[task].title if task in TASKS else task
    return _("{task} '{name}'").format(task=title, name=controller.subject)


def _done(report):
    """That the run has ended, after how long, and where it ran."""
    seconds, device = report.get("seconds"), report.get("device")
    if not seconds:
        return _("done")
    told = _("done in {time} on {device}") if device else _("done in {time}")
    return told.format(time=_lasted(seconds), device=device)


def _lasted(seconds):
    """A time that has gone by as people say it."""
    return _("{count:.3g} s").format(count=seconds) if seconds < 90 else _("{count:.3g} min").format(count=seconds / 60)


def _found(report):
    """What came of the run, in figures."""
    found = []
    before, after, units = report.get("noise_before"), report.get("noise_after"), report.get("units") or ""
    if before is not None and after is not None:
        told = f"{before:.3g} \N{RIGHTWARDS ARROW} {after:.3g} {units}".rstrip()
        found.append(_("estimated noise {change}").format(change=told))
    if report.get("task") == "compress":
        told = _("{times:.3g} times smaller, {bits:.3g} bits per voxel")
        found.append(told.format(times=report["ratio"], bits=report["bits_per_voxel"]))
    if report.get("task") == "features":
        count, rows = len(report["names"]), len(report["features"])
        one, many = _("{count} features in a table of 1 row"), _("{count} features in a table of {rows} rows")
        found.append((one if rows == 1 else many).format(count=count, rows=rows))
    if report.get("task") == "anomaly":
        found.append(_("regions above the threshold: {count}").format(count=report["regions"]))
    return found


def _trained(report):
    """What came of a training."""
    figures = report.get("figures") or {}
    told = _("The model {name} is trained and in the list of models.").format(name=report.get("model", ""))
    if report.get("model_task") == "anomaly" and figures:
        return told + " " + _("Its card says how well it finds anomalies that are drawn into held-out scans.")
    if "psnr" not in figures:
        return told + " " + _("Nothing was held out.")
    return told + " " + _("Held-out subjects: {quality:.2f} dB.").format(quality=figures["psnr"])


def _offer(name, others):
    """That a finished result is not in the scene, and how many more there are."""
    if name and others:
        told = _("Not in the scene: the result of '{name}' ({count} more).")
    elif name:
        told = _("Not in the scene: the result of '{name}'.")
    elif others:
        told = _("Not in the scene: a finished result ({count} more).")
    else:
        told = _("Not in the scene: a finished result.")
    return told.format(name=name, count=others)


class RunView:
    """Shows a controller in the widgets `ui` until `close`.

    Further widgets are brought up to date by `onProgress` when a run has only got further, as it does many times a
    second, else by `onChanged`, which may look at much.
    """

    def __init__(self, ui, controller, onChanged, onProgress):
        self._ui, self._controller, self._onChanged, self._onProgress = ui, controller, onChanged, onProgress
        self._shownState = None
        self._shownLines = 0
        self._offered = None
        ui.cancelButton.connect("clicked(bool)", self._onCancel)
        ui.releaseButton.connect("clicked(bool)", self._onRelease)
        ui.recoverButton.connect("clicked(bool)", self._onRecover)
        ui.discardButton.connect("clicked(bool)", self._onDiscard)
        controller.listeners.append(self.update)
        self._wasBusy = controller.busy
        self.offer()
        self.update()

    def close(self):
        """Stop listening; the run goes on."""
        if self.update in self._controller.listeners:
            self._controller.listeners.remove(self.update)

    def update(self):
        """Bring the widgets up to date with the controller."""
        controller, ui = self._controller, self._ui
        self._updateLog()
        bar = ui.progressBar
        bar.setVisible(controller.busy)
        bar.value = int(1000 * controller.fraction)
        stage, remaining = controller.stage, remainingText(controller.remaining)
        if controller.busy:
            percent = f" {100 * controller.fraction:.0f} %" if controller.fraction else ""
            bar.format = f"{stage}{percent}{', ' + remaining if remaining else ''}"
        else:
            bar.format = ""
        working = _("Working on '{name}'.").format(name=controller.subject) if controller.busy else ""
        self.say(statusText(controller, ui.warningLabel.text) or working)
        ui.cancelButton.enabled = controller.busy and controller.state != "cancelling"
        ui.releaseButton.enabled = controller.workerAlive and not controller.busy
        if self._wasBusy and not controller.busy:
            self.offer()
        self._wasBusy = controller.busy
        state = (controller.state, controller.subject, controller.devices, controller.workerAlive)
        onlyFurther = controller.busy and state == self._shownState
        self._shownState = state
        (self._onProgress if onlyFurther else self._onChanged)()

    def offer(self):
        """Offer the oldest finished result that is not in the scene, on one quiet line."""
        from MedAELib.errors import MedAEError
        from MedAELib.worker import runs

        found = [] if self._controller.busy else self._controller.unclaimed()
        self._offered = found[0] if found else None
        if self._offered is not None:
            try:
                origin = runs.read_job(self._offered).origin
                name = (origin.get("place") or {}).get("name", "")
            except MedAEError:
                name = ""
            self._ui.recoverLabel.text = _offer(name, len(found) - 1)
        self._ui.recoverFrame.setVisible(self._offered is not None)

    def say(self, text):
        """Show a sentence where the end of a run is told."""
        self._ui.statusLabel.text = text
        self._ui.statusLabel.setVisible(bool(text))

    def _updateLog(self):
        new = self._controller.logged - self._shownLines
        if new > 0:
            lines = list(self._controller.log)[-new:]
            self._ui.logEdit.appendPlainText("\n".join(lines))
            self._shownLines = self._controller.logged

    def _onCancel(self, checked=False):
        self._controller.cancel()

    def _onRelease(self, checked=False):
        self._controller.release()

    def _onRecover(self, checked=False):
        from MedAELib.errors import MedAEError

        if self._offered is None:
            return
        try:
            self._controller.recover(self._offered)
        except MedAEError as error:
            self.say(faults.sentences(error))

    def _onDiscard(self, checked=False):
        if self._offered is not None:
            self._controller.discard(self._offered)
        self.offer()
