"""Rank metrics from histograms and from one sort: against scikit-learn, by brute force, and by their properties."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics import streaming
from uadbench.metrics.bootstrap import resamples
from uadbench.metrics.bounds import Steps, average_precision_bounds
from uadbench.metrics.pooling import GROUPS, _groups, exact_pooled, pooled_from, pooled_from_scores
from uadbench.metrics.ranking import auroc, average_precision, best_dice, rank_curve
from uadbench.metrics.streaming import HistogramSum, ScoreHistogram, exact_rank_metrics, rank_metrics

KINDS = [
    "plain",
    "packed",
    "packed at 1",
    "8-bit",
    "heavy",
    "half zero",
    "negative",
    "signed zeros",
    "float16",
    "float16 scaled",
    "constant",
    "float64",
]
SINGLE = ["8-bit", "half zero and 8-bit", "float16", "float16 scaled", "constant", "signed zeros"]
ROUNDING = 1e-12


def sample(n: int, kind: str, seed: int = 0, prevalence: float = 0.05) -> tuple[FloatArray, BoolArray]:
    rng = np.random.default_rng(seed)
    lesion = rng.random(n) < prevalence
    lesion[:2] = [True, False]
    raw = rng.standard_normal(n) + 1.2 * lesion
    made = {
        "plain": raw,
        "packed": 0.5 + 1e-3 * np.tanh(raw),
        "packed at 1": 1.0 + 1e-5 * np.tanh(raw),
        "8-bit": np.clip(np.round(raw * 40 + 80), 0, 255) / 255,
        "heavy": np.exp(4 * raw),
        "half zero": np.maximum(raw, 0.0),
        "half zero and 8-bit": np.clip(np.round(raw * 40), 0, 255) / 255,
        "negative": -np.exp(-raw),
        "signed zeros": np.where(rng.random(n) < 0.5, -0.0, 0.0) + (raw > 1) - (raw < -1),
        "float16": raw.astype(np.float16),
        "float16 scaled": raw.astype(np.float16).astype(np.float32) * np.float32(2.0**-7),
        "constant": np.full(n, 0.3),
        "float64": 0.5 + 1e-9 * raw,
    }[kind]
    return (made if kind in ("float16", "float64") else made.astype(np.float32)), lesion


def truth(score: FloatArray, lesion: BoolArray) -> tuple[float, float, float]:
    """Return average precision and AUROC of scikit-learn and the best Dice over all thresholds."""
    values, where = np.unique(score, return_inverse=True)
    tp = np.bincount(where, lesion, values.size)[::-1].cumsum()
    every = np.bincount(where, minlength=values.size)[::-1].cumsum()
    return (
        float(average_precision_score(lesion, score)),
        float(roc_auc_score(lesion, score)),
        float((2 * tp / (every + lesion.sum())).max()),
    )


def contain(histogram: ScoreHistogram, score: FloatArray, lesion: BoolArray) -> None:
    found = (histogram.average_precision(), histogram.auroc(), histogram.best_dice())
    for bounded, exact in zip(found, truth(score, lesion), strict=True):
        assert bounded.low - ROUNDING <= exact <= bounded.high + ROUNDING
        assert bounded.low <= bounded.value <= bounded.high
        if histogram.exact:
            assert bounded.value == pytest.approx(exact, abs=ROUNDING)
            assert bounded.width == 0.0


@pytest.mark.parametrize("kind", [*KINDS, "half zero and 8-bit"])
@pytest.mark.parametrize(("prevalence", "large"), [(0.5, False), (0.01, False), (0.03, True)])
def test_bounds_contain_the_exact_values(
    kind: str, prevalence: float, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, lesion = sample(10_000, kind, 1, prevalence)
    if large:  # the way of millions of voxels, in chunks
        monkeypatch.setattr(streaming, "SORTED", 0)
        monkeypatch.setattr(streaming, "CHUNK", 3001)
    histogram = ScoreHistogram.of(score, lesion)
    contain(histogram, score, lesion)
    assert histogram.lesion.sum() == lesion.sum()
    assert histogram.healthy.sum() == (~lesion).sum()
    assert (np.diff(histogram.bins) > 0).all()


@pytest.mark.parametrize("kind", SINGLE)
def test_histograms_know_that_they_are_exact(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    score, lesion = sample(20_000, kind)
    assert ScoreHistogram.of(score, lesion).exact
    assert not ScoreHistogram.of(*sample(20_000, "packed")).exact
    monkeypatch.setattr(streaming, "SORTED", 0)
    assert ScoreHistogram.of(score, lesion).exact == (kind in ("float16", "float16 scaled", "signed zeros"))
    assert not ScoreHistogram.of(*sample(20_000, "packed")).exact


def test_background_is_known_to_be_one_score(monkeypatch: pytest.MonkeyPatch) -> None:
    score, lesion = sample(50_000, "half zero", 2, 0.2)
    assert (score[lesion] == 0).any()
    monkeypatch.setattr(streaming, "SORTED", 0)
    assert ScoreHistogram.of(score, lesion).average_precision().width < 1e-4
    score[np.flatnonzero(score == 0)[0]] = 1e-44  # another score in the bin of zero: its order is not known any more
    histogram = ScoreHistogram.of(score, lesion)
    assert histogram.average_precision().width > 1e-2
    contain(histogram, score, lesion)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("large", [False, True])
def test_what_is_not_finite_is_refused(bad: float, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SORTED", 0 if large else 100)
    score, lesion = np.array([0.0, -1.0, bad]), np.array([True, False, False])
    with pytest.raises(ValueError, match="NaN or infinite"):
        ScoreHistogram.of(score, lesion)
    if not np.isfinite(bad):
        for labels in (lesion, ~lesion):
            with pytest.raises(ValueError, match="NaN or infinite"):
                exact_rank_metrics(score, labels)


def test_what_does_not_match_is_refused() -> None:
    for compute in (ScoreHistogram.of, rank_metrics, exact_rank_metrics):
        with pytest.raises(ValueError, match="one shape"):
            compute(np.zeros(3), np.zeros(4, bool))
        with pytest.raises(ValueError, match="bool"):
            compute(np.zeros(3), np.zeros(3, int))


def test_undefined_metrics_are_nan() -> None:
    score = np.array([0.1, 0.2, 0.3], np.float32)
    none, every = np.zeros(3, bool), np.ones(3, bool)
    for metrics in (rank_metrics(score, none), ScoreHistogram.of(score, none).rank_metrics(), pool([(score, none)])):
        assert np.isnan([x for x in astuple(metrics) if isinstance(x, float)]).all()
    for metrics in (rank_metrics(score, every), ScoreHistogram.of(score, every).rank_metrics(), pool([(score, every)])):
        assert (metrics.ap, metrics.dice, metrics.dice_threshold) == (1.0, 1.0, float(score[0]))
        assert np.isnan([metrics.auroc, metrics.auroc_low, metrics.auroc_high]).all()
    assert np.isnan(ScoreHistogram.of(score[:0], none[:0]).average_precision()).all()
    assert np.isnan(rank_metrics(score[:0], none[:0]).ap)
    assert np.isnan(pool([]).ap)


# --- the formulas of the bounds


def orders(lesion: int, healthy: int) -> Iterator[list[tuple[int, int]]]:
    """Yield every way in which one group can be ordered with ties: a list of (lesion, healthy) at each score."""
    if lesion == healthy == 0:
        yield []
    for a in range(lesion + 1):
        for b in range(healthy + 1):
            if a + b:
                for rest in orders(lesion - a, healthy - b):
                    yield [(a, b), *rest]


@pytest.mark.parametrize(("lesion", "healthy"), [(1, 3), (3, 1), (2, 2), (3, 3), (3, 0)])
@pytest.mark.parametrize(("lesion_above", "above"), [(0, 0), (0, 4), (5, 0), (2, 3)])
def test_both_bounds_are_reached_by_some_order(lesion: int, healthy: int, lesion_above: int, above: int) -> None:
    values = []
    for order in orders(lesion, healthy):
        tp, fp, total = lesion_above, above, 0.0
        for a, b in order:
            tp, fp = tp + a, fp + b
            total += a * tp / (tp + fp)
        values.append(total / (lesion + lesion_above))
    first = lesion_above / (lesion + lesion_above) * lesion_above / max(1, lesion_above + above)
    counts = np.array([[lesion_above, lesion], [0, healthy], [above, above]])
    steps = Steps(*counts, np.array([True, False]), np.asarray(above + healthy))
    if lesion_above == 0:
        steps = Steps(*counts[:, 1:], np.array([False]), np.asarray(above + healthy))
    bounds = average_precision_bounds(steps)
    assert bounds.low == pytest.approx(first + min(values), abs=1e-14)
    assert bounds.high == pytest.approx(first + max(values), abs=1e-14)


@pytest.mark.parametrize(("above", "healthy"), [(0, 10), (990, 20), (10**4, 10**3), (10**8, 10**7)])
def test_the_closed_form_equals_the_sum(above: int, healthy: int) -> None:
    lesion = 50_000
    i = np.arange(1, lesion + 1)
    wanted = (i / (i + above + healthy)).mean()
    steps = Steps(*np.array([[lesion], [healthy], [above]]), np.array([False]), np.asarray(above + healthy))
    assert average_precision_bounds(steps).low == pytest.approx(wanted, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("kind", ["plain", "negative", "half zero"])
def test_estimates_are_far_better_than_the_bounds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    score, lesion = sample(100_000, kind, 5)
    for name, value in {"SHIFT": 16, "HALF": 1 << 15, "FINITE": 0x7F80, "LOW_BITS": 0xFFFF}.items():
        monkeypatch.setattr(streaming, name, value)  # 64 K bins, as if there were many more voxels
    histogram = ScoreHistogram.of(score, lesion)
    ap, area, dice = truth(score, lesion)
    assert histogram.average_precision().width > 2e-3
    assert histogram.average_precision().value == pytest.approx(ap, abs=1e-4)
    assert histogram.auroc().value == pytest.approx(area, abs=2e-5)
    assert histogram.best_dice().value == pytest.approx(dice, abs=1e-3)
    contain(histogram, score, lesion)


# --- sums


def same(a: ScoreHistogram, b: ScoreHistogram) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) and getattr(a, name).dtype == getattr(b, name).dtype
        for name in ("bins", "lesion", "healthy", "only")
    )


def added(parts: list[ScoreHistogram]) -> ScoreHistogram:
    total = HistogramSum()
    for part in parts:
        total.add(part)
    return total.histogram()


@pytest.mark.parametrize("kind", [*KINDS[:10], "half zero and 8-bit"])
@pytest.mark.parametrize("waiting", [0, 1 << 19])
def test_histograms_add(kind: str, waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WAITING", waiting)
    score, lesion = sample(9000, kind, 3)
    whole = ScoreHistogram.of(score, lesion)
    parts = [ScoreHistogram.of(score[i : i + 700], lesion[i : i + 700]) for i in range(0, 9000, 700)]
    assert same(added([*parts, ScoreHistogram.of(score[:0], lesion[:0])]), whole)
    assert same(added(parts[1::-1]), added(parts[:2]))


def test_sums_forget_what_they_do_not_know() -> None:
    one, other, yes = (
        np.array([1.0], np.float32),
        np.nextafter(np.array([1.0], np.float32), np.float32(2)),
        np.ones(1, bool),
    )
    a, b = ScoreHistogram.of(one, yes), ScoreHistogram.of(other, ~yes)
    assert a.exact
    assert added([a, a]).exact
    assert not added([a, b]).exact
    assert not added([a, b, a]).exact
    assert added([a, b]).average_precision()[1:] == (0.5, 1.0)


# --- the exact path


@pytest.mark.parametrize("kind", [*KINDS, "half zero and 8-bit"])
@pytest.mark.parametrize("prevalence", [0.5, 0.01])
def test_exact_path_equals_scikit_learn(kind: str, prevalence: float) -> None:
    score, lesion = sample(6000, kind, 4, prevalence)
    metrics = exact_rank_metrics(score.reshape(60, 100), lesion.reshape(60, 100))
    assert (metrics.ap, metrics.auroc, metrics.dice) == pytest.approx(truth(score, lesion), abs=ROUNDING)
    curve = rank_curve(score, lesion)
    assert metrics.ap == pytest.approx(average_precision(curve), abs=ROUNDING)
    assert metrics.auroc == pytest.approx(auroc(curve), abs=ROUNDING)
    assert (metrics.dice, metrics.dice_threshold) == pytest.approx(best_dice(curve), abs=ROUNDING)
    assert (metrics.ap_low, metrics.ap_high, metrics.path) == (metrics.ap, metrics.ap, "exact")
    assert (metrics.auroc_low, metrics.auroc_high, metrics.dice_high) == (metrics.auroc, metrics.auroc, metrics.dice)


@pytest.mark.parametrize("kind", KINDS)
def test_best_dice_equals_brute_force_and_its_threshold_reaches_it(kind: str) -> None:
    score, lesion = sample(120, kind, 5, 0.1)

    def dice(found: BoolArray) -> float:
        return 2 * (found & lesion).sum() / (found.sum() + lesion.sum())

    brute = max(dice(score >= t) for t in np.unique(score))
    for metrics in (exact_rank_metrics(score, lesion), ScoreHistogram.of(score, lesion).rank_metrics()):
        taken = score.astype(np.float32) if metrics.path == "histogram" else score
        assert dice(taken >= metrics.dice_threshold) == pytest.approx(metrics.dice, abs=ROUNDING)
        assert metrics.dice == pytest.approx(f1_score(lesion, taken >= metrics.dice_threshold), abs=ROUNDING)
        assert metrics.dice - ROUNDING <= brute <= metrics.dice_high + ROUNDING


arrays = st.integers(1, 50).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, n, elements=st.floats(-1000, 1000, width=16)),
        hnp.arrays(np.bool_, n),
        st.permutations(range(n)),
    )
)


@settings(max_examples=100, deadline=None)
@given(arrays, st.sampled_from([1.0, 0.37, 1e-30]), st.booleans())
def test_increasing_maps_and_order_change_nothing(
    data: tuple[FloatArray, BoolArray, list[int]], factor: float, squash: bool
) -> None:
    score, lesion, order = data
    mapped = (
        np.arctan(score.astype(np.float64)) * factor if squash else score * np.float64(factor) + 3.0 * (factor == 0.37)
    )
    a, b = exact_rank_metrics(score, lesion), exact_rank_metrics(mapped[order], lesion[order])
    assert (a.ap, a.auroc, a.dice) == pytest.approx((b.ap, b.auroc, b.dice), abs=ROUNDING, nan_ok=True)
    histogram = ScoreHistogram.of(score, lesion)
    assert same(histogram, ScoreHistogram.of(score[order], lesion[order]))
    if lesion.any():
        bounded = histogram.average_precision()
        assert bounded.low - ROUNDING <= a.ap <= bounded.high + ROUNDING


def test_the_histogram_is_left_where_it_is_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SORTED", 0)
    for kind, path in {"plain": "histogram", "packed": "exact", "float16": "exact", "heavy": "histogram"}.items():
        score, lesion = sample(60_000, kind, 6)
        metrics = rank_metrics(score, lesion)
        ap, area, dice = truth(score, lesion)
        assert metrics.path == path
        assert metrics.ap_high - metrics.ap_low <= 1e-4
        assert (metrics.ap, metrics.auroc) == pytest.approx((ap, area), abs=1e-4)
        assert metrics.dice - ROUNDING <= dice <= metrics.dice_high + ROUNDING
        assert rank_metrics(score, lesion, tolerance=0.0).ap == pytest.approx(ap, abs=ROUNDING)
    # few lesions, most of them in one bin of half the voxels: average precision is certain, AUROC is not
    score = np.concatenate([1 + np.arange(50_000) / 1e9, np.full(50_000, 2.0)])
    lesion = np.isin(np.arange(100_000), [3])
    assert ScoreHistogram.of(score, lesion).average_precision().width < 1e-4
    assert rank_metrics(score, lesion).path == "exact"


# --- pools of subjects


def pool(parts: list[tuple[FloatArray, BoolArray]]):  # type: ignore[no-untyped-def]
    return exact_pooled(lambda: iter(parts))


@pytest.mark.parametrize("kind", [*KINDS, "half zero and 8-bit"])
def test_exact_pool_equals_all_voxels_at_once(kind: str) -> None:
    parts = [sample(700, kind, seed, 0.1) for seed in range(5)]
    parts.append((parts[0][0][:10], np.zeros(10, bool)))  # a healthy subject
    together = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    found, wanted = pool(parts), exact_rank_metrics(*together)
    assert astuple(found)[:6] == pytest.approx(astuple(wanted)[:6], abs=ROUNDING)
    assert (found.ap, found.auroc, found.dice) == pytest.approx(truth(*together), abs=ROUNDING)


def test_exact_pool_notices_another_second_pass() -> None:
    score, lesion = sample(50, "plain")
    reads = iter([[(score, lesion)], [(score, ~lesion)]])
    with pytest.raises(ValueError, match="second"):
        exact_pooled(lambda: next(reads))


def repeated(parts: list[tuple[FloatArray, BoolArray]], row: NDArray[np.float64]) -> tuple[FloatArray, BoolArray]:
    chosen = [part for part, times in zip(parts, row.astype(int), strict=True) for _ in range(times)]
    return np.concatenate([p[0] for p in chosen]), np.concatenate([p[1] for p in chosen])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [800, 16_000])
def test_pooled_draws_equal_the_resampled_pools(kind: str, size: int) -> None:
    parts = [sample(size, kind, seed, 0.15) for seed in range(4)]
    histograms = [ScoreHistogram.of(*part) for part in parts]
    total = added(histograms)
    weights = np.concatenate([np.ones((1, 4)), resamples(4, 2, 7), [[0.0, 0.0, 3.0, 0.0]]])
    read, counted = pooled_from_scores(lambda: iter(parts), weights), pooled_from(histograms, weights)
    again = pooled_from(lambda: iter(histograms), weights)
    distinct = len(np.unique(np.concatenate([score[lesion] for score, lesion in parts])))
    near = {"auprc": 2.5e-4, "auroc": 5e-5, "oracle_dice": 1 / GROUPS}  # a step of recall is 5e-4
    for index, row in enumerate(weights):
        for name, value in zip(near, truth(*repeated(parts, row)), strict=True):
            tolerance = ROUNDING if distinct <= GROUPS else near[name]
            assert read[name][index] == pytest.approx(value, abs=tolerance)
            assert counted[name][index] == again[name][index]
            if total.exact:
                assert counted[name][index] == pytest.approx(value, abs=tolerance)
            elif kind not in ("packed", "packed at 1", "float64"):  # few bins, and bounds that say so
                assert counted[name][index] == pytest.approx(value, abs=max(2.5e-4, tolerance))


def test_pools_without_lesions_are_nan_and_draws_are_split() -> None:
    score, lesion = sample(100, "plain")
    parts = [(score, lesion), (score, np.zeros(100, bool))]
    weights = np.tile([[1.0, 1.0], [0.0, 2.0]], (300, 1))
    for found in (
        pooled_from([ScoreHistogram.of(*p) for p in parts], weights),
        pooled_from_scores(lambda: parts, weights),
    ):
        for values in found.values():
            assert values.shape == (600,)
            assert np.isnan(values[1::2]).all()
            assert len(np.unique(values[::2])) == 1
    assert all(np.isnan(v).all() for v in pooled_from_scores(lambda: parts[1:], np.ones((3, 1))).values())


def test_no_group_of_a_pool_takes_much_of_the_recall() -> None:
    rng = np.random.default_rng(0)
    lesion = rng.integers(1, 4, 50_000)
    lesion[[0, 700, 701, 49_999]] = 20_000
    first, last = _groups(lesion)
    assert GROUPS / 2 < first.size <= 3 * GROUPS
    assert (first[1:] == last[:-1] + 1).all()
    assert (first[0], last[-1]) == (0, lesion.size - 1)
    held = np.add.reduceat(lesion, first)
    large = held > lesion.sum() / GROUPS + 3
    assert (first[large] == [0, 700, 701, 49_999]).all()
    assert (first[large] == last[large]).all()


def test_nothing_warns_for_extreme_floats() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = np.array([-3e38, -1e-45, -0.0, 0.0, 1e-45, 3e38], np.float32)
        lesion = np.array([False, False, True, False, True, True])
        assert ScoreHistogram.of(score, lesion).exact is False
        assert rank_metrics(score, lesion).ap == pytest.approx(average_precision_score(lesion, score))
        assert len(ScoreHistogram.of(score[[0, 2, 3, 5]], lesion[[0, 2, 3, 5]]).bins) == 3
