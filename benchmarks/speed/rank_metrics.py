"""Average precision, AUROC and best Dice of very many voxels: python -m uadbench.benchmarks.speed.rank_metrics [--n 1e8].

scikit-learn's two scores and the threshold search of published pipelines (ten interval halvings, two Dice passes each)
against the exact path (one sort of each kind) and the path by histogram. 10^8 voxels need 8 GB and some minutes.
"""

from __future__ import annotations

from uadbench.benchmarks.speed._turns import Claim, cpu_seconds, extra_peak_mb, report  # isort: skip  # sets threads

import argparse
import sys

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.bounds import RankMetrics
from uadbench.metrics.streaming import ScoreHistogram, exact_rank_metrics


def sample(n: int, seed: int) -> tuple[FloatArray, BoolArray]:
    """Return float32 residuals (n,), 60 % exact zeros, and lesions (n,), 1 %, all of which have a residual."""
    rng = np.random.default_rng(seed)
    lesion = rng.random(n, dtype=np.float32) < 0.01
    score = rng.standard_normal(n, dtype=np.float32)
    np.abs(score, out=score)
    score *= np.float32(0.1)
    score[lesion] += np.float32(0.15)
    score[(rng.random(n, dtype=np.float32) < 0.6 / 0.99) & ~lesion] = 0.0
    return score, lesion


def dice(found: BoolArray, lesion: BoolArray) -> float:
    """Return the Dice of two masks."""
    return float(2.0 * np.count_nonzero(found & lesion) / (np.count_nonzero(found) + np.count_nonzero(lesion)))


def halving_search(score: FloatArray, lesion: BoolArray) -> float:
    """Return the best Dice of 20 thresholds: keep the half of the range whose quarter point is better, ten times."""
    low, high, best = 0.0, float(score.max()), 0.0
    for _ in range(10):
        middle = (low + high) / 2.0
        lower = dice(score > (low + middle) / 2.0, lesion)
        upper = dice(score > (middle + high) / 2.0, lesion)
        best = max(best, lower, upper)
        low, high = (low, middle) if lower >= upper else (middle, high)
    return best


def scikit_learn(score: FloatArray, lesion: BoolArray) -> tuple[float, float, float]:
    """Return average precision, AUROC and the Dice found by search."""
    return (
        float(average_precision_score(lesion, score)),
        float(roc_auc_score(lesion, score)),
        halving_search(score, lesion),
    )


def equal(reference: tuple[float, float, float], exact: RankMetrics, binned: RankMetrics) -> bool:
    """Print the values and return whether they agree: exact to rounding, the bounds around it and at most 1e-4 wide."""
    ap, area, searched = reference
    sys.stdout.write(f"scikit-learn: AP {ap:.7f}, AUROC {area:.7f}; Dice by search {searched:.7f}\n")
    for name, found in (("exact", exact), ("histogram", binned)):
        sys.stdout.write(
            f"{name}: AP {found.ap:.7f} (bounds {found.ap_high - found.ap_low:.1e} wide), AUROC {found.auroc:.7f}"
            f" ({found.auroc_high - found.auroc_low:.1e}), Dice {found.dice:.7f} ({found.dice_high - found.dice:.1e})\n"
        )
    checks = {
        "the exact path equals scikit-learn to 1e-9": max(abs(exact.ap - ap), abs(exact.auroc - area)) < 1e-9,
        "no threshold of the search beats the exact Dice": exact.dice >= searched - 1e-12,
        "the bounds contain scikit-learn's AP": binned.ap_low - 1e-9 <= ap <= binned.ap_high + 1e-9,
        "the bounds contain scikit-learn's AUROC": binned.auroc_low - 1e-9 <= area <= binned.auroc_high + 1e-9,
        "the bounds contain the exact Dice": binned.dice - 1e-12 <= exact.dice <= binned.dice_high + 1e-12,
        "the bounds of AP are at most 1e-4 wide": binned.ap_high - binned.ap_low <= 1e-4,
    }
    for claim, holds in checks.items():
        sys.stdout.write(f"{claim}: {'yes' if holds else 'NO'}\n")
    return all(checks.values())


def main(n: int, repeats: int, seed: int) -> int:
    """Print every claim; return 0 if all goals are met."""
    score, lesion = sample(n, seed)
    zeros, share = float(np.mean(score == 0)), float(np.mean(lesion))
    sys.stdout.write(f"{n} voxels, {zeros:.1%} zeros, {share:.2%} lesion\n")

    def by_histogram() -> RankMetrics:
        return ScoreHistogram.of(score, lesion).rank_metrics()

    def by_sort() -> RankMetrics:
        return exact_rank_metrics(score, lesion)

    results: dict[str, tuple[float, float, float]] = {}

    def reference() -> None:
        results["reference"] = scikit_learn(score, lesion)

    candidates = {"scikit-learn and search": reference, "exact": by_sort, "histogram": by_histogram}
    seconds = cpu_seconds(candidates, repeats, warm=False)
    met = equal(results["reference"], by_sort(), by_histogram())
    met &= report(
        [
            Claim("scikit-learn and search / histogram", "scikit-learn and search", "histogram", 100.0),
            Claim("scikit-learn and search / exact", "scikit-learn and search", "exact", 12.0),
        ],
        seconds,
    )
    for name, candidate, goal in (("histogram", by_histogram, 100.0), ("exact", by_sort, 700.0)):
        peak = extra_peak_mb(candidate)
        met &= peak < goal
        sys.stdout.write(f"{name}: {peak:.0f} MB extra (goal {goal:g} MB, {'met' if peak < goal else 'MISSED'})\n")
    return 0 if met else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=float, default=1e8, help="number of voxels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.exit(main(int(arguments.n), arguments.repeats, arguments.seed))
