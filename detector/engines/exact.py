"""The exact engine: float32, regions as the model itself finds them up to rounding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detector.anchors import anchors_on_map
from detector.attribute_head import AttributeHead
from detector.box_head import BoxHead
from detector.boxes import corners_to_pool
from detector.config import DetectorConfig
from detector.engine import Engine
from detector.engines.packed import (
    PackedConv,
    PackedLinear,
    PackedTrunk,
    can_pack,
    maps_of,
    rows_of,
)
from detector.engines.packed_regions import PackedRegions
from detector.engines.torch_engine import TorchEngine
from detector.folding import folded_weights
from detector.heads import Heads
from detector.model import AttributeRCNN
from detector.proposal_head import ProposalHead
from detector.resnext import ResNetC4, ResNetRes5


def prepare_exact(
    model: AttributeRCNN, device: str = "cpu", *, compile_with: str | None = None
) -> Engine:
    """The model ready to detect in float32.

    Args:
        model: In evaluation mode; stays as it is.
        device: Where the network computes.
        compile_with: As `detector.engines.prepare`.
    """
    is_cpu = torch.device(device).type == "cpu"
    if is_cpu and can_pack() and isinstance(model.trunk, ResNetC4):
        return PackedEngine.of(model)
    if not is_cpu:
        _keep_all_digits()
    return TorchEngine(model, device, compile_with=compile_with)


def _keep_all_digits() -> None:
    """Float32 on a GPU is float32: by itself torch rounds what convolutions read to 10 bits (TF32).

    For the whole process; torch has no narrower switch that other threads see.
    """
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # untold there
    torch.backends.cuda.matmul.fp32_precision = "ieee"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedProposalHead:
    """`ProposalHead` for inference; logits and deltas come from one product."""

    conv: PackedConv
    outputs: PackedLinear
    num_anchors: int

    @classmethod
    def of(cls, head: ProposalHead, dtype: torch.dtype) -> "PackedProposalHead":
        """A copy of a head."""
        pairs = [folded_weights(conv, nn.Identity()) for conv in (head.logits, head.deltas)]
        return cls(
            conv=PackedConv.of(head.conv, nn.Identity(), dtype),
            outputs=PackedLinear.of(
                torch.cat([weight for weight, _ in pairs]),
                torch.cat([bias for _, bias in pairs]),
                dtype,
            ),
            num_anchors=head.logits.out_channels,
        )

    def __call__(self, c4: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C4, h, w) -> logits (B, A, h, w), deltas (B, 4 * A, h, w), float32."""
        rows = self.outputs(rows_of(self.conv(c4))).float()
        both = maps_of(rows, len(c4), *c4.shape[2:])
        return both[:, : self.num_anchors], both[:, self.num_anchors :]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedEngine(Heads):
    """A ResNet detector on a processor, with packed weights; heads are shared with the model."""

    config: DetectorConfig
    cell_anchors: Tensor
    packed_trunk: PackedTrunk
    proposal_head: PackedProposalHead
    regions: PackedRegions
    box_head: BoxHead
    attribute_head: AttributeHead
    dtype: torch.dtype

    @classmethod
    def of(cls, model: AttributeRCNN, dtype: torch.dtype = torch.float32) -> "PackedEngine":
        """From a model in evaluation mode, whose trunk is a ResNet."""
        assert not model.training, "call eval() first: live statistics cannot be folded"
        assert isinstance(model.trunk, ResNetC4)
        assert isinstance(model.res5, ResNetRes5)
        return cls(
            config=model.config,
            cell_anchors=model.cell_anchors,
            packed_trunk=PackedTrunk.of(model.trunk, dtype),
            proposal_head=PackedProposalHead.of(model.rpn_head, dtype),
            regions=PackedRegions.of(model.res5, model.config, dtype),
            box_head=model.box_head,
            attribute_head=model.attribute_head,
            dtype=dtype,
        )

    @property
    def device(self) -> torch.device:
        """The processor."""
        return self.cell_anchors.device

    @property
    def feature_width(self) -> int:
        """D."""
        return self.regions.width

    def describe(self) -> str:
        """The precision."""
        return "exact" if self.dtype == torch.float32 else "fast:torch-bf16"

    def trunk(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C4, h, w), channels-last in memory."""
        return self.packed_trunk(pixels.to(self.dtype))

    def rpn_head(self, c4: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C4, h, w) -> (B, A, h, w), (B, 4 * A, h, w)."""
        return self.proposal_head(c4)

    def anchors(self, c4: Tensor) -> Tensor:
        """Anchors of all cells of a map."""
        height, width = c4.shape[-2:]
        return anchors_on_map(self.cell_anchors, height, width, self.config.anchor_stride)

    def region_features(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C4, h, w), boxes -> (R, D)."""
        return self.regions(c4, [corners_to_pool(group, self.config) for group in boxes])
