from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fake_data
import fake_pictures
import nibabel
import numpy as np
import pytest

from uadbench.contract import check_dataset
from uadbench.datasets.dicom import Dicom
from uadbench.errors import BadParameter, DataError, UsageError
from uadbench.params import resolve
from uadbench.reading import read_volume

pydicom = pytest.importorskip("pydicom")

OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)
"""Rows and columns, at right angles, along no axis of the body."""

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SHAPE = (5, 6, 7)


def make(root: Path, **given: Any) -> Dicom:
    return resolve(Dicom, [("test", {"root": root, **given})])[0]


def stored(seed: int = 0) -> np.ndarray:
    """Values with a sign, not the same anywhere."""
    return np.random.default_rng(seed).permutation(np.arange(-100, 110)).reshape(SHAPE).astype(np.int16)


def collection(root: Path) -> Path:
    """Five people, one series each, masks beside or above."""
    for i, role in enumerate(["train", "train", "val", "test_healthy", "test_lesion"]):
        fake_pictures.dicom_series(root / role / f"p{i}" / "s1", stored(i), patient=f"P{i}")
    write_mask(root, root / "test_lesion" / "p4" / "P4_lesion.nii.gz")
    return root


def write_mask(root: Path, path: Path, shift: float = 0.0) -> Path:
    """A mask of P4, drawn on the series' grid and stored in the order of the DICOM axes, not in RAS."""
    affine = np.array([[-0.5, 0, 0, 10.0 + shift], [0, -0.8, 0, -5.0], [0, 0, 3.0, 7.0], [0, 0, 0, 1]])
    data = np.zeros(SHAPE[::-1], np.uint8)
    data[2:5, 1:3, 3] = 1
    return fake_data.nifti(path, data, affine)


def place(volume_affine: Any, k: int, j: int, i: int) -> np.ndarray:
    return np.asarray(volume_affine @ [i, j, k, 1.0])[:3]


@pytest.mark.parametrize("rows_and_columns", [(1.0, 0, 0, 0, 1.0, 0), OBLIQUE, SAGITTAL])
def test_every_voxel_is_where_the_standard_says(tmp_path: Path, rows_and_columns: tuple[float, ...]) -> None:
    data, origin, (dk, dj, di) = stored(), np.array([-10.0, 5.0, 7.0]), (3.0, 0.8, 0.5)
    root = collection(tmp_path)
    fake_pictures.dicom_series(
        root / "train" / "new", data, patient="new", rows_and_columns=rows_and_columns, slope=1.5, intercept=-7.0
    )
    dataset = make(root)
    volume = dataset.load(next(s for s in dataset.subjects() if s.id == "new"))
    assert volume.affine is not None and volume.spacing is not None
    values = {tuple(np.round(place(volume.affine, *at), 4) + 0.0): v for at, v in np.ndenumerate(volume.image[0])}
    assert len(values) == data.size
    row, column = np.array(rows_and_columns).reshape(2, 3)
    for (k, j, i), value in np.ndenumerate(data):
        x, y, z = origin + i * di * row + j * dj * column + k * dk * np.cross(row, column)
        assert values[tuple(np.round([-x, -y, z], 4) + 0.0)] == value * 1.5 - 7.0
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert np.prod(volume.spacing) == pytest.approx(abs(np.linalg.det(volume.affine[:3, :3])))
    assert volume.spacing == pytest.approx(np.linalg.norm(volume.affine[:3, :3], axis=0)[::-1])
    assert volume.image.dtype == np.float32


