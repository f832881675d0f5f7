"""The model of VQA."""

from oscar_core.config import OscarConfig
from oscar_core.heads import AnswerHead
from oscar_core.models import ClassifierModel
from oscar_core.task import Knowledge
from oscar_core.tasks.vqa.records import Config


def build_model(config: Config, knowledge: Knowledge, encoder: OscarConfig) -> ClassifierModel:
    """One output an answer on a new encoder."""
    return ClassifierModel(encoder, AnswerHead(num_labels=len(knowledge.answers), kind=config.head))
