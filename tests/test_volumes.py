from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from uadbench.dataset import Volume
from uadbench.errors import DataError, DegenerateScores, Incompatible
from uadbench.method import Batch, Images, Method, Run
from uadbench.methods.intensity import Intensity
from uadbench.preparation import inside, normalise, quantiles, slice_scores
from uadbench.protocol import Intensity as Rule
from uadbench.volumes import HealthyImages, InMemory, WorkingGrid, score_volume, to_planes


class Copy(Method):
    """Returns the image as its map."""

    def fit(self, healthy: Images, *, val: Images, run: Run) -> Copy:
        return self

    def score(self, batch: Batch) -> torch.Tensor:
        return batch.image.mean(dim=1)


def volume(shape: tuple[int, int, int] = (5, 24, 20), channels: int = 1, seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    foreground = np.broadcast_to(y**2 + x**2 < 0.8, shape).copy()
    foreground[0] = False
    image = (50 + 30 * rng.random((channels, *shape))).astype(np.float32)
    return Volume(image, foreground, None, (2.0, 1.0, 1.0), f"s{seed}")


def test_normalising_maps_the_percentiles_to_zero_and_one() -> None:
    v = volume(channels=2)
    assert v.foreground is not None
    out = normalise(v, Rule(1, 99))
    for channel in out:
        tissue = channel[v.foreground]
        assert np.percentile(tissue, 99) == pytest.approx(1.0, abs=1e-3)
        assert tissue.min() == 0.0
        assert tissue.max() > 1.0
        assert (channel[~v.foreground] == 0).all()
    assert normalise(v, Rule(1, 99, clip_high=True)).max() == 1.0
    # Nor does the type that an adapter reads, as far as it holds the numbers.
    for kind in (np.int16, np.uint16, np.float64):
        whole = replace(v, image=np.round(v.image * 100).astype(kind))
        expected = normalise(replace(v, image=np.round(v.image * 100)), Rule())
        np.testing.assert_allclose(normalise(whole, Rule()), expected, atol=1e-6)
    # Scale and offset of a scanner do not matter.
    np.testing.assert_allclose(normalise(replace(v, image=v.image * 7 + 3), Rule()), normalise(v, Rule()), atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_quantiles_are_those_of_numpy_to_the_bit(seed: int) -> None:
    levels = [0.0, 0.001, 0.01, 0.3, 0.5, 0.98, 0.99, 1.0]
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=50_000).astype(np.float32)
    for values in (
        noise,
        np.sort(noise),  # A sample at equal steps sees these best ...
        -np.sort(-noise),
        np.round(noise, 1),
        np.where(np.arange(50_000) % 12 == 0, noise - 100, noise),  # ... and these worst: 12 divides its step.
        np.full(50_000, 3.0, np.float32),
        rng.integers(0, 2, 50_000).astype(np.float32),
        noise[:100],
        noise[:1],
    ):
        assert quantiles(values, levels) == np.quantile(values, levels).tolist()


def test_an_image_without_contrast_is_refused() -> None:
    v = volume()
    with pytest.raises(DataError, match="same value"):
        normalise(replace(v, image=np.ones_like(v.image)), Rule())


def test_slices_and_back_is_the_identity() -> None:
    v = volume()
    assert v.foreground is not None
    scored = score_volume(Copy(), v, v.image, seed=0, device="cpu", batch_size=2)
    out, own = scored.anomaly_map, scored.own
    np.testing.assert_array_equal(out, np.where(v.foreground, v.image[0], 0))
    assert own == {}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_the_number_of_slices_at_a_time_does_not_matter(batch_size: int) -> None:
    v = volume()
    method = Copy(image_size=16)
    a = score_volume(method, v, v.image, seed=0, device="cpu", batch_size=batch_size)
    b = score_volume(method, v, v.image, seed=0, device="cpu", batch_size=4)
    np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, atol=1e-5)


def test_only_slices_with_enough_foreground_are_cut() -> None:
    v = volume()
    assert v.foreground is not None
    foreground = v.foreground.copy()
    foreground[1, 6:] = False
    assert foreground[1].any()
    v = replace(v, foreground=foreground)
    assert to_planes(v, v.image, Copy()).index == (1, 2, 3, 4)
    assert to_planes(v, v.image, Copy(), at_least=0.2).index == (2, 3, 4)
    assert to_planes(replace(v, foreground=None), v.image, Copy()).index == (0, 1, 2, 3, 4)


