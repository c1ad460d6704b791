"""Keeps the file of a compressed volume in a hidden node of the scene, which the node that the user sees refers to.

Slicer shows the whole text of a text node as the tooltip of its row in Data, and freezes over megabytes of it; a hidden
node has no row. It holds the file in base64 as a parameter, which lies within the .mrml file itself: of a hidden node
that has a file of its own, Slicer's Save dialog writes none.
"""

import base64
import binascii

_CLASS = "vtkMRMLScriptedModuleNode"
_ROLE = "MedAE.data"  # from the node that is seen to the hidden one
_PARAMETER = "maez"
_WATCH = "MedAECompressedVolumesWatch"  # of slicer.modules, which lives as long as Slicer


def hold(shown, text):
    """Keep a file, given in base64, for a node that may not be in the scene yet."""
    import slicer

    hidden = slicer.vtkMRMLScriptedModuleNode()
    hidden.SetName(slicer.mrmlScene.GenerateUniqueName("MedAE compressed data"))
    hidden.SetHideFromEditors(1)  # before it comes into the scene: then Slicer gives it no row in Data
    hidden.SetParameter(_PARAMETER, text)
    slicer.mrmlScene.AddNode(hidden)
    shown.SetNodeReferenceID(_ROLE, hidden.GetID())


def holds(shown):
    """Whether the file of this node lies in a hidden node; earlier versions had it in the text of the node itself."""
    return shown.GetNodeReferenceID(_ROLE) is not None


def dataOf(shown):
    """The file of a node; None when it is gone or was changed."""
    hidden = shown.GetNodeReference(_ROLE)
    try:
        return base64.b64decode(hidden.GetParameter(_PARAMETER), validate=True) if hidden is not None else None
    except (binascii.Error, ValueError):
        return None


def encoded(data):
    """A file as the text that is kept."""
    return base64.b64encode(data).decode("ascii")


def watch(onImported):
    """See to it that hidden nodes go with the last node that refers to them, and that `onImported` is called after a
    scene was opened. Once in a Slicer: a later call takes the place of the one before.
    """
    import slicer
    import vtk

    scene = slicer.mrmlScene
    for tag in getattr(slicer.modules, _WATCH, ()):
        scene.RemoveObserver(tag)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onRemoved(caller, event, node):
        if node is not None and node.GetNodeReferenceID(_ROLE) is not None:
            _removeUnused()

    tags = (
        scene.AddObserver(scene.NodeRemovedEvent, onRemoved),
        scene.AddObserver(scene.EndImportEvent, lambda caller, event: onImported()),
    )
    setattr(slicer.modules, _WATCH, tags)


def _removeUnused():
    """Take hidden nodes that nothing refers to out of the scene, unless Undo could bring back what referred to them."""
    import slicer

    scene = slicer.mrmlScene
    if scene.IsClosing() or scene.IsImporting() or scene.GetUndoFlag():
        return
    used = {node.GetNodeReferenceID(_ROLE) for node in slicer.util.getNodesByClass("vtkMRMLTextNode")}
    for hidden in slicer.util.getNodesByClass(_CLASS):
        if hidden.HasParameter(_PARAMETER) and hidden.GetID() not in used:
            scene.RemoveNode(hidden)
