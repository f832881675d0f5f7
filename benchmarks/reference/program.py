"""Runs microsoft/scene_graph_benchmark on photos and keeps what each stage gave.

Started as a process of its own, because it puts the program's folder on the path and names that
torch and numpy have dropped back into place: python -m benchmarks.reference.program REQUEST.json.
Nothing of the program is copied; it needs yacs beside what we have, and no compiled extension.
"""

import importlib.util
import json
import sys
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

_UNUSED = ("timm", "timm.models", "timm.models.layers", "einops", "cv2", "scipy", "tqdm", "six")
"""What networks and tools other than this one import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the program is to do.

    program:  folder of its clone
    packages: folder with yacs; "" where it is installed
    settings: its settings file, and changes to it by full name
    photos:   files; their stages are written to out/<number>.safetensors
    """

    program: str
    packages: str
    settings: str
    changes: tuple[tuple[str, Any], ...]
    weights: str
    photos: tuple[str, ...]
    out: str
    threads: int

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)))

    @staticmethod
    def read(path: Path) -> "Request":
        """Back from `write`."""
        content = json.loads(path.read_text())
        for name in ("changes", "photos"):
            content[name] = tuple(content[name])
        return Request(**content)


def run(request: Request) -> None:
    """Build the program's model, load the weights, see every photo."""
    torch.set_num_threads(request.threads)
    sys.path[:0] = [request.program, *filter(None, [request.packages])]
    put_back_dropped_names()
    stand_in_for_absent_modules()
    config = _settings(request)
    model = _model(config, request.weights)
    for number, photo in enumerate(request.photos):
        with torch.no_grad():
            stages = _see(model, config, Path(photo))
        kept = {name: tensor.detach().contiguous().clone() for name, tensor in stages.items()}
        save_file(kept, Path(request.out) / f"{number}.safetensors")


def put_back_dropped_names() -> None:
    """Names the program imports that torch and numpy no longer have."""
    six: Any = types.ModuleType("torch._six")
    six.PY3, six.string_classes, six.int_classes = True, (str,), int
    sys.modules["torch._six"] = six
    for place, name, value in (
        (torch, "_six", six),
        (torch.hub, "_download_url_to_file", torch.hub.download_url_to_file),
        (np, "float", float),
        (np, "int", int),
        (np, "bool", bool),
    ):
        if name not in vars(place):
            setattr(place, name, value)


def stand_in_for_absent_modules() -> None:
    """Modules that are imported and not used: by other networks, or where torchvision is not."""
    for name in _UNUSED:
        top = name.partition(".")[0]
        if top in sys.modules or importlib.util.find_spec(top) is None:
            _put_empty(name)
    extension = "maskrcnn_benchmark._C"  # empty, so that any use of it fails
    sys.modules[extension] = types.ModuleType(extension)
    _of("maskrcnn_benchmark")._C = sys.modules[extension]


def _put_empty(name: str) -> None:
    """A module under a name, all of whose names are a class that does nothing."""

    def anything(wanted: str) -> type:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        return _Unused

    module: Any = sys.modules.setdefault(name, types.ModuleType(name))
    module.__getattr__ = anything


class _Unused:
    """Whatever an absent module would give."""


def _settings(request: Request) -> Any:
    """The program's configuration, merged as its tools merge it."""
    config = _of("maskrcnn_benchmark.config").cfg
    scenes = _of("scene_graph_benchmark.config").sg_cfg
    config.set_new_allowed(True)
    config.merge_from_other_cfg(scenes)
    config.set_new_allowed(False)
    config.merge_from_file(request.settings)
    config.merge_from_list([part for change in request.changes for part in change])
    config.freeze()
    return config


def _model(config: Any, weights: str) -> Any:
    """Its network with the weights, by its own loader, every tensor of it filled."""
    model = _of("scene_graph_benchmark.AttrRCNN").AttrRCNN(config)
    model.eval()
    given = torch.load(weights, map_location="cpu", weights_only=True)["model"]
    _of("maskrcnn_benchmark.utils.model_serialization").load_state_dict(model, given)
    for name, tensor in model.state_dict().items():
        if name in given and not torch.equal(tensor, given[name]):
            raise RuntimeError(f"the program did not take over {name!r}")
    return model


