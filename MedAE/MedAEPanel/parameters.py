"""Every choice in the panel, kept in the scene so that a saved scene brings it back."""

from typing import Annotated, Union

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLSequenceNode, vtkMRMLTextNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from MedAELib.anomaly.names import CALIBRATIONS, SCAN

PRECISIONS = ["auto", "float32", "bfloat16", "float16"]


@parameterNodeWrapper
class MedAEParameterNode:
    """
    inputVolume - volume, or sequence of volumes, to work on; never changed
    task - name of a task in MedAELib.tasks.TASKS
    model - name of a bundled model or a model folder; empty for the one that fits the input
    denoisedVolume, removedVolume, noiseVolume - nodes that receive the results; None makes new ones
    makeRemoved, makeNoise, makeTrust - whether the removed noise, the noise map and the trust figures are wanted
    preview - whether the slices that are looked at are done first
    adapt, adaptSeconds - whether and how long the model learns from the volume first
    falseAlarms, leastVolume - share of normal tissue above the threshold in %, and the smallest region in ml
    makeTypical, makeOthers, makeSteps - whether the nearest typical scan, the other maps, and the steps by which the
        scan was prepared are wanted too
    calibration - in whose unit scores become z: "scan" (each scan's own) or "population" (the normal scans')
    promise - what a compressed volume promises: "lossless", "max-error", "psnr" or "ratio"
    largestError, decibels, timesSmaller - the promise's value
    makeLost - whether the difference that compression makes is wanted
    latent - the compressed volume that is looked at
    trainSource, trainFolder - "scene" or "folder", and the folder; volumes of the scene are node references
    trainGoal, trainNetwork, trainDims, trainSize - what is learned, by which network; see training.py
    trainStart - model to start from, as `model`; empty for from scratch
    trainKinds, trainObjective - texts in the names that tell kinds of scan, and what is made small; empty: the usual
    trainMinutes, trainName - how long at most, and what the new model is called
    translateSource, translateTarget - kinds of scan that a fusing model knows; empty for the likely ones
    makeUncertainty - of the translation, as a second volume
    featuresPer, knownCases - "volume", "slice" or "segment", and the file of cases to find similar ones among
    segments - the segmentation whose segments the features describe
    rememberCase - whether the features are added to that file
    makeCode - whether the code that the features were made of is wanted, a volume for each channel
    makeAttribution - whether the explanation tells which voxels made the score
    channel - of the code, which is moved at the crosshair; 0 for the largest directions
    strength - how much of the noise is removed, 0..1
    device - "auto", "cpu", "cuda:0", "mps" ...
    precision - one of PRECISIONS
    tile - edge of a tile in voxels; 0 for automatic
    passes - mirror images that the denoised volume is the mean over; 0 for automatic
    """

    inputVolume: Union[vtkMRMLScalarVolumeNode, vtkMRMLSequenceNode, None]  # noqa: UP007  (Slicer reads only this form)
    task: str = "denoise"
    model: str = ""
    denoisedVolume: vtkMRMLScalarVolumeNode
    removedVolume: vtkMRMLScalarVolumeNode
    makeRemoved: bool = True
    noiseVolume: vtkMRMLScalarVolumeNode
    makeNoise: bool = False
    makeTrust: bool = False
    preview: bool = True
    adapt: bool = False
    adaptSeconds: Annotated[int, WithinRange(5, 3600)] = 60
    strength: Annotated[float, WithinRange(0, 1)] = 1.0
    falseAlarms: Annotated[float, WithinRange(0.01, 20)] = 1.0
    leastVolume: Annotated[float, WithinRange(0, 50)] = 0.1
    makeTypical: bool = True
    makeOthers: bool = False
    makeSteps: bool = False
    calibration: Annotated[str, Choice(list(CALIBRATIONS))] = SCAN
    promise: str = "lossless"
    largestError: Annotated[float, WithinRange(0, 10000)] = 2.0
    decibels: Annotated[float, WithinRange(10, 150)] = 50.0
    timesSmaller: Annotated[float, WithinRange(1, 1000)] = 8.0
    makeLost: bool = True
    latent: vtkMRMLTextNode
    trainSource: Annotated[str, Choice(["scene", "folder"])] = "scene"
    trainFolder: str = ""
    trainGoal: str = "denoise"
    trainNetwork: str = "denoising"
    trainDims: Annotated[int, Choice([2, 3])] = 3
    trainSize: Annotated[str, Choice(["small", "medium", "large"])] = "medium"
    trainStart: str = ""
    trainKinds: str = ""
    trainObjective: str = ""
    trainMinutes: Annotated[float, WithinRange(0.1, 10000)] = 30.0
    trainName: str = "my-model"
    translateSource: str = ""
    translateTarget: str = ""
    makeUncertainty: bool = False
    featuresPer: str = "volume"
    segments: vtkMRMLSegmentationNode
    knownCases: str = ""
    rememberCase: bool = False
    makeCode: bool = False
    makeAttribution: bool = False
    channel: Annotated[int, WithinRange(0, 4096)] = 0
    device: str = "auto"
    precision: Annotated[str, Choice(PRECISIONS)] = "auto"
    tile: Annotated[int, WithinRange(0, 1024)] = 0
    passes: Annotated[int, Choice([0, 1, 2, 4, 8])] = 0
