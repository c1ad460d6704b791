"""CTK's numeric widgets: slider with spin box, range slider, spin box."""

from __future__ import annotations

import math
from typing import Any

from PySide6 import QtCore, QtWidgets

from .ctk_properties import parent_of, stored

Signal, Property = QtCore.Signal, QtCore.Property
_STEPS = 1000  # positions of the drawn slider; values themselves are doubles
_LARGEST = 1e12  # QDoubleSpinBox shows infinities badly


class ctkDoubleSpinBox(QtWidgets.QDoubleSpinBox):
    """Spin box of doubles with CTK's extra properties."""

    stored(locals(), decimalsOption=(int, 0), setMode=(int, 0), invertedControls=(bool, False))


class ctkSliderWidget(QtWidgets.QWidget):
    """Slider and spin box that hold one double."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    stored(
        locals(),
        tracking=(bool, True),
        singleStep=(float, 1.0),
        pageStep=(float, 10.0),
        tickInterval=(float, 0.0),
        spinBoxVisible=(bool, True),
        orientation=(int, 1),
        tickPosition=(int, 0),
        spinBoxAlignment=(int, 4),
        invertedAppearance=(bool, False),
        invertedControls=(bool, False),
    )

    def __init__(self, *arguments: Any) -> None:
        super().__init__(parent_of(arguments))
        self._minimum, self._maximum, self._value, self._decimals = 0.0, 100.0, 0.0, 2
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._spin = QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(self.setValue)
        self._slider.sliderMoved.connect(self._on_slider)
        self._show()

    def _changed_singleStep(self) -> None:
        self._spin.setSingleStep(self.singleStep)

    def _changed_spinBoxVisible(self) -> None:
        self._spin.setVisible(self.spinBoxVisible)

    def _on_slider(self, position: int) -> None:
        self.setValue(self._minimum + (self._maximum - self._minimum) * position / _STEPS)

    def _show(self) -> None:
        for widget in (self._slider, self._spin):
            widget.blockSignals(True)
        self._spin.setDecimals(self._decimals)
        self._spin.setRange(max(self._minimum, -_LARGEST), min(self._maximum, _LARGEST))
        self._spin.setValue(self._value)
        width = self._maximum - self._minimum
        if width > 0 and math.isfinite(width):
            self._slider.setValue(round((self._value - self._minimum) / width * _STEPS))
        for widget in (self._slider, self._spin):
            widget.blockSignals(False)

    def setValue(self, value: float) -> None:
        """Set the value, clamped to the range and rounded to the decimals."""
        clamped = round(min(max(float(value), self._minimum), self._maximum), self._decimals)
        if clamped != self._value:
            self._value = clamped
            self._show()
            self.valueIsChanging.emit(clamped)
            self.valueChanged.emit(clamped)

    def setRange(self, minimum: float, maximum: float) -> None:
        """Set both ends of the range; the value follows."""
        self._minimum, self._maximum = float(minimum), float(maximum)
        self.setValue(self._value)
        self._show()

    def setMinimum(self, value: float) -> None:
        """Set the lower end; the upper end moves along when it must."""
        self.setRange(value, max(self._maximum, value))

    def setMaximum(self, value: float) -> None:
        """Set the upper end; the lower end moves along when it must."""
        self.setRange(min(self._minimum, value), value)

    def setDecimals(self, count: int) -> None:
        """Set the number of decimals shown and kept."""
        self._decimals = int(count)
        self.setValue(self._value)
        self._show()

    def setSuffix(self, text: str) -> None:
        """Set the unit shown after the value."""
        self._spin.setSuffix(text)

    def setPrefix(self, text: str) -> None:
        """Set the text shown before the value."""
        self._spin.setPrefix(text)

    value = Property(float, lambda self: self._value, setValue)
    minimum = Property(float, lambda self: self._minimum, setMinimum)
    maximum = Property(float, lambda self: self._maximum, setMaximum)
    decimals = Property(int, lambda self: self._decimals, setDecimals)
    suffix = Property(str, lambda self: self._spin.suffix, setSuffix)
    prefix = Property(str, lambda self: self._spin.prefix, setPrefix)


class ctkDoubleSlider(ctkSliderWidget):
    """Slider of doubles without a spin box."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._spin.hide()


class ctkRangeWidget(QtWidgets.QWidget):
    """Two doubles, lower and upper, inside a range."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    rangeChanged = Signal(float, float)
    stored(
        locals(),
        singleStep=(float, 1.0),
        decimals=(int, 2),
        tracking=(bool, True),
        suffix=(str, ""),
        prefix=(str, ""),
        symmetricMoves=(bool, False),
    )

    def __init__(self, *arguments: Any) -> None:
        super().__init__(parent_of(arguments))
        self._range = (0.0, 99.0)
        self._values = (0.0, 99.0)
        self._boxes = (QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox())
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for box in self._boxes:
            layout.addWidget(box)
            box.valueChanged.connect(lambda _value: self.setValues(*(one.value for one in self._boxes)))
        self._show()

    def _show(self) -> None:
        for box, value in zip(self._boxes, self._values):
            box.blockSignals(True)
            box.setRange(*self._range)
            box.setValue(value)
            box.blockSignals(False)

    def setValues(self, lower: float, upper: float) -> None:
        """Set both values, in order and clamped to the range."""
        low, high = self._range
        values = tuple(min(max(value, low), high) for value in sorted((float(lower), float(upper))))
        before, self._values = self._values, (values[0], values[1])
        self._show()
        if before[0] != values[0]:
            self.minimumValueChanged.emit(values[0])
        if before[1] != values[1]:
            self.maximumValueChanged.emit(values[1])
        if before != values:
            self.valuesChanged.emit(*values)

    def setRange(self, minimum: float, maximum: float) -> None:
        """Set the range; the values follow."""
        low, high = sorted((float(minimum), float(maximum)))
        self._range = (low, high)
        self.setValues(*self._values)
        self.rangeChanged.emit(low, high)

    def setMinimumValue(self, value: float) -> None:
        """Set the lower value."""
        self.setValues(value, max(value, self._values[1]))

    def setMaximumValue(self, value: float) -> None:
        """Set the upper value."""
        self.setValues(min(value, self._values[0]), value)

    def setMinimum(self, value: float) -> None:
        """Set the lower end of the range."""
        self.setRange(value, max(value, self._range[1]))

    def setMaximum(self, value: float) -> None:
        """Set the upper end of the range."""
        self.setRange(min(value, self._range[0]), value)

    minimumValue = Property(float, lambda self: self._values[0], setMinimumValue)
    maximumValue = Property(float, lambda self: self._values[1], setMaximumValue)
    minimum = Property(float, lambda self: self._range[0], setMinimum)
    maximum = Property(float, lambda self: self._range[1], setMaximum)


class ctkDoubleRangeSlider(ctkRangeWidget):
    """Range slider without spin boxes."""