def _transforms(config: Any) -> Any:
    """Its way from a photo to the network's input, without its data sets."""
    data: Any = types.ModuleType("maskrcnn_benchmark.data")
    data.__path__ = [str(Path(_of("maskrcnn_benchmark").__path__[0]) / "data")]
    sys.modules.setdefault(data.__name__, data)
    return _of("maskrcnn_benchmark.data.transforms").build_transforms(config, is_train=False)


def _see(model: Any, config: Any, photo: Path) -> dict[str, Tensor]:
    """One photo through the program, alone; all stages by name."""
    transforms = _transforms(config)
    pixels, _ = transforms(Image.open(photo).convert("RGB"), None)
    stages = {"input": pixels}
    heard: dict[str, Any] = {}
    ears = [
        module.register_forward_hook(_listener(heard, name))
        for name, module in (
            ("trunk", model.backbone),
            ("rpn_head", model.rpn.head),
            ("rpn", model.rpn),
            ("res5", model.roi_heads.box.feature_extractor),
            ("predictor", model.roi_heads.box.predictor),
            ("attributes", model.attribute.predictor),
        )
    ]
    [found] = model([pixels])
    for ear in ears:
        ear.remove()
    stages["c4"] = heard["trunk"][0][0][0]
    (logits,), (deltas,) = heard["rpn_head"][0]
    stages |= {"rpn_logits": logits[0], "rpn_deltas": deltas[0]}
    stages["proposals"] = heard["rpn"][0][0][0].bbox
    features = heard["res5"][0].mean(dim=(2, 3))
    stages["features"] = features
    stages["class_logits"] = heard["predictor"][0][0]
    stages["box_deltas"] = model.roi_heads.box.predictor.bbox_pred(features)
    stages |= _found(found)
    stages["attribute_logits"] = heard["attributes"][0][0]
    for name, changes in VARIANTS.items():
        stages |= _variant(model, config, heard, stages, name, changes)
    return stages


VARIANTS: dict[str, tuple[Literal[0, 1, 2], bool]] = {
    f"filter{number}{'' if is_ignored else '_regressed'}": (number, is_ignored)
    for number in get_args(Literal[0, 1, 2])
    for is_ignored in (True, False)
}
"""The filter, and whether box regression is ignored."""


def _variant(
    model: Any,
    config: Any,
    heard: dict[str, Any],
    stages: dict[str, Tensor],
    name: str,
    changes: tuple[int, bool],
) -> dict[str, Tensor]:
    """The same logits through another of the program's filters."""
    number, is_ignored = changes
    other = config.clone()
    other.defrost()
    other.merge_from_list(
        ["MODEL.ROI_HEADS.NMS_FILTER", number, "TEST.IGNORE_BOX_REGRESSION", is_ignored]
    )
    build = _of("maskrcnn_benchmark.modeling.roi_heads.box_head.inference")
    keep = build.make_roi_box_post_processor(other)
    deltas = None if is_ignored else stages["box_deltas"]
    logits = stages["class_logits"]
    [found] = keep((logits, deltas), heard["rpn"][0][0], heard["res5"][0])
    return {
        f"{name}.boxes": found.bbox,
        f"{name}.labels": found.get_field("labels"),
        f"{name}.scores": found.get_field("scores"),
    }


def _found(found: Any) -> dict[str, Tensor]:
    """The program's result, rescaled to the photo by the caller."""
    names = {"labels": "labels", "scores": "scores", "attr_labels": "attribute_ids"}
    names |= {"attr_scores": "attribute_scores", "box_features": "kept_features"}
    fields = {ours: found.get_field(name) for name, ours in names.items()}
    return {"boxes": found.bbox, **fields}


def _listener(heard: dict[str, Any], name: str) -> Callable[[Any, Any, Any], None]:
    def listen(_module: Any, _inputs: Any, output: Any) -> None:
        heard.setdefault(name, []).append(output)

    return listen


def _of(name: str) -> Any:
    """A module of the program."""
    return importlib.import_module(name)


if __name__ == "__main__":
    run(Request.read(Path(sys.argv[1])))
