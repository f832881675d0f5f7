"""Pooling of regions as a sparse matrix, for maps whose channels lie together.

What `roi_align` computes is linear in the map: a bin is a weighted sum of cells. Written as such
it reads whole rows of channels, can be applied to any linear image of the map (`engines`), and to
only some of the bins.

Letters: B images, R regions of all images together, P bins per side, h x w cells, C channels,
N bins of all regions, T cells that count in some bin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BinSums:
    """A sparse matrix of N bins by B * h * w cells, row after row; bins in order region, y, x.

    cells:  (T,) int64
    shares: (T,) float32
    starts: (N,) int64    where in the two above a bin begins
    """

    cells: Tensor
    shares: Tensor
    starts: Tensor

    def of(self, rows: Tensor) -> Tensor:
        """Values of the bins: (B * h * w, C) -> (N, C)."""
        sums: Tensor = torch.embedding_bag(
            rows, self.cells, self.starts, False, 0, False, self.shares.to(rows.dtype)
        )[0]
        return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionShares:
    """How much of each row and column of cells goes into the bins of R regions.

    down:   (R, P, h) float32
    across: (R, P, w) float32
    images: (R,) int64         number of each region's image
    """

    down: Tensor
    across: Tensor
    images: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def bins(self, first: int, last: int, step: int = 1) -> BinSums:
        """Every `step`-th bin (per axis) of the regions from `first` to before `last`."""
        down, across = self.down[first:last, ::step], self.across[first:last, ::step]
        height, width = down.shape[2], across.shape[2]
        y, x = _NonZeros.of(down), _NonZeros.of(across)
        sizes = (y.sizes[:, :, None] * x.sizes[:, None, :]).flatten()
        ends = sizes.cumsum(0)
        starts = ends - sizes
        bins = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        place = torch.arange(len(bins)) - starts[bins]
        num_across = across.shape[1]
        line, column = bins // num_across, _line_of(bins, down.shape[1], num_across)
        x_sizes = x.sizes.flatten()[column]
        in_y = y.starts[line] + torch.div(place, x_sizes, rounding_mode="floor")
        in_x = x.starts[column] + place % x_sizes
        offsets = self.images[first:last] * height
        rows = y.cells[in_y] + offsets[line // down.shape[1]]
        return BinSums(
            cells=rows * width + x.cells[in_x],
            shares=y.values[in_y] * x.values[in_x],
            starts=starts,
        )


def region_shares(
    boxes: Sequence[Tensor],
    height: int,
    width: int,
    *,
    pooled_size: int,
    stride: int,
    sampling_ratio: int,
) -> RegionShares:
    """Where the bins of boxes lie on a map of height x width cells.

    Args:
        boxes: B tensors (n, 4) float32, pixels of the network input; not clipped here.
        height: Of the map [cells].
        width: Of the map [cells].
        pooled_size: P.
        stride: Pixels per cell.
        sampling_ratio: Points per bin and axis; 0 = as many as cells the bin covers, rounded up.

    Source: `specs/detector.md` 4.5.
    """
    left, top, right, bottom = torch.cat(list(boxes)).unbind(dim=1)
    axes = [
        _axis_shares(starts / stride, ends / stride, cells, pooled_size, sampling_ratio)
        for starts, ends, cells in ((top, bottom, height), (left, right, width))
    ]
    numbers = torch.arange(len(boxes))
    counts = torch.tensor([len(group) for group in boxes])
    return RegionShares(
        down=axes[0], across=axes[1], images=torch.repeat_interleave(numbers, counts)
    )


def _axis_shares(
    starts: Tensor, ends: Tensor, num_cells: int, pooled_size: int, sampling_ratio: int
) -> Tensor:
    """Share of each cell in each bin along one axis, (R, P, cells); `starts` to `ends` [cells].

    Points up to one cell outside count as on the border, those farther out as 0.
    """
    bin_sizes = (ends - starts).clamp(min=1.0) / pooled_size
    nums = torch.full_like(starts, sampling_ratio) if sampling_ratio > 0 else bin_sizes.ceil()
    numbers = torch.arange(int(nums.max()) if len(nums) else 1)
    bin_starts = starts[:, None] + torch.arange(pooled_size) * bin_sizes[:, None]
    within = (numbers + 0.5) * bin_sizes[:, None] / nums[:, None]
    points = bin_starts[:, :, None] + within[:, None, :]
    is_used = (points >= -1) & (points <= num_cells) & (numbers < nums[:, None])[:, None, :]
    points = points.clamp(0, num_cells - 1)
    low = points.floor()
    share = is_used / nums[:, None, None]
    shares = starts.new_zeros((len(starts), pooled_size, num_cells))
    shares.scatter_add_(2, low.long(), (1 - (points - low)) * share)
    shares.scatter_add_(2, (low + 1).clamp(max=num_cells - 1).long(), (points - low) * share)
    return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class _NonZeros:
    """The cells that count, of the bins of some regions along one axis.

    cells:  (t,)    one after the other
    values: (t,)
    sizes:  (R, P)  how many a bin has
    starts: (R * P,) where they begin
    """

    cells: Tensor
    values: Tensor
    sizes: Tensor
    starts: Tensor

    @classmethod
    def of(cls, shares: Tensor) -> "_NonZeros":
        is_some = shares != 0
        sizes = is_some.sum(dim=2)
        return cls(
            cells=torch.nonzero(is_some)[:, 2],
            values=shares[is_some],
            sizes=sizes,
            starts=sizes.flatten().cumsum(0) - sizes.flatten(),
        )


def _line_of(bins: Tensor, num_down: int, num_across: int) -> Tensor:
    """Number of the column of bins (region and x) that a bin (region, y, x) stands in."""
    return bins // (num_down * num_across) * num_across + bins % num_across
