"""Is the subject, or the slice, anomalous? One score an item and a label: metrics, map reductions and bootstrap draws."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.errors import unknown_name
from uadbench.metrics.ranking import RankCurve, auroc, average_precision, rank_curve
from uadbench.protocol import REDUCTIONS

FPR_LIMITS = (0.01, 0.05, 0.10)
TPR_LEVEL = 0.95

CHUNK = 200_000
"""Numbers held at a time, items x draws, when draws are computed."""


def tpr_at_fpr(curve: RankCurve, limit: float) -> float:
    """Return the largest true positive rate among the thresholds whose false positive rate is at most `limit`.

    Items of one score are called together, so a tie that would exceed the limit is left out whole; there is no
    interpolation between thresholds. Calling nothing is one of the thresholds, so the result is at least 0. With fewer
    than 1 / limit healthy items no false positive is allowed at all.

    This is a point of the ROC curve of these very items, like the area under it; it is no threshold that could be used.

    Args:
        curve: from `rank_curve(score, positive)`.
        limit: 0 to 1.

    Returns:
        0 to 1; NaN if one kind of items is absent.
    """
    if curve.positives == 0 or curve.negatives == 0:
        return float("nan")
    allowed = np.count_nonzero(curve.fp / curve.negatives <= limit)
    return float(curve.tp[allowed - 1] / curve.positives) if allowed else 0.0


def fpr_at_tpr(curve: RankCurve, level: float) -> float:
    """Return the smallest false positive rate among the thresholds whose true positive rate is at least `level`.

    Ties as in `tpr_at_fpr`. "FPR95" of the literature on out-of-distribution detection (Hendrycks and Gimpel, ICLR 2017;
    Liang et al., ICLR 2018), with anomalous as the positive kind.

    Args:
        curve: from `rank_curve(score, positive)`.
        level: 0 to 1.

    Returns:
        0 to 1; NaN if one kind of items is absent.
    """
    if curve.positives == 0 or curve.negatives == 0:
        return float("nan")
    if level <= 0:
        return 0.0
    first = int(np.argmax(curve.tp / curve.positives >= level))
    return float(curve.fp[first] / curve.negatives)


def detection(score: FloatArray, positive: BoolArray) -> dict[str, float]:
    """Return AUROC, average precision, TPR at each of `FPR_LIMITS` and FPR at `TPR_LEVEL`.

    Args:
        score: (n,), one an item (subject or slice), higher is more anomalous; finite.
        positive: bool (n,), whether the item is anomalous.

    Returns:
        "auroc", "ap", "tpr_fpr01", "tpr_fpr05", "tpr_fpr10" and "fpr_tpr95". All are NaN if one kind of items
        is absent: then nothing is told apart. Print the share of anomalous items next to "ap": it is what a constant score
        gets.

    Raises:
        ValueError: if shapes differ or a score is not finite.
    """
    curve = rank_curve(score, positive)
    found = {"auroc": auroc(curve), "ap": average_precision(curve)}
    found |= {_tpr_name(limit): tpr_at_fpr(curve, limit) for limit in FPR_LIMITS}
    found |= {_FPR_NAME: fpr_at_tpr(curve, TPR_LEVEL)}
    return found if curve.positives and curve.negatives else dict.fromkeys(found, float("nan"))


def detection_draws(
    score: FloatArray, positive: BoolArray, weights: NDArray[np.float64], subject: NDArray[np.intp] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of `detection` in each bootstrap sample, exactly, from one sort of the scores.

    Args:
        score: (n,); finite.
        positive: bool (n,).
        weights: (draws, subjects), how often each subject is in each sample, from `bootstrap.resamples`.
        subject: (n,), the column of `weights` for each item, where items are slices and whole subjects are drawn; None
            where each item is a subject.

    Returns:
        The names of `detection`, each (draws,). NaN where a sample has items of one kind only.

    Raises:
        ValueError: if shapes do not fit or a score is not finite.
    """
    if score.shape != positive.shape or score.ndim != 1:
        raise ValueError(f"score {score.shape} and positive {positive.shape} must be of one shape (n,)")
    if not np.isfinite(score).all():
        raise ValueError("a score is NaN or infinite")
    columns = np.arange(len(score)) if subject is None else subject
    if columns.shape != score.shape or weights.ndim != 2 or (subject is None and weights.shape[1] != len(score)):
        raise ValueError(f"weights {weights.shape} and subject {columns.shape} do not fit {len(score)} scores")
    steps = _steps(score, positive)
    size = max(1, CHUNK // max(1, len(score)))
    parts = [_draw(weights[i : i + size], columns, steps) for i in range(0, max(1, len(weights)), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class _Steps:
    """The thresholds at which an anomalous item is gained; at all others only false positives are.

    Attributes:
        order: (n,), items from the highest score down.
        anomalous: (P,), the anomalous ones among them.
        before: (K,), how many items lie above each threshold's tie.
        called: (K,), how many items are called at each threshold.
        hits: (K,), how many of them are anomalous.
    """

    order: NDArray[np.intp]
    anomalous: NDArray[np.intp]
    before: NDArray[np.intp]
    called: NDArray[np.intp]
    hits: NDArray[np.intp]


def _steps(score: FloatArray, positive: BoolArray) -> _Steps:
    order = np.argsort(score)[::-1]
    ordered, kind = score[order], positive[order]
    called = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]) + 1
    hits = np.append(0, np.cumsum(kind))[called]
    gain = np.diff(hits, prepend=0) > 0
    return _Steps(order, order[kind], np.append(0, called)[:-1][gain], called[gain], hits[gain])


def _draw(weights: NDArray[np.float64], columns: NDArray[np.intp], steps: _Steps) -> dict[str, NDArray[np.float64]]:
    """Return the metrics for some of the draws, from the counts at each threshold (draws, K)."""
    drawn, tp = _cumulated(weights[:, columns[steps.order]]), _cumulated(weights[:, columns[steps.anomalous]])
    positives, negatives = tp[:, -1], drawn[:, -1] - tp[:, -1]
    tp = np.hstack([np.zeros((len(tp), 1)), tp[:, steps.hits]])
    called, gained = drawn[:, steps.called], np.diff(tp, axis=1)
    fp, fp_above = called - tp[:, 1:], drawn[:, steps.before] - tp[:, :-1]
    rows = np.arange(len(tp))
    out = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(called > 0, tp[:, 1:] / called, 0.0)
        fpr, tpr = fp / negatives[:, None], tp / positives[:, None]
        out["auroc"] = 1.0 - (gained * (fp_above + fp)).sum(axis=1) / (2.0 * positives * negatives)
        out["ap"] = (gained * precision).sum(axis=1) / positives
    for limit in FPR_LIMITS:
        out[_tpr_name(limit)] = tpr[rows, np.count_nonzero(fpr <= limit, axis=1)]
    first = np.argmax(tpr >= TPR_LEVEL, axis=1)
    out[_FPR_NAME] = np.hstack([np.zeros((len(fpr), 1)), fpr])[rows, first]
    for values in out.values():
        values[(positives == 0) | (negatives == 0)] = np.nan
    return out


def _cumulated(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of the first 0, 1, 2, ... columns, (draws, n + 1)."""
    out = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=out[:, 1:])
    return out


def _tpr_name(limit: float) -> str:
    return f"tpr_fpr{round(100 * limit):02d}"


_FPR_NAME = f"fpr_tpr{round(100 * TPR_LEVEL):02d}"


def reduce_map(values: FloatArray, how: str) -> float:
    """Return one score for a map.

    Args:
        values: (N,), the map at the voxels that count, float16 to float64; finite.
        how: "mean"; "max"; "topK%", the mean of the K % highest voxels, rounded up to a whole number of voxels; "pQ", the
            Q-th percentile with linear interpolation. K and Q are decimal numbers, above 0 and up to 100.

    Returns:
        The score in the units of the map, computed in float64; NaN without voxels.

    Raises:
        UnknownName: for another reduction.
        ValueError: if a value is not finite.
    """
    share = _share(how)
    if not np.isfinite(values).all():
        raise ValueError("a value of the map is NaN or infinite")
    if not len(values):
        return float("nan")
    if how == "mean":
        return float(values.mean(dtype=np.float64))
    if how == "max":
        return float(values.max())
    if how.startswith("p"):
        return float(np.percentile(values.astype(np.float64), float(share)))
    first = len(values) - ceil(share * len(values) / 100)
    return float(np.partition(values, first)[first:].mean(dtype=np.float64))


def _share(how: str) -> Fraction:
    """Return K of "topK%" or Q of "pQ" as written, so that 7 % of 100 voxels are 7 and not 8; 100 for the others."""
    if how in ("mean", "max"):
        return Fraction(100)
    match = re.fullmatch(r"top(\d+(?:\.\d+)?)%|p(\d+(?:\.\d+)?)", how)
    share = Fraction(match[1] or match[2]) if match else Fraction(0)
    if not 0 < share <= 100:
        raise unknown_name("reduction", how, REDUCTIONS)
    return share
