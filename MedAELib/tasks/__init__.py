"""What a user can ask for, by the name of each task. The panel reads this, so it needs neither torch nor a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskInfo:
    """What people read of a task: its title and one sentence on what it does."""

    title: str
    description: str


TASKS: dict[str, TaskInfo] = {
    "denoise": TaskInfo(
        title="Denoise",
        description="Removes noise and keeps intensities: Hounsfield units stay Hounsfield units.",
    ),
    "anomaly": TaskInfo(
        title="Unlike normal",
        description="Shows where a scan is unlike the training data, as a calibrated map and a table of regions.",
    ),
    "compress": TaskInfo(
        title="Compress",
        description="Makes a compressed volume that keeps a promise, and shows what was lost.",
    ),
    "translate": TaskInfo(
        title="Translate",
        description="Makes another kind of scan of it, such as T2 of T1, with a model trained on registered pairs.",
    ),
    "features": TaskInfo(
        title="Features",
        description="Describes a volume or its slices in numbers, as a table, and finds similar known cases.",
    ),
    "explain": TaskInfo(
        title="Explain",
        description="Shows the nearest typical scan and what differs from it, beside a median filter's.",
    ),
    "train": TaskInfo(
        title="Train a model",
        description="Learns a model of your own from volumes of the scene or a folder, without labels.",
    ),
}
