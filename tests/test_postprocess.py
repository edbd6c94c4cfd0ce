from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, median_filter

from uadbench.errors import UsageError
from uadbench.postprocess import median, postprocess
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
    assert (postprocess(values, where, [])[~where] == 0).all()
    np.testing.assert_array_equal(postprocess(values, where, [])[where], values[where])
    twice = postprocess(values, where, [Step("median", 3), Step("median", 5)])
    np.testing.assert_array_equal(twice, median(median(values, where, 3), where, 5))
    assert postprocess(values, None, [Step("median", 3)]).shape == values.shape


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="no post-processing step"):
        postprocess(np.zeros((1, 2, 2)), None, [Step("mean", 3)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="odd"):
        median(np.zeros((2, 2, 2)), np.ones((2, 2, 2), bool), 4)
