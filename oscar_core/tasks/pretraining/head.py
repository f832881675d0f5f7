"""The model of pretraining."""

from oscar_core.config import OscarConfig
from oscar_core.models import PretrainingModel
from oscar_core.task import Knowledge
from oscar_core.tasks.pretraining.records import Config


def build_model(config: Config, knowledge: Knowledge, encoder: OscarConfig) -> PretrainingModel:
    """Word head and three-way head on a new encoder."""
    return PretrainingModel(encoder, num_contrast_classes=3)
