"""`slicer.qMRMLNodeComboBox`: chooses a node of the scene, adds, renames and removes nodes, follows the scene."""

from __future__ import annotations

from typing import Any

import shiboken6
import vtk
from PySide6 import QtCore, QtWidgets

from .ctk_properties import parent_of, stored
from .node_filter import NodeFilter

Signal, Property = QtCore.Signal, QtCore.Property
_RENAME, _EDIT, _CREATE, _DELETE = "host:rename", "host:edit", "host:create", "host:delete"


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Combo box over the nodes of some classes in one scene."""

    currentNodeChanged = Signal(object)
    currentNodeValid = Signal(bool)
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeActivated = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    host_signals = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "currentNodeValid",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "currentNodeRenamed(QString)": "currentNodeRenamed",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved",
        "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
    }
    stored(
        locals(),
        nodeTypes=("QStringList", ()),
        hideChildNodeTypes=("QStringList", ()),
        showHidden=(bool, False),
        showChildNodeTypes=(bool, True),
        noneEnabled=(bool, False),
        addEnabled=(bool, True),
        removeEnabled=(bool, True),
        editEnabled=(bool, False),
        renameEnabled=(bool, False),
        selectNodeUponCreation=(bool, True),
        noneDisplay=(str, "None"),
        interactionNodeSingletonTag=(str, "Singleton"),
        sizeAdjustPolicy=("QVariant", 0),
    )

    def __init__(self, *arguments: Any) -> None:
        super().__init__(parent_of(arguments))
        self._scene: Any = None
        self._current: Any = None
        self._observers: list[int] = []
        self._attributes: list[tuple[str, str, str | None]] = []
        self._base_names: dict[str, str] = {}
        self._combo = QtWidgets.QComboBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.activated.connect(self._on_activated)
        self.setEnabled(False)  # as in Slicer: without a scene there is nothing to choose

    # ---- which nodes

    def nodes(self) -> tuple[Any, ...]:
        """The scene's nodes that this box offers (host only)."""
        if self._scene is None:
            return ()
        every = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
        return tuple(filter(NodeFilter(self, self._attributes).accepts, every))

    def _offers(self, node: Any) -> bool:
        return NodeFilter(self, self._attributes).accepts(node)

    def nodeCount(self) -> int:
        """How many nodes can be chosen."""
        return len(self.nodes())

    def nodeFromIndex(self, index: int) -> Any:
        """The node in that row, or None."""
        nodes = self.nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        """Offer only nodes of that class that carry this attribute (with this value, when one is given)."""
        self._attributes.append((node_type, name, None if value is None else str(value)))
        self._rebuild()

    def removeAttribute(self, node_type: str, name: str) -> None:
        """Undo addAttribute."""
        self._attributes = [entry for entry in self._attributes if entry[:2] != (node_type, name)]
        self._rebuild()

    # ---- scene

    def mrmlScene(self) -> Any:
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        """Follow a scene."""
        if scene is self._scene:
            return
        self.stop_observing()
        self._scene = scene
        self.setEnabled(scene is not None)
        if scene is not None:
            self._observe(scene)
        self._rebuild()

    def _is_alive(self) -> bool:
        """False once Qt has destroyed the widget; the observers then go, as those of Slicer's widget do."""
        alive = shiboken6.isValid(self)
        if not alive:
            self.stop_observing()
        return alive

    def stop_observing(self) -> None:
        """Follow the scene no more (host only)."""
        for tag in self._observers:
            self._scene.RemoveObserver(tag)
        self._observers = []

    def _observe(self, scene: Any) -> None:
        @vtk.calldata_type(vtk.VTK_OBJECT)
        def on_added(_caller: Any, _event: str, node: Any) -> None:
            if not self._is_alive() or not self._offers(node):
                return
            if not scene.IsBatchProcessing():
                self._rebuild()
            if self._is_alive():
                self.nodeAdded.emit(node)

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def on_about_to_be_removed(_caller: Any, _event: str, node: Any) -> None:
            if self._is_alive() and self._offers(node):
                self.nodeAboutToBeRemoved.emit(node)

        def on_changed(_caller: Any, _event: str) -> None:
            if self._is_alive() and not scene.IsBatchProcessing():
                self._rebuild()

        for event, handler in (
            (scene.NodeAddedEvent, on_added),
            (scene.NodeAboutToBeRemovedEvent, on_about_to_be_removed),
            (scene.NodeRemovedEvent, on_changed),
            (scene.EndBatchProcessEvent, on_changed),
        ):
            self._observers.append(scene.AddObserver(event, handler))

    # ---- what is shown

    def _rebuild(self) -> None:
        if self.__dict__.get("_combo") is None:
            return  # a property was set by a base class constructor
        nodes = self.nodes()
        current = self._current if any(node is self._current for node in nodes) else self._replacement(nodes)
        self._combo.blockSignals(True)
        self._combo.clear()
        for text, key in self._rows(nodes):
            self._combo.addItem(text, key)
        self._combo.setCurrentIndex(self._row_of(current))
        self._combo.blockSignals(False)
        self._become(current)

    def _replacement(self, nodes: tuple[Any, ...]) -> Any:
        """What Qt's combo box selects by itself: the first row ever shown, or a neighbour of a removed node."""
        if self.noneEnabled or not nodes:
            return None
        if self._combo.count == 0:
            return nodes[0]
        return nodes[min(self._combo.currentIndex, len(nodes) - 1)] if self._current is not None else None

    # Every property that decides what is offered rebuilds the box.
    _changed_nodeTypes = _changed_hideChildNodeTypes = _changed_showHidden = _changed_showChildNodeTypes = _rebuild
    _changed_noneEnabled = _changed_noneDisplay = _changed_addEnabled = _changed_removeEnabled = _rebuild
    _changed_editEnabled = _changed_renameEnabled = _rebuild

    def _rows(self, nodes: tuple[Any, ...]) -> list[tuple[str, str]]:
        if self._scene is None:
            return []
        rows = [(self.noneDisplay, "")] if self.noneEnabled else []
        rows += [(node.GetName() or "", node.GetID()) for node in nodes]
        label = self.nodeTypeLabel()
        for enabled, text, key in (
            (self.renameEnabled, "Rename current", _RENAME),
            (self.editEnabled, "Edit current", _EDIT),
            (self.addEnabled, "Create new", _CREATE),
            (self.removeEnabled, "Delete current", _DELETE),
        ):
            if enabled:
                rows.append((f"{text} {label}", key))
        return rows

    def _row_of(self, node: Any) -> int:
        if node is None:
            return self._combo.findData("") if self.noneEnabled else -1
        return self._combo.findData(node.GetID())

    def nodeTypeLabel(self, node_type: str = "") -> str:
        """What the user reads for the class of nodes, such as "Volume"."""
        node_type = node_type or (self.nodeTypes or ("",))[0]
        return (self._scene.GetTypeDisplayNameByClassName(node_type) if self._scene else "") or "node"

    # ---- the current node

    def _become(self, node: Any) -> None:
        if node is self._current:
            return
        self._current = node
        self.currentNodeChanged.emit(node)
        self.currentNodeValid.emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node is not None else "")

    def currentNode(self) -> Any:
        """The chosen node, or None."""
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node (or its ID); one that is not offered counts as None."""
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene and node else None
        if not any(node is offered for offered in self.nodes()):
            node = None
        self._combo.blockSignals(True)
        self._combo.setCurrentIndex(self._row_of(node))
        self._combo.blockSignals(False)
        self._become(node)

    def setCurrentNodeID(self, node_id: str) -> None:
        """Choose a node by its ID."""
        self.setCurrentNode(node_id or None)

    def setCurrentNodeIndex(self, index: int) -> None:
        """Choose the node in that row."""
        self.setCurrentNode(self.nodeFromIndex(index))

    def _current_id(self) -> str:
        return self._current.GetID() if self._current is not None else ""

    currentNodeID = Property(str, _current_id, setCurrentNodeID)
    currentNodeId = Property(str, _current_id, setCurrentNodeID)

    # ---- add, rename, remove

    def setBaseName(self, name: str, node_type: str = "") -> None:
        """Name of nodes created here, for one class or for all."""
        for one in (node_type,) if node_type else self.nodeTypes:
            self._base_names[one] = name

    def baseNameForType(self, node_type: str = "") -> str:
        """Name of nodes of that class created here."""
        return self._base_names.get(node_type or (self.nodeTypes or ("",))[0], "")

    baseName = Property(str, lambda self: self.baseNameForType(), setBaseName)

    def addNode(self, node_type: str | None = None) -> Any:
        """Create a node of the first (or the named) class, as 'Create new' does, and return it."""
        node_type = node_type or self.nodeTypes[0]
        node = self._scene.CreateNodeByClass(node_type)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(self._base_names.get(node_type) or node.GetNodeTagName()))
        for entry_type, name, value in self._attributes:
            if node.IsA(entry_type):
                node.SetAttribute(name, value or "")
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        """Remove the chosen node from the scene."""
        if self._current is not None:
            self._scene.RemoveNode(self._current)

    def renameCurrentNode(self) -> None:
        """Ask for a new name, as the menu entry does."""
        name = QtWidgets.QInputDialog.getText(self, "Rename", "New name:")
        if name and self._current is not None:
            self._current.SetName(name)
            self._rebuild()
            self.currentNodeRenamed.emit(name)

    def editCurrentNode(self) -> None:
        """Announce that the user wants to edit the node; Slicer would switch modules."""
        self.nodeAboutToBeEdited.emit(self._current)

    def _on_activated(self, row: int) -> None:
        key = self._combo.itemData(row)
        actions = {_CREATE: self.addNode, _DELETE: self.removeCurrentNode}
        actions |= {_RENAME: self.renameCurrentNode, _EDIT: self.editCurrentNode}
        if key in actions:
            actions[key]()
            self._combo.setCurrentIndex(self._row_of(self._current))
        else:
            self.setCurrentNode(key or None)
            self.nodeActivated.emit(self._current)

    def comboBox(self) -> QtWidgets.QComboBox:
        """The combo box inside."""
        return self._combo


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Combo box in which several nodes can be ticked."""

    checkedNodesChanged = Signal()
    host_signals = {"checkedNodesChanged()": "checkedNodesChanged"}

    def checkedNodes(self) -> tuple[Any, ...]:
        """The ticked nodes that are still offered."""
        return tuple(node for node in self.nodes() if node.GetID() in self.__dict__.get("_ticked", set()))

    def setCheckState(self, node: Any, state: Any) -> None:
        """Tick (2) or untick (0) a node."""
        ticked = self.__dict__.setdefault("_ticked", set())
        checked = int(getattr(state, "value", state)) != 0
        (ticked.add if checked else ticked.discard)(node.GetID())
        self.checkedNodesChanged.emit()

    def checkState(self, node: Any) -> int:
        """2 for ticked, 0 for not."""
        return 2 if node.GetID() in self.__dict__.get("_ticked", set()) else 0
