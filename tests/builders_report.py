"""A finished run on disk, written by the real writers over a few rendered scenes.

Predictions and losses are made up; shards, done-marks, states and truth are real.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree

import numpy as np

from flows.demo.scenes import ATTRIBUTE_FAMILIES, SPLITS, Scene, make_scene
from flows.demo.shapes import CLASS_NAMES
from flows.demo.texts import scene_texts
from flows.demo.write import NAMESPACE, image_number, write_demo
from flows.identity import IDENTITY
from flows.run_folder import DONE, StepState
from flows.stages import list_images, translate_tags
from storage.annotation_shards import write_annotations
from storage.artifacts import atomic_write_json, atomic_write_text, write_done
from storage.quarantine import QUARANTINE_NAME, write_quarantine
from storage.records import (
    Annotations,
    CaptionAnnotation,
    ImageRegions,
    Quarantined,
    QuestionAnnotation,
)
from storage.region_slices import RegionSettings, write_regions

FINGERPRINT = "f" * 64
SEED = 3
BEGAN = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)


@dataclass
class MadeRun:
    """What the report stage takes; `clock` is where the next step begins [seconds]."""

    folder: Path
    steps: dict[str, Path] = field(default_factory=dict)
    photos: dict[str, Path] = field(default_factory=dict)
    truth: Path | None = None
    clock: float = 0.0

    def place(self, step: str) -> Path:
        self.steps[step] = self.folder / f"{step}-{FINGERPRINT[:12]}"
        self.steps[step].mkdir(parents=True, exist_ok=True)
        return self.steps[step]

    def done(self, step: str, seconds: float, summary: Mapping[str, object], **config) -> None:
        """Mark a step as done, a second after the one before."""
        folder = self.steps[step]
        atomic_write_json(folder / IDENTITY, {"stage": step, "config": config})
        peak = 400_000_000 + 9_000_000 * len(self.steps)
        usage = {"seconds": seconds, "cpu_seconds": 1.7 * seconds, "peak_bytes": peak}
        write_done(folder, FINGERPRINT, {**summary, **usage})
        began = BEGAN + timedelta(seconds=self.clock)
        ended = began + timedelta(seconds=seconds)
        self.clock += seconds + 1
        state = StepState(
            step=step,
            folder=folder.name,
            fingerprint=FINGERPRINT,
            state=DONE,
            attempt=1,
            started_at=began.strftime("%Y-%m-%dT%H:%M:%SZ"),
            updated_at=ended.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=seconds,
        )
        atomic_write_json(self.folder / "state" / f"{step}.json", asdict(state))


def make_photos(folder: Path, *, num_train: int = 6, num_test: int = 8) -> MadeRun:
    """Scenes, their list, their regions and tags: a run over photos nobody described."""
    made = MadeRun(folder)
    scenes_at = made.place("render_scenes") / "scenes"
    write_demo(scenes_at, seed=SEED, num_train=num_train, num_val=0, num_test=num_test, workers=1)
    made.photos = {str(at): scenes_at / "images" / name for at, name in enumerate(SPLITS)}
    made.truth = scenes_at / "truth.json"
    total = num_train + num_test
    made.done("render_scenes", 24, {"num_in": total, "num_out": total}, seed=SEED)
    folder = made.place("list_images")
    listed = list_images.run(
        list_images.Config(
            collections=dict.fromkeys(made.photos, list_images.Reading(namespace=NAMESPACE))
        ),
        list_images.Inputs(photos=made.photos),
        list_images.Outputs(images=folder / "images"),
    )
    made.done("list_images", 0.4, asdict(listed))
    _detect(made, num_train, num_test)
    atomic_write_text(made.folder / "config.yaml", f"seed: {SEED}\nrender_scenes:\n  num_test: 8\n")
    return made


def make_run(
    folder: Path,
    *,
    num_train: int = 6,
    num_test: int = 8,
    caption: Callable[[str], str] = lambda text: text,
) -> MadeRun:
    """The same with annotations and every branch; `caption` changes what is predicted."""
    made = make_photos(folder, num_train=num_train, num_test=num_test)
    annotations = annotations_of(num_train, num_test)
    place = made.place("collect_annotations")
    write_annotations(place / "annotations", annotations)
    dropped = [
        Quarantined(
            image_id=f"{NAMESPACE}/9", reason="no-such-image", detail=f"captions.json: row {at}"
        )
        for at in range(9)
    ] + [Quarantined(image_id="", reason="empty-caption", detail="captions.json: row 77: no text")]
    write_quarantine(place / QUARANTINE_NAME, dropped)
    made.done("collect_annotations", 2.2, {"num_captions": len(annotations.captions)})
    for step, seconds in (("train_detector", 151.0), ("pretrain", 163.0)):
        write_losses(made.place(step) / "losses.jsonl", 700 if step == "pretrain" else 320)
        made.done(step, seconds, {"num_steps": 700})
    _scores(made, "score_detector", detector_scores())
    test = [scene for scene in scenes_of(num_train, num_test) if scene.split == "test"]
    for task in ("captioning", "retrieval", "vqa"):
        write_losses(made.place(f"{task}_train") / "losses.jsonl", 400)
        made.done(f"{task}_train", 80, {"num_steps": 400}, settings={"language": "zh"})
        made.place(f"{task}_predict")
    predict_captions(made, test, caption)
    predict_retrieval(made, test)
    predict_answers(made, annotations)
    for task, scores in task_scores().items():
        made.done(f"{task}_predict", 14, {"num_out": len(test)})
        _scores(made, f"{task}_score", scores)
    return made


def copied(made: MadeRun, folder: Path) -> MadeRun:
    """The same run in another folder, to be changed; its photos stay where they are."""
    copytree(made.folder, folder)
    steps = {step: folder / place.name for step, place in made.steps.items()}
    return replace(made, folder=folder, steps=steps)


def scenes_of(num_train: int, num_test: int) -> list[Scene]:
    numbers = {"train": num_train, "test": num_test}
    return [make_scene(SEED, split, at) for split, num in numbers.items() for at in range(num)]


def image_id_of(scene: Scene) -> str:
    return f"{NAMESPACE}/{image_number(scene.split, scene.index):012d}"


def annotations_of(num_train: int, num_test: int) -> Annotations:
    captions, questions = [], []
    for scene in scenes_of(num_train, num_test):
        texts, image_id = scene_texts(scene), image_id_of(scene)
        for at, text in enumerate(texts.captions_chinese):
            captions.append(
                CaptionAnnotation(
                    image_id=image_id,
                    caption_id=f"{image_id}#{at}",
                    text=text,
                    language="zh",
                    split=scene.split,
                    source="captions_zh",
                )
            )
        for at, asked in enumerate(texts.questions):
            questions.append(
                QuestionAnnotation(
                    image_id=image_id,
                    question_id=f"{image_id}?{at}",
                    question=asked.chinese,
                    answers=(asked.answer_chinese,) * 10,
                    language="zh",
                    split=scene.split,
                    source="vqa",
                    question_type=asked.kind,
                    answer_type="other",
                )
            )
    return Annotations(captions=tuple(captions), questions=tuple(questions))


def write_losses(path: Path, num_steps: int) -> None:
    rng = np.random.default_rng(num_steps)
    lines = []
    for step in range(1, num_steps + 1):
        masked = 3.1 * math.exp(-step / 180) + 0.5 + 0.12 * rng.random()
        contrast = 1.1 / (1 + math.exp((step - 300) / 80)) + 0.05 * rng.random()
        region = 2.4 * math.exp(-step / 120) + 0.1 + 0.08 * rng.random()
        phase = "windows" if step <= num_steps // 4 else "whole photos"
        row = {
            "step": step,
            "phase": phase,
            "total": masked + contrast + region,
            "masked_words": masked,
        }
        lines.append(json.dumps({**row, "contrast": contrast, "regions": region}))
    atomic_write_text(path, "".join(line + "\n" for line in lines))


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    atomic_write_text(path, "".join(lines))


def predict_captions(made: MadeRun, scenes: list[Scene], caption: Callable[[str], str]) -> None:
    folder = made.steps["captioning_predict"] / "predictions"
    first = [scene_texts(scene).captions_chinese[0] for scene in scenes]
    for name, shift in (("right", 0), ("features_shuffled", 1), ("shuffled", 2)):
        write_rows(
            folder / f"{name}.jsonl",
            (
                {
                    "image_id": image_id_of(scene),
                    "caption": caption(first[(at + (shift or at % 5 == 4)) % len(first)]),
                    "log_probability": -1.5,
                }
                for at, scene in enumerate(scenes)
            ),
        )


def predict_retrieval(made: MadeRun, scenes: list[Scene]) -> None:
    folder = made.steps["retrieval_predict"] / "predictions"
    ids = [image_id_of(scene) for scene in scenes]
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(len(ids), len(ids))) + 2.4 * np.eye(len(ids))
    atomic_write_json(folder / "candidates.json", ids)
    for name in ("right", "features_shuffled", "shuffled"):
        write_rows(
            folder / f"{name}.jsonl",
            (
                {
                    "caption_id": f"{ids[at]}#0",
                    "image_id": ids[at],
                    "text": scene_texts(scene).captions_chinese[0],
                    "scores": [round(float(score), 4) for score in scores[at]],
                }
                for at, scene in enumerate(scenes)
            ),
        )


def predict_answers(made: MadeRun, annotations: Annotations) -> None:
    folder = made.steps["vqa_predict"] / "predictions"
    asked = [each for each in annotations.questions if each.split == "test"]
    rng = np.random.default_rng(2)
    for name, share in (("right", 0.8), ("features_shuffled", 0.3), ("shuffled", 0.28)):
        write_rows(
            folder / f"{name}.jsonl",
            (
                {
                    "question_id": each.question_id,
                    "image_id": each.image_id,
                    "question": each.question,
                    "answer": each.answers[0] if rng.random() < share else "红",
                    "confidence": 0.7,
                    "question_type": each.question_type,
                    "answers": sorted(set(each.answers)),
                }
                for each in asked
            ),
        )


def detector_scores() -> dict[str, float]:
    return {
        "ap50": 0.934,
        "map": 0.712,
        "recall_100": 0.771,
        "attribute_accuracy": 0.893,
        "colour_accuracy": 0.981,
        "pattern_accuracy": 0.764,
        "size_accuracy": 0.934,
        "matched": 812.0,
    }


def task_scores() -> dict[str, dict[str, float]]:
    """Plausible scores, the controls beside them."""
    return {
        "captioning": {
            "cider": 3.57,
            "cider_shuffled": 0.62,
            "cider_features_shuffled": 0.94,
            "bleu_4": 0.51,
            "bleu_4_shuffled": 0.31,
            "bleu_4_features_shuffled": 0.34,
            "colour_precision": 0.83,
            "colour_precision_shuffled": 0.21,
            "colour_precision_features_shuffled": 0.27,
        },
        "retrieval": {
            "t2i.r1": 0.71,
            "t2i.r1_shuffled": 0.01,
            "t2i.r1_features_shuffled": 0.06,
            "i2t.r1": 0.74,
            "i2t.r1_shuffled": 0.02,
            "i2t.r1_features_shuffled": 0.05,
        },
        "vqa": {
            "accuracy": 0.781,
            "accuracy_shuffled": 0.331,
            "accuracy_features_shuffled": 0.344,
            "majority": 0.168,
        },
    }


def _scores(made: MadeRun, step: str, values: Mapping[str, float]) -> None:
    versions = {"segmenter": "jieba 0.42.1", "scorer": "pycocoevalcap 1.2", "java": "25.0.2"}
    place = made.place(step)
    atomic_write_json(place / "scores.json", {"values": values, "versions": versions})
    made.done(step, 9, {"num_out": len(values)})


def _detect(made: MadeRun, num_train: int, num_test: int) -> None:
    regions_at = made.place("detect") / "regions"
    write_regions(
        regions_at,
        map(_regions, scenes_of(num_train, num_test)),
        RegionSettings(detector="made up", feature_width=4),
    )
    made.done("detect", 64, {"num_in": num_train + num_test, "num_out": num_train + num_test})
    place = made.place("translate_tags")
    summary = translate_tags.run(
        translate_tags.Config(domain="rendered_scenes"),
        translate_tags.Inputs(regions=regions_at),
        translate_tags.Outputs(tags=place / "tags", coverage=place / "coverage.json"),
    )
    made.done("translate_tags", 1.1, asdict(summary))


def _regions(scene: Scene) -> ImageRegions:
    """True boxes, sure and nearly exact, then fillers that nobody believes in."""
    rng = np.random.default_rng([SEED, scene.index])
    names = [placed.class_name for placed in scene.objects]
    boxes = [placed.box for placed in scene.objects]
    words = [placed.attributes for placed in scene.objects]
    sure = np.sort(rng.uniform(0.8, 0.99, len(names)))[::-1]
    num_more = 10 - len(names)
    names += [CLASS_NAMES[at % len(CLASS_NAMES)] for at in range(num_more)]
    boxes += [(10 + 9 * at, 20, 90 + 9 * at, 130) for at in range(num_more)]
    words += [("red", "plain", "small")] * num_more
    attributes = [name for family in ATTRIBUTE_FAMILIES.values() for name in family]
    return ImageRegions(
        image_id=image_id_of(scene),
        content_hash="0" * 64,
        height=240,
        width=320,
        boxes=np.array(boxes, np.float32),
        features=np.zeros((10, 4), np.float16),
        class_ids=np.array([1 + CLASS_NAMES.index(name) for name in names], np.int16),
        confidences=np.concatenate([sure, np.linspace(0.18, 0.03, num_more)]).astype(np.float32),
        attribute_ids=np.array(
            [[1 + attributes.index(word) for word in each] for each in words], np.int16
        ),
        attribute_scores=np.full((10, 3), 0.9, np.float32),
        class_names=tuple(names),
        attribute_names=tuple(tuple(each) for each in words),
    )
