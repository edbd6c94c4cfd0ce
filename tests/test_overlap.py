"""Overlap and healthy-scan metrics against scikit-learn and scipy, by hand, and by their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from uadbench.arrays import BoolArray
from uadbench.metrics.overlap import (
    Confusion,
    dice,
    false_components,
    false_positive_rate,
    flagged_slice_share,
    flagged_subject,
    realised_to_nominal,
    slices_with,
)
from uadbench.metrics.regions import components

RATIOS = ("dice", "iou", "precision", "recall", "specificity", "false_positive_rate")


@st.composite
def masks(draw: st.DrawFn, count: int = 2) -> list[BoolArray]:
    """Masks of one small shape, from empty to full."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
    return [draw(hnp.arrays(np.bool_, shape)) for _ in range(count)]


@settings(max_examples=80, deadline=None)
@given(masks())
def test_counts_and_ratios_equal_scikit_learn(pair: list[BoolArray]) -> None:
    found, lesion = pair
    counts = Confusion.of(found, lesion)
    tn, fp, fn, tp = confusion_matrix(lesion.ravel(), found.ravel(), labels=[False, True]).ravel()
    assert counts == Confusion(tp, fp, fn, tn)
    flat = {"y_true": lesion.ravel(), "y_pred": found.ravel(), "zero_division": np.nan}
    no_lesion = not lesion.any()
    expected = {
        "dice": np.nan if no_lesion else f1_score(**flat),
        "iou": np.nan if no_lesion else jaccard_score(**(flat | {"zero_division": 0.0})),
        "precision": precision_score(**flat),
        "recall": recall_score(**flat),
        "specificity": recall_score(**flat, pos_label=False),
    }
    for name, value in expected.items():
        assert getattr(counts, name) == pytest.approx(value, abs=1e-15, nan_ok=True), name
    assert counts.dice == pytest.approx(dice(found, lesion), abs=1e-15, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(masks())
def test_known_relations(pair: list[BoolArray]) -> None:
    counts, swapped = Confusion.of(*pair), Confusion.of(pair[1], pair[0])
    negated = Confusion.of(~pair[0], ~pair[1])
    assert counts.specificity == pytest.approx(negated.recall, nan_ok=True)
    assert counts.specificity == pytest.approx(1.0 - counts.false_positive_rate, nan_ok=True)
    if pair[0].any() and pair[1].any():
        assert counts.precision == swapped.recall
        assert counts.dice == swapped.dice
        assert counts.iou == pytest.approx(counts.dice / (2.0 - counts.dice))
    if counts.tp:
        assert counts.dice == pytest.approx(2 / (1 / counts.precision + 1 / counts.recall))


@settings(max_examples=60, deadline=None)
@given(st.lists(masks(), max_size=4))
def test_sums_pool(volumes: list[list[BoolArray]]) -> None:
    total = sum((Confusion.of(*v) for v in volumes), Confusion())
    pool = [np.concatenate([v[i].ravel() for v in volumes] or [np.empty(0, bool)]) for i in (0, 1)]
    assert total == Confusion.of(*pool)


@settings(max_examples=60, deadline=None)
@given(masks(3))
def test_ignored_voxels_count_nowhere(three: list[BoolArray]) -> None:
    found, lesion, ignore = three
    counts = Confusion.of(found, lesion, ignore)
    kept = ~ignore
    assert counts == Confusion.of(found[kept], lesion[kept])
    assert counts == Confusion.of(found ^ ignore, lesion ^ ignore, ignore)  # whatever is there
    assert counts.tp + counts.fp + counts.fn + counts.tn == np.count_nonzero(kept)
    assert Confusion.of(found, lesion, np.zeros_like(found)) == Confusion.of(found, lesion)


def ratios(found: list[int], lesion: list[int]) -> list[float]:
    counts = Confusion.of(np.array(found, bool), np.array(lesion, bool))
    return [getattr(counts, name) for name in RATIOS]


@pytest.mark.parametrize(
    ("found", "lesion", "expected"),
    [
        # dice, iou, precision, recall, specificity, false positive rate
        pytest.param([1, 0, 0, 0], [0, 0, 0, 0], [np.nan, np.nan, 0, np.nan, 3 / 4, 1 / 4], id="empty reference"),
        pytest.param([0, 0, 0, 0], [0, 0, 0, 0], [np.nan, np.nan, np.nan, np.nan, 1, 0], id="both empty"),
        pytest.param([0, 0, 0, 0], [1, 0, 0, 0], [0, 0, np.nan, 0, 1, 0], id="nothing found"),
        pytest.param([1, 1, 1, 1], [1, 0, 0, 0], [2 / 5, 1 / 4, 1 / 4, 1, 0, 1], id="everything found"),
        pytest.param([1, 1, 0, 1], [1, 1, 1, 1], [6 / 7, 3 / 4, 1, 3 / 4, np.nan, np.nan], id="all is lesion"),
        pytest.param([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, np.nan, 0, np.nan, np.nan], id="all is lesion, nothing found"),
        pytest.param([1, 0, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1, 1, 0], id="perfect"),
        pytest.param([0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0, 0, 1], id="all wrong"),
        pytest.param([1], [1], [1, 1, 1, 1, np.nan, np.nan], id="one voxel"),
        pytest.param([], [], [np.nan] * 6, id="no voxel"),
    ],
)
def test_stated_rules(found: list[int], lesion: list[int], expected: list[float]) -> None:
    np.testing.assert_array_equal(ratios(found, lesion), expected)


def test_counts_are_plain_integers_and_do_not_overflow() -> None:
    big = Confusion(2**40, 2**41, 2**40, 2**62)
    assert (big + big).dice == pytest.approx(0.4)
    assert all(type(v) is int for v in vars(Confusion.of(np.ones(3, bool), np.ones(3, bool))).values())


@pytest.mark.parametrize("labels", [np.array([0, 1, 2]), np.array([0.0, 1.0, 1.0]), np.array([True])])
def test_masks_that_are_not_bool_or_do_not_fit_are_refused(labels: np.ndarray) -> None:
    mask = np.array([False, True, True])
    with pytest.raises(ValueError, match="masks must be bool and of one shape"):
        Confusion.of(mask, labels)
    with pytest.raises(ValueError, match="masks must be bool and of one shape"):
        Confusion.of(mask, mask, labels)


volumes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape))
)


