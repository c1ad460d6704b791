"""The sections of single tasks, a .ui file each, put into the panel's frame above 'Advanced'."""

SECTIONS = ("Anomaly", "Compress", "Analyse", "Train", "Models")


def add(frame, resourcePath):
    """Load the sections into the frame of the panel; all widgets by name, as Slicer's childWidgetVariables gives."""
    import slicer

    place = frame.layout().indexOf(slicer.util.childWidgetVariables(frame).advancedCollapsibleButton)
    for offset, name in enumerate(SECTIONS):
        section = slicer.util.loadUI(resourcePath(f"UI/{name}.ui"))
        frame.layout().insertWidget(place + offset, section)
        section.setMRMLScene(slicer.mrmlScene)
    return slicer.util.childWidgetVariables(frame)
