"""Which fast engine runs where, and how one is chosen."""

import logging
from importlib.util import find_spec
from typing import Literal, get_args

import torch

from detector.engine import Engine
from detector.engines.exact import PackedEngine, prepare_exact
from detector.engines.packed import can_pack
from detector.engines.processor import has_bfloat16
from detector.engines.ranges import LEAST_LIKENESS, Ranges
from detector.engines.torch_engine import TorchEngine
from detector.errors import DetectorConfigError
from detector.model import AttributeRCNN
from detector.resnext import ResNetC4

FastEngine = Literal[
    "openvino-int8", "openvino-bf16", "openvino-f32", "torch-bf16", "torch-fp16", "torch-f32"
]
FAST_ENGINES: tuple[str, ...] = get_args(FastEngine)
_WORTH_SHARE = 2 / 3
"""Share of multiplications in 8 bits from which on 8 bits and float32 are faster than bfloat16."""

_LOG = logging.getLogger(__name__)


def prepare_fast(
    model: AttributeRCNN,
    device: str = "cpu",
    *,
    engine: str | None = None,
    ranges: Ranges | None = None,
    compile_with: str | None = None,
) -> Engine:
    """The model ready to detect by the fastest arithmetic that keeps its features.

    Args:
        model: In evaluation mode; stays as it is.
        device: Where the network computes.
        engine: One of `FAST_ENGINES`; None takes what `choose` says.
        ranges: What calibration measured; without them nothing is computed in 8 bits.
        compile_with: As `detector.engines.prepare`.

    Raises:
        CheckpointError: The ranges belong to other weights.
        DetectorConfigError: That engine does not exist or cannot run here.
    """
    name = engine or choose(device, ranges, is_resnet=isinstance(model.trunk, ResNetC4))
    _check(name, device, ranges)
    family, arithmetic = name.split("-")
    if family == "openvino":
        from detector.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(model, arithmetic, ranges=ranges)
    if arithmetic == "f32":
        return prepare_exact(model, device, compile_with=compile_with)
    is_packed = can_pack() and isinstance(model.trunk, ResNetC4)
    if torch.device(device).type == "cpu" and arithmetic == "bf16" and is_packed:
        return PackedEngine.of(model, torch.bfloat16)
    dtype = torch.float16 if arithmetic == "fp16" else torch.bfloat16
    return TorchEngine(model, device, dtype, compile_with=compile_with)


def choose(device: str, ranges: Ranges | None, *, is_resnet: bool = True) -> FastEngine:
    """The fastest engine of this machine, by the order measured in docs/fast.md.

    Args:
        device: Where the network computes.
        ranges: What calibration measured, if it was done.
        is_resnet: Other trunks have no 16-bit engine of torch on a processor.
    """
    if torch.device(device).type != "cpu":
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
        return "torch-bf16" if has_units else "torch-fp16"
    if find_spec("openvino") is None:
        _LOG.info("`pip install 'oscar-flow[openvino]'` computes faster on this processor")
        is_packed = is_resnet and can_pack()
        return "torch-bf16" if has_bfloat16() and is_packed else "torch-f32"
    if ranges is None:
        _LOG.info("no ranges for 8 bits beside the detector: `oscar-flow calibrate` measures them")
        return "openvino-bf16" if has_bfloat16() else "openvino-f32"
    can_16_bits = has_bfloat16() and ranges.likeness_bf16 >= LEAST_LIKENESS
    if ranges.likeness >= LEAST_LIKENESS and (ranges.share >= _WORTH_SHARE or not can_16_bits):
        return "openvino-int8"
    return "openvino-bf16" if can_16_bits else "openvino-f32"


def _check(name: str, device: str, ranges: Ranges | None) -> None:
    """Refuse what cannot run."""
    if name not in FAST_ENGINES:
        raise DetectorConfigError(f"no engine {name!r}; there are {', '.join(FAST_ENGINES)}")
    if not name.startswith("openvino"):
        return
    if torch.device(device).type != "cpu":
        raise DetectorConfigError(f"engine {name!r} computes on the CPU, not on {device!r}")
    if find_spec("openvino") is None:
        raise DetectorConfigError(
            f"engine {name!r} needs OpenVINO: pip install 'oscar-flow[openvino]'"
        )
    if name == "openvino-int8" and ranges is None:
        raise DetectorConfigError(
            f"engine {name!r} needs the ranges of this detector: oscar-flow calibrate DETECTOR "
            "PHOTOS"
        )
