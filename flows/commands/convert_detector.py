"""Detectors between our folder, scene_graph_benchmark's file and detectron2's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.errors import FlowError

_SUFFIXES = (".pth", ".pt", ".pkl", ".safetensors")
_NEXT = {
    "ours": "in a run `detector_weights: {out}`, for a photo --weights {out}",
    "published": "detector.yaml has its settings",
    "detectron2": "detector.yaml has its settings, with parts that detectron2_model registers",
}
"""What to do with the folder."""
_NAMELESS = (
    "its classes have no names yet, which a run asks for: oscar-flow convert {out} NAMED "
    "--labelmap FILE"
)
_INSIDE = ("detector.json", "detector.pth")
"""Of a folder of ours, or of one written here for another program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a published detector's file may want beside it.

    label_map: names of classes and attributes
    settings:  YAML of the program that made it, for what tensors do not tell
    """

    label_map: Path | None = None
    settings: Path | None = None


def is_detector(source: Path) -> bool:
    """Whether this is a detector, by its name: a folder of one, or a file of weights."""
    if source.is_dir():
        return any((source / name).is_file() for name in _INSIDE)
    return source.suffix in _SUFFIXES


def convert_detector(source: Path, out: Path, *, to: str, beside: Beside) -> list[str]:
    """Turn a detector of one layout into one of another.

    Args:
        source: a folder of ours, or a file of scene_graph_benchmark, detectron2 or Caffe2.
        out: becomes the new folder.
        to: `ours`, `published` or `detectron2`.
        beside: for a file.

    Returns:
        What was done and what was assumed, a line each.

    Raises:
        DetectorError: The source does not fit, or cannot be built in the other program.
        FlowError: There is no such layout for detectors.
    """
    from detector.checkpoints import read_detector, save_detector
    from detector.published.saving import left_out, save_detectron2, save_published

    savers: dict[str, Callable[..., None]] = {
        "ours": save_detector,
        "published": save_published,
        "detectron2": save_detectron2,
    }
    if to not in savers:
        raise FlowError(f"--to {to}: detectors have no such layout; want {', '.join(savers)}")
    loaded = read_detector(source, beside.label_map, beside.settings)
    savers[to](out, loaded.model, loaded.label_map)
    assumed = [f"  {line}" for line in loaded.assumed]
    lost = () if to == "ours" else left_out(loaded.model, for_detectron2=to == "detectron2")
    is_nameless = to == "ours" and loaded.label_map.is_numbered
    after = (_NAMELESS if is_nameless else _NEXT[to]).format(out=out)
    return [
        f"{source}: read as a detector, fingerprint {loaded.fingerprint}",
        *(("its tensors do not tell, so assumed:", *assumed) if assumed else ()),
        *lost,
        f"{out}: written as a detector ({to}); {after}",
    ]
