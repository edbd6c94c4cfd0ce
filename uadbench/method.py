"""What a method is: it learns what healthy images look like, then says how far an image is from that.

A method is a dataclass. Its fields are its hyper-parameters; `fit` never changes them, and what `fit` learns is kept in
attributes whose names end in an underscore. Slicing, resizing, masking, thresholds and metrics are not its business.

This module imports neither torch nor numpy when it is loaded, so that catalogues can be listed quickly.
"""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field
from typing_extensions import Self

from uadbench.errors import NotFitted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Precision = Literal["fp32", "bf16", "fp16"]
Square = Literal["bright", "dark"]

NEEDS: dict[str, str] = {
    "foreground": "a foreground mask for every image",
    "registered": "volumes registered to one template, all on the same grid",
}
"""What a method may ask of a dataset (`Method.needs`), and how the question is worded."""


def derive_seed(*parts: str | int) -> int:
    """Return a number in [0, 2^62) that depends on all parts and on nothing else, on every machine."""
    text = "\x1f".join(f"{type(p).__name__}:{p}" for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 2


@dataclass(frozen=True)
class Batch:
    """Images as a method sees them. There are no labels in it.

    Attributes:
        image: float32 (B, C, H, W), or (B, C, D, H, W) for methods with `ndim = 3`; healthy tissue lies in about 0..1,
            the background is 0.
        foreground: bool (B, H, W) or (B, D, H, W), True where there is tissue; None if the dataset has no such mask.
        seed: int64 (B,), one number per image, made from the run's seed, the subject and the slice. All randomness of a
            score must come from it: that is what makes a score independent of the batch it is computed in.
    """

    image: Tensor
    foreground: Tensor | None
    seed: Tensor

    def __len__(self) -> int:
        """Return B."""
        return len(self.image)

    def to(self, device: str | torch.device) -> Batch:
        """Return the batch with image and foreground on `device`; the seeds stay on the CPU."""
        foreground = None if self.foreground is None else self.foreground.to(device)
        return Batch(self.image.to(device), foreground, self.seed)

    def __getitem__(self, index: slice) -> Batch:
        """Return the part of the batch that a slice selects."""
        foreground = None if self.foreground is None else self.foreground[index]
        return Batch(self.image[index], foreground, self.seed[index])


class Images(Protocol):
    """The healthy images of one split: slices for `ndim = 2`, whole volumes for `ndim = 3`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image: (C, H, W), or (C, D, H, W) of the first volume."""

    def __len__(self) -> int:
        """Return the number of images."""

    def batch(self, index: Sequence[int], *, draw: int = 0) -> Batch:
        """Return the images `index`. The same image gets another seed with another `draw`."""

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all images in order, `size` at a time."""


Advance = Callable[..., None]
"""advance(n=1, **info): n more units are done; `info` (a loss, say) is shown beside the bar."""


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="uadbench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass
class Run:
    """Where and how a method runs, and its channel to the outside.

    Attributes:
        device: such as "cpu" or "cuda".
        seed: of this run; everything random must follow from it.
        precision: of the arithmetic inside networks.
        folder: the only place where a method may write; a checkpoint in it is found again when the run is resumed. If
            none is given it is a temporary one, removed when the process ends.
        record: facts for the provenance, such as the optimiser steps made and the images seen.
        bar: opens a progress bar, `with run.bar("train", total) as advance: ...`.
        should_stop: True once the user asked to stop; ask it in every long loop.
    """

    device: str = "cpu"
    seed: int = 0
    precision: Precision = "fp32"
    folder: Path = field(default_factory=_temporary)
    record: dict[str, Any] = field(default_factory=dict)
    bar: Callable[[str, int], AbstractContextManager[Advance]] = lambda label, total: nullcontext(_ignore)
    should_stop: Callable[[], bool] = lambda: False


def _ignore(n: int = 1, **info: object) -> None:
    """Advance no bar."""


@dataclass
class Method(ABC):
    """Base of all methods. Subclasses are dataclasses whose fields are hyper-parameters with a type and a range.

    Class facts:
        ndim: 2 sees slices, 3 sees whole volumes.
        needs: what the dataset must offer, words of `NEEDS`.
        accepts_channels: the numbers of channels it can take; None means any.
        family: one word for tables, such as "diffusion".
        trains: has an optimiser loop with the fields `steps` and `batch_size`, so that budgets can be compared.
        mixed_precision: follows `run.precision`; a method that does not is always recorded as fp32.
        stochastic: the score depends on the seed.
        transductive: the score of an image may depend on other test images. Such a method is marked in every table.
        tiny: parameters for tests: fitted within seconds on a CPU.
        presets: named parameter sets; "paper" is the fields' defaults, "quick" is for a CPU.
        reference: the publication.
    """

    ndim: ClassVar[Literal[2, 3]] = 2
    needs: ClassVar[frozenset[str]] = frozenset()
    accepts_channels: ClassVar[tuple[int, ...] | None] = None
    family: ClassVar[str] = "other"
    trains: ClassVar[bool] = False
    mixed_precision: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    transductive: ClassVar[bool] = False
    tiny: ClassVar[Mapping[str, Any]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    reference: ClassVar[str] = ""

    image_size: Annotated[
        int | None,
        Field(ge=8, le=1024, description="longer side of a slice in pixels after resizing; none keeps the native grid"),
    ] = None

    @abstractmethod
    def fit(self, healthy: Images, *, val: Images, run: Run) -> Self:
        """Learn from healthy images only and return self.

        Args:
            healthy: the training images.
            val: healthy validation images, for model selection; may be empty.
            run: device, seed, scratch folder, progress.
        """

    @abstractmethod
    def score(self, batch: Batch) -> Tensor:
        """Return the anomaly map (B, H, W), or (B, D, H, W) for `ndim = 3`. Higher is more anomalous.

        The map of an image depends on that image, its seed and the fitted state only, never on its batch.

        Raises:
            NotFitted: before `fit` or `load`.
        """

    def reconstruct(self, batch: Batch) -> Tensor | None:
        """Return the pseudo-healthy images, shaped like `batch.image`, or None if the method has none."""
        return None

    def score_and_reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return `score(batch)` and `reconstruct(batch)`; methods that need the one for the other compute it once."""
        return self.score(batch), self.reconstruct(batch)

    def image_score(self, batch: Batch) -> Tensor | None:
        """Return one anomaly score per image, (B,), or None to let the protocol reduce the map."""
        return None

    def detects(self) -> frozenset[Square]:
        """Return which of a bright and a dark square this method claims to find. Used by the contract."""
        return frozenset({"bright", "dark"})

    def inputs(self) -> tuple[Path, ...]:
        """Return the files that the method reads besides the data, such as weights; they are part of its identity."""
        return ()

    def unavailable(self) -> str | None:
        """Return why these parameters cannot run on this machine and what to do about it, or None."""
        return None

    def unranked(self) -> str | None:
        """Return why results with these parameters must never rank ("random weights"), or None."""
        return None

    def build(self, shape: tuple[int, ...]) -> None:  # noqa: B027 - methods without networks need none
        """Create the networks for images of `shape` (C, H, W), untrained. Methods that hold networks define it."""

    def save(self, folder: Path) -> None:
        """Write what `fit` learned to `folder`, in a form that is read back without running code."""
        from uadbench.weights import save_fitted

        save_fitted(self, folder)

    def load(self, folder: Path) -> Self:
        """Read back what `save` wrote and return self."""
        from uadbench.weights import load_fitted

        load_fitted(self, folder)
        return self


def require_fitted(method: Method, attribute: str) -> None:
    """Raise NotFitted unless `method` has the fitted `attribute`."""
    if not hasattr(method, attribute):
        raise NotFitted(f"{type(method).__name__}.score() was called before fit(); call fit() or load() first")
