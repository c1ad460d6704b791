"""Decodes the compressed volumes that are opened, one after the other: several may be dropped, or come during a run."""

import logging

from slicer.i18n import tr as _

from MedAELib.errors import BadInput, MedAEError, MissingPackage

from . import compressing, faults, install
from .target import NodeReference


class Decoding:
    """The queue of a controller; like that it goes on whatever becomes of the panel."""

    def __init__(self, controller):
        self._controller, self._waiting = controller, []
        self._mine = False  # whether the run under way, or the last one, came from the queue
        controller.listeners.append(self.update)

    def add(self, latent):
        """Decode a compressed volume as soon as nothing else is under way. Raises MedAEError when that cannot be."""
        lacking = install.missing(install.requirements())
        if lacking:
            sentence = _("'{name}' is in the scene but not decoded: MedAE's Python packages are not installed.")
            step = _("Open the module MedAE, choose Compress and press Decode: it asks before it installs them.")
            raise self._told(MissingPackage(sentence.format(name=latent.GetName()), step))
        self._waiting.append(NodeReference(latent))
        if self._occupied():
            self._controller.say(_("'{name}' is decoded after what is under way.").format(name=latent.GetName()))
        else:
            self._next()

    def update(self):
        """Go on with the next one once a run has ended; a run of ours that was cancelled ends them all."""
        import qt

        controller = self._controller
        if controller.busy or not self._waiting:
            return
        if self._mine and controller.state == "cancelled" and not controller.remark:  # by the user, not with its scene
            names = ", ".join(f"'{node.GetName()}'" for node in self._left())
            self._waiting = []
            if names:
                controller.remark = _("Cancelled; not decoded: {names}.").format(names=names)
                controller.say(controller.remark)
        else:
            qt.QTimer.singleShot(0, self._goOn)

    def _goOn(self):
        try:
            self._next()
        except MedAEError:  # it has been told
            self.update()

    def _next(self):
        """Start to decode the first that waits and is still in the scene, unless a run is under way."""
        if self._occupied():
            return
        left = self._left()
        if not left:
            self._waiting = []
            return
        self._waiting = [NodeReference(node) for node in left[1:]]
        try:
            self._controller.apply(compressing.decodeRequest(left[0]))
        except MedAEError as error:
            sentence = _("'{name}' is in the scene but not decoded. {reason}")
            raise self._told(BadInput(sentence.format(name=left[0].GetName(), reason=error), error.next_step)) from None
        self._mine = True

    def _told(self, error):
        """An error that the log has, and the panel where that shows no run."""
        logging.warning("MedAE: %s", faults.sentences(error))
        if self._occupied():
            self._controller.say(faults.sentences(error))
        else:
            self._controller.refuse(error)
        return error

    def _occupied(self):
        return self._controller.busy or self._controller.preview.pending

    def _left(self):
        """The nodes that wait and are still in the scene."""
        return [node for node in (reference.node() for reference in self._waiting) if node is not None]
