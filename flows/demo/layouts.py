"""The demo's records in the layouts of the published data sets: plain JSON values.

Layouts: COCO `instances` and `captions` (cocodataset.org, data format), Visual Genome v1.2
`objects.json`, `attributes.json`, `image_data.json`, VQA v2 questions and annotations
(visualqa.org, download page), GQA balanced questions (GQA download page), VinVL label map.
COCO and Visual Genome boxes are x, y, width, height: a box x1..x2 with both ends inside is
x2 - x1 + 1 pixels wide.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flows.demo.scenes import ATTRIBUTE_FAMILIES, HEIGHT, WIDTH, Scene
from flows.demo.shapes import CLASS_NAMES
from flows.demo.texts import SceneQuestion, SceneTexts

Json = dict[str, object]

_NUM_ANSWERS = 10
_ANSWER_TYPES = {"exist": "yes/no", "count": "number"}
_GQA_TYPES = {
    "colour": ("query", "attr", "color"),
    "pattern": ("query", "attr", "pattern"),
    "object": ("query", "obj", "categoryAttr"),
    "exist": ("verify", "obj", "exist"),
    "relation": ("choose", "rel", "relChooser"),
    "position": ("choose", "attr", "positionChoose"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictured:
    """One scene with its number and what is said about it; `number` has twelve digits."""

    number: int
    scene: Scene
    texts: SceneTexts

    @property
    def file_name(self) -> str:
        """Name of the picture's file."""
        return f"{self.number:012d}.jpg"


def coco_instances(pictures: Sequence[Pictured]) -> Json:
    """Boxes in the layout of `instances_*.json`; category ids as in the label map."""
    annotations = []
    for picture in pictures:
        for place, placed in enumerate(picture.scene.objects):
            x, y, width, height = _xywh(placed.box)
            annotations.append(
                {
                    "id": picture.number * 10 + place,
                    "image_id": picture.number,
                    "category_id": CLASS_NAMES.index(placed.class_name) + 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "segmentation": [
                        [x, y, x + width, y, x + width, y + height, x, y + height],
                    ],
                    "iscrowd": 0,
                }
            )
    categories = [
        {"id": number, "name": name, "supercategory": "object"}
        for number, name in enumerate(CLASS_NAMES, start=1)
    ]
    return {"images": _images(pictures), "annotations": annotations, "categories": categories}


def coco_captions(pictures: Sequence[Pictured], language: str) -> Json:
    """Captions in the layout of `captions_*.json`; language "en" or "zh"."""
    annotations = []
    for picture in pictures:
        texts = picture.texts
        said = texts.captions_chinese if language == "zh" else texts.captions_english
        annotations += [
            {"id": picture.number * 10 + place, "image_id": picture.number, "caption": caption}
            for place, caption in enumerate(said)
        ]
    return {"images": _images(pictures), "annotations": annotations}


def visual_genome(pictures: Sequence[Pictured]) -> dict[str, list[Json]]:
    """The contents of `objects.json`, `attributes.json` and `image_data.json`, by file stem."""
    objects: list[Json] = []
    attributes: list[Json] = []
    images: list[Json] = []
    for picture in pictures:
        rows, described = [], []
        for place, placed in enumerate(picture.scene.objects):
            x, y, width, height = _xywh(placed.box)
            row = {
                "object_id": picture.number * 10 + place,
                "x": x,
                "y": y,
                "w": width,
                "h": height,
                "names": [placed.class_name],
                "synsets": [f"{placed.class_name}.n.01"],
            }
            rows.append(row | {"merged_object_ids": []})
            described.append(row | {"attributes": list(placed.attributes)})
        url = f"images/{picture.scene.split}/{picture.file_name}"
        objects.append({"image_id": picture.number, "objects": rows, "image_url": url})
        attributes.append({"image_id": picture.number, "attributes": described})
        images.append(
            {
                "image_id": picture.number,
                "url": url,
                "width": WIDTH,
                "height": HEIGHT,
                "coco_id": None,
                "flickr_id": None,
            }
        )
    return {"objects": objects, "attributes": attributes, "image_data": images}