def test_resizing_keeps_the_proportions_and_the_place_of_things() -> None:
    grid = WorkingGrid.of((112, 96), 64)
    assert grid.working == (64, 55)
    x = torch.zeros(1, 1, 112, 96)
    x[..., 28:56, 48:72] = 1.0
    small = grid.down(x)
    assert small.shape == (1, 1, 64, 55)
    assert float(small.sum()) / small.numel() == pytest.approx(float(x.sum()) / x.numel(), rel=0.03)
    back = grid.up(small[:, 0])
    assert back.shape == (1, 112, 96)
    assert bool((back[0, 32:52, 52:68] > 0.9).all())
    assert float(back[0, :24].max()) < 0.05
    assert WorkingGrid.of((30, 20), None).working == (30, 20)
    assert WorkingGrid.of((30, 20), 60).working == (60, 40)
    mask = torch.zeros(1, 112, 96, dtype=torch.bool)
    mask[:, 28:56, 48:72] = True
    assert float(grid.down_mask(mask).float().mean()) == pytest.approx(float(mask.float().mean()), rel=0.05)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_masks_are_resized_as_their_area_tells(count: int) -> None:
    """Against float32, slice by slice; only areas of one half to within a few thousandths may fall on the other side."""
    rng = np.random.default_rng(count)
    y, x = np.mgrid[:112, :96]
    discs = [(y - a) ** 2 + (x - b) ** 2 < r * r for a, b, r in rng.uniform((20, 20, 5), (90, 76, 30), (count, 3))]
    mask = torch.from_numpy(np.array(discs, bool).reshape(count, 112, 96))
    for size in (64, 48, 31):
        grid = WorkingGrid.of((112, 96), size)
        area = grid.down(mask[:, None].float())[:, 0]
        found = grid.down_mask(mask)
        assert found.shape == (count, *grid.working)
        sure = (area - 0.5).abs() > 0.004
        assert torch.equal(found[sure], (area >= 0.5)[sure])
        assert not count or float(sure.float().mean()) > 0.99


@pytest.mark.parametrize(("size", "ndim"), [(None, 2), (24, 2), (16, 2), (None, 3)])
def test_what_a_method_writes_does_not_reach_the_volume(size: int | None, ndim: int) -> None:
    v = volume()
    assert v.foreground is not None
    image, foreground = v.image.copy(), v.foreground.copy()
    method = Copy(image_size=size)
    method.ndim = ndim  # type: ignore[misc]
    planes = to_planes(v, v.image, method)
    assert planes.foreground is not None
    planes.image.fill_(-1)
    planes.foreground.fill_(False)
    np.testing.assert_array_equal(v.image, image)
    np.testing.assert_array_equal(v.foreground, foreground)


def test_masks_of_any_strides_are_cut() -> None:
    v = volume()
    assert v.foreground is not None
    straight = to_planes(v, v.image, Copy(image_size=16))
    flipped = replace(v, foreground=np.ascontiguousarray(v.foreground[:, ::-1])[:, ::-1])
    fixed = replace(v, foreground=np.broadcast_to(v.foreground[1], v.grid))
    for other in (flipped, fixed):
        for size in (16, None):
            found = to_planes(other, v.image, Copy(image_size=size)).foreground
            assert found is not None
            if size and other is flipped:
                assert straight.foreground is not None
                assert torch.equal(found, straight.foreground)


def test_volumes_are_given_whole_to_methods_that_want_them() -> None:
    v = volume(channels=2)
    planes = to_planes(v, v.image, Intensity())
    assert planes.image.shape == (1, 2, 5, 24, 20)
    np.testing.assert_array_equal(planes.image[0].numpy(), v.image)
    fitted = Intensity().fit(None, val=None, run=Run())  # type: ignore[arg-type]
    out = score_volume(fitted, v, v.image, seed=0, device="cpu", batch_size=1).anomaly_map
    assert v.foreground is not None
    np.testing.assert_allclose(out[v.foreground], v.image.mean(0)[v.foreground], rtol=1e-6)


def test_healthy_images_are_what_a_method_sees() -> None:
    volumes = [volume(seed=0), volume((4, 20, 24), seed=1)]
    images = HealthyImages([to_planes(v, v.image, Copy(), size=(24, 24)) for v in volumes], seed=3)
    assert len(images) == 4 + 3
    assert images.shape == (1, 24, 24)
    batch = images.batch([0, 5])
    np.testing.assert_array_equal(batch.image[0, 0, :, :20].numpy(), volumes[0].image[0, 1])
    assert float(batch.image[0, 0, :, 20:].abs().max()) == 0.0
    assert [len(b) for b in images.batches(3)] == [3, 3, 1]
    assert images.batch([0]).seed.tolist() == images.batch([1, 0]).seed.tolist()[1:]
    assert images.batch([0]).seed.tolist() != images.batch([0], draw=1).seed.tolist()
    other = HealthyImages([to_planes(v, v.image, Copy(), size=(24, 24)) for v in volumes], seed=4)
    assert images.batch([0]).seed.tolist() != other.batch([0]).seed.tolist()


def test_volumes_on_different_grids_cannot_be_one_batch() -> None:
    volumes = [volume(seed=0), volume((4, 24, 20), seed=1)]
    images = HealthyImages([to_planes(v, v.image, Intensity()) for v in volumes], seed=3)
    assert images.batch([1]).image.shape == (1, 1, 4, 24, 20)
    with pytest.raises(Incompatible, match="one size"):
        images.batch([0, 1])


