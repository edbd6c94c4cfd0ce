"""Confidence intervals by resampling subjects, because voxels of one subject are not independent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray

BINS = 2048


def resamples(n: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Return how often each of `n` subjects is in each bootstrap sample, (draws, n); every row sums to n."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1.0 / n), size=draws).astype(np.float64)


def mean_draws(values: FloatArray, draws: int, seed: int) -> NDArray[np.float64]:
    """Return the mean of `values` (n,) in each bootstrap sample, (draws,). NaN values are left out first.

    The result is empty if fewer than two values are left.
    """
    kept = np.asarray(values, np.float64)
    kept = kept[np.isfinite(kept)]
    if len(kept) < 2:
        return np.empty(0)
    return resamples(len(kept), draws, seed) @ kept / len(kept)


def interval(draws: FloatArray, level: float) -> tuple[float, float]:
    """Return the percentile interval that holds a share `level` of the draws; (NaN, NaN) if there are none."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return float("nan"), float("nan")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(finite, [tail, 1.0 - tail])
    return float(low), float(high)


def pooled_draws(
    scores: list[FloatArray], lesions: list[BoolArray], draws: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return pooled average precision, AUROC and best Dice in each bootstrap sample of subjects.

    Sorting each of thousands of resampled pools would take hours. Each subject is counted once into bins that begin at
    scores of lesion voxels, where recall changes; a sample is then a weighted sum of counts. With up to `BINS` different
    lesion scores average precision and Dice are exact; beyond that the values are off by about a bin's share of the
    recall, so callers shift the draws onto the exact value of the pool.

    Args:
        scores: one (N_i,) per subject.
        lesions: the matching bool (N_i,).
        draws: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        "auprc", "auroc" and "oracle_dice", each (draws + 1,): entry 0 is the pool itself, computed from the same bins.
    """
    found = np.concatenate([s[m] for s, m in zip(scores, lesions, strict=True)])
    edges = np.unique(np.quantile(found, np.linspace(0.0, 1.0, BINS), method="inverted_cdf"))
    where = [np.searchsorted(edges, s, side="right") for s in scores]
    size = len(edges) + 1
    positive = np.stack([np.bincount(w[m], minlength=size)[::-1] for w, m in zip(where, lesions, strict=True)])
    negative = np.stack([np.bincount(w[~m], minlength=size)[::-1] for w, m in zip(where, lesions, strict=True)])
    weights = np.concatenate([np.ones((1, len(scores))), resamples(len(scores), draws, seed)])
    out: dict[str, list[NDArray[np.float64]]] = {"auprc": [], "auroc": [], "oracle_dice": []}
    for part in np.array_split(weights, max(1, len(weights) // 256)):
        for name, values in _from_counts(part @ positive, part @ negative).items():
            out[name].append(values)
    return {name: np.concatenate(values) for name, values in out.items()}


def _from_counts(pos: NDArray[np.float64], neg: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the three metrics from counts per bin, (draws, bins), most anomalous bin first."""
    tp, fp = np.cumsum(pos, axis=1), np.cumsum(neg, axis=1)
    total_pos, total_neg = tp[:, -1:], fp[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(tp + fp > 0, tp / (tp + fp), 0.0)
        auprc = (pos * precision).sum(1) / total_pos[:, 0]
        auroc = (neg * (tp - pos / 2.0)).sum(1) / (total_pos * total_neg)[:, 0]
        dice = (2.0 * tp / (tp + fp + total_pos)).max(1)
    return {"auprc": auprc, "auroc": auroc, "oracle_dice": dice}
