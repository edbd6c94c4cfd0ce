"""Detection of subjects and slices against scikit-learn, by brute force and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from uadbench.arrays import BoolArray, FloatArray
from uadbench.errors import UnknownName
from uadbench.metrics import detection as module
from uadbench.metrics.bootstrap import resamples
from uadbench.metrics.detection import (
    detection,
    detection_draws,
    fpr_at_tpr,
    reduce_map,
    tpr_at_fpr,
)
from uadbench.metrics.ranking import rank_curve
from uadbench.protocol import REDUCTIONS

NAMES = {"auroc", "ap", "tpr_fpr01", "tpr_fpr05", "tpr_fpr10", "fpr_tpr95"}


def items(n: int, kind: str, seed: int) -> tuple[FloatArray, BoolArray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    positive[:2] = [True, False]
    score = rng.standard_normal(n) + 1.2 * positive
    if kind == "tied":
        score = np.round(score * 2) / 2
    elif kind == "packed":
        score = 0.5 + 1e-6 * score
    elif kind == "float16":
        score = score.astype(np.float16)
    elif kind == "constant":
        score = np.full(n, 3.0)
    return score, positive


def reference(score: FloatArray, positive: BoolArray, weight: FloatArray | None = None) -> dict[str, float]:
    """The same from scikit-learn, with items that are drawn several times as sample weights."""
    fpr, tpr, _ = roc_curve(positive, score, sample_weight=weight, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(positive, score, sample_weight=weight),
        "ap": average_precision_score(positive, score, sample_weight=weight),
        "tpr_fpr01": tpr[fpr <= 0.01 + 1e-12].max(),
        "tpr_fpr05": tpr[fpr <= 0.05 + 1e-12].max(),
        "tpr_fpr10": tpr[fpr <= 0.10 + 1e-12].max(),
        "fpr_tpr95": fpr[tpr >= 0.95 - 1e-12].min(),
    }


KINDS = ["plain", "tied", "packed", "float16", "constant"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 37, 400])
def test_metrics_equal_scikit_learn(kind: str, n: int) -> None:
    score, positive = items(n, kind, n)
    found = detection(score, positive)
    assert set(found) == NAMES
    assert found == pytest.approx(reference(score, positive), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [6, 60])
def test_draws_equal_scikit_learn_with_weights_and_repeated_items(kind: str, n: int) -> None:
    score, positive = items(n, kind, 1)
    weights = resamples(n, 25, 7)
    draws = detection_draws(score, positive, weights)
    for row, weight in enumerate(weights):
        repeated = np.repeat(np.arange(n), weight.astype(int))
        found = {name: values[row] for name, values in draws.items()}
        assert found == pytest.approx(detection(score[repeated], positive[repeated]), abs=1e-12, nan_ok=True)
        if 0 < weight @ positive < n:
            assert found == pytest.approx(reference(score, positive, weight), abs=1e-12)


def test_draws_of_slices_follow_their_subjects() -> None:
    score, positive = items(90, "tied", 2)
    rng = np.random.default_rng(3)
    subject = rng.integers(0, 12, 90)
    weights = resamples(12, 20, 5)
    draws = detection_draws(score, positive, weights, subject)
    for row, weight in enumerate(weights):
        drawn = [
            i for s, times in enumerate(weight.astype(int)) for _ in range(times) for i in np.flatnonzero(subject == s)
        ]
        expected = detection(score[drawn], positive[drawn])
        assert {name: values[row] for name, values in draws.items()} == pytest.approx(expected, abs=1e-12)


def test_draws_do_not_depend_on_how_many_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    score, positive = items(40, "tied", 4)
    weights = resamples(40, 33, 1)
    whole = detection_draws(score, positive, weights)
    monkeypatch.setattr(module, "CHUNK", 100)
    for name, values in detection_draws(score, positive, weights).items():
        np.testing.assert_array_equal(values, whole[name])


def test_samples_without_one_kind_are_nan() -> None:
    score, positive = np.array([1.0, 2.0, 3.0]), np.array([False, True, False])
    draws = detection_draws(score, positive, np.array([[1.0, 0, 2], [0, 3, 0], [1, 1, 1], [0, 0, 0]]))
    for name, values in draws.items():
        assert np.isnan(values[[0, 3]]).all(), name
        assert np.isfinite(values[2]), name
        assert np.isnan(values[1]), name


@pytest.mark.parametrize("n", [0, 1, 4])
def test_draws_without_draws_items_or_anomalies(n: int) -> None:
    score, nothing = np.ones(n), np.zeros(n, bool)
    for positive in (nothing, ~nothing):
        for name, values in detection_draws(score, positive, np.ones((3, n))).items():
            assert np.isnan(values).all(), name
            assert len(values) == 3
        assert {len(values) for values in detection_draws(score, positive, np.ones((0, n))).values()} == {0}


scored = st.integers(2, 40).flatmap(
    lambda n: st.tuples(hnp.arrays(np.float64, n, elements=st.integers(-6, 6).map(float)), hnp.arrays(np.bool_, n))
)


@settings(max_examples=100, deadline=None)
@given(scored, st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.95, 1.0]))
def test_rates_by_brute_force_over_all_thresholds(data: tuple[FloatArray, BoolArray], level: float) -> None:
    score, positive = data
    curve = rank_curve(score, positive)
    tpr, fpr = tpr_at_fpr(curve, level), fpr_at_tpr(curve, level)
    if positive.all() or not positive.any():
        assert np.isnan(tpr)
        assert np.isnan(fpr)
        return
    points = [(float((score[~positive] > t).mean()), float((score[positive] > t).mean())) for t in [-np.inf, *score]]
    assert tpr == max(hit for false, hit in points if false <= level)
    assert fpr == min(false for false, hit in points if hit >= level)


@settings(max_examples=100, deadline=None)
@given(scored)
def test_rates_ignore_increasing_maps_and_grow_with_the_limit(data: tuple[FloatArray, BoolArray]) -> None:
    score, positive = data
    assert detection(np.exp(score), positive) == pytest.approx(detection(score, positive), nan_ok=True)
    if positive.any() and not positive.all():
        curve = rank_curve(score, positive)
        rates = [tpr_at_fpr(curve, limit) for limit in (0.0, 0.01, 0.05, 0.1, 0.5, 1.0)]
        assert rates == sorted(rates)
        assert rates[-1] == 1.0


def test_rates_by_hand() -> None:
    # 20 healthy items score 0 to 19; one more than the limit allows is one too many, and a tie is not split.
    healthy = np.arange(20.0)
    lesion = np.array([18.5, 18.5, 17.5, 30.0])
    score, positive = np.concatenate([healthy, lesion]), np.arange(24) >= 20
    found = detection(score, positive)
    assert (found["tpr_fpr01"], found["tpr_fpr05"], found["tpr_fpr10"]) == (0.25, 0.75, 1.0)
    assert found["fpr_tpr95"] == 0.1
    tied = detection(np.where(score == 18.5, 18.0, score), positive)
    assert (tied["tpr_fpr05"], tied["tpr_fpr10"]) == (0.25, 1.0)
    assert tied["fpr_tpr95"] == 0.1


def test_a_rate_that_is_reached_exactly_counts() -> None:
    # 19 of 20 anomalous items are 95 %, and 1, 2 of 20 healthy ones are 5 and 10 %.
    lesion, healthy = np.append(np.arange(100.0, 119.0), 0.0), np.array([200.0, 110.5, *np.arange(1.0, 19.0)])
    score, positive = np.concatenate([lesion, healthy]), np.arange(40) < 20
    draws = detection_draws(score, positive, np.array([np.ones(40), np.full(40, 3.0)]))
    for found in (detection(score, positive), *({n: v[i] for n, v in draws.items()} for i in (0, 1))):
        assert found["fpr_tpr95"] == 0.1
        assert (found["tpr_fpr01"], found["tpr_fpr05"], found["tpr_fpr10"]) == (0.0, 0.4, 0.95)


def test_constant_scores_are_chance_and_perfect_ones_perfect() -> None:
    positive = np.arange(20) < 5
    assert detection(np.ones(20), positive) == {
        "auroc": 0.5, "ap": 0.25, "tpr_fpr01": 0.0, "tpr_fpr05": 0.0, "tpr_fpr10": 0.0, "fpr_tpr95": 1.0,
    }  # fmt: skip
    perfect = detection(positive.astype(float), positive)
    assert perfect.pop("fpr_tpr95") == 0.0
    assert set(perfect.values()) == {1.0}


def test_one_kind_alone_is_nan() -> None:
    score = np.array([0.1, 0.2, 0.3])
    healthy, ill = detection(score, np.zeros(3, bool)), detection(score, np.ones(3, bool))
    assert np.isnan(list(healthy.values())).all()
    assert np.isnan(list(ill.values())).all()


def test_wrong_arguments_are_refused() -> None:
    score, positive, weights = np.ones(3), np.array([True, False, True]), np.ones((5, 3))
    with pytest.raises(ValueError, match="NaN or infinite"):
        detection_draws(np.array([0.0, np.nan, 1.0]), positive, weights)
    with pytest.raises(ValueError, match="of one shape"):
        detection_draws(score, positive[:2], weights)
    with pytest.raises(ValueError, match="do not fit 3 scores"):
        detection_draws(score, positive, np.ones((5, 4)))
    with pytest.raises(ValueError, match="do not fit 3 scores"):
        detection_draws(score, positive, weights, np.array([0, 1]))


values = hnp.arrays(np.float32, st.integers(1, 120), elements=st.floats(-100, 100, width=16))


@settings(max_examples=100, deadline=None)
@given(values, st.sampled_from([0.1, 1, 5, 7, 33.3, 50, 100]))
def test_reductions_by_brute_force(data: FloatArray, k: float) -> None:
    ordered = sorted(float(v) for v in data)
    count = max(1, -(-round(10 * k) * len(ordered) // 1000))
    assert reduce_map(data, "mean") == pytest.approx(sum(ordered) / len(ordered), abs=1e-9)
    assert reduce_map(data, "max") == ordered[-1]
    assert reduce_map(data, f"top{k}%") == pytest.approx(sum(ordered[-count:]) / count, abs=1e-9)
    place = (len(ordered) - 1) * k / 100
    low, part = int(place), place - int(place)
    between = ordered[low] + part * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
    assert reduce_map(data, f"p{k}") == pytest.approx(between, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(values)
def test_reductions_are_ordered_and_ignore_order(data: FloatArray) -> None:
    got = {how: reduce_map(data, how) for how in REDUCTIONS}
    shuffled = np.random.default_rng(len(data)).permutation(data)
    assert got == pytest.approx({how: reduce_map(shuffled, how) for how in REDUCTIONS}, abs=1e-9)
    assert got["mean"] - 1e-9 <= got["top1%"] <= got["max"] + 1e-9
    assert reduce_map(data, "top100%") == pytest.approx(got["mean"], abs=1e-9)
    assert reduce_map(data, "p100") == got["max"]
    assert reduce_map(data, "p50") == pytest.approx(np.median(data.astype(float)))


def test_a_share_means_what_it_says() -> None:
    data = np.arange(100.0)
    assert reduce_map(data, "top7%") == np.mean(data[-7:])  # 0.07 * 100 is a little more than 7 in floating point
    assert reduce_map(data, "top0.1%") == 99.0
    assert reduce_map(np.arange(150.0), "top1%") == 148.5  # 1.5 voxels are 2
    assert reduce_map(data, "p95") == pytest.approx(94.05)


def test_float16_maps_are_summed_in_float64() -> None:
    data = np.full(100_000, 2.0, np.float16)
    assert [reduce_map(data, how) for how in REDUCTIONS] == [2.0] * 4
    assert np.isfinite(reduce_map(np.full(1000, 60_000, np.float16), "mean"))


@pytest.mark.parametrize("how", ["median", "top%", "top0%", "p0", "p101", "top1", "top-1%", "p95%", "", "top1e1%"])
def test_other_reductions_are_unknown(how: str) -> None:
    with pytest.raises(UnknownName, match="no reduction is called"):
        reduce_map(np.ones(3), how)


@pytest.mark.parametrize("how", REDUCTIONS)
def test_maps_without_voxels_are_nan_and_bad_values_are_refused(how: str) -> None:
    assert np.isnan(reduce_map(np.empty(0), how))
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            reduce_map(np.array([0.0, bad, 1.0]), how)
