"""Runs one training step under torchrun: `python tests/run_training_plan.py FOLDER CONFIG`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from flows.plan import Step
from flows.scale import Scale
from tests.builders_flows import make_execution
from tests.training_stage import Config

if __name__ == "__main__":
    config = Config(**json.loads(sys.argv[2]))
    step = Step(name="train", stage="tests.training_stage", config=config)
    execution = make_execution(Path(sys.argv[1]), [step])
    replace(execution, scale=Scale(engine="torchrun", workers=2)).run_step("train")
