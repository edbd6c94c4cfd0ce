from __future__ import annotations

import errno
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uadbench.arrays import BoolArray, FloatArray
from uadbench.errors import StoreError, UsageError
from uadbench.protocol import Threshold
from uadbench.spool import Spool
from uadbench.thresholds import (
    bisection,
    choose,
    conformal,
    conformal_needs,
    fixed,
    healthy_fpr,
    healthy_subject_max,
    pooled_fpr,
    val_best_dice,
)

scores = hnp.arrays(np.float64, st.integers(1, 80), elements=st.integers(-20, 20).map(float))


@settings(max_examples=200, deadline=None)
@given(scores, st.floats(0.0, 0.99))
def test_the_promised_rate_is_kept_and_no_lower_threshold_keeps_it(values: FloatArray, rate: float) -> None:
    threshold = healthy_fpr(values, rate)
    assert np.mean(values > threshold) <= rate + 1e-12
    lower = values[values < threshold]
    if len(lower):
        assert np.mean(values > lower.max()) > rate


def test_by_hand() -> None:
    assert healthy_fpr(np.arange(100.0), 0.05) == 94.0
    assert healthy_fpr(np.array([1.0, 1.0, 1.0, 5.0]), 0.2) == 5.0
    assert healthy_fpr(np.array([1.0, 1.0, 1.0, 5.0]), 0.25) == 1.0


def test_subjects_are_taken_together() -> None:
    parts = [np.arange(50.0), np.arange(50.0, 100.0)]
    assert choose(Threshold("healthy_fpr", 0.05), parts) == healthy_fpr(np.arange(100.0), 0.05)


kinds = st.sampled_from([np.float32, np.float64])


@settings(max_examples=200, deadline=None)
@given(st.lists(scores, min_size=1, max_size=4), st.floats(0.0, 0.99), kinds, st.sampled_from([1.0, 1e-7, 0.3]))
def test_the_pool_is_read_subject_by_subject(
    parts: list[FloatArray], rate: float, kind: type[np.float32], scale: float
) -> None:
    parts = [(p * scale).astype(kind) for p in parts]
    assert pooled_fpr(parts, rate) == healthy_fpr(np.concatenate(parts), rate)


def test_many_scores_are_ranked_exactly() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(0.5, 1e-3, 20_000).astype(np.float32), rng.standard_cauchy(30_000).astype(np.float32)]
    for rate in (0.0, 0.001, 0.05, 0.5, 0.999):
        assert pooled_fpr(parts, rate) == healthy_fpr(np.concatenate(parts), rate)
    with pytest.raises(ValueError, match="0 scores"):
        pooled_fpr([], 0.05)


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool(memory=100) as spool:
        spool.close()
        monkeypatch.setattr(spool, "_file", FullDisk())
        with pytest.raises(StoreError, match="No space left on device.*free some space, or set TMPDIR"):
            spool.add(np.zeros(1000, np.float32), np.zeros(1000, bool))


class FullDisk:
    def seek(self, *place: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        pass


def test_scores_in_a_file_give_the_same_thresholds() -> None:
    rng = np.random.default_rng(1)
    pairs = [(rng.random(500).astype(np.float32), rng.random(500) < 0.1) for _ in range(5)]
    scores, lesions = [s for s, _ in pairs], [m for _, m in pairs]
    with Spool(memory=1000) as spool:
        for pair in pairs:
            spool.add(*pair)
        assert len(spool.scores) == 5
        np.testing.assert_array_equal(spool.lesions[3], lesions[3])
        for policy in ("healthy_fpr", "healthy_subject_max", "conformal", "val_best_dice", "val_bisection"):
            rule = Threshold(policy, 0.3)  # type: ignore[arg-type]
            assert choose(rule, spool.scores, lambda: (spool.scores, spool.lesions)) == choose(
                rule, scores, lambda: (scores, lesions)
            )


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        healthy_fpr(np.empty(0), 0.05)
    with pytest.raises(ValueError, match="rate"):
        healthy_fpr(np.ones(3), 1.0)
    with pytest.raises(UsageError, match="no threshold policy"):
        Threshold("healthy_fqr", 0.1)  # type: ignore[arg-type]


few = hnp.arrays(np.float64, st.integers(1, 8), elements=st.integers(-20, 20).map(float))
subjects = st.lists(few, min_size=1, max_size=25)
rates = st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.29, 0.5, 0.9])


