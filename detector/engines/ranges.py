"""What goes into each convolution: what 8-bit arithmetic needs to know of a detector.

The ranges are those of some photos, measured once and kept beside the detector.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from torch import nn

from detector.errors import CheckpointError
from storage.artifacts import atomic_write_json

FILE_SUFFIX = ".ranges.json"
VERSION = 3
LEAST_LIKENESS = 0.999
"""Mean cosine of region features to float32 that an arithmetic must reach to be the choice."""
_ANEW = "delete the file and measure anew: oscar-flow calibrate DETECTOR PHOTOS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Values between `low` and `high` keep their order in 8 bits, those outside are cut off.

    low:   0 for what comes out of a ReLU, else -high
    high:  above 0
    means: of each channel
    """

    low: float
    high: float
    means: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what is no range."""
        if not (0 < self.high < math.inf and self.low in (0.0, -self.high)):
            raise ValueError(f"{self.low} to {self.high} is no range")
        if not all(self.low <= mean <= self.high for mean in self.means):
            raise ValueError(f"a mean is not between {self.low} and {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Ranges of one detector.

    by_convolution: of the input, by the name of the convolution in `AttributeRCNN`; convolutions
                    without a range are computed in float32
    weights_digest: of the weights they belong to, `digest_of`
    num_photos:     they were measured and judged on
    likeness:       mean cosine of region features with these ranges and in float32; 0 where it was
                    not measured
    likeness_bf16:  the same of bfloat16 instead; 0 where it was not measured
    share:          of the multiplications that is done in 8 bits
    source:         where they come from, for messages
    """

    by_convolution: Mapping[str, Range]
    weights_digest: str
    num_photos: int
    likeness: float = 0.0
    likeness_bf16: float = 0.0
    share: float = 1.0
    source: str = field(default="ranges for 8-bit arithmetic", compare=False)

    @property
    def digest(self) -> str:
        """Eight letters that name these ranges in logs and metadata."""
        text = json.dumps(_content(self), sort_keys=True)
        return sha256(text.encode()).hexdigest()[:8]


def digest_of(model: nn.Module) -> str:
    """SHA-256 over all weights and buffers of a model, hexadecimal."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def ranges_path(weights: Path) -> Path:
    """Where the ranges of a detector lie: in its folder, or beside its one file."""
    if weights.is_dir():
        return weights / f"detector{FILE_SUFFIX}"
    return weights.with_name(weights.name + FILE_SUFFIX)


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write ranges; the file appears whole.

    Raises:
        OSError: Disk full, no permission.
    """
    atomic_write_json(path, {"version": VERSION, **_content(ranges)})


def read_ranges(path: Path) -> Ranges:
    """Read ranges.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise CheckpointError(f"{path}: written by another release; {_ANEW}")
        return Ranges(
            by_convolution={
                str(name): Range(
                    low=float(low), high=float(high), means=tuple(float(mean) for mean in means)
                )
                for name, (low, high, means) in content["ranges"].items()
            },
            weights_digest=str(content["weights"]),
            num_photos=int(content["num_photos"]),
            likeness=float(content["likeness"]),
            likeness_bf16=float(content["likeness_bf16"]),
            share=float(content["share"]),
            source=str(path),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{path}: not ranges of a detector: {problem}; {_ANEW}") from error


def check_ranges(ranges: Ranges, model: nn.Module) -> None:
    """Ranges must have been measured with these weights.

    Raises:
        CheckpointError: They were not.
    """
    if ranges.weights_digest != digest_of(model):
        raise CheckpointError(f"{ranges.source}: measured with other weights; {_ANEW}")


def _content(ranges: Ranges) -> dict[str, object]:
    return {
        "weights": ranges.weights_digest,
        "num_photos": ranges.num_photos,
        "likeness": ranges.likeness,
        "likeness_bf16": ranges.likeness_bf16,
        "share": ranges.share,
        "ranges": {
            name: [each.low, each.high, each.means]
            for name, each in sorted(ranges.by_convolution.items())
        },
    }
