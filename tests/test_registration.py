"""Registration: a brain that was moved by a known transform must be found where it was put."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uadbench.errors import DataError
from uadbench.prepare.images import LPS, array, itk, to_grid, to_image, with_data
from uadbench.prepare.register import Register
from uadbench.prepare.registration import Alignment, align, matrix_of
from uadbench.prepare.scans import Scans
from uadbench.prepare.template import load_template, template_hashes
from uadbench.reading import read_volume


def known(seed: int, degrees: float = 20, shift: float = 25, scale: float = 0.12) -> np.ndarray:
    """An affine, 4x4 in RAS millimetres: turned, moved, stretched and slightly sheared."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-degrees, degrees, 3))):
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(4)
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = matrix @ turn
    matrix[:3, :3] = matrix[:3, :3] @ (np.diag(1 + rng.uniform(-scale, scale, 3)) + np.triu(np.full((3, 3), 0.03), 1))
    matrix[:3, 3] = rng.uniform(-shift, shift, 3)
    return matrix


def moved(image: Any, matrix: np.ndarray, mm: float, *, nearest: bool = False) -> Any:
    """Put what an image shows at p to the place matrix @ p, on a grid of its own."""
    sitk = itk()
    back = sitk.AffineTransform(3)
    inverse = LPS @ np.linalg.inv(matrix) @ LPS
    back.SetMatrix(inverse[:3, :3].ravel().tolist())
    back.SetTranslation(inverse[:3, 3].tolist())
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    corners = [
        image.TransformIndexToPhysicalPoint([int(n) for n in np.array(corner) * (size - 1)])
        for corner in np.ndindex(2, 2, 2)
    ]
    places = np.array([(LPS @ matrix @ LPS @ [*corner, 1])[:3] for corner in corners])
    low, high = places.min(axis=0) - 2 * spacing, places.max(axis=0) + 2 * spacing
    grid = sitk.Image([int(n) for n in np.ceil((high - low) / mm)], sitk.sitkUInt8)
    grid.SetSpacing((mm, mm, mm))
    grid.SetOrigin(tuple(low))
    return to_grid(image, grid, back, nearest=nearest)


def brain_points(mask: Any, every: int) -> np.ndarray:
    """Some points of a mask, (N, 4) homogeneous RAS millimetres."""
    inside = np.argwhere(array(mask)[::every, ::every, ::every])[:, ::-1] * every
    points = np.array([mask.TransformIndexToPhysicalPoint([int(i) for i in index]) for index in inside])
    return np.c_[points, np.ones(len(points))] @ LPS


def error(found: np.ndarray, truth: np.ndarray, points: np.ndarray) -> float:
    """Mean distance in millimetres."""
    return float(np.linalg.norm((points @ found.T - points @ truth.T)[:, :3], axis=1).mean())


def test_two_scans_of_one_person_are_aligned_rigidly() -> None:
    template = load_template("icbm152", "t1", 4.0)
    truth = known(4, degrees=8, shift=8, scale=0.0)
    truth[:3, :3] = np.linalg.svd(truth[:3, :3])[0] @ np.linalg.svd(truth[:3, :3])[2]
    image = moved(template.image, truth, 4.0)
    found = matrix_of(align(template.image, image, fixed_mask=template.mask, kind="rigid", finest=4.0).transform)
    assert error(found, truth, brain_points(template.mask, 3)) < 0.5
    np.testing.assert_allclose(np.linalg.svd(found[:3, :3])[1], 1.0, atol=1e-9)


def test_a_small_brain_of_another_contrast_is_found_where_it_was_put() -> None:
    template = load_template("icbm152", "t1", 4.0)
    truth, points = known(5), brain_points(template.mask, 3)
    assert error(np.eye(4), truth, points) > 15
    values = np.asarray(array(template.image))
    # Grey and white matter change places, as on T2: correlation would fail, mutual information must not.
    other = with_data(np.where(values > 0, 300 - values, 0).astype(np.float32), template.image)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in values.shape)]
    ball = ((z - 22) ** 2 + (y - 30) ** 2 + (x - 17) ** 2 < 5**2).astype(np.uint8)
    scans = Scans(
        "p1",
        {"t2": moved(other, truth, 4.0), "flair": moved(template.image, truth, 4.0)},
        {
            "foreground": moved(template.mask, truth, 4.0, nearest=True),
            "lesion": moved(with_data(ball, template.mask), truth, 4.0, nearest=True),
        },
        {"foreground": "t2", "lesion": "flair"},
    )
    scans.strip()
    note = Register(mm=4.0, finest=4)(scans)
    assert (note["by"], note["flair to t2"]) == ("t2", "same grid")
    assert scans.matrix is not None
    assert error(scans.matrix, truth, points) < 1.5  # Of voxels of 4 mm.
    assert scans.metric is not None
    assert scans.metric < -0.3
    assert scans.one_grid("test").GetSize() == template.image.GetSize()
    inside, back = array(template.mask) > 0, array(scans.masks["foreground"]) > 0
    assert 2 * (inside & back).sum() / (inside.sum() + back.sum()) > 0.93
    lesion = array(scans.masks["lesion"]) > 0
    np.testing.assert_allclose(np.argwhere(lesion).mean(axis=0), [22, 30, 17], atol=0.35)  # voxels of 4 mm
    assert int(lesion.sum()) == pytest.approx(int(ball.sum()), rel=0.12)  # Nearest neighbour keeps the volume.
    assert set(np.unique(array(scans.masks["lesion"]))) == {0, 1}
    both = inside & back
    assert np.corrcoef(array(scans.images["flair"])[both], array(template.image)[both])[0, 1] > 0.85


