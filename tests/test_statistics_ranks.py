"""Ranks, Friedman, Nemenyi, groups and the bootstrap of ranks, against published figures, scipy and brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from uadbench.arrays import FloatArray
from uadbench.metrics.bootstrap import resamples
from uadbench.statistics.groups import groups_by_difference, groups_by_test, pairwise_wilcoxon
from uadbench.statistics.paired import holm
from uadbench.statistics.rank_bootstrap import bootstrap_ranks
from uadbench.statistics.ranks import average_ranks, complete, critical_difference, friedman, subject_ranks

DEMSAR = np.array(
    [
        [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
        [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
        [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.97501, 0.946],
        [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
    ]
)
"""The worked example of Demsar (2006): AUC of four trees on 14 data sets. Its ranks were taken before rounding: the third
tree is ahead of the fourth on the 13th data set, where the printed values are equal."""


def sample(m: int, n: int, seed: int, tied: bool = False) -> FloatArray:
    rng = np.random.default_rng(seed)
    values = rng.normal(0.4, 0.1, n) + rng.normal(0.0, 0.1, (m, n)) + np.linspace(0.1, 0.0, m)[:, None]
    return np.round(values * 8) / 8 if tied else values


def test_the_worked_example_of_demsar() -> None:
    ranks = average_ranks(DEMSAR)
    assert ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert 12 * 14 / (4 * 5) * ((ranks**2).sum() - 4 * 25 / 4) == pytest.approx(9.28, abs=0.01)
    assert friedman(DEMSAR).statistic > 9.28  # The paper does not correct for ties.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, alpha=0.1) == pytest.approx(1.12, abs=0.005)


@pytest.mark.parametrize(
    ("alpha", "published"),
    [
        (0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]),
        (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]),
    ],
)
def test_critical_values_are_those_of_demsars_table(alpha: float, published: list[float]) -> None:
    for m, q in enumerate(published, start=2):
        # With this many subjects the critical difference is q itself; the table is off by one in its last digit at times.
        assert critical_difference(m, m * (m + 1), alpha) * np.sqrt(6) == pytest.approx(q, abs=0.0011)
    assert critical_difference(5, 40) == pytest.approx(critical_difference(5, 10) / 2)
    assert np.isnan(critical_difference(3, 0))
    with pytest.raises(ValueError, match="at least 2"):
        critical_difference(1, 10)


def test_ranks_by_hand() -> None:
    values = np.array([[0.3, 0.5, np.nan], [0.3, 0.1, 0.2], [0.1, 0.9, 0.4]])
    nan = float("nan")
    higher = np.array([[1.5, 2.0, nan], [1.5, 3.0, nan], [3.0, 1.0, nan]])
    assert subject_ranks(values) == pytest.approx(higher, nan_ok=True)
    assert subject_ranks(values, higher_is_better=False) == pytest.approx(4.0 - higher, nan_ok=True)
    assert average_ranks(values) == pytest.approx([1.75, 2.25, 2.0])
    assert complete(values).shape == (3, 2)
    assert np.isnan(average_ranks(np.full((2, 3), np.nan))).all()
    for wrong in (np.zeros(4), np.zeros((1, 4))):
        with pytest.raises(ValueError, match="two methods"):
            average_ranks(wrong)


@pytest.mark.parametrize("m", [3, 6, 9])
@pytest.mark.parametrize("tied", [False, True])
def test_friedman_equals_scipy(m: int, tied: bool) -> None:
    values = sample(m, 20, m, tied)
    found, other = friedman(values), stats.friedmanchisquare(*values)
    assert (found.statistic, found.p) == pytest.approx((other.statistic, other.pvalue), rel=1e-9)
    assert friedman(-values).statistic == pytest.approx(found.statistic)
    holes = np.concatenate([values, np.full((m, 2), np.nan)], axis=1)
    holes[1:, -1] = 0.5
    assert (friedman(holes).statistic, friedman(holes).n, friedman(holes).excluded) == (found.statistic, 20, 2)


@pytest.mark.parametrize("tied", [False, True])
def test_f_of_iman_and_davenport_is_the_analysis_of_variance_of_ranks(tied: bool) -> None:
    values = sample(5, 18, 1, tied)
    ranks = np.apply_along_axis(stats.rankdata, 0, values)
    methods = 18 * ((ranks.mean(1) - 3.0) ** 2).sum() / 4
    rest = ((ranks - ranks.mean(1, keepdims=True) - ranks.mean(0) + 3.0) ** 2).sum() / (4 * 17)
    found = friedman(values)
    assert found.f_statistic == pytest.approx(methods / rest, rel=1e-9)
    assert found.p_f == pytest.approx(stats.f.sf(methods / rest, 4, 4 * 17), rel=1e-9)


def test_friedman_of_two_methods_is_the_sign_test_statistic() -> None:
    values = np.array([np.ones(10), np.append(np.zeros(7), np.full(3, 2.0))])
    assert friedman(values).statistic == pytest.approx((7 - 3) ** 2 / 10)


def test_friedman_without_a_result() -> None:
    for values, n in ((np.ones((3, 8)), 8), (np.arange(3.0)[:, None], 1), (np.full((3, 4), np.nan), 0)):
        found = friedman(values)
        assert found.n == n
        assert np.isnan([found.statistic, found.p, found.f_statistic, found.p_f]).all()
    agreed = friedman(np.arange(3.0)[:, None] + np.zeros(6))
    assert (agreed.statistic, agreed.f_statistic, agreed.p_f) == (pytest.approx(12.0), float("inf"), 0.0)


def test_pairwise_p_values_are_adjusted_over_all_pairs() -> None:
    values = sample(4, 30, 3)
    values[0, :5] = np.nan
    found = pairwise_wilcoxon(values)
    raw = [
        stats.wilcoxon((values[i] - values[j])[np.isfinite(values[i])], method="exact").pvalue
        for i, j in combinations(range(4), 2)
    ]
    assert [found[i, j] for i, j in combinations(range(4), 2)] == pytest.approx(holm(raw))
    assert found == pytest.approx(found.T, nan_ok=True)
    assert np.isnan(np.diag(found)).all()
    nothing = pairwise_wilcoxon(np.array([[1.0, np.nan], [np.nan, 1.0], [0.0, 0.0]]))
    assert np.isnan(nothing[0, 1])
    assert nothing[0, 2] == 1.0


def test_groups_by_hand() -> None:
    ranks = average_ranks(DEMSAR)
    assert groups_by_difference(ranks, 1.25) == [(3, 1, 2, 0)]
    assert groups_by_difference(ranks, 1.12) == [(3, 1, 2), (2, 0)]
    assert groups_by_difference(ranks, 0.01) == []
    assert groups_by_difference(np.array([1.0, 2.0]), 1.0) == []  # A difference as large as the critical one counts.
    p = np.full((3, 3), 0.5)
    p[0, 2] = p[2, 0] = 0.05
    assert groups_by_test(np.array([1.2, 2.0, 2.8]), p) == [(0, 1), (1, 2)]
    assert groups_by_test(np.array([1.2, 2.0, 2.8]), p, alpha=0.01) == [(0, 1, 2)]
    assert groups_by_test(np.array([1.2, 2.8, 2.0]), p) == [(2, 1)]  # 0 and 1 are alike, but 2 lies between them.
    assert groups_by_test(np.array([1.0, 2.0]), np.full((2, 2), np.nan)) == [(0, 1)]
    with pytest.raises(ValueError, match="NaN or infinite"):
        groups_by_difference(np.array([1.0, np.nan]), 1.0)
    with pytest.raises(ValueError, match="do not belong"):
        groups_by_test(np.array([1.0, 2.0]), p)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_groups_are_the_longest_runs_without_a_difference(m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranks = rng.random(m) * (m - 1) + 1
    p = rng.random((m, m))
    p = np.minimum(p, p.T)
    order = np.argsort(ranks)
    runs = [order[i:j] for i in range(m) for j in range(i + 2, m + 1)]
    alike = [set(run) for run in runs if all(p[a, b] > 0.2 for a, b in combinations(run, 2))]
    longest = [run for run in alike if not any(run < other for other in alike)]
    found = groups_by_test(ranks, p, alpha=0.2)
    assert sorted(map(sorted, found)) == sorted(map(sorted, longest))
    assert all(list(ranks[list(group)]) == sorted(ranks[list(group)]) for group in found)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("higher", [False, True])
def test_bootstrap_of_ranks_is_what_a_loop_over_samples_finds(tied: bool, higher: bool) -> None:
    values = sample(4, 9, 2, tied)
    found = bootstrap_ranks(values, draws=200, seed=3, higher_is_better=higher)
    sign = -1.0 if higher else 1.0
    per_subject = np.stack([stats.rankdata(sign * column) for column in values.T], axis=1)
    for ranking, table, direction in ((found.by_mean, values, sign), (found.by_rank, per_subject, 1.0)):
        assert ranking.value == pytest.approx(table.mean(1))
        assert ranking.rank == pytest.approx(stats.rankdata(np.round(direction * table.mean(1), 9)))
        shares, drawn = np.zeros((4, 4)), []
        for counts in resamples(9, 200, 3).astype(int):
            drawn.append(stats.rankdata(np.round(direction * np.repeat(table, counts, axis=1).mean(1), 9)))
            for i, rank in enumerate(drawn[-1]):
                group = (drawn[-1] == rank).sum()
                first = int(rank - (group + 1) / 2)
                shares[i, first : first + group] += 1 / group / 200
        assert ranking.probability == pytest.approx(shares)
        assert ranking.best == pytest.approx(shares[:, 0])
        ordered = np.sort(drawn, axis=0)
        assert ranking.low == pytest.approx(ordered[5])  # The sixth to the 195th are 95 % of 200.
        assert ranking.high == pytest.approx(ordered[194])
    assert found.tau == pytest.approx(stats.kendalltau(found.by_mean.rank, found.by_rank.rank).statistic)
    assert (found.n, found.excluded) == (9, 0)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(3, 12)), elements=st.integers(0, 5).map(float)))
def test_probabilities_of_ranks_add_up(values: FloatArray) -> None:
    found = bootstrap_ranks(values, draws=100)
    opposite = bootstrap_ranks(-values, draws=100, higher_is_better=False)
    for ranking, other in ((found.by_mean, opposite.by_mean), (found.by_rank, opposite.by_rank)):
        assert ranking.probability.sum(0) == pytest.approx(1.0)
        assert ranking.probability.sum(1) == pytest.approx(1.0)
        assert ranking.rank.sum() == pytest.approx(len(values) * (len(values) + 1) / 2)
        assert (ranking.low <= ranking.high).all()
        assert ranking.probability == pytest.approx(other.probability)


def test_equal_methods_share_the_first_place_and_a_better_one_has_it_alone() -> None:
    base = np.random.default_rng(0).random(33) / 3
    twins = bootstrap_ranks(np.stack([base] * 7 + [base[::-1] - 1.0]), draws=500)
    for ranking in (twins.by_mean, twins.by_rank):
        assert ranking.best == pytest.approx([1 / 7] * 7 + [0.0])
        assert ranking.rank == pytest.approx([4.0] * 7 + [8.0])
        assert ranking.low == pytest.approx(ranking.high)
    winner = bootstrap_ranks(np.stack([base, base + 1.0, base - 1.0]), draws=100)
    assert winner.by_mean.best == pytest.approx([0.0, 1.0, 0.0])
    assert winner.by_rank.rank == pytest.approx([2.0, 1.0, 3.0])
    assert winner.tau == pytest.approx(1.0)


def test_means_that_differ_by_rounding_are_equal() -> None:
    values = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    assert values[0].mean() != values[1].mean()
    assert bootstrap_ranks(values).by_mean.rank == pytest.approx([1.5, 1.5])
    assert bootstrap_ranks(values + [[1e-9], [0.0]]).by_mean.rank == pytest.approx([1.0, 2.0])


def test_the_two_ways_to_aggregate_can_disagree() -> None:
    # Method 0 wins narrowly on most subjects and fails on a few.
    values = np.stack([np.append(np.full(16, 0.51), np.zeros(4)), np.full(20, 0.50)])
    found = bootstrap_ranks(values)
    assert found.by_mean.rank == pytest.approx([2.0, 1.0])
    assert found.by_rank.rank == pytest.approx([1.0, 2.0])
    assert found.tau == pytest.approx(-1.0)


def test_bootstrap_of_ranks_without_enough_subjects() -> None:
    values = np.array([[0.1, 0.5, np.nan], [0.2, 0.6, 0.3]])
    few = bootstrap_ranks(values)
    assert (few.n, few.excluded) == (2, 1)
    assert few.by_mean.rank == pytest.approx([2.0, 1.0])
    assert np.isnan(few.by_mean.probability).all()
    assert np.isnan([few.by_rank.low, few.by_rank.high, few.by_rank.best]).all()
    none = bootstrap_ranks(np.full((2, 3), np.nan))
    assert np.isnan(none.by_mean.rank).all()
    assert np.isnan(none.tau)
    assert np.isnan(bootstrap_ranks(np.ones((3, 5))).tau)


def test_the_seed_decides_the_draws() -> None:
    values = sample(4, 12, 4)
    one, same, other = (bootstrap_ranks(values, draws=100, seed=s).by_mean.probability for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