@settings(max_examples=120, deadline=None)
@given(subjects, rates)
def test_no_more_healthy_subjects_than_promised_have_a_voxel_above(parts: list[FloatArray], rate: float) -> None:
    threshold = healthy_subject_max(parts, rate)
    assert np.mean([(s > threshold).any() for s in parts]) <= rate + 1e-12
    lower = [s.max() for s in parts if s.max() < threshold]
    if lower:
        assert np.mean([(s > max(lower)).any() for s in parts]) > rate - 1e-12


def test_the_largest_voxel_of_a_subject_counts() -> None:
    parts = [np.array([0.0, 1.0]), np.array([5.0, 2.0, 1.0]), np.array([3.0]), np.empty(0)]
    assert healthy_subject_max(parts, 0.0) == 5.0
    assert healthy_subject_max(parts, 0.34) == 3.0
    assert healthy_subject_max(parts, 0.7) == 1.0
    assert healthy_subject_max(parts[:1], 0.9) == 1.0
    with pytest.raises(ValueError, match="at least one"):
        healthy_subject_max([np.empty(0)], 0.1)


def fails(score: FloatArray, threshold: float, rate: float) -> bool:
    return bool(np.mean(score > threshold) > rate)


@settings(max_examples=120, deadline=None)
@given(subjects, rates.filter(bool), st.sampled_from([0.0, 0.1, 0.5]))
def test_conformal_thresholds_are_the_corrected_quantile(parts: list[FloatArray], alpha: float, rate: float) -> None:
    threshold = conformal(parts, alpha, rate=rate)
    n = len(parts)
    if n < conformal_needs(alpha):
        assert threshold == math.inf
        threshold = conformal(parts, alpha, rate=rate, too_few="largest")
        assert not any(fails(s, threshold, rate) for s in parts)
        return
    # With one more subject that fails, the share of failures is still within the promise ...
    failing = sum(fails(s, threshold, rate) for s in parts)
    assert failing + 1 <= alpha * (n + 1) + 1e-9
    # ... and not at any lower threshold that a subject gives.
    lower = [t for s in parts if (t := healthy_fpr(s, rate)) < threshold]
    if lower:
        assert sum(fails(s, max(lower), rate) for s in parts) + 1 > alpha * (n + 1)


@pytest.mark.parametrize(("n", "alpha", "rate"), [(19, 0.05, 0.0), (39, 0.1, 0.0), (25, 0.2, 0.05), (9, 0.25, 0.02)])
@pytest.mark.parametrize("tied", [False, True])
def test_a_new_subject_fails_as_often_as_promised(n: int, alpha: float, rate: float, tied: bool) -> None:
    rng = np.random.default_rng(n)
    trials = 1500
    # Subjects differ in their level and spread, so that their voxels are not exchangeable, but the subjects are.
    level, spread = rng.normal(size=(2, trials, n + 1, 1))
    drawn = level + np.exp(0.5 * spread) * rng.standard_normal((trials, n + 1, 50))
    drawn = np.round(drawn) if tied else drawn
    failed = np.mean([fails(t[-1], conformal(list(t[:-1]), alpha, rate=rate), rate) for t in drawn])
    exact = math.floor((n + 1) * alpha) / (n + 1)
    error = 4.0 * math.sqrt(exact * (1.0 - exact) / trials)
    assert failed <= exact + error
    assert tied or failed >= exact - error  # without ties the promise is not only kept but used up


def test_conformal_by_hand() -> None:
    parts = [np.array([float(i), -1.0]) for i in range(19)]
    assert conformal(parts, 0.05) == 18.0
    assert conformal(parts, 0.1) == 17.0
    assert conformal(parts, 0.5) == 9.0
    assert conformal(parts, 0.1, rate=0.5) == -1.0
    assert conformal(parts[:18], 0.05) == math.inf
    assert conformal(parts[:18], 0.05, too_few="largest") == 17.0
    assert conformal(parts[:1], 0.5) == 0.0
    assert conformal([*parts, np.empty(0)], 0.05) == 18.0
    for alpha in (0.0, 1.0):
        with pytest.raises(ValueError, match="alpha"):
            conformal(parts, alpha)
    with pytest.raises(ValueError, match="no subject"):
        conformal([], 0.1)


