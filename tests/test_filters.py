"""Every filter against scipy or scikit-image, bit by bit, and by its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, gaussian_filter, generate_binary_structure, median_filter
from skimage.measure import label, regionprops
from skimage.morphology import remove_small_objects

from uadbench.arrays import BoolArray, FloatArray
from uadbench.filters import erode_slices, gaussian, median_cube, median_slices, remove_small

SHAPES = [(6, 9, 11), (1, 12, 9), (3, 4, 20), (2, 2, 2), (5, 1, 7), (1, 1, 1)]


def random_map(shape: tuple[int, ...], zeros: float, kind: str, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    values = np.abs(rng.standard_normal(shape)).astype(np.float32)
    if kind == "tied":
        values = np.round(values * 3) / 3
    elif kind == "tiny":
        values *= np.float32(1e-42)  # below the smallest normal number
    elif kind == "wide":
        values = np.exp(20 * values).astype(np.float32)
    elif kind == "negative":
        values = -values
    elif kind == "mixed":
        values = rng.standard_normal(shape).astype(np.float32)
    values[rng.random(shape) < zeros] = 0.0
    return values


def equal_bits(a: FloatArray, b: FloatArray) -> bool:
    return a.dtype == b.dtype == np.float32 and a.tobytes() == b.tobytes()


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    st.sampled_from(["plain", "tied", "tiny", "wide", "negative", "mixed"]),
    st.integers(0, 100),
)
def test_medians_are_those_of_scipy_bit_by_bit(
    shape: tuple[int, ...], size: int, zeros: float, kind: str, seed: int
) -> None:
    values = random_map(shape, zeros, kind, seed)
    before = values.copy()
    assert equal_bits(median_cube(values, size), median_filter(values, size=size, mode="reflect"))
    sliced = np.stack([median_filter(plane, size=size, mode="reflect") for plane in values])
    assert equal_bits(median_slices(values, size), sliced)
    assert equal_bits(values, before)


def test_a_map_with_a_brain_in_it_is_filtered_as_by_scipy() -> None:
    z, y, x = np.mgrid[-1:1:20j, -1:1:40j, -1:1:36j]
    values = gaussian_filter(np.random.default_rng(0).standard_normal(z.shape), 1.0)
    values = np.where(z**2 + y**2 + x**2 < 0.7, np.abs(values), 0.0).astype(np.float32)
    assert equal_bits(median_cube(values, 5), median_filter(values, size=5))
    assert equal_bits(median_slices(values, 5), median_filter(values, size=(1, 5, 5)))
    assert equal_bits(median_cube(values.astype(np.float64), 5), median_filter(values, size=5))


def test_a_median_of_a_window_with_few_values_is_zero_and_infinity_is_a_value() -> None:
    values = np.zeros((5, 5, 5), np.float32)
    values.flat[:62] = np.inf
    assert median_cube(values, 5)[2, 2, 2] == 0.0
    values.flat[62] = 3.0
    assert median_cube(values, 5)[2, 2, 2] == 3.0
    values.flat[63] = np.inf
    assert median_cube(values, 5)[2, 2, 2] == np.inf


def test_the_median_of_one_slice_is_that_of_the_picture() -> None:
    values = random_map((1, 14, 17), 0.3, "plain", 4)
    assert equal_bits(median_cube(values, 5)[0], median_filter(values[0], size=5))


@pytest.mark.parametrize("size", [0, 2, 4, -3])
def test_a_median_needs_an_odd_size(size: int) -> None:
    for median in (median_cube, median_slices):
        with pytest.raises(ValueError, match="odd"):
            median(np.ones((3, 4, 4), np.float32), size)


def random_mask(shape: tuple[int, ...], share: float, seed: int) -> BoolArray:
    return np.random.default_rng(seed).random(shape) < share


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 4), st.sampled_from([0.8, 0.97, 1.0]), st.integers(0, 100))
def test_erosion_is_that_of_scipy(shape: tuple[int, ...], times: int, share: float, seed: int) -> None:
    mask = random_mask(shape, share, seed)
    before = mask.copy()
    cross = generate_binary_structure(2, 1)
    # Asked for 0 iterations, scipy goes on until nothing changes.
    plane_wise = np.stack([binary_erosion(m, cross, iterations=times) if times else m for m in mask])
    assert np.array_equal(erode_slices(mask, times), plane_wise)
    assert np.array_equal(mask, before)


def test_erosion_by_hand() -> None:
    mask = np.zeros((3, 7, 7), bool)
    mask[:, 1:6, 1:6] = True
    assert erode_slices(mask, 1).sum() == 3 * 9
    assert erode_slices(mask, 2).sum() == 3
    assert erode_slices(np.ones((1, 5, 5), bool), 1).sum() == 9
    with pytest.raises(ValueError, match="-1 times"):
        erode_slices(mask, -1)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([*SHAPES, (12, 14, 10)]),
    st.sampled_from([0, 1, 3, 7, 20]),
    st.sampled_from([0.02, 0.06, 0.15, 0.6, 1.0]),
    st.integers(0, 100),
)
def test_small_components_are_those_of_scikit_image(
    shape: tuple[int, ...], voxels: int, share: float, seed: int
) -> None:
    mask = random_mask(shape, share, seed)
    before = mask.copy()
    expected = remove_small_objects(mask, max_size=voxels, connectivity=3)
    assert np.array_equal(remove_small(mask, voxels), expected)
    assert np.array_equal(remove_small(np.asfortranarray(mask), voxels), expected)
    assert np.array_equal(remove_small(mask, voxels, filled=True), expected)  # too small for a hole
    assert np.array_equal(mask, before)


def released_filter(mask: BoolArray, voxels: int) -> BoolArray:
    """Remove components by their filled area, the plain way."""
    labels = label(mask, connectivity=3)
    gone = [region.label for region in regionprops(labels) if region.area_filled <= voxels]
    return mask & ~np.isin(labels, gone)


def hollow(sides: list[int], shape: tuple[int, int, int], seed: int) -> BoolArray:
    """Return hollow boxes of random places, some with something inside, some with a hole in the wall."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for side in sides:
        box = tuple(slice(start, start + side) for start in rng.integers(0, np.array(shape) - side + 1))
        inner = np.zeros((side,) * 3, bool)
        inner[1:-1, 1:-1, 1:-1] = True
        mask[box] = ~inner
        if rng.random() < 0.3:
            mask[tuple(s.start + side // 2 for s in box)] = True
        if rng.random() < 0.3:
            mask[box[0].start, box[1].start + 1, box[2].start + 1] = False
    return mask


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(3, 6), min_size=1, max_size=5), st.sampled_from([26, 30, 60, 98, 130]), st.integers(0, 300))
def test_filled_components_are_those_of_regionprops(sides: list[int], voxels: int, seed: int) -> None:
    mask = hollow(sides, (14, 13, 15), seed) | random_mask((14, 13, 15), 0.01, seed)
    assert np.array_equal(remove_small(mask, voxels, filled=True), released_filter(mask, voxels))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.75, 0.85])
