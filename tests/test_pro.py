"""AUPRO and AUPIMO against brute force over all thresholds, and by their properties."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.integrate import trapezoid

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.pimo import aupimo, shared_rate
from uadbench.metrics.pro import ProHistogram, aupro
from uadbench.metrics.pro_exact import aupro_again
from uadbench.metrics.regions import components

KINDS = ["plain", "half zero", "8 bit", "float16", "far", "negative"]


def subject(seed: int, kind: str = "plain", shape: tuple[int, ...] = (4, 12, 12)) -> tuple[FloatArray, BoolArray]:
    rng = np.random.default_rng(seed)
    lesion = ndimage.gaussian_filter(rng.standard_normal(shape), (0.5, 1.5, 1.5)) > 0.27
    score = np.abs(ndimage.gaussian_filter(rng.standard_normal(shape), 0.7) + 0.4 * lesion).astype(np.float32)
    if kind == "half zero":
        score = np.maximum(score - 0.3, 0.0)
    elif kind == "8 bit":
        score = np.round(score * 20).astype(np.float32)
    elif kind == "float16":
        score = score.astype(np.float16)
    elif kind == "far":
        score = np.exp(12.0 * score.astype(np.float64))
    elif kind == "negative":
        score = score - 0.6
    return score, lesion


def group(n: int, kind: str = "plain", seed: int = 0) -> tuple[list[FloatArray], list[BoolArray], list[BoolArray]]:
    scores, lesions = map(list, zip(*(subject(seed + i, kind) for i in range(n)), strict=True))
    where = [np.random.default_rng(seed + 100 + i).random(s.shape) < 0.8 for i, s in enumerate(scores)]
    return scores, lesions, where


def brute(scores: list[FloatArray], lesions: list[BoolArray], limit: float, where: list[BoolArray]) -> float:
    """By definition: every threshold, every region, the trapezoid rule."""
    regions = []
    for number, lesion in enumerate(lesions):
        labels, count = ndimage.label(lesion, np.ones((3, 3, 3)))
        regions += [(number, (labels == k) & where[number]) for k in range(1, count + 1)]
    regions = [(number, region) for number, region in regions if region.any()]
    x, y = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([s[w] for s, w in zip(scores, where, strict=True)]))[::-1]:
        found = [s >= threshold for s in scores]
        y.append(np.mean([found[number][region].mean() for number, region in regions]))
        x.append(np.concatenate([f[w & ~m] for f, w, m in zip(found, where, lesions, strict=True)]).mean())
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < len(x):
        last = y[inside - 1] + (y[inside] - y[inside - 1]) * (limit - x[inside - 1]) / (x[inside] - x[inside - 1])
        x, y = [*x[:inside], limit], [*y[:inside], last]
    return float(trapezoid(y, x) / limit)


def streamed(
    scores: list[FloatArray], lesions: list[BoolArray], where: list[BoolArray] | None = None, bits: int = 19
) -> ProHistogram:
    histogram = ProHistogram(bits)
    for number, (score, lesion) in enumerate(zip(scores, lesions, strict=True)):
        histogram.add(score, components(lesion), None if where is None else where[number])
    return histogram


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_equals_brute_force(kind: str, limit: float) -> None:
    scores, lesions, where = group(3, kind)
    everywhere = [np.ones_like(m) for m in lesions]
    assert aupro(scores, lesions, limit) == pytest.approx(brute(scores, lesions, limit, everywhere), abs=1e-12)
    assert aupro(scores, lesions, limit, where) == pytest.approx(brute(scores, lesions, limit, where), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(KINDS), st.sampled_from([0.05, 0.3, 0.77]))
def test_the_bounds_hold_the_exact_value(seed: int, kind: str, limit: float) -> None:
    scores, lesions, where = group(2, kind, seed)
    exact = aupro(scores, lesions, limit, where)
    for bits in (12, 19):
        histogram = streamed(scores, lesions, where, bits)
        low, high = histogram.bounds(limit)
        if np.isnan(exact):
            assert np.isnan([low, high, histogram.value(limit)]).all()
        else:
            assert low - 1e-12 <= exact <= high + 1e-12
            assert low - 1e-12 <= histogram.value(limit) <= high + 1e-12


@pytest.mark.parametrize("kind", ["float16", "8 bit"])
@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_streaming_is_exact_for_scores_stored_as_float16(kind: str, limit: float) -> None:
    scores, lesions, where = group(5, kind)
    for factor in (1.0, 0.25, -2.0):  # a power of two, as in the store
        scaled = [s * np.float32(factor) for s in scores]
        histogram, exact = streamed(scaled, lesions, where), aupro(scaled, lesions, limit, where)
        assert histogram.exact
        assert (histogram.value(limit), *histogram.bounds(limit)) == pytest.approx((exact,) * 3, abs=1e-12)


@pytest.mark.parametrize("kind", ["plain", "half zero", "far", "negative"])
def test_streaming_is_close_for_other_scores_and_surely_so(kind: str) -> None:
    made = [subject(seed, kind, (1, 128, 128)) for seed in range(12)]
    scores, lesions = [m[0] for m in made], [m[1] for m in made]
    histogram = streamed(scores, lesions)
    assert not histogram.exact
    for limit in (0.05, 0.3):
        assert histogram.value(limit) == pytest.approx(aupro(scores, lesions, limit), abs=1e-4)
        low, high = histogram.bounds(limit)
        assert high - low < 1e-2


def test_packed_scores_are_known_to_be_too_close_for_the_bins() -> None:
    scores, lesions, _ = group(4)
    packed = [0.5 + 1e-3 * s for s in scores]
    assert not streamed([1.0 + 1e-12 * m for m in lesions], lesions).exact  # one score as float32, two as float64
    low, high = streamed(packed, lesions).bounds(0.3)
    exact = aupro(packed, lesions, 0.3)
    assert low <= exact <= high
    assert high - low > 0.1  # so the caller knows that only the exact path will do
    fine = streamed(packed, lesions, bits=24).bounds(0.3)
    assert fine[1] - fine[0] < (high - low) / 5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["8 bit", "plain"]), st.sampled_from(["affine", "cube"]))
def test_increasing_maps_and_the_order_of_subjects_change_nothing(seed: int, kind: str, how: str) -> None:
    scores, lesions, where = group(3, kind, seed)
    wide = [s.astype(np.float64) for s in scores]
    mapped = [{"affine": 3.0 * s - 7.0, "cube": s**3}[how] for s in wide]
    value = aupro(wide, lesions, 0.3, where)
    assert aupro(mapped[::-1], lesions[::-1], 0.3, where[::-1]) == pytest.approx(value, abs=1e-9, nan_ok=True)
    assert np.isnan(value) or 0.0 <= value <= 1.0


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_perfect_constant_inverted_and_all_positive(limit: float) -> None:
    _, lesions, _ = group(4)
    cases = {
        1.0: [m.astype(np.float32) for m in lesions],
        limit / 2: [np.full(m.shape, 3.0, np.float32) for m in lesions],
        0.0: [1.0 - m.astype(np.float32) for m in lesions],
    }
    for expected, scores in cases.items():
        assert aupro(scores, lesions, limit) == pytest.approx(expected, abs=1e-12)
        histogram = streamed(scores, lesions)
        assert histogram.value(limit) == pytest.approx(expected, abs=1e-12)
        assert histogram.draws(np.array([[1.0, 1, 1, 1], [3, 0, 0, 1]]), limit) == pytest.approx(expected, abs=1e-6)


def test_undefined_cases_are_nan() -> None:
    score = np.random.default_rng(0).random((2, 3, 3))
    none, every = np.zeros(score.shape, bool), np.ones(score.shape, bool)
    corner = none.copy()
    corner[0, 0, 0] = True
    for lesion, where in ((none, every), (every, every), (corner, ~corner), (none, none)):
        assert np.isnan(aupro([score], [lesion], where=[where]))
        histogram = streamed([score], [lesion], [where])
        assert np.isnan(histogram.value())
        assert np.isnan(histogram.draws(np.ones((3, 1)))).all()
    assert np.isnan(aupro([], []))
    assert np.isnan(ProHistogram().value())
    assert np.isnan(ProHistogram().draws(np.ones((2, 0)))).all()


def test_healthy_subjects_add_to_the_rate_only() -> None:
    scores, lesions, _ = group(2)
    healthy = np.full(scores[0].shape, 99.0, np.float32)
    both, masks = [*scores, healthy], [*lesions, np.zeros_like(lesions[0])]
    assert aupro(both, masks) < aupro(scores, lesions)
    histogram = streamed(both, masks)
    assert (histogram.subjects, histogram.regions) == (3, streamed(scores, lesions).regions)
    assert histogram.value() == pytest.approx(aupro(both, masks), abs=1e-3)
    draws = histogram.draws(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]]))
    assert np.isnan(draws).tolist() == [False, True, True]  # a sample without a region, a sample without anybody


def test_a_large_region_weighs_as_much_as_a_small_one() -> None:
    lesion = np.zeros((1, 1, 20), bool)
    lesion[0, 0, :8] = lesion[0, 0, 10:11] = True
    score = np.zeros((1, 1, 20))
    score[0, 0, 10] = 1.0  # the region of one voxel is found before any healthy voxel, the other with all the rest
    assert aupro([score], [lesion], 0.3) == pytest.approx(0.5 + 0.5 * 0.15)


def test_zero_has_one_sign() -> None:
    scores, lesions, _ = group(2, "half zero")
    signed = [np.where((np.random.default_rng(1).random(s.shape) < 0.5) & (s == 0), -0.0, s) for s in scores]
    assert any(np.signbit(s[s == 0]).any() for s in signed)
    assert streamed(signed, lesions).value() == streamed(scores, lesions).value()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_wrong_input_is_refused(bad: float) -> None:
    score, lesion = subject(0)
    broken = score.copy()
    broken[1, 1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        aupro([broken], [lesion])
    with pytest.raises(ValueError, match="NaN or infinite"):
        ProHistogram().add(broken, components(lesion))
    where = np.isfinite(broken)
    assert aupro([broken], [lesion], where=[where]) == aupro([score], [lesion], where=[where])  # outside it has no part
    with pytest.raises(ValueError, match="one shape"):
        aupro([score[1:]], [lesion])
    for limit in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="limit"):
            aupro([score], [lesion], limit)
    with pytest.raises(ValueError, match="bits"):
        ProHistogram(30)
    with pytest.raises(ValueError, match="weights"):
        streamed([score], [lesion]).draws(np.ones((5, 2)))


@pytest.mark.parametrize(("kind", "tolerance"), [("8 bit", 1e-6), ("plain", 1e-3), ("half zero", 1e-3)])
@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_draws_agree_with_resampling_the_subjects(kind: str, tolerance: float, limit: float) -> None:
    made = [subject(seed, kind, (1, 96, 96)) for seed in range(6)]
    scores, lesions = [m[0] for m in made], [m[1] for m in made]
    weights = np.random.default_rng(2).multinomial(6, np.full(6, 1 / 6), size=12)
    weights[0] = 1
    histogram = streamed(scores, lesions)
    draws = histogram.draws(weights.astype(float), limit)
    shifted = draws + histogram.value(limit) - draws[0]
    for row, result, better in zip(weights, draws, shifted, strict=True):
        chosen = [i for i in range(6) for _ in range(row[i])]
        exact = aupro([scores[i] for i in chosen], [lesions[i] for i in chosen], limit)
        assert result == pytest.approx(exact, abs=tolerance)
        assert better == pytest.approx(exact, abs=tolerance / 4)
    assert np.ptp(draws) > 0.005


def test_memory_does_not_grow_with_the_voxels() -> None:
    score, lesion = subject(0, "plain", (8, 96, 96))
    regions = components(lesion)
    tracemalloc.start()
    histogram = ProHistogram()
    for number in range(30):
        histogram.add(score + np.float32(0.01 * number), regions)
    histogram.draws(np.ones((200, 30)))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6
    assert held < 8.4e6 + 30 * 40e3 + 1e6  # the bins, and 40 kB a subject


def brute_pimo(healthy: list[FloatArray], lesion: FloatArray, bounds: tuple[float, float]) -> float:
    """Recall on a fine grid of the logarithm of the rate, at the lowest healthy score that keeps to it."""
    levels = np.unique(np.concatenate(healthy))
    rates = np.array([np.mean([(h > t).mean() for h in healthy]) for t in levels])
    edges = np.linspace(*np.log(bounds), 20_001)
    middle = np.exp((edges[1:] + edges[:-1]) / 2)
    return float(np.mean([(lesion > levels[np.argmax(rates <= z)]).mean() for z in middle]))


@pytest.mark.parametrize("kind", ["alike", "tied", "one image has them all"])
def test_aupimo_equals_brute_force(kind: str) -> None:
    rng = np.random.default_rng(3)
    far = 9.0 if kind == "one image has them all" else 0.3
    healthy = [rng.standard_normal(n) + far * i for i, n in enumerate((300, 500, 900))]
    lesion = rng.standard_normal(40) + 1.2 + 2 * far
    if kind == "tied":
        healthy, lesion = [np.round(h * 4) / 4 for h in healthy], np.round(lesion * 4) / 4
    bounds = (0.01, 0.1)
    shared = shared_rate(healthy, bounds)
    assert shared.weight.sum() == pytest.approx(1.0)
    value = aupimo(lesion, shared)
    assert value == pytest.approx(brute_pimo(healthy, lesion, bounds), abs=5e-4)
    assert 0.1 < value < 0.9


def test_aupimo_of_perfect_hopeless_and_absent_lesions() -> None:
    rng = np.random.default_rng(0)
    shared = shared_rate([rng.random(20_000) for _ in range(10)])
    assert shared.reason == ""
    assert aupimo(np.array([2.0, 3.0]), shared) == 1.0
    assert aupimo(np.array([0.5, 0.9]), shared) == 0.0
    assert aupimo(np.array([0.5, 2.0], np.float32), shared) == pytest.approx(0.5)
    assert np.isnan(aupimo(np.empty(0), shared))


def test_too_few_healthy_voxels_give_nan_and_a_reason() -> None:
    rng = np.random.default_rng(0)
    few = shared_rate([rng.random(999) for _ in range(100)])
    assert "less than one voxel" in few.reason
    assert np.isnan(aupimo(np.array([2.0]), few))
    assert shared_rate([rng.random(1000) for _ in range(100)]).reason == ""
    assert shared_rate([]).reason == "no healthy image"
    with pytest.raises(ValueError, match="bounds"):
        shared_rate([rng.random(10)], (0.1, 0.01))
    with pytest.raises(ValueError, match="NaN or infinite"):
        shared_rate([np.array([0.0, np.nan])])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_aupimo_ignores_increasing_maps_and_grows_with_the_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    healthy, lesion = [np.round(rng.random(200), 2) for _ in range(4)], np.round(rng.random(30) + 0.3, 2)
    bounds = (0.005, 0.1)
    value = aupimo(lesion, shared_rate(healthy, bounds))
    assert aupimo(np.exp(lesion), shared_rate([np.exp(h) for h in healthy], bounds)) == pytest.approx(value)
    assert value <= aupimo(lesion + 0.1, shared_rate(healthy, bounds)) <= 1.0


@pytest.mark.parametrize("kind", [*KINDS, "packed"])
def test_subjects_that_are_read_twice_give_the_exact_value(kind: str) -> None:
    scores, lesions, where = group(4, "plain" if kind == "packed" else kind)
    scores = [0.5 + 1e-6 * s if kind == "packed" else s for s in scores]
    pairs, sizes = [], []
    for score, lesion, inside in zip(scores, lesions, where, strict=True):
        labels = components(lesion).labels[inside]
        label = labels[labels > 0]
        pairs.append((score[inside].astype(np.float32), lesion[inside]))
        sizes.append(np.bincount(label)[label].astype(np.float32))
    limits = (0.05, 0.3, 1.0)
    found = aupro_again(lambda: iter(pairs), np.concatenate(sizes), limits)
    single = [s.astype(np.float32) for s in scores]
    expected = [aupro(single, lesions, limit, where) for limit in limits]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found, [brute(single, lesions, limit, where) for limit in limits], atol=1e-9)


def test_reading_twice_needs_a_region_and_a_healthy_voxel() -> None:
    score = np.arange(4, dtype=np.float32)
    for lesion in (np.zeros(4, bool), np.ones(4, bool)):
        sizes = np.full(lesion.sum(), 4, np.float32)
        assert np.isnan(aupro_again(lambda lesion=lesion: iter([(score, lesion)]), sizes, [0.3])).all()  # type: ignore[misc]
    with pytest.raises(ValueError, match="2 sizes for 4 lesion voxels"):
        aupro_again(lambda: iter([(score, np.ones(4, bool))]), np.ones(2, np.float32), [0.3])
    with pytest.raises(ValueError, match="limit 0"):
        aupro_again(lambda: iter([]), np.ones(0, np.float32), [0.0])