@settings(max_examples=80, deadline=None)
@given(volumes, st.integers(1, 5))
def test_components_equal_scipy(pair: tuple[BoolArray, BoolArray], minimum: int) -> None:
    mask, _ = pair
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    expected = np.bincount(labels.ravel(), minlength=1)[1:]
    sizes = components(mask).sizes
    assert sorted(sizes) == sorted(expected)
    assert sizes.sum() == np.count_nonzero(mask)
    assert false_components(mask) == count
    assert false_components(mask, sizes, minimum) == (expected >= minimum).sum()
    assert false_components(np.asfortranarray(mask)) == count


@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 9, 9), (3, 3, 3), (9, 1, 9), (7, 7, 7)])
def test_components_of_single_voxels_on_the_densest_grid(shape: tuple[int, int, int]) -> None:
    mask = np.zeros(shape, bool)
    mask[::2, ::2, ::2] = True
    assert components(mask).sizes.tolist() == [1] * mask.sum()


def test_components_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
    assert sorted(components(mask).sizes) == [1, 2]
    assert components(np.zeros((2, 3, 4), bool)).sizes.tolist() == []


@settings(max_examples=80, deadline=None)
@given(volumes, st.integers(1, 5))
def test_flagged_slices_by_brute_force(pair: tuple[BoolArray, BoolArray], minimum: int) -> None:
    found, where = pair
    flagged, asked = [], []
    for plane, inside in zip(found, where, strict=True):
        flagged.append(sum(bool(v) for v in plane.ravel()) >= minimum)
        if inside.any():
            asked.append(int((plane & inside).sum()) >= minimum)
    assert slices_with(found, minimum).tolist() == flagged
    expected = sum(asked) / len(asked) if asked else np.nan
    assert flagged_slice_share(found, where, minimum) == pytest.approx(expected, nan_ok=True)
    assert flagged_subject(found, minimum) == (found.sum() >= minimum)
    if where.any():
        everywhere = flagged_slice_share(np.ones_like(where), where)
        assert everywhere == 1.0 >= flagged_slice_share(found, where, minimum)


def test_slices_by_hand() -> None:
    found = np.zeros((4, 3, 3), bool)
    found[1, 0, 0] = found[2, :2, 0] = found[3, 2, 2] = True
    where = np.ones_like(found)
    where[0] = where[3, 2, 2] = False
    assert slices_with(found).tolist() == [False, True, True, True]
    assert slices_with(found, 2).tolist() == [False, False, True, False]
    assert flagged_slice_share(found, where) == 2 / 3  # slice 0 has no foreground; what slice 3 shows lies outside
    assert flagged_slice_share(found, where, 2) == 1 / 3
    assert np.isnan(flagged_slice_share(found, np.zeros_like(where)))
    assert flagged_subject(found, 4)
    assert not flagged_subject(found, 5)


def test_a_minimum_of_zero_is_refused() -> None:
    mask = np.zeros((1, 2, 2), bool)
    for refused in (false_components, slices_with, flagged_subject):
        with pytest.raises(ValueError, match="min_voxels must be 1 or more"):
            refused(mask, min_voxels=0)
    with pytest.raises(ValueError, match="min_voxels must be 1 or more"):
        flagged_slice_share(mask, ~mask, 0)


def test_the_realised_rate_is_the_promised_one_on_scans_of_the_same_kind() -> None:
    rng = np.random.default_rng(0)
    validation, test = rng.standard_normal(200_000), rng.standard_normal((20, 10_000))
    threshold = float(np.quantile(validation, 0.95))
    nothing = np.zeros(test.shape[1], bool)
    pooled = sum((Confusion.of(scan > threshold, nothing) for scan in test), Confusion())
    assert pooled.false_positive_rate == pytest.approx(np.mean([false_positive_rate(s > threshold) for s in test]))
    assert realised_to_nominal(pooled.false_positive_rate, 0.05) == pytest.approx(1.0, abs=0.05)
    assert realised_to_nominal(0.29, 0.05) == pytest.approx(5.8)
    assert realised_to_nominal(0.0, 0.05) == 0.0
    assert np.isnan(realised_to_nominal(0.1, 0.0))
    assert np.isnan(realised_to_nominal(float("nan"), 0.05))
