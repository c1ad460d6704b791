"""What scripts ask the logic for: a run that is waited for, or its controller at once; a training; the first scan."""

import os


def run(controller, request, waitForCompletion):
    """Start a run; True waits, and gives its first output or None when it was cancelled, False gives the controller.

    Where no single output was asked for, all nodes by output name take the place of the first. Raises MedAEError.
    """
    controller.apply(request)
    if request.task == "train":
        controller.learning.begin(request.goal.name, request.parameters.get("task", ""))
    if not waitForCompletion:
        return controller
    if controller.wait() == "failed":
        raise controller.failure
    if request.task != "train":
        if request.outputs:
            return controller.results.get(next(iter(request.outputs)))
        return controller.results if controller.state == "done" else None
    return os.path.join(request.goal.folder, controller.report["model"]) if controller.state == "done" else None


def taskRequest(task, inputNode, segmentation, outputs, parameters):
    """Any task on a node; without `outputs` all that it makes. `segmentation` is for the features of segments; the
    parameter `others` has further scans by their kind, for a model that fuses them."""
    from . import segments, translating
    from .request import Request

    further = {}
    others = parameters.get("others") if task in translating.TASKS else None
    if others:
        names = [f"with_{number}" for number in range(len(others))]
        further |= dict(zip(names, others.values()))
        parameters = {**parameters, "others": dict(zip(names, others))}
    if segmentation is not None:
        further["segments"] = segmentation
        parameters = {"segment_names": segments.namesOf(segmentation), **parameters}
    inputs = {"input": inputNode, **further} if further else None
    return Request(inputNode, task, parameters, outputs, inputs=inputs)


def unlikeRequest(inputNode, model, device, rate, leastVolume, calibration, typical, others, steps):
    """The anomaly task on a node, with what is wanted besides the map and its regions."""
    from . import maps
    from .request import Request

    parameters = {
        "model": str(model or ""), "device": device, "rate": float(rate), "least_ml": float(leastVolume),
        "calibration": calibration, "typical": bool(typical), "others": bool(others), "steps": bool(steps),
    }  # fmt: skip
    return Request(inputNode, "anomaly", parameters, maps.outputsOf(typical, others, steps))


def trainRequest(volumes, name, network, minutes, more):
    """A training on nodes, or on what lies below a folder; `more` as the options of the command."""
    from MedAELib.library import free_name

    from . import training
    from .locations import modelsFolder

    nodes = [] if isinstance(volumes, (str, os.PathLike)) else list(volumes)
    parameters = {"network": network, "minutes": float(minutes), **more}
    if not nodes:
        parameters["folder"] = str(volumes)
    return training.request(free_name(name, modelsFolder()), parameters, nodes)


def firstScan():
    """The first volume in the scene that is no result of MedAE, or None."""
    import slicer

    from MedAELib import nodes

    from . import sequences

    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    for node in volumes:
        if node.GetClassName() != "vtkMRMLScalarVolumeNode" or node.GetImageData() is None:
            continue
        if not nodes.provenance(sequences.sequenceOf(node) or node):
            return node
    return None