def test_a_second_reader_sees_the_same(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    root = collection(tmp_path)
    folder = root / "train" / "new"
    fake_pictures.dicom_series(folder, stored(), patient="new", rows_and_columns=OBLIQUE, slope=2.0, intercept=-3.0)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    other = reader.Execute()
    dataset = make(root)
    volume = dataset.load(next(s for s in dataset.subjects() if s.id == "new"))
    assert volume.affine is not None and volume.spacing is not None
    assert sorted(volume.spacing) == pytest.approx(sorted(other.GetSpacing()))
    for k, j, i in np.ndindex(*volume.grid):
        x, y, z = place(volume.affine, k, j, i)
        index = other.TransformPhysicalPointToIndex((-x, -y, z))
        assert other[index] == volume.image[0, k, j, i]


def test_a_tilted_gantry_keeps_its_place_and_its_volume(tmp_path: Path) -> None:
    root = collection(tmp_path)
    data = stored()
    fake_pictures.dicom_series(root / "train" / "new", data, patient="new", tilt=(0.0, 1.0, 0.0))
    dataset = make(root)
    volume = dataset.load(next(s for s in dataset.subjects() if s.id == "new"))
    assert volume.affine is not None
    assert volume.voxel_ml == pytest.approx(abs(np.linalg.det(volume.affine[:3, :3])) / 1000.0)
    assert volume.spacing == pytest.approx((3.0, 0.8, 0.5))
    at = next(index for index, v in np.ndenumerate(volume.image[0]) if v == data[4, 0, 0])
    assert place(volume.affine, *at) == pytest.approx([10.0, -5.0 - 4 * 1.0, 7.0 + 4 * 3.0])


def test_it_keeps_the_contract_and_masks_lie_on_the_series(tmp_path: Path) -> None:
    dataset = make(collection(tmp_path))
    check_dataset(dataset)
    split = dataset.split(0)
    assert [s.id for s in split.train] == ["P0", "P1"]
    assert split.train[0].groups == {"scanner": "Maker", "sex": "F", "age": 45.0}
    volume = dataset.load(split.test_lesion[0])
    assert volume.lesion is not None
    assert volume.lesion.sum() == 6
    found = {tuple(np.round(place(volume.affine, k, j, i), 3)) for k, j, i in np.argwhere(volume.lesion)}
    wanted = {(round(10 - 0.5 * i, 3), round(-5 - 0.8 * j, 3), 16.0) for i in (2, 3, 4) for j in (1, 2)}
    assert found == wanted
    assert volume.foreground is None
    with pytest.raises(UsageError, match="fold 0 only, not 3"):
        dataset.split(3)


def test_foreground_from_files_or_from_what_is_not_zero(tmp_path: Path) -> None:
    root = collection(tmp_path)
    assert "foreground" not in make(root).provides()
    inside = make(root, foreground="nonzero")
    volume = inside.load(inside.split(0).train[0])
    assert volume.foreground is not None
    assert (~volume.foreground).sum() == 1
    assert "foreground" not in make(root, foreground="file").provides()
    with pytest.raises(DataError, match=r"P0_20200131 has no foreground mask; write P0_foreground.nii.gz"):
        by_file = make(root, foreground="file")
        by_file.load(by_file.split(0).train[0])
    for i, role in enumerate(["train", "train", "val", "test_healthy", "test_lesion"]):
        write_mask(root, root / role / f"p{i}" / "s1" / f"P{i}_20200131_foreground.nii.gz")
    for rule in ("auto", "file"):
        assert "foreground" in make(root, foreground=rule).provides()
        check_dataset(make(root, foreground=rule))


def test_a_series_is_chosen_by_date_and_description(tmp_path: Path) -> None:
    root = collection(tmp_path)
    for i, role in enumerate(["train", "train", "val", "test_healthy", "test_lesion"]):
        fake_pictures.dicom_series(root / role / f"p{i}" / "s2", stored(50 + i), patient=f"P{i}", description="AX T2")
    with pytest.raises(DataError, match=r"P0 in train has 2 series \(20200131 AX FLAIR; 20200131 AX T2\); choose one"):
        make(root).subjects()
    flair, t2 = make(root, series="flair"), make(root, series="t2$")
    np.testing.assert_array_equal(np.sort(flair.load(flair.split().train[0]).image, axis=None), np.arange(-100, 110))
    assert flair.split().train[0].files != t2.split().train[0].files
    assert flair.content() != t2.content()
    fake_pictures.dicom_series(root / "train" / "p0" / "later", stored(), patient="P0", date="20210101")
    keys = {s.key for s in make(root, series="flair").split().train}
    assert keys == {"P0_20200131", "P0_20210101", "P1_20200131"}
    with pytest.raises(DataError, match=r"P0 in train has no series like 'dwi'; there is: 20210101 AX FLAIR; give"):
        make(root, series="dwi").subjects()
    with pytest.raises(BadParameter, match="no regular expression"):
        make(root, series="(")


def test_one_person_in_two_folders_is_a_leak(tmp_path: Path) -> None:
    root = collection(tmp_path)
    fake_pictures.dicom_series(root / "test_healthy" / "again", stored(), patient="P0", date="20210101")
    with pytest.raises(DataError, match="'P0' is in both train and test"):
        make(root).split().check("dicom")
    fake_pictures.dicom_series(root / "val" / "again", stored(), patient="P1")
    with pytest.raises(DataError, match="P1_20200131 is in train and in val; leave every scan in one folder"):
        make(root).subjects()


def test_people_may_be_folders(tmp_path: Path) -> None:
    for i, role in enumerate(["train", "val", "test_lesion"]):
        fake_pictures.dicom_series(tmp_path / role / f"p{i}", stored(i), patient="ANON")
    with pytest.raises(DataError, match="ANON_20200131 is in"):
        make(tmp_path).subjects()
    assert [s.id for s in make(tmp_path, person="folder").subjects()] == ["p0", "p1", "p2"]
    fake_pictures.dicom_series(tmp_path / "train", stored(9))
    with pytest.raises(DataError, match="lies in no person's folder"):
        make(tmp_path, person="folder").subjects()


def change(path: Path, **tags: Any) -> None:
    file = pydicom.dcmread(path)
    for tag, value in tags.items():
        setattr(file, tag, value)
    file.save_as(path)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", r"has 6 mm between IM\d+ and IM\d+ but 3 mm elsewhere; a slice is missing"),
        ("twice", r"has two slices at one place"),
        ("one", "has one slice; a volume needs at least two"),
        ("spacing", r"differs in PixelSpacing between IM\d+ \(0.8, 0.5\) and IM\d+ \(0.8, 0.6\)"),
        ("size", "differs in Rows"),
        ("orientation", "differs in ImageOrientationPatient"),
        ("aside", "do not lie on one line"),
        ("pixels", r"the pixels of .*IM\d+ cannot be read"),
        ("frames", "holds several slices in one file; convert it to NIfTI"),
        ("nobody", "has no PatientID; where a folder below train is a person, say -D person=folder"),
        ("mask place", "has another affine than s1"),
        ("mask shape", r"has the shape \(7, 6, 4\) but s1 has \(7, 6, 5\)"),
    ],
)
def test_wrong_series_are_explained(tmp_path: Path, what: str, words: str) -> None:
    root = collection(tmp_path)
    folder = root / "train" / "p0" / "s1"
    slices = sorted(folder.iterdir(), key=lambda p: int(pydicom.dcmread(p).InstanceNumber))
    if what == "missing":
        slices[2].unlink()
    elif what == "twice":
        (folder / "IM9999").write_bytes(slices[2].read_bytes())
    elif what == "one":
        for path in slices[1:]:
            path.unlink()
    elif what == "spacing":
        change(slices[2], PixelSpacing=[0.8, 0.6])
    elif what == "size":
        change(slices[2], Rows=5, PixelData=b"\0" * 70)
    elif what == "orientation":
        change(slices[2], ImageOrientationPatient=list(SAGITTAL))
    elif what == "aside":
        change(slices[2], ImagePositionPatient=[-10.0, 6.0, 13.0])
    elif what == "pixels":
        slices[2].write_bytes(slices[2].read_bytes()[:-20])
    elif what == "frames":
        change(slices[2], NumberOfFrames=2)
    elif what == "nobody":
        change(slices[0], PatientID="")
        for path in slices[1:]:
            change(path, PatientID="")
    elif what == "mask place":
        write_mask(root, root / "test_lesion" / "p4" / "P4_lesion.nii.gz", shift=1.0)
    elif what == "mask shape":
        fake_data.nifti(root / "test_lesion" / "p4" / "P4_lesion.nii.gz", np.zeros((7, 6, 4), np.uint8))
    with pytest.raises(DataError, match=words):
        dataset = make(root)
        for subject in dataset.subjects():
            dataset.load(subject)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, r"IM\d+ is stored as MONOCHROME1, .* convert the series to MONO"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"IM\d+ is stored as PALETTE COLOR; slices in grey .* expected"),
        (
            {
                "PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0, "BitsAllocated": 8,
                "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "PixelData": bytes(6 * 7 * 3),
            },
            r"IM\d+ is stored as RGB; slices in grey \(MONOCHROME2\) are expected: choose another series",
        ),
    ],
)  # fmt: skip
def test_what_is_not_plain_grey_is_refused(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    root = collection(tmp_path)
    dataset = make(root)
    dataset.load(dataset.subjects()[0])
    for path in dataset.subjects()[0].files:
        change(path, **tags)
    with pytest.raises(DataError, match=words):
        dataset.load(dataset.subjects()[0])


def test_other_files_are_passed_over_and_broken_ones_are_named(tmp_path: Path) -> None:
    root = collection(tmp_path)
    before = [s.files for s in make(root).subjects()]
    (root / "train" / "README").write_text("hello")
    segmentation = root / "train" / "p0" / "seg"
    fake_pictures.dicom_series(segmentation, stored()[:1], patient="P0")
    change(next(segmentation.iterdir()), Modality="SEG", NumberOfFrames=5)
    assert [s.files for s in make(root).subjects()] == before
    (root / "train" / "p0" / "cut.dcm").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=r"cut.dcm is no DICOM file"):
        make(root).subjects()


