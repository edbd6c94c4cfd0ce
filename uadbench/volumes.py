"""From volumes to the images a method sees, and from its maps back to the volume's own grid.

Slicing, resizing and masking are done here once, for all methods alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Volume
from uadbench.errors import DegenerateScores, Incompatible
from uadbench.method import Batch, Method, derive_seed

CACHED = 2**18
"""Pixels that are resized at a time."""

FULL = 254
"""Byte of a pixel that lies wholly in a mask; even, so that half of it is a byte too."""


@dataclass(frozen=True)
class WorkingGrid:
    """The size at which a method sees slices of a given native size.

    Attributes:
        native: (H, W) of the volume.
        working: (h, w) after resizing so that the longer side is `image_size`; the same as native without resizing.
    """

    native: tuple[int, int]
    working: tuple[int, int]

    @classmethod
    def of(cls, native: tuple[int, int], image_size: int | None) -> WorkingGrid:
        """Return the grid for slices of `native` size and a method's `image_size`."""
        if image_size is None or image_size == max(native):
            return cls(native, native)
        scale = image_size / max(native)
        h, w = (max(1, round(side * scale)) for side in native)
        return cls(native, (h, w))

    def down(self, image: Tensor) -> Tensor:
        """Resize images (N, C, H, W) to the working size, smoothed against aliasing."""
        if self.native == self.working:
            return image
        if not image.numel():
            return image.new_empty(*image.shape[:2], *self.working)
        # As channels of one image they take two thirds of the time; a few at a time stay in the processor's cache.
        few = torch.split(image.reshape(1, -1, *self.native), max(1, CACHED // math.prod(self.native)), dim=1)
        small = [functional.interpolate(x, self.working, mode="bilinear", antialias=True) for x in few]
        return torch.cat(small, dim=1).reshape(*image.shape[:2], *self.working)

    def down_mask(self, mask: Tensor) -> Tensor:
        """Resize masks bool (N, H, W); True where at least half of the area is (areas are rounded to about 1/254)."""
        if self.native == self.working or not mask.numel():
            return mask if mask.numel() else mask.new_empty(len(mask), *self.working)
        # torch resizes 4 interleaved channels of bytes in a tenth of the time: four slices are one picture.
        area = functional.interpolate(_interleaved(mask), self.working, mode="bilinear", antialias=True)
        return area.reshape(-1, *self.working)[: len(mask)] >= FULL // 2

    def up(self, anomaly_map: Tensor) -> Tensor:
        """Resize maps (N, h, w) back to the native size, without what was padded."""
        anomaly_map = anomaly_map[:, : self.working[0], : self.working[1]]
        if self.native == self.working:
            return anomaly_map
        return functional.interpolate(anomaly_map[:, None], self.native, mode="bilinear", align_corners=False)[:, 0]


def _interleaved(mask: Tensor) -> Tensor:
    """Return masks bool (N, H, W) as bytes (N/4, 4, H, W) in channels-last order, `FULL` where they are True."""
    count, h, w = mask.shape
    four = np.zeros((-(-count // 4), h, w, 4), np.uint8)
    for i in range(4):
        part = mask[i::4].numpy().view(np.uint8)
        four[: len(part), ..., i] = part
    four *= FULL
    return torch.from_numpy(four).permute(0, 3, 1, 2)


def common_size(sizes: Iterable[tuple[int, int]], image_size: int | None) -> tuple[int, int]:
    """Return the working size that slices of all native `sizes` fit into."""
    working = [WorkingGrid.of(native, image_size).working for native in sizes]
    return max(h for h, _ in working), max(w for _, w in working)


@dataclass(frozen=True)
class Planes:
    """The slices of one volume at a method's working size, or the whole volume as one image.

    Attributes:
        image: float32 (N, C, h, w), or (1, C, D, h, w) for methods with `ndim = 3`.
        foreground: bool (N, h, w) or (1, D, h, w); None if not known.
        index: which slices they are, (N,); all of them for `ndim = 3`.
        grid: native and working size.
        subject: the subject's key.
    """

    image: Tensor
    foreground: Tensor | None
    index: tuple[int, ...]
    grid: WorkingGrid
    subject: str

    @property
    def keys(self) -> tuple[int, ...]:
        """What the images are called: their slices, or -1 for the whole volume."""
        return self.index if self.image.ndim == 4 else (-1,)


def to_planes(
    volume: Volume, image: FloatArray, method: Method, *, at_least: float = 0.0, size: tuple[int, int] | None = None
) -> Planes:
    """Cut a normalised volume into what `method` sees.

    Args:
        volume: for its foreground.
        image: the normalised image (C, D, H, W).
        method: for `ndim` and `image_size`.
        at_least: leave out slices whose foreground is smaller than this share of the fullest slice's. Slices without
            any foreground are always left out.
        size: (h, w) to which smaller slices are padded with background at the bottom and on the right, so that volumes
            of different sizes give images of one size; not for `ndim = 3`.
    """
    if volume.foreground is None:
        chosen = np.arange(volume.grid[0])
    else:
        area = np.array([np.count_nonzero(part) for part in volume.foreground])
        chosen = np.flatnonzero((area > 0) & (area >= at_least * area.max()))
    grid = WorkingGrid.of(volume.grid[1:], method.image_size)
    if method.ndim == 3:
        chosen = np.arange(volume.grid[0])
    # Mostly the chosen slices follow each other; then nothing is copied before it is resized.
    follow = len(chosen) and chosen[-1] - chosen[0] == len(chosen) - 1
    part = slice(int(chosen[0]), int(chosen[-1]) + 1) if follow else chosen
    same = grid.native == grid.working  # Then nothing is resized, and what a method writes would reach the volume.
    planes = grid.down(_tensor(image[:, part].swapaxes(0, 1), copy=same))
    mask = None
    if volume.foreground is not None:
        mask = grid.down_mask(_tensor(volume.foreground[part], copy=same))
    if size is not None and method.ndim == 2:
        planes = _pad(planes, size)
        mask = None if mask is None else _pad(mask, size)
    if method.ndim == 3:
        planes = planes.transpose(0, 1)[None].contiguous()
        mask = None if mask is None else mask[None]
    return Planes(planes, mask, tuple(int(i) for i in chosen), grid, volume.subject)


def _tensor(array: FloatArray | BoolArray, *, copy: bool) -> Tensor:
    """Return a tensor of an array, whatever its strides; without `copy` it may share the array's memory."""
    return torch.from_numpy(
        np.array(array, order="C") if copy or not array.flags.writeable else np.ascontiguousarray(array)
    )


class ImageStore(Protocol):
    """Where the images of one split lie: in memory (`InMemory`) or in a file (`uadbench.slice_cache`)."""

    @property
    def keys(self) -> Sequence[tuple[str, int]]:
        """Subject and slice of every image; slice -1 is a whole volume."""

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Shape of every image, (C, h, w) or (C, D, h, w)."""

    def get(self, index: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return the images `index`, all of one shape, and their foregrounds, bool, or None if not all are known."""


class InMemory:
    """An `ImageStore` that holds all images in memory."""

    def __init__(self, planes: Iterable[Planes]) -> None:
        """Keep the images of all volumes."""
        kept = list(planes)
        self.keys = [(p.subject, i) for p in kept for i in p.keys]
        self._image = [x for p in kept for x in p.image]
        self.shapes: list[tuple[int, ...]] = [tuple(x.shape) for x in self._image]
        masks = [p.foreground for p in kept if p.foreground is not None]
        self._foreground = [x for mask in masks for x in mask] if len(masks) == len(kept) else None

    def get(self, index: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return images and foregrounds; see `ImageStore`."""
        foreground = None if self._foreground is None else torch.stack([self._foreground[i] for i in index])
        return torch.stack([self._image[i] for i in index]), foreground


class HealthyImages:
    """The healthy images of one split, as `Method.fit` gets them (see `uadbench.method.Images`)."""

    def __init__(self, images: ImageStore | Sequence[Planes], *, seed: int) -> None:
        """Take the images from a store; planes are kept in memory."""
        self._seed = seed
        self._store: ImageStore = InMemory(images) if isinstance(images, Sequence) else images

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, h, w), or (C, D, h, w) of the first volume."""
        return self._store.shapes[0] if len(self) else ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._store.keys)

    def batch(self, index: Sequence[int], *, draw: int = 0) -> Batch:
        """Return the images `index`; another `draw` gives the same image another seed.

        Raises:
            Incompatible: for images of different sizes; see `size` of `to_planes`.
        """
        seeds = [derive_seed(self._seed, *self._store.keys[i], draw) for i in index]
        if len({self._store.shapes[i] for i in index}) > 1:
            raise Incompatible("needs images of one size, and the sizes of these differ")
        image, foreground = self._store.get(index)
        return Batch(image, foreground, torch.tensor(seeds, dtype=torch.int64))

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all images in order."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))


def _pad(x: Tensor, size: tuple[int, ...]) -> Tensor:
    bottom, right = size[0] - x.shape[-2], size[1] - x.shape[-1]
    return functional.pad(x, (0, right, 0, bottom)) if bottom or right else x


@dataclass(frozen=True)
class Scored:
    """What a method says about one volume, on the volume's own grid.

    Attributes:
        anomaly_map: float32 (D, H, W), zero outside the foreground.
        own: the method's own score by slice if it gives one (slice -1 for the whole volume).
        reconstruction: float32 (C, D, H, W), zero outside the foreground; None if the method has none.
    """

    anomaly_map: FloatArray
    own: dict[int, float]
    reconstruction: FloatArray | None = None


def score_volume(
    method: Method,
    volume: Volume,
    image: FloatArray,
    *,
    seed: int,
    device: str,
    batch_size: int,
    size: tuple[int, int] | None = None,
    reconstruct: bool = False,
    each_batch: Callable[[int], None] = lambda n: None,
) -> Scored:
    """Return the anomaly map of one volume.

    Args:
        method: fitted.
        volume: without labels.
        image: its normalised image (C, D, H, W).
        seed: of the run; the seed of each slice follows from it, the subject and the slice.
        device: where to compute.
        batch_size: slices at a time; it does not change the result.
        size: as in `to_planes`.
        reconstruct: ask for the reconstruction too.
        each_batch: called with the number of slices after every batch.

    Raises:
        DegenerateScores: if a value inside the foreground is NaN or infinite, or the shape is wrong.
    """
    planes = to_planes(volume, image, method, size=size)
    out = np.zeros(volume.grid, np.float32)
    rebuilt: FloatArray | None = None
    image_scores: dict[int, float] = {}
    for start in range(0, len(planes.image), batch_size):
        part = slice(start, start + batch_size)
        seeds = torch.tensor(
            [derive_seed(seed, volume.subject, key, 0) for key in planes.keys[part]], dtype=torch.int64
        )
        foreground = None if planes.foreground is None else planes.foreground[part]
        batch = Batch(planes.image[part], foreground, seeds).to(device)
        with torch.no_grad():
            scores, restored = method.score_and_reconstruct(batch) if reconstruct else (method.score(batch), None)
            anomaly_map = torch.as_tensor(scores).float().cpu()
            own = method.image_score(batch)
        expected = (len(batch), *planes.image.shape[2:])
        if tuple(anomaly_map.shape) != expected:
            raise DegenerateScores(f"score() returned the shape {tuple(anomaly_map.shape)}; expected {expected}")
        at = slice(None) if method.ndim == 3 else list(planes.index[part])
        out[at] = planes.grid.up(anomaly_map[0] if method.ndim == 3 else anomaly_map).numpy()
        if restored is not None:
            if restored.shape != batch.image.shape:
                raise DegenerateScores(
                    f"reconstruct() returned the shape {tuple(restored.shape)}; expected {tuple(batch.image.shape)}"
                )
            rebuilt = np.zeros((image.shape[0], *volume.grid), np.float32) if rebuilt is None else rebuilt
            channels = (restored[0] if method.ndim == 3 else restored.transpose(0, 1)).float().cpu()
            for c, channel in enumerate(channels):
                rebuilt[c, at] = planes.grid.up(channel).numpy()
        if own is not None:
            image_scores.update(zip(planes.keys[part], own.float().cpu().tolist(), strict=True))
        each_batch(len(batch))
    if volume.foreground is not None:
        out[~volume.foreground] = 0.0
        if rebuilt is not None:
            rebuilt[:, ~volume.foreground] = 0.0
    if not np.isfinite(out).all():
        bad = int(out.size - np.isfinite(out).sum())
        raise DegenerateScores(f"{bad} of {out.size} scores of {volume.subject} are NaN or infinite")
    if rebuilt is not None and not np.isfinite(rebuilt).all():
        raise DegenerateScores(f"values of the reconstruction of {volume.subject} are NaN or infinite")
    return Scored(out, image_scores, rebuilt)
