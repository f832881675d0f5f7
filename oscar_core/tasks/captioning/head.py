"""The model of captioning."""

from oscar_core.config import OscarConfig
from oscar_core.hub_config import hub_config
from oscar_core.models import CaptionModel
from oscar_core.task import Knowledge
from oscar_core.tasks.captioning.records import Config


def build_model(config: Config, knowledge: Knowledge, encoder: OscarConfig) -> CaptionModel:
    """Word head on a new encoder."""
    settings = hub_config(
        encoder,
        is_tied=config.is_tied,
        freezes_embedding=config.freezes_embedding,
        label_smoothing=config.label_smoothing,
        drop_worst_ratio=config.drop_worst_ratio,
        drop_worst_after=config.drop_worst_after,
    )
    return CaptionModel(settings)
