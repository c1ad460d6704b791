"""Compress and decode for scripts: what `MedAELogic.compress` and `.decompress` ask of the controller."""

from slicer.i18n import tr as _

from . import compressing, latents, sequences


def compressRequest(inputNode, mode, value, lost):
    """The run that compresses a volume node. Raises BadInput for a sequence."""
    from MedAELib.errors import BadInput

    from .request import Request

    if sequences.isSequence(inputNode):
        raise BadInput(compressing.ONE_FRAME)
    window, level = compressing.shownWindow(inputNode) if inputNode is not None else (0.0, 0.0)
    wish = {"mode": mode, "value": float(value), "lost": bool(lost), "window": window, "level": level}
    return Request(inputNode, "compress", wish, dict.fromkeys(("latent", "lost") if lost else ("latent",)))


def decodeRequest(pathOrNode):
    """The run that decodes a .maez file, which becomes a node first, or a compressed volume of the scene."""
    from MedAELib.errors import BadInput

    node = pathOrNode if hasattr(pathOrNode, "GetClassName") else latents.read(pathOrNode)
    if not latents.isLatent(node):
        sentence = _("'{name}' is not a compressed volume.").format(name=node.GetName())
        raise BadInput(sentence, _("Choose one, or name a .maez file."))
    return compressing.decodeRequest(node)
