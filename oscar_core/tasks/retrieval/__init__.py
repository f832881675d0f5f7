"""Retrieval: find the image of a caption and the caption of an image."""

from oscar_core.task import Task
from oscar_core.tasks.retrieval.records import Config

TASK = Task(name="retrieval", config=Config, package=__name__, predict_batch_size=4)
