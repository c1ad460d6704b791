"""Combo boxes that show labels and stand for values, one value per parameter of the parameter node."""

from slicer.i18n import tr as _

from MedAELib.anomaly.names import POPULATION, SCAN


class Choices:
    """A combo box of (label, value) pairs. `onChosen(value)` is called when the user picks another one."""

    def __init__(self, comboBox, onChosen):
        self._box, self._onChosen = comboBox, onChosen
        comboBox.connect("currentIndexChanged(int)", self._changed)

    def offer(self, pairs, value):
        """Show these pairs and select `value`; one that is not among them is added as its own label."""
        known = [pair[1] for pair in pairs]
        pairs = list(pairs) if value in known else [*pairs, (str(value), value)]
        shown = [(self._box.itemText(index), self._box.itemData(index)) for index in range(self._box.count)]
        blocked = self._box.blockSignals(True)
        if shown != pairs:
            self._box.clear()
            for label, data in pairs:
                self._box.addItem(label, data)
        self._box.setCurrentIndex([pair[1] for pair in pairs].index(value))
        self._box.blockSignals(blocked)

    @property
    def value(self):
        """The value that is selected."""
        return self._box.itemData(self._box.currentIndex)

    def _changed(self, index):
        if index >= 0:
            self._onChosen(self._box.itemData(index))


def devices(found):
    """(label, value) pairs for the devices that the worker reported, with their memory."""
    pairs = [(_("Automatic"), "auto")]
    for device in found:
        memory = f" ({device.memory_bytes / 2**30:.0f} GB)" if device.memory_bytes else ""
        pairs.append((f"{device.name or device.id}{memory}", device.id))
    return pairs if found else [*pairs, (_("Processor (CPU)"), "cpu")]


PRECISIONS = [
    (_("Automatic"), "auto"),
    (_("32 bit (float32)"), "float32"),
    (_("16 bit (bfloat16)"), "bfloat16"),
    (_("16 bit (float16)"), "float16"),
]

CALIBRATIONS = [
    (_("This scan (default)"), SCAN),
    (_("The normal scans"), POPULATION),
]

PASSES = [
    (_("Automatic"), 0),
    (_("1 (fastest)"), 1),
    (_("2"), 2),
    (_("4"), 4),
    (_("8 (best)"), 8),
]
