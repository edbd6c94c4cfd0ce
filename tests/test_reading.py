"""Volumes: compressed ones are read to their end, whatever inflates them; what is no grey volume is refused."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import fake_data
import nibabel
import numpy as np
import pytest

from uadbench.dataset import Dataset
from uadbench.errors import DataError
from uadbench.file_checks import header_of
from uadbench.gzipped import inflated, open_gzip
from uadbench.opening import open_dataset
from uadbench.reading import PADDING, read_volume, why_not_read
from uadbench.registry import Registry


@pytest.fixture(params=["isal", "zlib"])
def inflated_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    else:
        pytest.importorskip("isal", reason="isal is not built for this kind of processor")
    return str(request.param)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    turned = np.array([[0, 2.0, 0, 5], [-1.5, 0, 0, 7], [0, 0, 3.0, 9], [0, 0, 0, 1]])
    return fake_data.nifti(tmp_path / "é.nii.gz", rng.integers(0, 900, (12, 9, 7)).astype(np.int16), turned)


def test_both_inflate_the_same(scan: Path, inflated_by: str) -> None:
    with open_gzip(scan) as stream:
        assert stream.read() == gzip.decompress(scan.read_bytes())
        assert type(stream).__module__.startswith({"isal": "isal", "zlib": "gzip"}[inflated_by])
    assert inflated(scan, 10**6) == gzip.decompress(scan.read_bytes())


def test_a_compressed_volume_is_read_as_nibabel_reads_it(scan: Path, inflated_by: str) -> None:
    found, expected = read_volume(scan, "test"), nibabel.as_closest_canonical(nibabel.load(scan))
    np.testing.assert_array_equal(found.data, expected.get_fdata().transpose(2, 1, 0))
    np.testing.assert_array_equal(found.affine, expected.affine)
    assert found.spacing == (3.0, 1.5, 2.0)


def test_a_changed_byte_is_seen_though_all_voxels_can_be_read(scan: Path, inflated_by: str) -> None:
    raw = bytearray(gzip.decompress(scan.read_bytes()))
    packed = bytearray(gzip.compress(bytes(raw), 0))  # stored, not deflated: a changed byte still inflates
    packed[len(packed) // 2] ^= 1
    scan.write_bytes(packed)
    assert nibabel.load(scan).get_fdata().shape == (12, 9, 7)  # What reads up to the last voxel sees nothing.
    with pytest.raises(DataError, match=r"é.nii.gz cannot be read .*(CRC|[Cc]hecksum|data check)"):
        read_volume(scan, "test")


@pytest.mark.parametrize("left", [0.5, 0.98])
def test_a_volume_that_is_cut_short_is_refused(scan: Path, inflated_by: str, left: float) -> None:
    packed = scan.read_bytes()
    scan.write_bytes(packed[: int(left * len(packed))])
    with pytest.raises(DataError, match=r"é.nii.gz cannot be read .*it may be cut short"):
        read_volume(scan, "test")
    scan.write_bytes(packed[:-4])  # The voxels are whole, the trailer is not.
    with pytest.raises(DataError, match="it may be cut short"):
        read_volume(scan, "test")


def test_padding_is_no_error_but_another_volume_is(scan: Path, inflated_by: str) -> None:
    raw = gzip.decompress(scan.read_bytes())
    expected = read_volume(scan, "test").data.shape
    scan.write_bytes(gzip.compress(raw + bytes(PADDING)))
    assert read_volume(scan, "test").data.shape == expected
    scan.write_bytes(gzip.compress(raw + bytes(PADDING + 1)))
    with pytest.raises(DataError, match="it holds more than its header says"):
        read_volume(scan, "test")


def test_a_file_of_several_members_is_one_volume(scan: Path, inflated_by: str) -> None:
    raw = gzip.decompress(scan.read_bytes())
    expected = read_volume(scan, "test").data
    parts = [raw[start : start + 97] for start in range(0, len(raw), 97)]
    scan.write_bytes(b"".join(gzip.compress(part) for part in parts))
    np.testing.assert_array_equal(read_volume(scan, "test").data, expected)
    scan.write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]))
    np.testing.assert_array_equal(read_volume(scan, "test").data, expected)


@pytest.mark.parametrize(("rest", "words"), [(b"\0" * 700, ""), (b"\0x", "follows its end"), (b"\x1f", "too early")])
def test_only_zeros_may_follow_the_last_member(scan: Path, inflated_by: str, rest: bytes, words: str) -> None:
    scan.write_bytes(scan.read_bytes() + rest)
    if not words:
        assert read_volume(scan, "test").data.size
        return
    with pytest.raises(DataError, match=f"cannot be read .*{words}"):
        read_volume(scan, "test")


def test_the_header_of_an_image_in_two_files_is_part_of_its_content(tmp_path: Path) -> None:
    lines = ["subject,split,image"]
    for n, split in enumerate(("train", "val", "test_lesion")):
        nibabel.Nifti1Pair(fake_data.brain(n), np.eye(4)).to_filename(tmp_path / f"{n}.img")
        lines.append(f"{n},{split},{n}.img")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))

    def opened() -> Dataset:
        return open_dataset(Registry(), "nifti", [f"root={tmp_path / 'manifest.csv'}"])[0]

    before, subject = opened().content(), opened().subjects()[0]
    assert {path.name for path in subject.files} == {"0.img", "0.hdr"}
    assert opened().load(subject).image.max() > 0
    header = bytearray((tmp_path / "0.hdr").read_bytes())
    header[112:116] = np.float32(2).tobytes()  # scl_slope
    (tmp_path / "0.hdr").write_bytes(header)
    assert opened().content() != before


COLOURS = np.zeros((5, 4, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
GREY = np.ones((5, 4, 3), np.float32)
NOWHERE = "has an affine that does not give every voxel a place of its own; its header is damaged: restore the file"


@pytest.mark.parametrize(
    ("data", "affine", "number", "words"),
    [
        (COLOURS, np.eye(4), 204, "holds colours, not one grey value for each voxel; give one 3-D volume"),
        (np.ones((5, 4, 3), np.complex64), np.eye(4), 204, "holds complex numbers, not .*; give one 3-D volume"),
        (GREY, np.diag([2.0, 0, 3, 1]), 205, NOWHERE),
        (GREY, np.array([[1.0, 2, 3, 0], [2, 4, 6, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), 205, NOWHERE),
        (GREY, np.diag([np.nan, 1, 1, 1]), 205, NOWHERE),
    ],
)
def test_what_is_no_grey_volume_in_space_is_told_in_one_sentence(
    tmp_path: Path, data: np.ndarray, affine: np.ndarray, number: int, words: str
) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(_bytes(nibabel.Nifti1Image(data, np.eye(4)), affine)))
    assert why_not_read(nibabel.load(path), path)[0] == number
    assert header_of(path)[1] == number
    with pytest.raises(DataError, match=f"^test: .*a.nii.gz {words}"):
        read_volume(path, "test")


def test_what_is_raised_is_not_printed_too(scan: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = bytearray(gzip.decompress(scan.read_bytes()))
    raw[70:72] = np.int16(9999).tobytes()  # datatype
    scan.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(DataError, match="data code 9999 not recognized"):
        read_volume(scan, "test")
    assert header_of(scan)[1] == 203
    assert not caplog.records


def _bytes(image: nibabel.Nifti1Image, affine: np.ndarray) -> bytes:
    """Return the image as bytes, with an affine that nibabel would not write."""
    raw = bytearray(image.to_bytes())
    raw[252:256] = np.array([0, 1], np.int16).tobytes()  # qform_code, sform_code
    raw[280:328] = affine[:3].astype(np.float32).tobytes()
    return bytes(raw)


def test_a_fine_or_long_voxel_is_no_damage(tmp_path: Path) -> None:
    path = fake_data.nifti(tmp_path / "a.nii.gz", GREY, np.diag([1e-3, 1e-3, 50, 1]))
    assert why_not_read(nibabel.load(path), path) == (0, "")
