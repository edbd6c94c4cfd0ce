"""What decides a number besides the method and the data: an explicit, versioned protocol.

The field's rankings depend on such choices more than on the methods. So they are data, written into every result, and
results of different protocols, or of different versions of one, are never averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from uadbench.errors import unknown_name


@dataclass(frozen=True)
class Intensity:
    """How a volume's intensities are brought to one scale, per channel: low -> 0, high -> 1, background = 0.

    Attributes:
        low: percentile of the foreground that becomes 0; darker voxels are clipped to 0.
        high: percentile of the foreground that becomes 1.
        clip_high: whether brighter voxels are clipped to 1. Clipping ties the brightest lesions with the brightest
            healthy tissue, which takes from the brightness baseline what it is good at.
    """

    low: float = 1.0
    high: float = 99.0
    clip_high: bool = False


@dataclass(frozen=True)
class Step:
    """One step of the post-processing chain of anomaly maps, the same for all methods.

    Attributes:
        name: "median", a cube's median over the foreground voxels in it.
        size: edge of the cube in voxels, odd.
    """

    name: Literal["median"]
    size: int


@dataclass(frozen=True)
class Threshold:
    """How the threshold is chosen. Test subjects play no part in it.

    Attributes:
        policy: "healthy_fpr", the lowest threshold at which at most a share `rate` of the voxels of all healthy
            validation subjects together lie above it.
        rate: that share.
    """

    policy: Literal["healthy_fpr"] = "healthy_fpr"
    rate: float = 0.05

    @property
    def labels_used(self) -> str:
        """Which lesion labels take part in the choice."""
        return "none"


@dataclass(frozen=True)
class Protocol:
    """All choices of an evaluation.

    Attributes:
        name: with its version, such as "brain-v1".
        summary: one sentence.
        intensity: normalisation before any method sees an image.
        train_foreground: a training slice has at least this share of the foreground of its volume's fullest slice.
        postprocess: steps applied to every map, in order.
        threshold: the rule for the operating point.
        metrics: names of the metrics, in the order of the table.
        rank_by: the metric that ranks.
        draws: bootstrap samples.
        level: of the confidence intervals.
        bootstrap_seed: of the resampling, the same for all methods so that their draws pair up.
        few: below this number of lesion subjects a table says that n is too small.
    """

    name: str
    summary: str
    intensity: Intensity
    train_foreground: float
    postprocess: tuple[Step, ...]
    threshold: Threshold
    metrics: tuple[str, ...]
    rank_by: str
    draws: int = 2000
    level: float = 0.95
    bootstrap_seed: int = 2023
    few: int = 30

    def as_dict(self) -> dict[str, Any]:
        """Return all choices as plain values, as they are stored with every cell."""
        return asdict(self)


PROTOCOLS: Mapping[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            name="brain-v1",
            summary="volumes; foreground only; threshold from healthy validation subjects; ranked by mean AUPRC",
            intensity=Intensity(),
            train_foreground=0.2,
            # A 5x5x5 median, as published with mDDPM, erases every lesion of under about half a millilitre at 2 mm.
            postprocess=(Step("median", 3),),
            threshold=Threshold("healthy_fpr", 0.05),
            metrics=(
                "auprc", "dice", "auroc", "auprc_pooled", "auroc_pooled",
                "oracle_dice", "oracle_dice_subject", "healthy_fp_ml", "healthy_fpr",
            ),
            rank_by="auprc",
        ),
    )
}  # fmt: skip

DEFAULT = "brain-v1"


def get_protocol(name: str) -> Protocol:
    """Return the protocol `name`.

    Raises:
        UnknownName: with the nearest name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
