"""Carries one run from Apply to the result in the scene, a few milliseconds per tick, so that Slicer never waits.

The controller outlives the panel: it goes on while the user works in other modules, closes the scene or reloads MedAE.
"""

import logging
import time
from collections import deque

from slicer.i18n import tr as _

from MedAELib.errors import BadInput
from MedAELib.worker import runs

from . import faults
from .goals import targetOf
from .source import Export, Source
from .target import NodeReference

BUSY = ("exporting", "starting", "running", "cancelling", "importing")
TICK_MS = 50  # while the worker computes
COPY_TICK_MS = 5  # while voxels are copied, in short pieces: the views stay live
IDLE_TICK_MS = 500  # while an idle worker is kept warm
_COPY_SECONDS = 0.015  # of copying per tick
_SLAB_BYTES = 2 << 20


class RunController:
    """States: idle, exporting, starting, running, cancelling, importing; then done, cancelled or failed.

    `listeners` are called without arguments after each change. `results` maps output names to nodes after "done";
    `failure` (a MedAEError) says why after "failed". A timer from `makeTimer(tick)` drives `tick`, or a script by hand.
    """

    def __init__(self, runsFolder, client=None, makeTimer=None):
        import slicer

        from MedAELib.worker import client as worker

        self._runs = runsFolder
        self._client = client if client is not None else worker.WorkerClient(runsFolder)
        self._timer = (makeTimer or _qtTimer)(self.tick)
        self._scene = slicer.mrmlScene
        self._observation = self._scene.AddObserver(self._scene.StartCloseEvent, self._onSceneClose)
        self.listeners = []
        self.log = deque(maxlen=2000)
        self.logged = 0  # lines ever said, so that a listener knows which of them are new
        self.devices, self.versions = (), {}
        self.preview = self.learning = self.decoding = None  # see shared.replace; they live as long as the controller
        self.closed = self._ticking = False
        self._deleting = runs.Deleting()  # the files of runs that have ended
        self._dropped = []  # finished runs that are ours but not in the scene: offered like those of a crash
        self._reset("idle")
        try:
            runs.sweep(runsFolder)
        except OSError as error:
            self.say(_("The folder of runs cannot be cleaned up: {error}").format(error=error))

    def _reset(self, state, subject=""):
        self.state, self.subject = state, subject
        self.stage, self.fraction, self.remaining = "", 0.0, None
        self.failure, self._results, self.report, self.remark = None, {}, {}, ""
        self.seconds = {}  # spent in export, start, run and import
        self._run = self._target = self._writer = self._import = None
        self._sceneClosed = self._submitted = self._partial = self._copied = False
        self._since = time.perf_counter()

    # ---- what the panel and scripts see and ask for ----

    @property
    def busy(self):
        """Whether a run is under way."""
        return self.state in BUSY

    @property
    def results(self):
        """The nodes of the last run by output name; those that the user has deleted since are left out."""
        found = {name: reference.node() for name, reference in self._results.items()}
        return {name: node for name, node in found.items() if node is not None}

    @property
    def workerAlive(self):
        """Whether a worker process holds memory."""
        return self._client.state != "stopped"

    def apply(self, request):
        """Start a run. Raises MedAEError, also while another run is under way; then nothing has happened."""
        self._refuseWhenBusy()
        sources = {name: Source(node, request.inputNode) for name, node in request.nodes().items()}
        target = request.target()
        origin = {**target.toJson(), "preview": request.slab is not None}
        run = faults.guarded(runs.create_run, self._runs, request.task, request.told(), origin)
        try:
            writer = faults.guarded(Export, run, sources)
        except Exception:
            runs.discard(run)
            raise
        self._reset("exporting", target.place.name)
        self._run, self._target, self._writer, self._partial = run, target, writer, request.slab is not None
        self.stage = _("Reading the volume")
        self._start()

    def cancel(self):
        """Stop the run; the scene stays as it was. Takes less than a second, also when the worker hangs."""
        if self.state in ("exporting", "importing") or (self.state == "starting" and not self._submitted):
            self._end("cancelled")
        elif self.state in ("starting", "running"):
            self.state, self.stage, self.remaining = "cancelling", _("Stopping"), None
            self._client.cancel()
            self._notify()

    def finish(self):
        """Let a training end with the best so far; it is answered within a few steps."""
        if self.state in ("starting", "running"):
            self._client.finish()
            self.say(_("Asked to stop with the best so far."))
            self._notify()

    def release(self):
        """End the idle worker, so that all its memory is free."""
        if not self.busy:
            self._client.release()
            self._notify()

    def unclaimed(self):
        """Finished results that are not in the scene: of a Slicer that crashed, or of a scene closed during the run."""
        from .preview import withoutPreviews

        try:
            found = [run for run in self._dropped if runs.is_finished(run)]
            return withoutPreviews(found + [run for run in runs.unclaimed_runs(self._runs) if run not in found])
        except OSError:
            return []

    def recover(self, run):
        """Bring a finished result into the scene as new nodes. Raises MedAEError when it is damaged or gone."""
        self._refuseWhenBusy()
        if not runs.claim(run):
            raise BadInput(_("This result is gone, or another Slicer has taken it."))
        if run not in self._dropped:
            self._dropped.append(run)
        result = runs.read_result(run, verify=True)
        target = targetOf(result.job)
        importing = target.importer(result, run)  # may fail; then nothing has happened
        self._reset("importing", target.place.name)
        self._run, self._target = run, target
        self._beginImport(result, importing)
        self._start()

    def interrupted(self):
        """Trainings that can go on from their last checkpoint: they failed here, or their Slicer crashed."""
        return [] if self.busy else runs.interrupted_runs(self._runs)

    def resume(self, run):
        """Go on with an interrupted training. Raises MedAEError when it is gone."""
        self._refuseWhenBusy()
        if not runs.is_resumable(run) or not runs.claim(run):
            raise BadInput(_("This training is gone, or another Slicer has taken it."))
        target = targetOf(runs.read_job(run))
        self._reset("starting", target.place.name)
        self._run, self._target, self.stage = run, target, _("Going on from the last checkpoint")
        self._start()

    def discard(self, run):
        """Delete a finished result, or an interrupted training, that nobody wants."""
        if runs.claim(run):
            runs.discard(run)
        self._dropped = [other for other in self._dropped if other != run]
        self._notify()

    def refuse(self, failure):
        """Tell the user that a run that was asked for before cannot start."""
        self._reset("failed")
        self.failure = failure
        self.say(faults.sentences(failure))
        self._notify()

    def wait(self):
        """Work until the run has ended, without an event loop: for scripts. Returns the final state."""
        while self.busy:
            self.tick()
            time.sleep(0.02 if self.state in ("starting", "running", "cancelling") else 0)
        self._deleting.finish()
        return self.state

    def close(self):
        """End the worker and whatever it does."""
        if self.closed:
            return
        if self.busy:
            self._end("cancelled")
        self.closed, self.listeners = True, []
        self._timer.stop()
        self._scene.RemoveObserver(self._observation)
        self._client.close()
        self._deleting.finish()

    # ---- one tick ----

    def tick(self):
        """Do a few milliseconds of what is due. Never raises: whatever goes wrong ends the run as failed."""
        if self._ticking or self.closed:  # somebody runs an event loop inside an observer of the scene
            return
        self._ticking, before = True, self._visible()
        try:
            for event in self._client.poll():
                self._onEvent(event)
            step = {"exporting": self._export, "starting": self._submit, "importing": self._importResult}
            step.get(self.state, int)()
            self._deleting.step()
        except Exception as error:
            self._fail(faults.plain(error))
        finally:
            self._ticking = False
        if self._visible() != before:
            self._notify()
        self._pace()

    def _visible(self):
        return self.state, self.stage, self.fraction, self.remaining, self.logged, self._client.state

    def _export(self):
        if not self._copy(self._writer):
            return
        changed = self._writer.changed()
        if changed:
            sentence = _("'{name}' was changed while it was being read.").format(name=changed)
            raise BadInput(sentence, _("Press Apply again."))
        self._writer = None
        self._enter("starting", _("Preparing") if self.workerAlive else _("Starting the worker"))
        self._submit()

    def _submit(self):
        """Hand the run to the worker as soon as that has let go of the run before."""
        if not self._submitted and self._client.state in ("stopped", "idle"):
            self._client.submit(self._run)
            self._submitted = True

    def _importResult(self):
        if not self._copied:
            self._copied = self._copy(self._import)  # the scene has its own tick: each holds Slicer up for less
            return
        nodes = self._import.commit()
        self._results = {name: NodeReference(node) for name, node in nodes.items()}
        self._took("import")
        self._end("done")

    def _copy(self, copying):
        deadline = time.perf_counter() + _COPY_SECONDS
        finished = copying.step(_SLAB_BYTES)
        while not finished and time.perf_counter() < deadline:
            finished = copying.step(_SLAB_BYTES)
        self.fraction = copying.fraction
        return finished

    def _onEvent(self, event):
        kind = type(event).__name__
        if kind == "Hello":
            self.devices, self.versions = event.devices, event.versions
            versions = ", ".join(f"{name} {version}" for name, version in event.versions.items())
            self.say(_("Worker ready: {versions}").format(versions=versions))
            for warning in event.warnings:
                self.say(warning)
        elif kind == "Log":
            self.say(event.text)
        elif kind == "Failed" and event.run in ("", str(self._run)):
            self._onFailed(event)
        elif getattr(event, "run", None) == str(self._run):
            self._onRunEvent(kind, event)

    def _onRunEvent(self, kind, event):
        if kind == "Progress" and self.state in ("starting", "running"):
            if self.state == "starting":
                self._enter("running", event.stage)
            self.stage, self.remaining = event.stage, event.remaining_seconds
            self.fraction = event.done / event.total if event.total else 0.0
        elif kind == "Measured" and self.state in ("starting", "running") and self.learning is not None:
            self.learning.add(event, self._run)
        elif kind == "CancelledEvent" or (kind == "Done" and self.state == "cancelling"):
            self._end("cancelled")
        elif kind == "Done" and self.state in ("starting", "running"):
            self._onDone()

    def _onDone(self):
        if self._sceneClosed and self._partial:
            self._end("cancelled")
        elif self._sceneClosed and self._target.inScene:
            told = _("The scene was closed during the run; the result of '{name}' can be recovered.")
            self.remark = told.format(name=self.subject)
            self.say(self.remark)
            self._keep()
            self._end("cancelled")
        else:
            self._beginImport(runs.read_result(self._run))

    def _beginImport(self, result, importing=None):
        self._enter("importing", self._target.stage)
        self._import = importing or self._target.importer(result, self._run)
        self.report = dict(result.report)

    def _onFailed(self, event):
        if event.detail:  # a traceback or the worker's last words: for Slicer's log, not for the panel
            logging.info("MedAE worker: %s", event.detail)
        if self.state in ("starting", "running", "cancelling"):
            self._fail(faults.reported(event.kind, event.sentence, event.next_step))

    # ---- changes of state ----

    def _enter(self, state, stage):
        self._took({"exporting": "export", "starting": "start", "running": "run"}.get(self.state, "import"))
        self.state, self.stage, self.fraction, self.remaining = state, stage, 0.0, None

    def _took(self, part):
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now

    def _fail(self, failure):
        self.say(faults.sentences(failure))
        if not self.busy:
            return
        if self.state == "importing" and not self._partial:
            self._keep()  # the result is complete: it may be recovered when there is memory again
        self.failure = failure
        self._end("failed")

    def _keep(self):
        if self._run not in self._dropped:
            self._dropped.append(self._run)
        self._run = None

    def _end(self, state):
        if self._writer is not None:
            self._writer.close()
        if self._submitted and self._client.state in ("starting", "running"):
            self._client.cancel()
        run = self._run
        self._run = self._writer = self._import = None  # lets go of the result's files
        self.state, self.stage, self.remaining = state, "", None
        self.fraction = 1.0 if state == "done" else 0.0
        resumable = state == "failed" and run is not None and runs.is_resumable(run)
        if run is not None and not resumable and not (run in self._dropped and state == "cancelled"):
            self._dropped = [other for other in self._dropped if other != run]
            runs.discard_soon(run, self._deleting)
        self._notify()

    def _onSceneClose(self, caller=None, event=None):
        self._results = {}
        if self.busy and not self._target.inScene:
            return  # what was read stays, and the result is no node
        if self.state == "importing" and not self._partial:
            self._keep()
        if self.state in ("exporting", "importing"):
            self._end("cancelled")
        elif self.busy:
            self._sceneClosed = True

    # ---- small things ----

    def _start(self):
        self._pace()
        self._timer.start()
        self._notify()

    def _pace(self):
        copying = self.state in ("exporting", "importing")
        resting = not self.busy and self._deleting.done
        interval = COPY_TICK_MS if copying else IDLE_TICK_MS if resting else TICK_MS
        if self._timer.interval != interval:
            self._timer.setInterval(interval)
        if resting and not self.workerAlive:
            self._timer.stop()

    def _refuseWhenBusy(self):
        if self.busy:
            sentence = _("MedAE is still working on '{name}'.").format(name=self.subject)
            raise BadInput(sentence, _("Wait until it has finished, or cancel it."))

    def say(self, text):
        """Put a text into the log."""
        lines = text.splitlines()
        self.log.extend(lines)
        self.logged += len(lines)

    def _notify(self):
        for listener in list(self.listeners):
            try:
                listener()
            except Exception:  # a defect of the panel must not end the run
                logging.exception("MedAE: the panel could not be brought up to date")


def _qtTimer(tick):
    import qt

    timer = qt.QTimer()
    timer.timeout.connect(tick)
    return timer
