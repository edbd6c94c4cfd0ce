"""Every metric against scikit-learn or by brute force, and by its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from uadbench.arrays import BoolArray, FloatArray
from uadbench.errors import UnknownName
from uadbench.metrics import Metric
from uadbench.metrics.bootstrap import interval, mean_draws, median_draws, resamples
from uadbench.metrics.overlap import dice, false_positive_ml, false_positive_rate
from uadbench.metrics.ranking import auroc, average_precision, best_dice, largest_precision, rank_curve
from uadbench.metrics.table import METRICS, get_metric


def sample(n: int, prevalence: float, kind: str, seed: int) -> tuple[FloatArray, BoolArray]:
    rng = np.random.default_rng(seed)
    lesion = rng.random(n) < prevalence
    lesion[:2] = [True, False]
    score = rng.standard_normal(n) + 0.8 * lesion
    if kind == "tied":
        score = np.round(score * 2) / 2
    elif kind == "packed":
        score = 0.5 + 1e-6 * score
    elif kind == "far":
        score = 1e6 * score - 3e7
    elif kind == "half zero":
        score = np.maximum(score, 0.0)
    elif kind == "float16":
        score = score.astype(np.float16).astype(np.float32)
    return score, lesion


KINDS = ["plain", "tied", "packed", "far", "half zero", "float16"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prevalence", [0.5, 0.02])
@pytest.mark.parametrize("seed", range(3))
def test_rank_metrics_equal_scikit_learn(kind: str, prevalence: float, seed: int) -> None:
    score, lesion = sample(5000, prevalence, kind, seed)
    curve = rank_curve(score, lesion)
    assert average_precision(curve) == pytest.approx(average_precision_score(lesion, score), abs=1e-12)
    assert auroc(curve) == pytest.approx(roc_auc_score(lesion, score), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_best_dice_equals_brute_force_over_all_thresholds(kind: str) -> None:
    score, lesion = sample(300, 0.1, kind, 1)
    brute = {t: f1_score(lesion, score >= t) for t in np.unique(score)}
    value, threshold = best_dice(rank_curve(score, lesion))
    assert value == pytest.approx(max(brute.values()), abs=1e-12)
    assert brute[threshold] == pytest.approx(value, abs=1e-12)


arrays = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float64, n, elements=st.floats(-1e3, 1e3, allow_nan=False).map(lambda v: round(v, 2))),
        hnp.arrays(np.bool_, n),
    )
)


@settings(max_examples=150, deadline=None)
@given(arrays, st.sampled_from(["exp", "affine", "cube"]), st.randoms(use_true_random=False))
def test_rank_metrics_ignore_increasing_maps_and_order(
    data: tuple[FloatArray, BoolArray], how: str, random: object
) -> None:
    score, lesion = data
    mapped = {"exp": np.exp(score / 1e3), "affine": 3.0 * score - 7.0, "cube": score**3}[how]
    order = np.random.default_rng(len(score)).permutation(len(score))
    a, b = rank_curve(score, lesion), rank_curve(mapped[order], lesion[order])
    for metric in (average_precision, auroc, lambda c: best_dice(c)[0]):
        assert metric(a) == pytest.approx(metric(b), abs=1e-12, nan_ok=True)


@settings(max_examples=150, deadline=None)
@given(arrays)
def test_known_relations(data: tuple[FloatArray, BoolArray]) -> None:
    score, lesion = data
    curve, negated = rank_curve(score, lesion), rank_curve(-score, lesion)
    assert auroc(curve) == pytest.approx(1.0 - auroc(negated), abs=1e-12, nan_ok=True)
    if lesion.any():
        assert 0.0 < average_precision(curve) <= 1.0
        assert best_dice(curve)[0] >= 2.0 * lesion.mean() / (1.0 + lesion.mean()) - 1e-12  # everything called lesion
        assert average_precision(rank_curve(lesion.astype(float), lesion)) == pytest.approx(1.0)


def test_undefined_cases_are_nan_and_not_a_number_that_looks_right() -> None:
    score = np.array([0.1, 0.2, 0.3])
    none, every = np.zeros(3, bool), np.ones(3, bool)
    assert np.isnan(average_precision(rank_curve(score, none)))
    assert np.isnan(best_dice(rank_curve(score, none))[0])
    assert np.isnan(auroc(rank_curve(score, none)))
    assert np.isnan(auroc(rank_curve(score, every)))
    assert average_precision(rank_curve(score, every)) == 1.0
    assert np.isnan(auroc(rank_curve(np.empty(0), np.empty(0, bool))))


def test_constant_scores_are_chance() -> None:
    lesion = np.arange(100) < 25
    curve = rank_curve(np.ones(100), lesion)
    assert average_precision(curve) == pytest.approx(0.25)
    assert auroc(curve) == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        rank_curve(np.array([0.0, bad]), np.array([True, False]))


def test_large_negative_and_positive_scores_are_not_squashed() -> None:
    # A sigmoid in float32 would turn both groups into 1.0 and the result into 0.5.
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.normal(40, 8, 4000), rng.normal(60, 8, 1000)])
    lesion = np.arange(5000) >= 4000
    assert auroc(rank_curve(score, lesion)) == pytest.approx(roc_auc_score(lesion, score), abs=1e-12)
    assert auroc(rank_curve(score, lesion)) > 0.95


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.bool_, 30), hnp.arrays(np.bool_, 30))
def test_dice_equals_f1_and_is_symmetric(found: BoolArray, lesion: BoolArray) -> None:
    if not lesion.any():
        assert np.isnan(dice(found, lesion))
        return
    assert dice(found, lesion) == pytest.approx(f1_score(lesion, found, zero_division=0.0))
    if found.any():
        assert dice(found, lesion) == pytest.approx(dice(lesion, found))


def test_false_positives_by_hand() -> None:
    score = np.array([0.1, 0.5, 0.5, 0.9])
    assert false_positive_ml(score > 0.5, 0.25) == 0.25  # only what is above, not what is equal
    assert false_positive_ml(score > 0.4, 0.25) == 0.75
    assert false_positive_rate(score > 0.4) == 0.75
    assert np.isnan(false_positive_ml(score > 0.4, float("nan")))
    assert np.isnan(false_positive_rate(np.empty(0, bool)))


def test_the_table_of_metrics_is_consistent() -> None:
    assert all(name == m.name for name, m in METRICS.items())
    assert all(m.description and m.title for m in METRICS.values())
    assert {m.name for m in METRICS.values() if m.oracle} == {
        "oracle_dice", "oracle_dice_shared", "oracle_dice_subject",
    }  # fmt: skip
    with pytest.raises(UnknownName, match="Did you mean 'auprc'"):
        get_metric("auprcs")
    with pytest.raises(ValueError, match="oracle_"):
        Metric("dice_best", "x", "pooled", True, "x", oracle=True)


def test_resamples_have_the_right_size_and_are_repeatable() -> None:
    weights = resamples(7, 50, 3)
    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights == resamples(7, 50, 3)).all()
    assert (weights != resamples(7, 50, 4)).any()


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = interval(mean_draws(rng.normal(1.0, 2.0, 40), 500, trial), 0.95)
        hits += low <= 1.0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_intervals_without_enough_values_are_nan() -> None:
    assert np.isnan(interval(mean_draws(np.array([1.0, np.nan]), 100, 0), 0.95)).all()
    assert np.isnan(interval(mean_draws(np.array([1.0, np.nan, 1.0]), 100, 0), 0.95)).all()
    assert interval(mean_draws(np.array([1.0, np.nan, 1.0, 1.0]), 100, 0), 0.95) == (1.0, 1.0)


def test_average_precision_stays_below_what_the_best_dice_allows() -> None:
    # f = 0.269 allows 0.336: worked out by hand and by integration.
    assert largest_precision(0.269) == pytest.approx(0.336, abs=5e-4)
    recall = np.linspace(0, 1, 2_000_001)[1:]
    for f in (0.05, 0.269, 0.7, 0.99):
        with np.errstate(divide="ignore"):
            limit = np.where(2 * recall > f, f * recall / (2 * recall - f), 1.0)
        assert largest_precision(f) == pytest.approx(np.minimum(limit, 1.0).mean(), abs=1e-5)
    assert (largest_precision(0.0), largest_precision(1.0)) == (0.0, 1.0)


@given(arrays)
@settings(max_examples=200, deadline=None)
def test_no_curve_breaks_that_bound(data: tuple[FloatArray, BoolArray]) -> None:
    score, lesion = data
    if lesion.any():
        curve = rank_curve(score, lesion)
        assert average_precision(curve) <= largest_precision(best_dice(curve)[0]) + 1e-9


def test_the_median_is_resampled_as_it_should() -> None:
    values = np.array([3.0, 1.0, np.nan, 2.0, 10.0])
    kept = values[np.isfinite(values)]
    draws = median_draws(values, 50, 4)
    counts = resamples(4, 50, 4).astype(int)
    expected = [np.median(np.repeat(np.sort(kept), row)) for row in counts]
    np.testing.assert_allclose(draws, expected)
    assert len(median_draws(np.array([1.0, np.nan]), 10, 0)) == 0
