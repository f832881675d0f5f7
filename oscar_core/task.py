"""What the one training loop, prediction and scoring know of a task.

A task is a folder under `oscar_core/tasks/` with one file a verb; its `__init__.py` holds `TASK`.
Naming a task imports no torch: a verb's file is imported when the verb is first used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from oscar_core.config import OscarConfig
from oscar_core.errors import TaskError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from oscar_core.tokens import Tokenizer
    from storage.library import Library

CONTROLS = ("", "shuffled", "features_shuffled")
"""Which pictures a prediction saw. "": the right ones; "shuffled": regions and tags of another
image; "features_shuffled": regions of another image, tags kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What a model knows besides its weights; stored beside them.

    answers: of a classifier, in the order of its outputs; () elsewhere
    """

    tokenizer: "Tokenizer"
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What one batch costs.

    total: () float32, differentiable
    parts: name -> () float32 without gradient, for the loss curves
    terms: objective -> () float32, differentiable; they add up to `total`. Given by tasks that
           say what each is a mean over (`Task.num_targets`), so that it can be taken over a batch
           that several processes compute.
    """

    total: "Tensor"
    parts: Mapping[str, "Tensor"]
    terms: Mapping[str, "Tensor"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """values: metric name -> fraction (CIDEr 0..10); versions: what computed them."""

    values: Mapping[str, float]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Some examples and how much of every batch they make.

    indices:     of the examples, not empty
    share:       relative to the other groups of the phase
    pool:        groups of one pool have one mean loss in common, and one weight
    loss_weight: of the mean loss of its pool in that of a batch; pool 0 has none of its own, but
                 what the others leave of 1
    places:      where the material of each example lies, as numbers in the order of storage (row
                 groups); None: everywhere alike
    window:      so many places are shuffled together, after the places themselves; 0: all
    """

    indices: "Sequence[int] | NDArray[np.integer[Any]]"
    share: float = 1.0
    pool: int = 0
    loss_weight: float | None = None
    places: "NDArray[np.integer[Any]] | None" = None
    window: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of training on some of the examples.

    max_steps:   None: until the end of the training
    goal:        ends the phase once this share of the `probe` examples is answered rightly;
                 None: only the number of steps ends it
    check_every: [steps] between two looks at the probe
    probe:       indices of examples that no group of any phase holds
    """

    name: str
    groups: tuple[Group, ...]
    max_steps: int | None = None
    goal: float | None = None
    check_every: int = 20
    probe: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Refuse pools whose weights contradict each other or leave nothing to pool 0."""
        told = {(group.pool, group.loss_weight) for group in self.groups}
        if any((pool == 0) != (weight is None) or pool < 0 for pool, weight in told):
            raise TaskError(f"phase {self.name!r}: pool 0 has no loss weight, every other has one")
        if len(dict(told)) != len(told):
            raise TaskError(f"phase {self.name!r}: the groups of a pool have one loss weight")
        if min(self.pool_weights().values()) <= 0.0:
            raise TaskError(f"phase {self.name!r}: loss weights are above 0, and below 1 together")

    def pool_weights(self) -> dict[int, float]:
        """What the mean loss of each pool counts in that of a batch; they add up to 1."""
        told = {
            group.pool: group.loss_weight for group in self.groups if group.loss_weight is not None
        }
        return {0: 1.0 - sum(told.values()), **told}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task: its name, its settings, and its verbs by file.

    `Any` stands for the task's own `Config`, `Example`, batch and `Prediction`, which nobody
    outside its folder looks into.

    predict_batch_size: examples predicted at once
    """

    name: str
    config: type[Any]
    package: str
    predict_batch_size: int = 64

    def texts(self, config: Any, library: "Library") -> Iterator[str]:
        """Every training text that the vocabulary should cover (`dataset.py`)."""
        return cast(Iterator[str], self._verb("dataset", "texts")(config, library))

    def answers(self, config: Any, library: "Library") -> tuple[str, ...]:
        """The answers a classifier chooses from; () where the task has none (`dataset.py`)."""
        return cast(tuple[str, ...], self._verb("dataset", "answers")(config, library))

    def examples(self, config: Any, library: "Library", split: str) -> Sequence[Any]:
        """Words and numpy, one a training example or prediction (`dataset.py`).

        Raises:
            TaskError: There is none.
        """
        return cast(Sequence[Any], self._verb("dataset", "examples")(config, library, split))

    def phases(self, config: Any, examples: Sequence[Any]) -> tuple[Phase, ...]:
        """The stretches of a training, in order (`dataset.py`)."""
        return cast(tuple[Phase, ...], self._verb("dataset", "phases")(config, examples))

    def collate(
        self,
        config: Any,
        knowledge: Knowledge,
        examples: Sequence[Any],
        generators: "Sequence[np.random.Generator] | None",
    ) -> Any:
        """Tensors of some examples (`collate.py`).

        Args:
            config: The task's settings.
            knowledge: Vocabulary and answers.
            examples: At least one.
            generators: The random source of each example; None for prediction, without dice.
        """
        return self._verb("collate", "collate")(config, knowledge, examples, generators)

    def build_model(self, config: Any, knowledge: Knowledge, encoder: OscarConfig) -> "nn.Module":
        """Encoder and head with new weights (`head.py`)."""
        return cast("nn.Module", self._verb("head", "build_model")(config, knowledge, encoder))

    def losses(self, config: Any, model: "nn.Module", batch: Any, number: int) -> Losses:
        """What a training batch costs; `number` of the update, from 1 (`train.py`)."""
        return cast(Losses, self._verb("train", "losses")(config, model, batch, number))

    def num_targets(self, config: Any, batch: Any) -> Mapping[str, int]:
        """How many words or rows each objective and curve is a mean over (`train.py`).

        Returns:
            Name of a term or part of `Losses` -> number; {} where all are means over examples.
        """
        count = getattr(import_module(f"{self.package}.train"), "num_targets", None)
        return cast(Mapping[str, int], count(config, batch)) if count is not None else {}

    def num_right(self, config: Any, model: "nn.Module", batch: Any) -> tuple[int, int]:
        """(right, asked) over a probe batch of a phase with a goal (`train.py`)."""
        return cast(tuple[int, int], self._verb("train", "num_right")(config, model, batch))

    def predict(
        self, config: Any, knowledge: Knowledge, model: "nn.Module", batch: Any
    ) -> list[Any]:
        """One `Prediction` an example of a prediction batch (`predict.py`)."""
        return cast(list[Any], self._verb("predict", "predict")(config, knowledge, model, batch))

    def score(
        self, config: Any, predictions: Mapping[str, Sequence[Any]], library: "Library", split: str
    ) -> Scores:
        """Judge predictions by control; a control's names end in `_<control>` (`score.py`)."""
        return cast(Scores, self._verb("score", "score")(config, predictions, library, split))

    def _verb(self, file: str, name: str) -> Callable[..., Any]:
        return cast(Callable[..., Any], getattr(import_module(f"{self.package}.{file}"), name))


def task_names() -> list[str]:
    """The folders under `oscar_core/tasks/`."""
    folder = Path(__file__).parent / "tasks"
    return sorted(path.parent.name for path in folder.glob("*/__init__.py"))


def load_task(name: str) -> Task:
    """Find a task by the name of its folder.

    Raises:
        TaskError: There is no such task.
    """
    if name not in task_names():
        raise TaskError(f"task {name!r} is not known; choose one of {', '.join(task_names())}")
    return cast(Task, import_module(f"oscar_core.tasks.{name}").TASK)