def vqa_questions(pictures: Sequence[Pictured], split: str) -> Json:
    """The Chinese questions in the layout of `v2_OpenEnded_mscoco_*_questions.json`."""
    questions = [
        {"image_id": picture.number, "question": asked.chinese, "question_id": number}
        for picture, number, asked in _numbered(pictures)
    ]
    return _vqa_head(split) | {"task_type": "Open-Ended", "questions": questions}


def vqa_annotations(pictures: Sequence[Pictured], split: str) -> Json:
    """Ten equal answers a question, in the layout of `v2_mscoco_*_annotations.json`.

    `question_type` is the kind of question (`flows.demo.texts.QUESTION_KINDS`).
    """
    annotations = [
        {
            "question_type": asked.kind,
            "multiple_choice_answer": asked.answer_chinese,
            "answers": [
                {"answer": asked.answer_chinese, "answer_confidence": "yes", "answer_id": place}
                for place in range(1, _NUM_ANSWERS + 1)
            ],
            "image_id": picture.number,
            "answer_type": _ANSWER_TYPES.get(asked.kind, "other"),
            "question_id": number,
        }
        for picture, number, asked in _numbered(pictures)
    ]
    return _vqa_head(split) | {"annotations": annotations}


def gqa_questions(pictures: Sequence[Pictured]) -> dict[str, Json]:
    """The English questions in the layout of `*_balanced_questions.json`; counts are not asked."""
    return {
        str(number): {
            "semantic": [],
            "semanticStr": "",
            "entailed": [str(number)],
            "equivalent": [str(number)],
            "question": asked.english,
            "imageId": f"{picture.number:012d}",
            "isBalanced": True,
            "groups": {"global": asked.kind, "local": f"{asked.kind}-{asked.english}"},
            "answer": asked.answer_english,
            "fullAnswer": f"{asked.answer_english.capitalize()}.",
            "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
            "types": dict(
                zip(("structural", "semantic", "detailed"), _GQA_TYPES[asked.kind], strict=True)
            ),
        }
        for picture, number, asked in _numbered(pictures)
        if asked.kind in _GQA_TYPES
    }


def label_map(pictures: Sequence[Pictured]) -> Json:
    """Class and attribute names with indices from 1 and their counts, VinVL's layout."""
    attributes = [name for family in ATTRIBUTE_FAMILIES.values() for name in family]
    shown = [placed for picture in pictures for placed in picture.scene.objects]
    counts = {name: sum(p.class_name == name for p in shown) for name in CLASS_NAMES}
    attribute_counts = {name: sum(name in p.attributes for p in shown) for name in attributes}
    predicates = ("left of", "right of")
    return {
        "label_to_idx": _to_index(CLASS_NAMES),
        "idx_to_label": _from_index(CLASS_NAMES),
        "attribute_to_idx": _to_index(attributes),
        "idx_to_attribute": _from_index(attributes),
        "predicate_to_idx": _to_index(predicates),
        "idx_to_predicate": _from_index(predicates),
        "object_count": counts,
        "attribute_count": attribute_counts,
        "predicate_count": dict.fromkeys(predicates, 0),
    }


def _to_index(names: Sequence[str]) -> Mapping[str, int]:
    return {name: number for number, name in enumerate(names, start=1)}


def _from_index(names: Sequence[str]) -> Mapping[str, str]:
    return {str(number): name for number, name in enumerate(names, start=1)}


def _images(pictures: Sequence[Pictured]) -> list[Json]:
    return [
        {"id": p.number, "file_name": p.file_name, "width": WIDTH, "height": HEIGHT}
        for p in pictures
    ]


def _vqa_head(split: str) -> Json:
    return {
        "info": {"description": "Rendered scenes of the oscar-flow demo", "version": "1.0"},
        "license": {"name": "MIT"},
        "data_type": "scenes",
        "data_subtype": split,
    }


def _numbered(pictures: Sequence[Pictured]) -> Iterable[tuple[Pictured, int, SceneQuestion]]:
    for picture in pictures:
        for place, asked in enumerate(picture.texts.questions):
            yield picture, picture.number * 10 + place, asked


def _xywh(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = box
    return x1, y1, x2 - x1 + 1, y2 - y1 + 1