def test_filled_components_of_noise_are_those_of_regionprops(share: float) -> None:
    for seed, voxels in enumerate([7, 25, 40, 300, 2000]):
        for shape in [(12, 10, 11), (1, 30, 30)]:
            mask = random_mask(shape, share, seed)
            assert np.array_equal(remove_small(mask, voxels, filled=True), released_filter(mask, voxels))


def test_a_hole_counts_only_if_it_is_asked_for() -> None:
    mask = np.zeros((7, 7, 7), bool)
    mask[2:5, 2:5, 2:5] = True
    mask[3, 3, 3] = False  # a shell of 26 voxels around one
    assert not remove_small(mask, 26).any()
    assert np.array_equal(remove_small(mask, 26, filled=True), mask)
    assert not remove_small(mask, 27, filled=True).any()
    mask[2, 2, 2] = False  # a corner is enough to leave by
    assert not remove_small(mask, 26, filled=True).any()


def test_components_at_the_limit_go_and_corners_join() -> None:
    mask = np.zeros((4, 6, 6), bool)
    mask[0, 0, :3] = True
    mask[1, 1, 3] = True  # touches the three by a corner
    mask[3, 5, :3] = True
    assert remove_small(mask, 3).sum() == 4
    assert remove_small(mask, 4).sum() == 0
    assert not remove_small(np.zeros((2, 3, 3), bool), 7).any()
    with pytest.raises(ValueError, match="-1 voxels"):
        remove_small(mask, -1)


@pytest.mark.parametrize("shape", [(7, 12, 10), (1, 12, 10)])
@pytest.mark.parametrize("sigma", [0.0, 0.7, 2.0])
def test_the_gaussian_is_the_weighted_mean_of_the_foreground(shape: tuple[int, int, int], sigma: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal(shape).astype(np.float32)
    where = rng.random(shape) < 0.6
    places = np.argwhere(where)
    reach = int(4.0 * sigma + 0.5)
    expected = np.zeros(shape)
    for place in places:
        gap = places - place
        weight = np.exp(-0.5 * (gap**2).sum(1) / sigma**2) if sigma else (gap == 0).all(1).astype(float)
        weight *= (np.abs(gap) <= reach).all(1)
        expected[tuple(place)] = weight @ values[where] / weight.sum()
    np.testing.assert_allclose(gaussian(values, where, sigma), expected, atol=1e-6)


def test_what_lies_outside_the_foreground_does_not_reach_the_gaussian() -> None:
    rng = np.random.default_rng(2)
    values, where = rng.random((6, 9, 9), np.float32), rng.random((6, 9, 9)) < 0.5
    changed = np.where(where, values, np.nan).astype(np.float32)
    np.testing.assert_array_equal(gaussian(values, where, 1.5), gaussian(changed, where, 1.5))
    constant = gaussian(np.full(where.shape, 0.3, np.float32), where, 1.5)
    np.testing.assert_allclose(constant, np.where(where, 0.3, 0.0), rtol=1e-6)
    assert constant.dtype == np.float32
    every = np.ones(where.shape, bool)
    far = np.s_[3:4, 4:5, 4:5]  # the kernel ends before the border
    np.testing.assert_allclose(gaussian(values, every, 0.5)[far], gaussian_filter(values, 0.5)[far], rtol=1e-5)
    assert not gaussian(values, ~every, 1.0).any()
    with pytest.raises(ValueError, match="-1"):
        gaussian(values, where, -1.0)
