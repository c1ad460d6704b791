"""The section Compare, and what a finished run shows in the views: its result, or a map over the scan."""

import json

from slicer.i18n import tr as _

from . import legend, maps, options, sequences, traversal, views
from .compare import Compare
from .overlay import Overlay

_ALL_THEIR_OWN = _("Every slice view shows another volume: show '{name}' in one of them first.")


class Comparing:
    """Input and result in the user's views; `panel` has the parameter node, the controller, the probe."""

    def __init__(self, ui, panel):
        self._ui, self._panel = ui, panel
        self.compare, self.overlay = Compare(), Overlay(ui)
        self._wasDone, self._source, self._said = False, None, ("", "")
        self._watch = views.Watch(self._onViews)
        ui.beforeButton.connect("toggled(bool)", self.compare.show)
        ui.sideBySideButton.connect("toggled(bool)", self._onSideBySide)

    def close(self):
        """Follow the views no longer."""
        self._watch.close()

    def update(self, source, results, mine):
        """Follow the chosen scan, its results by output name, and those of them that the last run made."""
        controller, task, compare = self._panel.controller, self._panel.parameters.task, self.compare
        names, _said = options.COMPARED.get(task, ((None, None), None))
        after, removed = (results.get(name) for name in names)
        self._source = sequences.shown(source)
        self._setNodes(source, after, removed, results)
        options.tellStrength(self._ui, self._taken(after), self._panel.parameters.strength)
        done = controller.state == "done" and not controller.preview.pending
        if done and not self._wasDone and mine:
            self._showNew(after, results, mine)
        elif compare.possible and not controller.busy:
            compare.blend(self._part(after))
        self._wasDone = done
        self._tell(task, sequences.whyNotShown(source) or sequences.whyNotShown(after))

    def stop(self):
        """Back to the user's layout."""
        self._ui.beforeButton.checked = False
        self._ui.sideBySideButton.checked = False

    def _setNodes(self, source, after, removed, results):
        from MedAELib import nodes

        found = results.get("found")
        self.overlay.setNodes(maps.of(results), nodes.table_rows(found) if found is not None else [])
        self.compare.setNodes(*map(sequences.shown, (source, after, removed)))
        self._panel.probe.compare(*map(sequences.shown, (source, after)))

    def _showNew(self, after, results, mine):
        """Show what a run has just made; a map is shown over the scan itself, the typical scan is one click away."""
        over = "anomaly" in mine or any(name in mine for name in traversal.NAMES)
        made = after is not None and any(node is after for node in mine.values())
        before = over or "latent" in mine  # what was decoded of an earlier one is none of this
        if not made and not before:
            return
        if self.compare.possible or over:
            self._ui.beforeButton.checked = before
            self.compare.showNew(before, self._part(after))
            self._ui.trustCollapsibleButton.collapsed = results.get("trust") is None
        if "anomaly" in mine:
            self.overlay.show()

    def _part(self, after):
        """How much of the result the strength slider now asks for, 0..1: the run took away what it was told to."""
        taken = self._taken(after)
        return min(1.0, self._panel.parameters.strength / taken) if taken else 1.0

    def _taken(self, after):
        """The strength that a denoised result was made with; None for other results."""
        from MedAELib import nodes

        if self._panel.parameters.task != "denoise" or after is None:
            return None
        return json.loads(nodes.provenance(after).get("parameters", "{}")).get("strength", 1.0)

    def _tell(self, task, hidden):
        """Let the buttons say what they do, or why they cannot; `hidden` is why a sequence cannot be looked at."""
        possible = self.compare.possible
        said = options.tellCompared(self._ui, task, possible) if task in options.COMPARED else ("", "")
        self._said = [hidden or toolTip for toolTip in said]
        self._ui.sideBySideButton.toolTip = self._said[1]
        self._enableSideBySide()
        if task not in options.COMPARED:
            self._ui.sideBySideButton.checked = False
        self._look()

    def _look(self):
        """Enable what acts on the user's views where one of them takes part."""
        self.overlay.look()
        button, possible = self._ui.beforeButton, self.compare.possible
        button.enabled = possible and bool(views.yielding(self._source))
        told = _ALL_THEIR_OWN.format(name=self._source.GetName()) if possible and not button.enabled else ""
        button.toolTip = told or self._said[0]

    def _onViews(self):
        """A slice view shows other volumes than before."""
        legend.refresh()
        if self._panel.parameters is not None:
            self._look()

    def _onSideBySide(self, on):
        self.compare.sideBySide(on)
        self._enableSideBySide()

    def _enableSideBySide(self):
        self._ui.sideBySideButton.enabled = self.compare.possible or self.compare.shown  # the way back
