"""Paired tests against scipy and by going through all signs; Holm's rule by its steps."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from uadbench.arrays import FloatArray
from uadbench.statistics.intervals import mean_interval
from uadbench.statistics.paired import compare_pair, compare_pairs, holm
from uadbench.statistics.signed import cohens_dz, rank_biserial, sign_flip_p, wilcoxon_p


def all_signs(differences: FloatArray) -> FloatArray:
    return np.array(list(product([-1.0, 1.0], repeat=len(differences))))


@pytest.mark.parametrize("n", [1, 4, 9, 25, 50])
def test_wilcoxon_without_ties_is_scipys_exact_test(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(5):
        d = rng.normal(0.3, 1.0, n)
        assert wilcoxon_p(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [5, 10, 12])
def test_wilcoxon_with_ties_and_zeros_goes_through_all_signs(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(5):
        d = rng.integers(-3, 5, n).astype(float)
        kept = d[d != 0]
        ranks = stats.rankdata(np.abs(kept))
        sums = np.abs(all_signs(kept) @ ranks)
        assert wilcoxon_p(d) == pytest.approx((sums >= abs(np.sign(kept) @ ranks)).mean(), rel=1e-12)


def test_wilcoxon_with_ties_agrees_with_scipys_permutation_test() -> None:
    d = np.array([1.0, -1.0, 2.0, 2.0, 3.0, -2.0, 4.0, 4.0])
    other = stats.wilcoxon(d, method=stats.PermutationMethod(n_resamples=10_000)).pvalue
    assert wilcoxon_p(d) == pytest.approx(other, rel=1e-9)


def test_wilcoxon_of_many_is_the_normal_approximation_corrected_for_ties() -> None:
    d = np.random.default_rng(0).integers(-5, 7, 120).astype(float)
    kept = d[d != 0]
    n, ranks = len(kept), stats.rankdata(np.abs(kept))
    counts = np.unique(np.abs(kept), return_counts=True)[1]
    variance = n * (n + 1) * (2 * n + 1) / 24 - (counts**3 - counts).sum() / 48
    z = (ranks[kept > 0].sum() - n * (n + 1) / 4) / np.sqrt(variance)
    assert wilcoxon_p(d) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)


def test_exact_and_approximate_wilcoxon_meet() -> None:
    d = np.random.default_rng(8).normal(0.25, 1.0, 51)
    assert wilcoxon_p(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=0.05)


@pytest.mark.parametrize("n", [1, 3, 8, 11])
def test_few_signs_are_flipped_exactly(n: int) -> None:
    d = np.random.default_rng(n).integers(-4, 7, n) / 10.0
    sums = np.abs(all_signs(d) @ d)
    assert sign_flip_p(d[None])[0] == pytest.approx((sums >= abs(d.sum()) - 1e-12).mean(), rel=1e-12)


def test_flips_agree_with_scipys_permutation_test() -> None:
    a, b = np.random.default_rng(1).normal([[0.4], [0.0]], 1.0, (2, 9))

    def mean_difference(x: FloatArray, y: FloatArray, axis: int) -> FloatArray:
        return (x - y).mean(axis)

    other = stats.permutation_test((a, b), mean_difference, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p((a - b)[None])[0] == pytest.approx(other.pvalue, rel=1e-9)


def test_random_flips_come_close_to_all_flips() -> None:
    rows = np.random.default_rng(2).normal([[0.0], [0.3], [0.6]], 1.0, (3, 16))
    exact = [(np.abs(all_signs(d) @ d) >= abs(d.sum()) - 1e-12).mean() for d in rows]
    found = sign_flip_p(rows, rounds=20_000, seed=4)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 20_000))
    assert found == pytest.approx(exact, rel=0.15)


def test_random_flips_never_reach_zero_and_follow_the_seed() -> None:
    strong = 1.0 + np.arange(200)[None] / 1000
    assert sign_flip_p(strong, rounds=999)[0] == 1 / 1000
    weak = np.random.default_rng(0).normal(0.05, 1.0, (1, 100))
    assert sign_flip_p(weak, seed=1) == sign_flip_p(weak, seed=1)
    assert sign_flip_p(weak, seed=1) != sign_flip_p(weak, seed=2)


def test_zeros_do_not_count_as_signs() -> None:
    d = np.append(np.array([0.1, 0.2, 0.3, 0.4, -0.05]), np.zeros(30))
    assert sign_flip_p(d[None])[0] == sign_flip_p(d[None, :5])[0] == pytest.approx(4 / 32)
    assert wilcoxon_p(d) == wilcoxon_p(d[:5]) == pytest.approx(4 / 32)


def test_both_tests_reject_a_true_hypothesis_as_often_as_they_say() -> None:
    rows = np.random.default_rng(11).standard_t(3, (600, 20))
    assert 0.03 <= np.mean(sign_flip_p(rows, rounds=999) <= 0.05) <= 0.075
    assert 0.03 <= np.mean([wilcoxon_p(d) <= 0.05 for d in rows]) <= 0.075


def test_effect_sizes_by_hand() -> None:
    d = np.array([1.0, 2.0, -3.0, 0.0, 4.0])
    assert rank_biserial(d) == pytest.approx((1 + 2 + 4 - 3) / 10)
    assert cohens_dz(d) == pytest.approx(stats.ttest_1samp(d, 0.0).statistic / np.sqrt(5))
    assert (rank_biserial(d[:2]), rank_biserial(-d[:2])) == (1.0, -1.0)
    for nothing in (rank_biserial(np.zeros(4)), rank_biserial(np.empty(0)), cohens_dz(np.full(4, 0.1))):
        assert np.isnan(nothing)
    assert np.isnan(cohens_dz(np.array([0.3])))


def test_rank_biserial_follows_scipys_rank_sum() -> None:
    d = np.random.default_rng(5).normal(0.2, 1.0, 30)
    larger = stats.wilcoxon(d, alternative="greater").statistic
    assert rank_biserial(d) == pytest.approx(2 * larger / (30 * 31 / 2) - 1)


def test_a_comparison_by_hand() -> None:
    nan = float("nan")
    a = np.array([0.5, 0.6, nan, 0.25, 0.8, np.inf, 0.9])
    b = np.array([0.4, 0.7, 0.1, 0.25, 0.5, 0.3, nan])
    found = compare_pair(a, b)
    d = np.array([0.1, -0.1, 0.0, 0.3])
    assert (found.n, found.excluded, found.wins, found.ties, found.losses) == (4, 3, 2, 1, 1)
    assert found.difference == pytest.approx(0.075)
    limits = mean_interval(d)
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high))
    assert found.p_permutation == pytest.approx(6 / 8)
    assert found.cohens_dz == pytest.approx(d.mean() / d.std(ddof=1))
    lower = compare_pair(a, b, higher_is_better=False)
    assert lower == replace(found, wins=found.losses, losses=found.wins)


def test_comparisons_without_information() -> None:
    same = compare_pair(np.full(6, 0.3), np.full(6, 0.3))
    assert (same.difference, same.low, same.high, same.ties) == (0.0, 0.0, 0.0, 6)
    assert (same.p_wilcoxon, same.p_permutation) == (1.0, 1.0)
    assert np.isnan([same.rank_biserial, same.cohens_dz]).all()
    empty = compare_pair(np.full(3, np.nan), np.arange(3.0))
    assert (empty.n, empty.excluded) == (0, 3)
    assert np.isnan([empty.difference, empty.low, empty.high, empty.p_wilcoxon, empty.p_permutation]).all()
    with pytest.raises(ValueError, match="one shape"):
        compare_pair(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="methods, subjects"):
        compare_pairs(np.zeros(3))


pairs = st.integers(3, 25).flatmap(
    lambda n: hnp.arrays(np.float64, (2, n), elements=st.integers(-20, 20).map(lambda v: v / 4) | st.just(float("nan")))
)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_exchanging_the_methods_changes_the_signs_only(values: FloatArray) -> None:
    one, other = (compare_pair(a, b, draws=200, rounds=99) for a, b in ((values[0], values[1]), (values[1], values[0])))
    assert (one.difference, one.low, one.high) == pytest.approx(
        (-other.difference, -other.high, -other.low), abs=1e-12, nan_ok=True
    )
    assert (one.rank_biserial, one.cohens_dz) == pytest.approx((-other.rank_biserial, -other.cohens_dz), nan_ok=True)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    assert (one.p_wilcoxon, one.p_permutation) == pytest.approx((other.p_wilcoxon, other.p_permutation), nan_ok=True)
    assert one.wins + one.ties + one.losses + one.excluded == values.shape[1]


def test_all_pairs_are_the_single_pairs() -> None:
    values = np.random.default_rng(7).normal(0.4, 0.1, (4, 30))
    values[1, :3], values[2, 3:6] = np.nan, np.nan
    together = compare_pairs(values, draws=300, rounds=499, seed=5)
    assert list(together) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [c.excluded for c in together.values()] == [3, 3, 0, 6, 3, 3]
    for (i, j), found in together.items():
        alone = compare_pair(values[i], values[j], draws=300, rounds=499, seed=5)
        assert list(vars(found).values()) == pytest.approx(list(vars(alone).values()), rel=1e-12)


def test_holm_by_hand() -> None:
    nan = float("nan")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, nan, 0.04]) == pytest.approx([0.02, nan, 0.04], nan_ok=True)
    assert holm([[0.9, 0.8]]) == pytest.approx(np.array([[1.0, 1.0]]))
    assert holm([]).shape == (0,)
    for wrong in (-0.1, 1.1, np.inf):
        with pytest.raises(ValueError, match="outside"):
            holm([0.5, wrong])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.sampled_from([0.01, 0.05, 0.2, 0.5]))
def test_holm_rejects_what_the_steps_reject(p_values: list[float], alpha: float) -> None:
    rejected = set()
    for step, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[i] * (len(p_values) - step) > alpha:
            break
        rejected.add(i)
    adjusted = holm(p_values)
    assert set(np.flatnonzero(adjusted <= alpha)) == rejected
    assert (adjusted >= np.array(p_values)).all()
    assert (adjusted <= np.minimum(1.0, len(p_values) * np.array(p_values))).all()
