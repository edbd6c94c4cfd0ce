"""Reconstruction errors against scikit-image and by their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.reconstruction import mean_absolute_error, ssim, ssim_map


def case(shape: tuple[int, ...], seed: int, noise: float = 0.2) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    image = rng.random(shape)
    return image, np.clip(image + noise * rng.standard_normal(shape), 0.0, 1.0)


def reference_map(image: FloatArray, other: FloatArray, data_range: float) -> FloatArray:
    """scikit-image, one slice at a time."""
    _, similarity = structural_similarity(
        image, other, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return np.asarray(similarity)


def blob(shape: tuple[int, ...], at: tuple[float, ...], radius: float) -> BoolArray:
    return sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), at, strict=True)) < radius**2


@pytest.mark.parametrize("data_range", [1.0, 255.0, 3.7])
@pytest.mark.parametrize("shape", [(11, 11), (24, 31), (40, 12)])
def test_the_map_of_a_slice_equals_scikit_image(shape: tuple[int, int], data_range: float) -> None:
    image, other = case(shape, 0)
    image, other = data_range * image, data_range * other
    np.testing.assert_allclose(ssim_map(image, other, data_range), reference_map(image, other, data_range), atol=1e-12)


def test_a_volume_is_taken_slice_by_slice() -> None:
    image, other = case((4, 20, 17), 1)
    expected = np.stack([reference_map(a, b, 1.0) for a, b in zip(image, other, strict=True)])
    np.testing.assert_allclose(ssim_map(image, other, 1.0), expected, atol=1e-12)
    rows = ssim_map(image[None], other[None], 1.0)
    np.testing.assert_allclose(rows[0], expected, atol=1e-12)


def test_the_mean_without_the_border_is_scikit_images_single_number() -> None:
    image, other = case((30, 28), 2)
    inner = np.zeros(image.shape, bool)
    inner[5:-5, 5:-5] = True
    expected = structural_similarity(
        image, other, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(image, other, inner, 1.0) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(0, 4), st.integers(0, 25), st.integers(0, 21)), st.floats(0.5, 12.0), st.integers(0, 10_000)
)
def test_a_region_gets_the_average_of_the_whole_map(at: tuple[int, int, int], radius: float, seed: int) -> None:
    image, other = case((5, 26, 22), seed)
    region = blob(image.shape, at, radius)
    whole = np.stack([reference_map(a, b, 1.0) for a, b in zip(image, other, strict=True)])
    assert ssim(image, other, region, 1.0) == pytest.approx(whole[region].mean(), abs=1e-12)
    assert mean_absolute_error(image, other, region) == pytest.approx(np.abs(image - other)[region].mean(), abs=1e-12)


def test_channels_share_the_region() -> None:
    image, other = case((2, 4, 20, 18), 3)
    region = blob(image.shape[1:], (1, 9, 9), 5.0)
    each = [ssim(a, b, region, 1.0) for a, b in zip(image, other, strict=True)]
    assert ssim(image, other, region, 1.0) == pytest.approx(np.mean(each), abs=1e-12)
    each = [mean_absolute_error(a, b, region) for a, b in zip(image, other, strict=True)]
    assert mean_absolute_error(image, other, region) == pytest.approx(np.mean(each), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1.0))
def test_properties(seed: int, noise: float) -> None:
    image, other = case((2, 15, 16), seed, noise)
    where = np.ones(image.shape, bool)
    value = ssim(image, other, where, 1.0)
    assert -1.0 <= value < 1.0
    assert ssim(image, image, where, 1.0) == pytest.approx(1.0, abs=1e-12)
    assert mean_absolute_error(image, image, where) == 0.0
    assert ssim(other, image, where, 1.0) == pytest.approx(value, abs=1e-12)
    assert ssim(7 * image, 7 * other, where, 7.0) == pytest.approx(value, abs=1e-10)
    assert ssim(np.swapaxes(image, 1, 2), np.swapaxes(other, 1, 2), np.swapaxes(where, 1, 2), 1.0) == pytest.approx(
        value
    )
    assert mean_absolute_error(image, 1 + image, where) == pytest.approx(1.0)


def test_a_reconstruction_without_the_lesion_is_worse_inside_it() -> None:
    image, _ = case((3, 40, 40), 4)
    image = 0.3 + 0.05 * image
    lesion = blob(image.shape, (1, 20, 20), 6.0)
    ill = image + 0.4 * lesion
    far = ~blob(image.shape, (1, 20, 20), 14.0)
    assert mean_absolute_error(ill, image, lesion) == pytest.approx(0.4)
    assert mean_absolute_error(ill, image, ~lesion) == 0.0
    assert ssim(ill, image, far, 1.0) == pytest.approx(1.0, abs=1e-12)
    assert ssim(ill, image, lesion, 1.0) < 0.9


def test_float32_images_are_computed_in_float64() -> None:
    image, other = (a.astype(np.float32) for a in case((20, 20), 5))
    where = np.ones(image.shape, bool)
    high = [a.astype(np.float64) for a in (image, other)]
    assert ssim(image, other, where, 1.0) == ssim(*high, where, 1.0)
    assert mean_absolute_error(image, other, where) == mean_absolute_error(*high, where)


def test_an_empty_region_is_nan() -> None:
    image, other = case((2, 15, 15), 6)
    nowhere = np.zeros(image.shape, bool)
    assert np.isnan(ssim(image, other, nowhere, 1.0))
    assert np.isnan(mean_absolute_error(image, other, nowhere))


def test_wrong_arguments_are_refused() -> None:
    image, other = case((3, 15, 15), 7)
    where = np.ones(image.shape, bool)
    for wrong in (
        (image, other[:2], where),
        (image, other, where[:2]),
        (image, other, where[0, 0]),
        (image[0], other[0], where),
    ):
        with pytest.raises(ValueError, match="of one shape"):
            mean_absolute_error(*wrong)
        with pytest.raises(ValueError, match="of one shape"):
            ssim(*wrong, 1.0)
    for data_range in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="data range"):
            ssim(image, other, where, data_range)
    with pytest.raises(ValueError, match="of one shape"):
        ssim_map(image, other[:1], 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_near_the_region_only(bad: float) -> None:
    image, other = case((1, 40, 40), 8)
    other[0, 20, 20] = bad
    near, far = blob(image.shape, (0, 20, 23), 2.0), blob(image.shape, (0, 5, 5), 4.0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        ssim(image, other, near, 1.0)
    assert np.isfinite(ssim(image, other, far, 1.0))
    with pytest.raises(ValueError, match="NaN or infinite"):
        mean_absolute_error(image, other, np.ones(image.shape, bool))
    assert np.isfinite(mean_absolute_error(image, other, near))
