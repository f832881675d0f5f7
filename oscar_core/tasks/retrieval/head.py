"""The model of retrieval."""

from oscar_core.config import OscarConfig
from oscar_core.heads import AnswerHead
from oscar_core.models import ClassifierModel
from oscar_core.task import Knowledge
from oscar_core.tasks.retrieval.records import Config


def build_model(config: Config, knowledge: Knowledge, encoder: OscarConfig) -> ClassifierModel:
    """Two outputs, "other" and "belongs together", on a new encoder."""
    return ClassifierModel(encoder, AnswerHead(num_labels=2))
