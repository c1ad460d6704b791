"""The legend of a map of z in the slice views: its colours, the threshold, and how often normal tissue exceeds it."""

from statistics import NormalDist

from slicer.i18n import tr as _

_SIZE, _POSITION = (0.08, 0.28), (0.98, 0.88)  # shares of the view: the text grows with it; a corner without anatomy


def percent(share):
    """A share in per cent, with two digits where it is small."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def rateOf(threshold):
    """The share of normal tissue above a z."""
    return 1 - NormalDist().cdf(threshold)


def tell(node, threshold, calibrated):
    """Give a map its legend, or let the one that it has tell another threshold; without a model the rate is nominal.

    The user may have hidden it in the module Colors: then it stays hidden. Slicer before 5.0 has no legends: then there
    is none.
    """
    import slicer

    colors = getattr(slicer.modules, "colors", None)
    logic = colors.logic() if colors is not None else None
    if not hasattr(logic, "AddDefaultColorLegendDisplayNode") or node.GetScene() is None:
        return None
    legend = logic.GetColorLegendDisplayNode(node)
    if legend is None:
        legend = logic.AddDefaultColorLegendDisplayNode(node)
        legend.SetLabelFormat("%.0f")
        legend.SetNumberOfLabels(5)
        legend.SetSize(*_SIZE)
        legend.SetPosition(*_POSITION)
    told = _("z > {threshold:.2f}\n{rate} of normal") if calibrated else _("z > {threshold:.2f}\nnominally {rate}")
    legend.SetTitleText(told.format(threshold=threshold, rate=percent(rateOf(threshold))))
    return legend


def refresh():
    """Let every legend see which volumes the slice views show now: Slicer looks only when a legend changes."""
    import slicer

    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
        legend.Modified()
