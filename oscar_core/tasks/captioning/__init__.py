"""Captioning: say in a sentence what an image shows."""

from oscar_core.task import Task
from oscar_core.tasks.captioning.records import Config

TASK = Task(name="captioning", config=Config, package=__name__)
