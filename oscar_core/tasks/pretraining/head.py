"""The model of pretraining."""

from oscar_core.config import OscarConfig
from oscar_core.models import PretrainingModel
from oscar_core.task import Knowledge
from oscar_core.tasks.pretraining.records import Config


def build_model(config: Config, knowledge: Knowledge, encoder: OscarConfig) -> PretrainingModel:
    """Word head and the head of matched or not, with a class for each kind of wrong."""
    return PretrainingModel(encoder, num_contrast_classes=config.num_contrast_classes)
