"""The model of VQA."""

from oscar_core.config import OscarConfig
from oscar_core.heads import AnswerHead
from oscar_core.hub_config import hub_config
from oscar_core.models import ClassifierModel
from oscar_core.task import Knowledge
from oscar_core.tasks.vqa.records import Config


def build_model(config: Config, knowledge: Knowledge, encoder: OscarConfig) -> ClassifierModel:
    """One output an answer on a new encoder."""
    head = AnswerHead(num_labels=len(knowledge.answers), kind=config.head)
    return ClassifierModel(hub_config(encoder, answer_loss=config.loss, **head.settings()))