def test_wrong_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"there is no folder .*nowhere; give the one that holds train/<person>/<file>.dcm"
    ):
        make(tmp_path / "nowhere").subjects()
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "1.dcm").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds nothing like train/<person>/<file>.dcm .*it holds scans/1.dcm"):
        make(tmp_path).subjects()
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="holds no DICOM series with a place in space"):
        make(tmp_path).subjects()


def test_without_pydicom_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UsageError, match=r"pip install 'uadbench\[dicom\]'"):
        make(tmp_path).subjects()


def test_a_real_head_written_as_sagittal_slices_is_the_same_head(tmp_path: Path, real_data: Path) -> None:
    path = next((real_data / "ixi_t1_mni2mm").glob("*.nii.gz"))
    scan = read_volume(path, "test")
    # Slices go from left to right, rows from top to bottom, columns from front to back.
    planes = scan.data.transpose(2, 0, 1)[:, ::-1, ::-1].astype(np.int16)
    x, y, z = scan.affine[:3, 3] + scan.affine[:3, :3] @ [0, scan.data.shape[1] - 1, scan.data.shape[0] - 1]
    place = {"rows_and_columns": SAGITTAL, "origin": (-x, -y, z), "spacing": (2.0, 2.0, 2.0)}
    for role in ("train", "val", "test_lesion"):
        fake_pictures.dicom_series(tmp_path / role, planes if role == "train" else planes[:3], patient=role, **place)
    dataset = make(tmp_path, foreground="nonzero")
    volume = dataset.load(dataset.split().train[0])
    np.testing.assert_array_equal(volume.image[0], scan.data)
    assert volume.affine is not None
    np.testing.assert_allclose(volume.affine, scan.affine)
    assert volume.spacing == scan.spacing
