"""The settings of a task: a mapping in configurations and requests, typed in the task itself."""

from collections.abc import Mapping
from typing import Any

from flows.typed import build
from flows.yaml_tree import Tree
from oscar_core.task import load_task


def typed_settings(task: str, settings: Mapping[str, Any]) -> Any:
    """The task's own `Config`.

    Raises:
        ConfigError: An unknown key or a wrong value.
        TaskError: No such task.
    """
    tree = Tree(values={"settings": dict(settings)})
    return build(tree, load_task(task).config, at=("settings",))
