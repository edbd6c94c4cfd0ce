"""Boundary metrics against brute force over all pairs of surface voxels and against distance transforms, and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt

from uadbench.arrays import BoolArray
from uadbench.metrics.surface import bounding_box, surface, surface_distances, volume_difference

Spacing = tuple[float, float, float]
MM: Spacing = (1.0, 1.0, 1.0)


def slow_surface(mask: BoolArray) -> list[tuple[int, ...]]:
    """Look at the six neighbours of each voxel, one after another."""
    found = []
    for place in itertools.product(*(range(n) for n in mask.shape)):
        for axis, step in itertools.product((0, 1, 2) if len(mask) > 1 else (1, 2), (-1, 1)):
            near = list(place)
            near[axis] += step
            if mask[place] and not (0 <= near[axis] < mask.shape[axis] and mask[tuple(near)]):
                found.append(place)
                break
    return found


def slow_distances(found: BoolArray, lesion: BoolArray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of surface voxels."""
    a, b = (np.array(slow_surface(mask), float) * spacing for mask in (found, lesion))
    pairs = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    return pairs.min(axis=1), pairs.min(axis=0)


spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 1.7, 4.0])] * 3)
pairs = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape))
)


@settings(max_examples=100, deadline=None)
@given(pairs, spacings, st.floats(0.0, 8.0))
def test_all_metrics_equal_brute_force(pair: tuple[BoolArray, BoolArray], spacing: Spacing, tolerance: float) -> None:
    found, lesion = pair
    distances = surface_distances(found, lesion, spacing)
    if not (found.any() and lesion.any()):
        assert not distances.defined
        return
    there, back = slow_distances(found, lesion, spacing)
    assert distances.hausdorff(100.0) == pytest.approx(max(there.max(), back.max()))
    assert distances.hausdorff() == pytest.approx(max(np.quantile(there, 0.95), np.quantile(back, 0.95)))
    both = np.concatenate([there, back])
    assert distances.surface_dice(0.0) == pytest.approx(np.mean(both == 0.0))
    if not np.isclose(both, tolerance).any():
        assert distances.surface_dice(tolerance) == pytest.approx(np.mean(both < tolerance))


