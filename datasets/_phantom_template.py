"""The anatomy behind the phantom: the ICBM152 template of nilearn's wheel, as maps that a subject is made from.

Coordinates are millimetres (x, y, z) in RAS order throughout; maps are (C, D, H, W).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uadbench.arrays import FloatArray
from uadbench.config import cache_folder
from uadbench.datasets._phantom_cache import read_arrays, write_arrays
from uadbench.datasets._phantom_files import template_files
from uadbench.errors import DataError
from uadbench.identity import code_of, digest, file_hash

FINE = ("fluid", "white", "detail", "depth")
"""Channels at 1 mm: log-odds of fluid against tissue, of white against grey matter, what the template's T1 adds to that
(fractions of white matter's intensity), millimetres to the edge of the brain (positive inside)."""
COARSE = ("ventricle", "open", "iron", "supra", "white", "depth")
"""Other channels at 3 mm: millimetres to the lateral ventricles, how undecided the cortex is, how much iron darkens T2,
what is cerebrum and not below it, fraction of white matter, millimetres to the edge of the brain."""

LOW, HIGH = (-78, -112, -72), (78, 80, 87)
"""Centres of the first and the last voxel of all maps, millimetres (x, y, z)."""


class Maps:
    """Several maps on one regular grid, read by linear interpolation; beyond the border they go on as at it."""

    def __init__(self, channels: Tensor) -> None:
        """Take maps (C, D, H, W)."""
        self.shape = channels.shape[1:]
        self._table = channels.flatten(1).T.float().contiguous()
        d, h, w = self.shape
        self._last = torch.tensor([[w - 1], [h - 1], [d - 1]], dtype=torch.float32)
        corners = [(z * h + y) * w + x for z in (0, 1) for y in (0, 1) for x in (0, 1)]
        self._corners = torch.tensor(corners, dtype=torch.int32)

    def at(self, places: Tensor) -> Tensor:
        """Return the values (C, N) at `places` (N, 3): x, y, z in -1..1, the centres of the outermost voxels.

        `embedding_bag` is twice as fast as `grid_sample`, because all channels of a voxel lie together.
        """
        low, step = self._axes(places)
        d, h, w = self.shape
        first = (low[2] * h + low[1]) * w + low[0]
        rest = 1 - step
        weights = []
        for z in (rest[2], step[2]):
            for zy in (z * rest[1], z * step[1]):
                weights += [zy * rest[0], zy * step[0]]
        rows = first.int()[:, None] + self._corners
        values = F.embedding_bag(rows, self._table, per_sample_weights=torch.stack(weights, dim=1), mode="sum")
        return values.T.contiguous()

    def _axes(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return along x, y, z the voxel below each place and how far it is from there to the next, (3, N) each."""
        position = (places.T.contiguous() + 1) * (self._last / 2)
        position = torch.minimum(position.clamp(min=0), self._last)
        low = torch.minimum(position.floor(), self._last - 1)
        return low, position - low


@dataclass(frozen=True)
class Template:
    """The maps of the template; all grids share the corners `low` and `high`, millimetres (x, y, z).

    Attributes:
        fine: the channels FINE, 1 mm.
        push: 3 channels, 3 mm: points out of the lateral ventricles, length 1 at their walls and less elsewhere.
        normal: 3 channels, 3 mm: points into the brain, length 1 at its surface and 0 far from it.
        coarse: the channels COARSE, 3 mm.
        low: centre of the first voxel.
        high: centre of the last voxel.
    """

    fine: Maps
    push: Maps
    normal: Maps
    coarse: Maps
    low: Tensor
    high: Tensor

    def places(self, points: Tensor) -> Tensor:
        """Return `points` (N, 3), millimetres, in the -1..1 of the maps."""
        return (points - self.low) * (2 / (self.high - self.low)) - 1


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Return the template's maps, from the cache folder if they were made before.

    Raises:
        DataError: if the template cannot be read.
    """
    files = template_files()
    sources = (Path(__file__), Path(__file__).with_name("_phantom_prepare.py"))
    code = [code_of(path.read_text(encoding="utf-8")) for path in sources]
    path = cache_folder() / "phantom" / f"template-{digest([code, [file_hash(file) for file in files]])}.npz"
    arrays = read_arrays(path)
    if arrays is None or set(arrays) != {"fine", "coarse"}:
        from uadbench.datasets._phantom_prepare import prepare

        t1, grey, white = (_read_map(file) for file in files)
        arrays = prepare(t1, grey, white)
        write_arrays(path, arrays)
    fine, coarse = torch.from_numpy(arrays["fine"]), torch.from_numpy(arrays["coarse"])
    low, high = (torch.tensor(corner, dtype=torch.float32) for corner in (LOW, HIGH))
    return Template(Maps(fine), Maps(coarse[:3]), Maps(coarse[3:6]), Maps(coarse[6:]), low, high)


def _read_map(path: Path) -> FloatArray:
    """Return one file as float32 0..255 (D, H, W) on the grid from LOW to HIGH; what the file lacks is zero."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nibabel.load(path)
        whole = np.asarray(image.dataobj).transpose(2, 1, 0)
    except (OSError, EOFError, zlib.error, ImageFileError) as error:
        raise DataError(f"{path} cannot be read: {error}; install nilearn anew") from error
    first = [round(v) for v in image.affine[:3, 3]]
    box = [slice(lo - f, hi - f + 1) for lo, hi, f in zip(LOW, HIGH, first, strict=True)]
    return np.asarray(whole[box[2], box[1], box[0]], dtype=np.float32)