def test_how_many_subjects_a_promise_needs() -> None:
    assert [conformal_needs(a) for a in (0.05, 0.1, 0.01, 0.5, 0.3, 0.9)] == [19, 9, 99, 1, 3, 1]
    for alpha in [1.0 / k for k in range(2, 200)] + [0.07, 0.033, 0.55]:
        parts = [np.zeros(1)] * conformal_needs(alpha)
        assert math.isfinite(conformal(parts, alpha))
        assert len(parts) == 1 or conformal(parts[1:], alpha) == math.inf


Labelled = tuple[list[FloatArray], list[BoolArray]]


def labelled(count: int, size: int, kind: str, seed: int) -> Labelled:
    """Return subjects of different sizes, some without a lesion."""
    rng = np.random.default_rng(seed)
    scores, lesions = [], []
    for number in range(count):
        lesion = rng.random(rng.integers(1, size)) < (0.0 if number % 3 == 2 else 0.15)
        lesion[0] |= number == 0
        score = np.abs(rng.standard_normal(len(lesion)) + lesion)
        score = {"tied": np.round(score * 2) / 2, "zero": score * (rng.random(len(lesion)) < 0.3)}.get(kind, score)
        scores.append(score.astype(np.float32 if kind == "single" else np.float64))
        lesions.append(lesion)
    return scores, lesions


cases = st.builds(
    labelled,
    st.integers(1, 7),
    st.integers(2, 40),
    st.sampled_from(["plain", "tied", "zero", "single"]),
    st.integers(0, 500),
)


def dice(scores: list[FloatArray], lesions: list[BoolArray], threshold: float, aggregate: str = "pooled") -> float:
    """Count what a threshold gives."""
    if aggregate == "pooled":
        scores, lesions = [np.concatenate(scores)], [np.concatenate(lesions)]
    found = [s > threshold for s in scores]
    values = [2.0 * (f & m).sum() / (f.sum() + m.sum()) for f, m in zip(found, lesions, strict=True) if m.any()]
    return float(np.mean(values))


@settings(max_examples=80, deadline=None)
@given(cases, st.sampled_from(["pooled", "mean"]))
def test_no_threshold_has_a_better_dice_on_the_validation_subjects(data: Labelled, aggregate: str) -> None:
    threshold = val_best_dice(*data, aggregate=aggregate)  # type: ignore[arg-type]
    every = np.unique(np.concatenate([[-np.inf], *data[0]]))
    brute = {float(t): dice(*data, t, aggregate) for t in every}
    best = max(brute.values())
    assert dice(*data, threshold, aggregate) == pytest.approx(best, abs=1e-12)
    # It is the highest of the best ones: any higher one that finds less is worse.
    taking_part = [s for s, m in zip(*data, strict=True) if aggregate == "pooled" or m.any()]
    above = np.concatenate(taking_part)
    above = above[above > threshold]
    assert dice(*data, float(above.min()), aggregate) < best - 1e-12


def test_best_dice_by_hand() -> None:
    score, lesion = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, False, True, True])
    assert val_best_dice([score], [lesion]) == 0.2
    assert val_best_dice([score], [np.ones(4, bool)]) == np.nextafter(0.1, 0.0)
    # One of two lesion voxels and nothing else, or both and two healthy ones, have the same Dice: the higher threshold.
    assert val_best_dice([np.array([4.0, 3.0, 2.0, 1.0])], [np.array([True, False, False, True])]) == 3.0
    single = val_best_dice([score.astype(np.float32)], [np.ones(4, bool)])
    assert (score.astype(np.float32) > single).all()
    # The mean gives the small subject the same weight as the large one; the pool does not, and counts healthy subjects.
    scores = [np.repeat([1.0, 3.0], [100, 100]), np.array([0.0, 2.0]), np.full(3, 2.5)]
    lesions = [np.repeat([False, True], [100, 100]), np.array([False, True]), np.zeros(3, bool)]
    assert val_best_dice(scores, lesions) == 2.5
    assert val_best_dice(scores, lesions, aggregate="mean") == 1.0


