"""Thresholds, chosen on validation subjects. Nothing here has ever seen a test subject."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uadbench.arrays import FloatArray
from uadbench.errors import UsageError
from uadbench.protocol import Threshold


def choose(rule: Threshold, healthy: Sequence[FloatArray]) -> float:
    """Return the threshold of `rule`; `score > threshold` is called anomalous.

    Args:
        rule: the policy of the protocol.
        healthy: scores of the foreground voxels of each healthy validation subject, (N_i,).

    Raises:
        UsageError: for an unknown policy.
    """
    if rule.policy != "healthy_fpr":
        raise UsageError(f"no threshold policy is called {rule.policy!r}; known: healthy_fpr")
    return healthy_fpr(np.concatenate(list(healthy)), rule.rate)


def healthy_fpr(scores: FloatArray, rate: float) -> float:
    """Return the lowest of `scores` above which at most a share `rate` of them lie.

    Tied scores are never split: the realised share can be below `rate`, and it is never above.

    Raises:
        ValueError: without scores, or for a rate outside [0, 1).
    """
    if not len(scores) or not 0.0 <= rate < 1.0:
        raise ValueError(
            f"{len(scores)} scores and a rate of {rate}: at least one score and a rate in [0, 1) are needed"
        )
    # At most `allowed` scores may exceed the threshold, so it is the score of that rank from above.
    allowed = int(np.floor(rate * len(scores)))
    return float(np.partition(scores, len(scores) - 1 - allowed)[len(scores) - 1 - allowed])
