"""Stage: a seed -> rendered scenes with every kind of annotation, laid out like a download."""

import os
from dataclasses import dataclass
from pathlib import Path

from flows.progress import SILENT, Progress

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `render_scenes`. seed: of every scene."""

    num_train: int = 2000
    num_val: int = 100
    num_test: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        """A run needs something to learn from and something to be judged on."""
        if min(self.num_train, self.num_test) < 1 or self.num_val < 0:
            raise ValueError("render_scenes: num_train and num_test must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    scenes: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int
    num_objects: int
    num_captions: int
    num_questions: int
    num_held_out: int
    majority_answer: str
    majority_share: float


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Draw the scenes and write their files; equal settings give equal bytes."""
    from flows.demo.write import write_demo

    facts = write_demo(
        outputs.scenes,
        seed=config.seed,
        num_train=config.num_train,
        num_val=config.num_val,
        num_test=config.num_test,
        workers=int(os.environ.get("OMP_NUM_THREADS", "1")),
        on_image=lambda done, total: progress.at(done, total, unit="scenes"),
    )
    num_images = sum(facts.num_images.values())
    return Summary(
        num_in=num_images,
        num_out=num_images,
        num_quarantined=0,
        num_objects=facts.num_objects,
        num_captions=facts.num_captions,
        num_questions=facts.num_questions,
        num_held_out=facts.num_held_out,
        majority_answer=facts.majority_answer,
        majority_share=facts.majority_share,
    )