def test_images_are_named_by_subject_and_slice_wherever_they_lie() -> None:
    v = volume()
    assert to_planes(v, v.image, Copy()).keys == (1, 2, 3, 4)
    assert to_planes(v, v.image, Intensity()).keys == (-1,)
    store = InMemory(to_planes(x, x.image, Copy()) for x in (v, volume((4, 20, 24), seed=1)))
    assert store.keys == [("s0", 1), ("s0", 2), ("s0", 3), ("s0", 4), ("s1", 1), ("s1", 2), ("s1", 3)]
    assert store.shapes == [(1, 24, 20)] * 4 + [(1, 20, 24)] * 3
    images = HealthyImages(store, seed=3)
    assert images.shape == (1, 24, 20)
    np.testing.assert_array_equal(images.batch([3]).image[0].numpy(), v.image[:, 4])
    with pytest.raises(Incompatible, match="one size"):
        images.batch([3, 4])


def test_a_foreground_is_given_only_if_all_volumes_have_one() -> None:
    known, unknown = volume(seed=0), replace(volume(seed=1), foreground=None)
    assert HealthyImages([to_planes(known, known.image, Copy())], seed=0).batch([0]).foreground is not None
    both = HealthyImages([to_planes(v, v.image, Copy()) for v in (known, unknown)], seed=0)
    assert both.batch([0]).foreground is None


def test_no_images_are_an_empty_set() -> None:
    images = HealthyImages([], seed=0)
    assert len(images) == 0
    assert list(images.batches(4)) == []


class Bad(Copy):
    def score(self, batch: Batch) -> torch.Tensor:
        out = batch.image.mean(dim=1)
        out[0, 12, 10] = float("nan")
        return out


class Small(Copy):
    def score(self, batch: Batch) -> torch.Tensor:
        return batch.image.mean(dim=1)[:, ::2]


class Own(Copy):
    def image_score(self, batch: Batch) -> torch.Tensor:
        return batch.image.amax(dim=(1, 2, 3))


def test_bad_maps_are_refused() -> None:
    v = volume()
    with pytest.raises(DegenerateScores, match="NaN or infinite"):
        score_volume(Bad(), v, v.image, seed=0, device="cpu", batch_size=2)
    with pytest.raises(DegenerateScores, match="shape"):
        score_volume(Small(), v, v.image, seed=0, device="cpu", batch_size=2)


class Twin(Copy):
    """Restores the image itself, half as bright."""

    def reconstruct(self, batch: Batch) -> torch.Tensor:
        return batch.image / 2


class Torn(Copy):
    def reconstruct(self, batch: Batch) -> torch.Tensor:
        return batch.image[:, :, ::2]


class Burnt(Copy):
    def reconstruct(self, batch: Batch) -> torch.Tensor:
        return batch.image / 0


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_reconstructions_lie_on_the_grid_of_the_volume(batch_size: int) -> None:
    v = volume(channels=2)
    assert v.foreground is not None
    scored = score_volume(Twin(), v, v.image, seed=0, device="cpu", batch_size=batch_size, reconstruct=True)
    assert scored.reconstruction is not None
    np.testing.assert_array_equal(scored.reconstruction, np.where(v.foreground, v.image / 2, 0))
    assert score_volume(Twin(), v, v.image, seed=0, device="cpu", batch_size=2).reconstruction is None
    assert score_volume(Copy(), v, v.image, seed=0, device="cpu", batch_size=2, reconstruct=True).reconstruction is None


def test_bad_reconstructions_are_refused() -> None:
    v = volume()
    for method, words in (
        (Torn(), "reconstruct.. returned the shape"),
        (Burnt(), "reconstruction of .* NaN or infinite"),
    ):
        with pytest.raises(DegenerateScores, match=words):
            score_volume(method, v, v.image, seed=0, device="cpu", batch_size=2, reconstruct=True)


def test_scores_by_slice() -> None:
    v = volume()
    scored = score_volume(Own(), v, v.image, seed=0, device="cpu", batch_size=3)
    out, own = scored.anomaly_map, scored.own
    rows = slice_scores(v, out, own)
    where = inside(v)
    assert [row["slice"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["mean"] == pytest.approx(v.image[0, 1][where[1]].mean())
    assert rows[0]["max"] == pytest.approx(v.image[0, 1][where[1]].max())
    assert rows[0]["method_score"] == pytest.approx(v.image[0, 1].max())


def test_ignored_voxels_are_not_inside() -> None:
    v = volume()
    ignore = np.zeros(v.grid, bool)
    ignore[2] = True
    assert not inside(replace(v, ignore=ignore))[2].any()
    assert inside(replace(v, foreground=None)).all()
