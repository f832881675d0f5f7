"""Settings of the detector's training.

Defaults are the published ones: `specs/detector.md` 2.1 and 13 (`vinvl_x152c4.yaml` over
maskrcnn-benchmark's `defaults.py`). Overlaps are intersection over union.
"""

from dataclasses import dataclass
from typing import Literal

from detector.errors import DetectorConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class CropWarmup:
    """A phase before detection: name what is in small windows cut around the true boxes.

    It stands in for ImageNet pretraining of a small trunk: a window costs a fraction of a photo
    and shows nothing but objects (`specs/demo_learning.md` 3).

    num_steps:          steps of the phase; 0 leaves it out
    window_sizes:       sides of the square windows [pixels of the network input], ascending;
                        an object goes to the smallest that holds it, steps take turns
    windows_per_step:   batch size for each window size
    jitter_pixels:      the window's centre is off the object's by up to this
    learning_rate:      highest rate; linear warm-up, then cosine to 0
    attribute_loss_weight: instead of the detection phase's
    """

    num_steps: int = 400
    window_sizes: tuple[int, ...] = (64, 96)
    windows_per_step: tuple[int, ...] = (64, 32)
    jitter_pixels: int = 6
    learning_rate: float = 3e-3
    attribute_loss_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse sizes that do not belong together."""
        if len(self.window_sizes) != len(self.windows_per_step) or not self.window_sizes:
            raise DetectorConfigError(
                "crop_warmup: `window_sizes` and `windows_per_step` need one length, 1 or more"
            )
        if list(self.window_sizes) != sorted(set(self.window_sizes)):
            raise DetectorConfigError("crop_warmup: `window_sizes` must ascend")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTraining:
    """How a detector is trained.

    num_steps:              detection steps
    images_per_step:        batch size
    optimiser:              "sgd" with momentum, or "adamw"
    learning_rate:          highest rate
    bias_rate_factor:       rate of biases relative to the others (sgd)
    trunk_rate_factor:      rate of trunk and res5 relative to the heads; below 1 where they start
                            from trained weights and the heads do not
    weight_decay:           on all but biases and normalisation
    warmup_steps:           the rate rises linearly over these, from `warmup_factor` of it
    schedule:               "steps": times `decay_factor` at each of `decay_steps`;
                            "cosine": half a cosine down to 0 at `num_steps`
    precision:              "bfloat16" computes trunk, proposals and region features in bfloat16,
                            about twice as fast where the machine has it; weights, losses and the
                            rest stay in float32
    gradient_clip:          largest norm of all gradients together; 0 = no clipping
    frozen_stages:          leading parts of the trunk without gradient (stem counts as one)
    freeze_res5:            no gradient in the last stage either
    cache_trunk:            compute the frozen part of the trunk once per image (and its mirror
                            image) and keep it in memory
    flip_probability:       share of images that are mirrored
    balance:                show images of rare classes, rare attributes or either more often
                            (`sampling.repeat_factors`); "none" shows each once an epoch
    balance_below:          share of the images under which a class or attribute is rare
    group_by_aspect:        landscape and portrait images in separate batches
    pixel_cache_bytes:      resized images are kept in memory up to this; the rest are read again,
                            and until then only their headers are looked at
    batches_ahead:          batches that are read from disk while the one before is computed
    min_size, max_size:     short and longest side in training [pixels]; 0 takes the network's.
                            VinVL's own recipe leaves them at 800 and 1333
    anchor_*, anchors_per_image: labels and sample of the proposal network
    pre_nms_top_n, post_nms_top_n: proposals before and after suppression in training
    region_*, regions_per_image: labels and sample of the box head
    attribute_loss_weight:  published inside the attribute loss
    checkpoint_every:       steps between checkpoints
    crop_warmup:            the phase before; None for none
    """

    seed: int = 0
    num_steps: int = 90_000
    images_per_step: int = 1
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    bias_rate_factor: float = 2.0
    trunk_rate_factor: float = 1.0
    weight_decay: float = 1e-4
    warmup_steps: int = 500
    warmup_factor: float = 1.0 / 3.0
    schedule: Literal["steps", "cosine"] = "steps"
    decay_steps: tuple[int, ...] = (49_000, 65_000)
    decay_factor: float = 0.1
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_clip: float = 0.0
    frozen_stages: int = 2
    freeze_res5: bool = False
    cache_trunk: bool = False
    flip_probability: float = 0.5
    balance: Literal["none", "classes", "attributes", "both"] = "none"
    balance_below: float = 1e-3
    group_by_aspect: bool = True
    pixel_cache_bytes: int = 1 << 30
    batches_ahead: int = 2
    min_size: int = 0
    max_size: int = 0
    anchor_foreground_overlap: float = 0.7
    anchor_background_overlap: float = 0.3
    anchors_per_image: int = 256
    anchor_positive_fraction: float = 0.5
    pre_nms_top_n: int = 12_000
    post_nms_top_n: int = 2_000
    region_foreground_overlap: float = 0.5
    region_background_overlap: float = 0.5
    regions_per_image: int = 384
    region_positive_fraction: float = 0.5
    attribute_loss_weight: float = 0.5
    checkpoint_every: int = 500
    crop_warmup: CropWarmup | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in ("num_steps", "images_per_step", "checkpoint_every", "regions_per_image"):
            if getattr(self, name) < 1:
                raise DetectorConfigError(f"detector training: `{name}` must be at least 1")
        if self.cache_trunk and self.frozen_stages == 0:
            raise DetectorConfigError(
                "detector training: `cache_trunk` needs `frozen_stages` of at least 1; "
                "a part that is trained cannot be computed once"
            )