@pytest.mark.parametrize("spacing", [MM, (3.0, 1.0, 0.8)])
@pytest.mark.parametrize("seed", range(3))
def test_distances_equal_distance_transforms_of_a_larger_volume(spacing: Spacing, seed: int) -> None:
    rng = np.random.default_rng(seed)
    d, h, w = np.indices((20, 32, 28))
    lesion = (d - 9) ** 2 / 16 + (h - 14) ** 2 / 30 + (w - 12) ** 2 / 40 < 1
    found = np.roll(lesion, (2, -3, 1), (0, 1, 2)) | (rng.random(lesion.shape) < 0.005)
    distances = surface_distances(found, lesion, spacing)
    ours, theirs = surface(found), surface(lesion)
    # Both are in the order of the voxels.
    np.testing.assert_allclose(distances.to_lesion, distance_transform_edt(~theirs, sampling=spacing)[ours], atol=1e-9)
    np.testing.assert_allclose(distances.to_found, distance_transform_edt(~ours, sampling=spacing)[theirs], atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(pairs)
def test_surface_equals_brute_force(pair: tuple[BoolArray, BoolArray]) -> None:
    for mask in pair:
        assert [tuple(p) for p in np.argwhere(surface(mask))] == slow_surface(mask)


@settings(max_examples=100, deadline=None)
@given(pairs, spacings, st.sampled_from([0.25, 2.0, 8.0]))
def test_symmetry_and_scale(pair: tuple[BoolArray, BoolArray], spacing: Spacing, factor: float) -> None:
    a, b = surface_distances(*pair, spacing), surface_distances(*reversed(pair), spacing)
    d, h, w = spacing
    scaled = surface_distances(*pair, (factor * d, factor * h, factor * w))
    mirrored = surface_distances(*(np.ascontiguousarray(mask[::-1, :, ::-1]) for mask in pair), spacing)
    for percentile in (50.0, 95.0, 100.0):
        value = a.hausdorff(percentile)
        assert value == pytest.approx(b.hausdorff(percentile), nan_ok=True)
        assert value == pytest.approx(mirrored.hausdorff(percentile), nan_ok=True)
        assert scaled.hausdorff(percentile) == pytest.approx(factor * value, nan_ok=True)
    assert a.surface_dice(1.1) == pytest.approx(b.surface_dice(1.1), nan_ok=True)
    assert a.surface_dice(1.1) == pytest.approx(scaled.surface_dice(1.1 * factor), nan_ok=True)
    if a.defined:
        assert a.hausdorff(50.0) <= a.hausdorff() <= a.hausdorff(100.0)
        assert a.surface_dice(0.0) <= a.surface_dice(1.1) <= a.surface_dice(1e6) == 1.0


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_a_mask_and_itself(pair: tuple[BoolArray, BoolArray]) -> None:
    mask = pair[0]
    mask.flat[0] = True
    same = surface_distances(mask, mask, (2.0, 1.0, 0.5))
    assert (same.hausdorff(), same.hausdorff(100.0), same.surface_dice(0.0)) == (0.0, 0.0, 1.0)
    assert volume_difference(mask, mask) == 0.0


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_cube_shifted_by_k_voxels(axis: int, k: int) -> None:
    lesion = np.zeros((20, 20, 20), bool)
    lesion[5:11, 5:11, 5:11] = True
    found = np.roll(lesion, k, axis)
    spacing = (3.0, 1.0, 0.5)
    distances = surface_distances(found, lesion, spacing)
    # The face ahead is farthest away: 36 of the 152 surface voxels, so it decides the 95th percentile as well.
    assert surface(lesion).sum() == 6**3 - 4**3
    assert distances.hausdorff(100.0) == k * spacing[axis]
    assert distances.hausdorff() == k * spacing[axis]
    assert distances.surface_dice(k * spacing[axis]) == 1.0
    assert distances.surface_dice(k * spacing[axis] - 1e-6) < 1.0
    assert volume_difference(found, lesion) == 0.0


def test_one_far_voxel_moves_hd100_and_not_hd95() -> None:
    lesion = np.zeros((12, 12, 40), bool)
    lesion[2:10, 2:10, 2:10] = True
    found = lesion.copy()
    found[5, 5, 39] = True
    distances = surface_distances(found, lesion, (1.0, 1.0, 2.0))
    assert distances.hausdorff(100.0) == 60.0
    assert distances.hausdorff() == 0.0


def test_two_single_voxels() -> None:
    found, lesion = np.zeros((2, 4, 5, 6), bool)
    found[0, 0, 0] = lesion[3, 4, 0] = True
    distances = surface_distances(found, lesion, (2.0, 2.0, 9.0))
    assert distances.hausdorff() == distances.hausdorff(100.0) == pytest.approx(10.0)
    assert (distances.surface_dice(9.9), distances.surface_dice(10.1)) == (0.0, 1.0)


def test_a_picture_has_a_contour_and_a_flat_lesion_in_a_volume_is_all_surface() -> None:
    square = np.zeros((1, 9, 9), bool)
    square[0, 2:7, 2:7] = True
    assert surface(square).sum() == 16
    flat = np.zeros((3, 9, 9), bool)
    flat[1] = square[0]
    assert surface(flat).sum() == 25
    inner = np.zeros_like(square)
    inner[0, 4, 4] = True
    assert surface_distances(square, inner, MM).to_lesion.min() == 2.0
    volume = surface_distances(flat, np.pad(inner, ((1, 1), (0, 0), (0, 0))), MM)
    assert volume.to_lesion.min() == 0.0


def test_the_edge_of_the_array_is_a_surface() -> None:
    assert surface(np.ones((1, 1, 1), bool)).all()
    assert surface(np.ones((3, 1, 5), bool)).all()
    assert surface(np.ones((4, 4, 4), bool)).sum() == 4**3 - 2**3


def test_undefined_cases_are_nan() -> None:
    some, none = np.ones((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
    for found, lesion, spacing in ((some, none, MM), (none, some, MM), (none, none, MM), (some, some, None)):
        distances = surface_distances(found, lesion, spacing)
        assert not distances.defined
        assert np.isnan([distances.hausdorff(), distances.hausdorff(100.0)]).all()
        assert np.isnan(distances.surface_dice(1.0))
    for found, lesion in ((some, none), (none, some), (none, none)):
        assert np.isnan(volume_difference(found, lesion))


def test_wrong_arguments_are_refused() -> None:
    mask = np.ones((2, 3, 4), bool)
    with pytest.raises(ValueError, match="of one shape"):
        surface_distances(mask, mask[:1], MM)
    with pytest.raises(ValueError, match="of one shape"):
        surface_distances(mask[0], mask[0], MM)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="spacing must be positive"):
            surface_distances(mask, mask, (1.0, wrong, 1.0))
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="tolerance"):
            surface_distances(mask, mask, MM).surface_dice(wrong)


def test_volume_difference_by_hand() -> None:
    lesion = np.arange(100).reshape(4, 5, 5) < 20
    assert volume_difference(np.arange(100).reshape(4, 5, 5) >= 95, lesion) == 75.0
    assert volume_difference(np.ones_like(lesion), lesion) == 400.0


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6)), st.integers(0, 3))
def test_the_bounding_box_holds_all_and_no_smaller_one_does(mask: BoolArray, margin: int) -> None:
    mask.flat[-1] = True
    box = bounding_box(mask, [0] * mask.ndim)
    assert mask[box].sum() == mask.sum()
    for axis in range(mask.ndim):
        assert mask[box].take([0], axis).any()
        assert mask[box].take([-1], axis).any()
    for part, wide, length in zip(box, bounding_box(mask, [margin] * mask.ndim), mask.shape, strict=True):
        assert wide.start == max(0, part.start - margin)
        assert min(wide.stop, length) == min(part.stop + margin, length)
