"""Visual question answering: choose the answer to a question about an image."""

from oscar_core.task import Task
from oscar_core.tasks.vqa.records import Config

TASK = Task(name="vqa", config=Config, package=__name__)
