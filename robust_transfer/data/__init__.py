"""Data: splits of uint8 images, tasks, loading, shots, augmentation."""

from robust_transfer.data.augment import Augmentation
from robust_transfer.data.formats import FORMATS, Format
from robust_transfer.data.loading import Dataset, load_task
from robust_transfer.data.split import Split, Task, to_pixels
from robust_transfer.data.survey import DataDescription, describe_data

__all__ = [
    "FORMATS",
    "Augmentation",
    "DataDescription",
    "Dataset",
    "Format",
    "Split",
    "Task",
    "describe_data",
    "load_task",
    "to_pixels",
]