def test_linear_interpolation_of_masks_makes_lesions_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    template = load_template("icbm152", "t1", 4.0)
    lesion = np.zeros(array(template.mask).shape, np.uint8)
    lesion[20:24, 28:33, 20:25] = 1
    shift = itk().AffineTransform(3)
    shift.SetTranslation((1.3, 1.9, -0.8))
    monkeypatch.setattr("uadbench.prepare.register.align", lambda *given, **more: Alignment(shift, -1.0))
    sizes = {}
    for masks in ("nearest", "linear"):
        scans = Scans("p1", {"t1": template.image}, {"lesion": with_data(lesion, template.mask)}, {"lesion": "t1"})
        Register(mm=4.0, masks=masks)(scans)  # type: ignore[arg-type]
        sizes[masks] = int(array(scans.masks["lesion"]).sum())
    assert sizes == {"nearest": 4 * 5 * 5, "linear": 5 * 6 * 6}


def test_an_image_far_away_is_found_the_same_way_twice_and_a_template_with_a_skull_is_refused(tmp_path: Path) -> None:
    import nibabel

    template = load_template("icbm152", "t1", 4.0)
    far = with_data(np.asarray(array(template.image)), template.image)
    far.SetOrigin((9000.0, 0.0, 0.0))
    # Centres of mass bring it back, wherever the header puts it.
    found = [align(template.image, far, kind="rigid", finest=8.0) for _ in range(2)]
    assert found[0].metric < -0.5
    np.testing.assert_array_equal(matrix_of(found[0].transform), matrix_of(found[1].transform))
    head = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32) + 1
    nibabel.Nifti1Image(head, np.diag([4.0, 4, 4, 1])).to_filename(tmp_path / "head.nii.gz")
    with pytest.raises(DataError, match=r"head.nii.gz is not 0 in 100% of its voxels; a template must be a brain"):
        load_template(str(tmp_path / "head.nii.gz"), "t1", None)


def test_each_modality_may_have_a_template_of_its_own(tmp_path: Path) -> None:
    import nibabel

    data = np.zeros((12, 12, 12), np.float32)
    data[3:9, 3:9, 3:9] = np.arange(216).reshape(6, 6, 6)
    for word in ("t1", "t2"):
        nibabel.Nifti1Image(data, np.diag([8.0, 8, 8, 1])).to_filename(tmp_path / f"brain_{word}.nii.gz")
        data[4, 4, 4] = 500
    pattern = str(tmp_path / "brain_{modality}.nii.gz")
    assert load_template(pattern, "t2", None).name == "brain_t2.nii.gz"
    hashes = template_hashes(pattern)
    assert sorted(hashes) == ["brain_t1.nii.gz", "brain_t2.nii.gz"]
    assert len(set(hashes.values())) == 2


@pytest.mark.slow
def test_a_real_brain_is_found_within_a_quarter_of_a_voxel(real_data: Path) -> None:
    path = sorted((real_data / "ixi_t1_mni2mm").glob("*.nii.gz"))[3]
    image = to_image(read_volume(path, "test"))
    mask = with_data((array(image) > 0).astype(np.uint8), image)
    template = load_template("icbm152", "t1", None)
    truth = known(7, degrees=25, shift=30, scale=0.15)
    points = brain_points(template.mask, 6)
    found = {}
    for name, matrix in (("as it was", np.eye(4)), ("moved", truth)):
        brain = moved(mask, matrix, 2.0, nearest=True)
        scan = itk().Mask(moved(image, matrix, 2.0), brain)
        found[name] = matrix_of(align(template.image, scan, fixed_mask=template.mask, moving_mask=brain).transform)
    assert error(truth, np.eye(4), points) > 20
    assert error(found["moved"], truth @ found["as it was"], points) < 0.5
    # And it lies where other software had put it, up to what affine registrations of two templates differ in.
    assert error(found["as it was"], np.eye(4), points) < 3
