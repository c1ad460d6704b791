"""CTK's other widgets that scripted panels use: collapsible sections, paths, buttons, message box."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .ctk_properties import parent_of, stored

Signal, Property = QtCore.Signal, QtCore.Property
_HEADER = 22  # height in pixels of a collapsible section's header
_UNLIMITED = 16777215  # QWIDGETSIZE_MAX
_WANTED = "visibilityToParent"  # as CTK calls it


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """Section with a header that hides its children when collapsed; expanded, it shows those that nobody has hidden."""

    contentsCollapsed = Signal(bool)
    stored(locals(), collapsedHeight=(int, 10), contentsFrameShape=(int, 0), flat=(bool, False))

    def __init__(self, *arguments: Any) -> None:
        super().__init__(parent_of(arguments))
        self._collapsed = self._forcing = False
        if arguments and isinstance(arguments[0], str):
            self.setText(arguments[0])
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(2, _HEADER + 2, 2, 2)
        self.toggled.connect(lambda expanded: self.setCollapsed(not expanded))

    def setCollapsed(self, collapsed: bool) -> None:
        """Hide or show the contents."""
        collapsed = bool(collapsed)
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setChecked(not collapsed)
        for child in self.children():
            if child.isWidgetType():
                self._show(child)
        self.setMaximumHeight(_HEADER if collapsed else _UNLIMITED)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    collapsed = Property(bool, lambda self: self._collapsed, setCollapsed)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        """Watch a child that is added, and hide it while the section is collapsed."""
        if event.added() and event.child().isWidgetType():
            event.child().installEventFilter(self)
            if self._collapsed:
                self._show(event.child())

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        """Remember what others wanted of a child, and keep it hidden while the section is collapsed."""
        kinds = (QtCore.QEvent.Type.ShowToParent, QtCore.QEvent.Type.HideToParent)
        if event.type() in kinds and not self._forcing:
            child.setProperty(_WANTED, event.type() == kinds[0])
            if self._collapsed:
                self._show(child)
        return False

    def _show(self, child: Any) -> None:
        self._forcing = True
        child.setVisible(not self._collapsed and child.property(_WANTED) is not False)
        self._forcing = False

    def sizeHint(self) -> QtCore.QSize:
        """Size of header and contents."""
        layout = self.layout()
        inner = layout.sizeHint() if layout is not None and not self._collapsed else QtCore.QSize(80, 0)
        return QtCore.QSize(inner.width() + 4, inner.height() + _HEADER + 4)

    minimumSizeHint = sizeHint

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        """Draw the header only; the children draw themselves."""
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, _HEADER)
        option.text = ("▸ " if self._collapsed else "▾ ") + self.text
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButton, option)


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """Group box that can be folded."""

    stored(locals(), collapsed=(bool, False), collapsedHeight=(int, 14))


class ctkCheckBox(QtWidgets.QCheckBox):
    """Check box."""


class ctkComboBox(QtWidgets.QComboBox):
    """Combo box with a text for 'nothing chosen'."""

    stored(locals(), defaultText=(str, ""), forceDefault=(bool, False), elideMode=(int, 3), scrollWheelEffect=(int, 0))


class ctkSearchBox(QtWidgets.QLineEdit):
    """Line edit with a magnifying glass."""

    stored(locals(), showSearchIcon=(bool, False))


class ctkCheckablePushButton(QtWidgets.QPushButton):
    """Push button with a check box in it."""

    checkBoxToggled = Signal(bool)
    stored(
        locals(),
        checkBoxControlsButton=(bool, True),
        checkBoxControlsButtonToggleState=(bool, True),
        checkBoxUserCheckable=(bool, True),
        checkState=(int, 0),
    )


class ctkMenuButton(QtWidgets.QPushButton):
    """Push button with a menu arrow."""


class ctkExpandButton(QtWidgets.QToolButton):
    """Tool button that shows or hides something."""

    stored(locals(), mirrorOnExpand=(bool, False))


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """Text browser as high as its text."""

    stored(locals(), collapsible=(bool, False), collapsed=(bool, False))


class ctkMessageBox(QtWidgets.QMessageBox):
    """Message box that can be told not to come back."""

    stored(locals(), dontShowAgainVisible=(bool, False), dontShowAgain=(bool, False))
    stored(locals(), dontShowAgainSettingsKey=(str, ""))


class ctkPathLineEdit(QtWidgets.QWidget):
    """Editable path with a history and a browse button."""

    Any, Dirs, Files, Drives = 0, 1, 2, 4
    Readable, Writable, Executable, Hidden, System = 0x10, 0x20, 0x40, 0x100, 0x200
    NoDot, NoDotDot = 0x2000, 0x4000
    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    stored(
        locals(),
        nameFilters=("QStringList", ()),
        settingKey=(str, ""),
        filters=("QVariant", 0),
        options=("QVariant", 0),
        label=(str, ""),
        showBrowseButton=(bool, True),
        showHistoryButton=(bool, True),
        sizeAdjustPolicy=("QVariant", 0),
        minimumContentsLength=(int, 0),
        currentFileExtension=(str, ""),
    )

    def __init__(self, *arguments: Any) -> None:
        super().__init__(parent_of(arguments))
        self._edit = QtWidgets.QLineEdit(self)
        self._browse = QtWidgets.QToolButton(self)
        self._browse.setText("…")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        layout.addWidget(self._browse)
        self._edit.textChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path: str) -> None:
        """Set the path."""
        self._edit.setText(str(path))

    currentPath = Property(str, lambda self: self._edit.text, setCurrentPath)

    def addCurrentPathToHistory(self) -> None:
        """Remember the path among the recent ones (kept nowhere on the host)."""

    def comboBox(self) -> QtWidgets.QLineEdit:
        """The editor inside."""
        return self._edit


class ctkDirectoryButton(QtWidgets.QWidget):
    """Button that shows a folder and lets the user choose another."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    stored(locals(), caption=(str, ""), acceptMode=(int, 0), displayAbsolutePath=(bool, True), text=(str, ""))

    def __init__(self, *arguments: Any) -> None:
        super().__init__(parent_of(arguments))
        self._directory = "."
        self._button = QtWidgets.QPushButton(self._directory, self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)

    def setDirectory(self, path: str) -> None:
        """Set the folder; a relative path is made absolute."""
        absolute = str(Path(path).absolute()) if path else path
        if absolute != str(Path(self._directory).absolute()):
            self._directory = absolute
            self._button.setText(absolute)
            self.directoryChanged.emit(absolute)

    directory = Property(str, lambda self: self._directory, setDirectory)


class ctkColorPickerButton(QtWidgets.QPushButton):
    """Button that shows a colour."""

    colorChanged = Signal(QtGui.QColor)
    stored(
        locals(),
        notify={"color": "colorChanged"},
        color=(QtGui.QColor, QtGui.QColor()),
        displayColorName=(bool, True),
    )


class ctkWidgetsUtils:
    """CTK's helpers for widgets."""

    @staticmethod
    def grabWidget(widget: QtWidgets.QWidget) -> QtGui.QImage:
        """Picture of a widget."""
        return widget.grab().toImage()
