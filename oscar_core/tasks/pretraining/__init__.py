"""Pretraining: masked words and whether texts and image belong together (Oscar+)."""

from oscar_core.task import Task
from oscar_core.tasks.pretraining.records import Config

TASK = Task(name="pretraining", config=Config, package=__name__)
