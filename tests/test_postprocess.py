from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.ndimage import binary_erosion, median_filter

from uadbench.errors import UsageError
from uadbench.postprocess import clean, median, postprocess
from uadbench.protocol import Step


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 3, 5]), st.booleans())
def test_median_is_the_median_of_the_foreground_neighbours(seed: int, size: int, flat: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (1 if flat else 6, 9, 8)
    values = rng.standard_normal(shape).astype(np.float32)
    where = rng.random(shape) < 0.6
    r = size // 2
    pads = [(0 if flat else r,) * 2, (r, r), (r, r)]
    padded = np.pad(np.where(where, values, np.nan), pads, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (1 if flat else size, size, size)).reshape(*shape, -1)
    expected = np.zeros(shape, np.float32)
    expected[where] = np.nanmedian(windows[where], axis=-1)
    np.testing.assert_allclose(median(values, where, size), expected, atol=1e-6)


def test_far_from_the_border_it_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((10, 12, 14)).astype(np.float32)
    where = np.zeros(values.shape, bool)
    where[1:-1, 1:-1, 1:-1] = True
    inner = binary_erosion(where, np.ones((3, 3, 3)))
    np.testing.assert_array_equal(median(values, where, 3)[inner], median_filter(values, size=3)[inner])


def test_random_maps_are_not_lowered_at_the_border() -> None:
    # With zeros for neighbours outside, the border would score lower and lesions inside would be found by chance.
    z, y, x = np.mgrid[-1:1:24j, -1:1:24j, -1:1:24j]
    where = z**2 + y**2 + x**2 < 0.8
    rim = where & ~binary_erosion(where)
    filtered = median(np.random.default_rng(0).random(where.shape, np.float32), where, 3)
    assert abs(filtered[rim].mean() - filtered[where & ~rim].mean()) < 0.01


def test_steps_are_applied_in_order_and_the_outside_is_zero() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((4, 8, 8)).astype(np.float32)
    where = rng.random(values.shape) < 0.7
    plain, kept = postprocess(values, where, [])
    assert (plain[~where] == 0).all()
    np.testing.assert_array_equal(plain[where], values[where])
    np.testing.assert_array_equal(kept, where)
    twice, _ = postprocess(values, where, [Step("median", 3), Step("median", 5)])
    np.testing.assert_array_equal(twice, median(median(values, where, 3), where, 5))
    assert postprocess(values, None, [Step("median", 3)])[0].shape == values.shape


def test_every_step_does_what_it_says_and_stands_where_it_belongs() -> None:
    rng = np.random.default_rng(1)
    values = rng.random((4, 50, 60)).astype(np.float32)
    where = np.zeros(values.shape, bool)
    where[:, 5:45, 8:50] = True
    inside = np.where(where, values, 0)
    steps = {
        "median_box": ndimage.median_filter(inside, 3),
        "median_slices": np.stack([ndimage.median_filter(plane, 3) for plane in inside]),
    }
    for name, expected in steps.items():
        np.testing.assert_array_equal(postprocess(values, where, [Step(name, 3)])[0], expected)
    eroded, kept = postprocess(values, where, [Step("erode", 0)])  # 60 // 25 voxels
    np.testing.assert_array_equal(kept[0], ndimage.binary_erosion(where[0], iterations=2))
    assert (eroded[~kept] == 0).all()
    smooth, _ = postprocess(values, where, [Step("gaussian", 1.5)])
    assert smooth[where].std() < 0.5 * values[where].std()
    found = np.zeros((3, 8, 8), bool)
    found[0, 0, 0] = found[1:, 4:7, 4:7] = True
    assert clean(found, [Step("remove_small", 7)]).sum() == 18
    with pytest.raises(UsageError, match="belongs behind the threshold"):
        postprocess(values, where, [Step("remove_small", 7)])
    with pytest.raises(UsageError, match="belongs before the threshold"):
        clean(found, [Step("median", 3)])


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="no post-processing step"):
        postprocess(np.zeros((1, 2, 2)), None, [Step("mean", 3)])
    with pytest.raises(ValueError, match="odd"):
        median(np.zeros((2, 2, 2)), np.ones((2, 2, 2), bool), 4)
