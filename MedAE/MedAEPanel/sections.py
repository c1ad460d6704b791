"""The sections of single tasks, a .ui file each, put into the panel's frame above 'Advanced'."""

SECTIONS = ("Anomaly", "Compress", "Analyse", "Train", "Models")


def add(frame, resourcePath):
    """Load the sections into the frame of the panel; all widgets by name, as Slicer's childWidgetVariables gives."""
    import slicer

    ui = slicer.util.childWidgetVariables(frame)
    place, sections = frame.layout().indexOf(ui.advancedCollapsibleButton), []
    for offset, name in enumerate(SECTIONS):
        section = slicer.util.loadUI(resourcePath(f"UI/{name}.ui"))
        frame.layout().insertWidget(place + offset, section)
        section.setMRMLScene(slicer.mrmlScene)
        sections.append(section)
    _orderTabs(ui.outputsCollapsibleButton, sections)
    return slicer.util.childWidgetVariables(frame)


def _orderTabs(before, sections):
    """Let the Tab key reach the sections where they stand: Qt puts what is added later at the end."""
    import qt

    last = _focusable(before)[-1]
    for widget in [widget for section in sections for widget in _focusable(section)]:
        qt.QWidget.setTabOrder(last, widget)
        last = widget


def _focusable(widget):
    """What the Tab key can reach below a widget, in the order of the .ui file; lists that pop up are windows apart."""
    import qt

    found = []
    for child in (child for child in widget.children() if child.isWidgetType() and not child.isWindow()):
        found += [child] if child.focusPolicy != qt.Qt.NoFocus else []
        found += _focusable(child)
    return found