def plain_search(score: FloatArray, lesion: BoolArray, steps: int, low: float, high: float, seen: tuple) -> float:
    """Halve the range again and again; `seen` is the best Dice so far and where it was."""
    if steps == 0:
        return float(seen[1])
    high = 1.0 if low == high else high
    quarter, middle, upper = (low + share * (high - low) for share in (0.25, 0.5, 0.75))
    at_quarter, at_upper = (dice([score], [lesion], t) for t in (quarter, upper))
    if at_quarter >= at_upper:
        seen = (at_quarter, quarter) if at_quarter >= seen[0] else seen
        return plain_search(score, lesion, steps - 1, low, middle, seen)
    seen = (at_upper, upper) if at_upper >= seen[0] else seen
    return plain_search(score, lesion, steps - 1, middle, high, seen)


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from([0, 1, 4, 10]))
def test_bisection_is_the_published_search_and_never_beats_the_exact_one(data: Labelled, steps: int) -> None:
    scores, lesions = data
    threshold = bisection(scores, lesions, steps)
    pool, truth = np.concatenate(scores), np.concatenate(lesions)
    assert threshold == plain_search(pool, truth, steps, 0.0, float(pool.max()), (0.0, 0.0))
    assert dice(*data, threshold, "pooled") <= dice(*data, val_best_dice(*data), "pooled") + 1e-12


def test_bisection_by_hand() -> None:
    lesion = np.array([False, False, False, True])
    score = np.array([0.0, 0.0, 1.0, 8.0])
    # 2 and 6, then 1 and 3 are equally good: the lower half is taken. Then 1.5 is better than 0.5, and as good as 1: the
    # latest of equal points is remembered.
    assert [bisection([score], [lesion], steps) for steps in range(4)] == [0.0, 2.0, 1.0, 1.5]
    assert bisection([np.array([0.0, 3.0, 3.0, 8.0])], [lesion], steps=1) == 6.0
    assert bisection([np.zeros(4)], [lesion], steps=1) == 0.25  # a map of zeros is searched from 0 to 1


def test_bisection_misses_the_better_of_two_peaks() -> None:
    counts = [900, 10, 30, 40, 70]
    score = np.repeat([0.0, 0.4, 0.4, 0.85, 1.0], counts)
    lesion = np.repeat([False, False, True, False, True], counts)
    exact, halved = val_best_dice([score], [lesion]), bisection([score], [lesion])
    assert (exact, dice([score], [lesion], exact)) == (0.85, 140 / 170)
    assert halved < 0.4
    assert dice([score], [lesion], halved) == 200 / 250


def test_single_precision_scores_are_compared_in_single_precision() -> None:
    # Three quarters of the largest score lie between two float32 numbers and are rounded to the upper one.
    top = np.float32(1.0) + np.finfo(np.float32).eps
    point = 0.75 * float(top)
    score = np.array([np.float32(point), top])
    assert float(score[0]) > point
    assert not (score > point)[0]
    assert bisection([score], [np.array([False, True])], steps=1) == point


def test_a_policy_is_chosen_by_its_name() -> None:
    healthy = [np.arange(10.0) + i for i in range(12)]
    scores, lesions = labelled(5, 40, "plain", 1)
    expected = {
        "healthy_subject_max": healthy_subject_max(healthy, 0.1),
        "conformal": conformal(healthy, 0.1),
        "fixed": 0.1,
        "val_best_dice": val_best_dice(scores, lesions),
        "val_bisection": bisection(scores, lesions),
    }
    assert len(set(expected.values())) == len(expected)
    for policy, threshold in expected.items():
        assert choose(Threshold(policy, 0.1), healthy, lambda: (scores, lesions)) == threshold  # type: ignore[arg-type]


def test_labels_are_needed_and_must_fit() -> None:
    score, lesion = np.ones(3), np.array([True, False, False])
    for policy in (val_best_dice, bisection):
        with pytest.raises(ValueError, match="no voxel of these subjects is a lesion"):
            policy([score], [np.zeros(3, bool)])
        with pytest.raises(ValueError, match="same shapes"):
            policy([score], [lesion[:2]])
        with pytest.raises(ValueError, match="same shapes"):
            policy([score, score], [lesion])
        with pytest.raises(ValueError, match="NaN"):
            policy([np.array([np.nan, 1.0, 2.0])], [lesion])


def test_a_fixed_threshold_is_itself() -> None:
    assert fixed(0.5) == 0.5
    with pytest.raises(ValueError, match="NaN"):
        fixed(math.nan)
