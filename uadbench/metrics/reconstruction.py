"""How near a reconstruction is to its image, on healthy tissue and inside lesions.

A diagnosis of reconstruction methods and never a ranking: a faithful reconstruction also repeats the lesion.

Arrays are (H, W), (D, H, W) or (C, D, H, W); windows never reach from one slice into the next. The region has the last
axes of the image; all its voxels, in all slices and channels, have the same weight in an average.
"""

from __future__ import annotations

from types import EllipsisType

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.surface import bounding_box

SIGMA = 1.5
"""Standard deviation of the window in pixels (Wang et al. 2004)."""

RADIUS = 5
"""The window ends 3.5 standard deviations from its middle: 11 x 11 pixels."""

K1, K2 = 0.01, 0.03
"""Keep the ratios finite where means or variances vanish (Wang et al. 2004)."""


def mean_absolute_error(image: FloatArray, reconstruction: FloatArray, region: BoolArray) -> float:
    """Return the mean of |image - reconstruction| over the region, in units of the image; NaN if the region is empty.

    Args:
        image: (H, W), (D, H, W) or (C, D, H, W).
        reconstruction: the same shape.
        region: bool, the shape of the image or of its last axes.

    Raises:
        ValueError: if shapes do not fit or a value inside the region is not finite.
    """
    _check(image, reconstruction, region)
    if not region.any():
        return float("nan")
    difference = np.subtract(image[..., region], reconstruction[..., region], dtype=np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("a value of the image or of the reconstruction is NaN or infinite")
    return float(np.abs(difference).mean())


def ssim(image: FloatArray, reconstruction: FloatArray, region: BoolArray, data_range: float) -> float:
    """Return the mean structural similarity over the region; NaN if the region is empty.

    The map is that of the whole slice: windows around pixels near the region's border see what lies beyond it. Only the
    part of the slices that these windows reach is computed.

    Args:
        image: (H, W), (D, H, W) or (C, D, H, W).
        reconstruction: the same shape.
        region: bool, the shape of the image or of its last axes.
        data_range: largest minus smallest possible intensity, the same for all images that are compared.

    Returns:
        -1 to 1; 1 for equal images.

    Raises:
        ValueError: if shapes do not fit, the data range is not positive or a value near the region is not finite.
    """
    _check(image, reconstruction, region)
    if not region.any():
        return float("nan")
    box = bounding_box(region, [0] * (region.ndim - 2) + [RADIUS, RADIUS])
    near: tuple[EllipsisType | slice, ...] = (..., *box)
    similarity = ssim_map(image[near], reconstruction[near], data_range)
    return float(similarity[..., region[box]].mean())


def ssim_map(image: FloatArray, reconstruction: FloatArray, data_range: float) -> NDArray[np.float64]:
    """Return the structural similarity around each pixel, in the shape of the image.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity" (IEEE
    TIP 2004): a Gaussian window of 1.5 pixels, variances of the population, K1 = 0.01, K2 = 0.03. Slices are continued
    beyond their edge by reflection. Equal to scikit-image's `structural_similarity` of each slice in float64 with
    `gaussian_weights=True`, `sigma=1.5` and `use_sample_covariance=False`.

    Args:
        image: (H, W), or more axes before these two.
        reconstruction: the same shape.
        data_range: largest minus smallest possible intensity.

    Raises:
        ValueError: if shapes differ, the data range is not positive or a value is not finite.
    """
    if image.shape != reconstruction.shape or image.ndim < 2:
        raise ValueError(
            f"image {image.shape} and reconstruction {reconstruction.shape} must be of one shape (..., H, W)"
        )
    if not 0 < data_range < np.inf:
        raise ValueError(f"the data range must be positive and finite, got {data_range}")
    x, y = image.astype(np.float64), reconstruction.astype(np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a value of the image or of the reconstruction is NaN or infinite")
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    # Only the sum of the two variances is asked for, so one filter gives both.
    covariance, variances = _window_mean(x * y) - product, _window_mean(x**2 + y**2) - squares
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    return (2.0 * product + c1) * (2.0 * covariance + c2) / ((squares + c1) * (variances + c2))


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted mean of the window around each pixel, slice by slice."""
    sigma = (0.0,) * (values.ndim - 2) + (SIGMA, SIGMA)
    return np.asarray(gaussian_filter(values, sigma, mode="reflect", radius=RADIUS), np.float64)


def _check(image: FloatArray, reconstruction: FloatArray, region: BoolArray) -> None:
    if image.shape != reconstruction.shape or region.ndim < 2 or image.shape[-region.ndim :] != region.shape:
        raise ValueError(
            f"image {image.shape} and reconstruction {reconstruction.shape} must be of one shape that ends in that of the "
            f"region {region.shape}"
        )
