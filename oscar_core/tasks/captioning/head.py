"""The model of captioning."""

from oscar_core.config import OscarConfig
from oscar_core.models import CaptionModel
from oscar_core.task import Knowledge
from oscar_core.tasks.captioning.records import Config


def build_model(config: Config, knowledge: Knowledge, encoder: OscarConfig) -> CaptionModel:
    """Word head on a new encoder."""
    return CaptionModel(encoder, is_tied=config.is_tied, freezes_embedding=config.freezes_embedding)
