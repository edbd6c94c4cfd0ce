from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import fake_data
import nibabel
import numpy as np
import pytest

from uadbench.bank import Bank
from uadbench.contract import check_dataset
from uadbench.datasets._nifti_manifest import Manifest
from uadbench.datasets.nifti import Nifti
from uadbench.errors import BadParameter, DataError, UsageError
from uadbench.params import resolve
from uadbench.protocol import Intensity
from uadbench.reading import read_volume


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return fake_data.nifti_set(tmp_path)


def make(root: Path, **given: Any) -> Nifti:
    return resolve(Nifti, [("test", {"root": root, **given})])[0]


def read_all(dataset: Nifti) -> None:
    Bank(dataset, "nifti", Intensity()).check(dataset.split())


def edit(manifest: Path, old: str, new: str) -> Path:
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    return manifest


def test_it_keeps_the_contract(manifest: Path) -> None:
    check_dataset(make(manifest))
    check_dataset(make(manifest, registered=True))
    read_all(make(manifest))


def test_axes_spacing_and_groups(manifest: Path) -> None:
    data = make(manifest)
    subject = next(s for s in data.subjects() if s.id == "s4")
    volume = data.load(subject)
    assert volume.image.shape == (1, 6, 24, 20)
    assert volume.spacing == (3.0, 2.0, 2.0)
    assert subject.groups == {"site": "a"}
    assert volume.lesion is not None
    assert volume.lesion[2:4, 8:12, 8:12].all()
    assert volume.lesion.sum() == 2 * 4 * 4
    assert (volume.image[0][volume.lesion] == 300).all()
    assert volume.foreground is not None
    np.testing.assert_array_equal(volume.foreground, volume.image[0] != 0)


def test_volumes_are_brought_to_ras(tmp_path: Path) -> None:
    data = fake_data.brain(3)
    data[2, 5, 1] = 777
    manifest = fake_data.nifti_set(tmp_path)
    expected = None
    for flips in ([1, 1, 1], [-1, 1, 1], [-1, -1, 1], [1, -1, -1]):
        affine = np.diag([2.0 * flips[0], 2.0 * flips[1], 3.0 * flips[2], 1.0])
        stored = data[:: flips[0], :: flips[1], :: flips[2]]
        fake_data.nifti(tmp_path / "s0.nii.gz", stored, affine)
        volume = make(manifest).load(make(manifest).subjects()[0])
        assert volume.image[0, 1, 5, 2] == 777
        expected = volume.image if expected is None else expected
        np.testing.assert_array_equal(volume.image, expected)


def test_a_transposed_file_is_brought_to_ras_too(tmp_path: Path) -> None:
    data = fake_data.brain(3)
    data[2, 5, 1] = 777
    manifest = fake_data.nifti_set(tmp_path)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 3.0, 2.0, 2.0, 1.0  # file axes are z, x, y
    fake_data.nifti(tmp_path / "s0.nii.gz", data.transpose(2, 0, 1), affine)
    volume = make(manifest).load(make(manifest).subjects()[0])
    assert volume.image[0, 1, 5, 2] == 777
    assert volume.spacing == (3.0, 2.0, 2.0)


def test_json_and_folders_are_manifests_too(manifest: Path) -> None:
    import csv

    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    path = manifest.with_name("m.json")
    path.write_text(json.dumps([{**row, "lesion": row["lesion"] or None} for row in rows]))
    assert make(path).split() == make(manifest).split()
    folder = manifest.parent / "folder"
    for row in rows:
        (folder / row["split"]).mkdir(parents=True, exist_ok=True)
        (manifest.parent / row["image"]).rename(folder / row["split"] / row["image"])
        if row["lesion"]:
            (manifest.parent / row["lesion"]).rename(folder / row["split"] / row["lesion"])
    read_all(make(folder))
    assert [s.id for s in make(folder).split().test_lesion] == ["s4", "s5"]


def test_several_modalities_are_channels(tmp_path: Path) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    lines = manifest.read_text().splitlines()
    header = lines[0].replace("image", "image:t1").replace(",site", ",site,image:flair")
    body = []
    for i, line in enumerate(lines[1:]):
        fake_data.nifti(tmp_path / f"s{i}_flair.nii.gz", fake_data.brain(i + 50))
        body.append(f"{line},s{i}_flair.nii.gz")
    manifest.write_text("\n".join([header, *body]) + "\n")
    data = make(manifest, modality="t1+flair")
    volume = data.load(data.subjects()[0])
    assert volume.image.shape[0] == 2
    np.testing.assert_allclose(volume.image[1], fake_data.brain(50).transpose(2, 1, 0), rtol=1e-6)
    assert make(manifest, modality="flair").load(data.subjects()[0]).image.shape[0] == 1
    with pytest.raises(UsageError, match=r"2 images \(t1, flair\); say which with --modality"):
        make(manifest).subjects()
    with pytest.raises(DataError, match="no image of the modality 'pd'; there is: t1, flair"):
        make(manifest, modality="pd").subjects()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("s2,val", "s0,val", "'s0' is listed twice"),
        ("s2,val", "s2,valid", "split is 'valid'; possible: train, val"),
        ("s2,val", ",val", "column 'subject' is missing or empty"),
        ("s2.nii.gz", "s9.nii.gz", "s9.nii.gz does not exist"),
        ("s2,val", "s2,train", "no subject is in the split val"),
        ("s4_lesion.nii.gz", "", "s4.nii.gz is in test_lesion but has no lesion mask"),
        (
            "s3,test_healthy,s3.nii.gz,",
            "s3,test_healthy,s3.nii.gz,s4_lesion.nii.gz",
            "is in test_healthy as healthy but 32",
        ),
    ],
)
def test_wrong_manifests_are_explained(manifest: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        data = make(edit(manifest, old, new))
        data.split().check("nifti")
        read_all(data)


def test_a_person_scanned_twice_may_not_be_in_two_splits(manifest: Path) -> None:
    text = manifest.read_text().replace("subject,split", "subject,scan,split")
    for i in range(6):
        text = text.replace(f"s{i},t", f"s{i},one,t").replace(f"s{i},v", f"s{i},one,v")
    text = text.replace("s2,one,val", "s0,two,val")
    manifest.write_text(text)
    with pytest.raises(DataError, match="subject 's0' is in both train and validation"):
        make(manifest).split().check("nifti")


def claimed(side: int) -> bytes:
    """The header of a volume of bytes, and no voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((side,) * 3)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return bytes(header.binaryblock) + bytes(4)


def claim(path: Path, side: int) -> None:
    path.write_bytes(gzip.compress(claimed(side)))


def wreck(manifest: Path, what: str) -> None:
    path = manifest.parent / "s4.nii.gz"
    mask = manifest.parent / "s4_lesion.nii.gz"
    data = fake_data.brain(4)
    if what == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif what == "not nifti":
        path.write_text("hello")
    elif what == "nan":
        data[10, 10, 3] = np.nan
        fake_data.nifti(path, data)
    elif what == "mask shape":
        fake_data.nifti(mask, np.ones((20, 24, 5), np.uint8))
    elif what == "mask affine":
        fake_data.nifti(mask, np.ones((20, 24, 6), np.uint8), np.diag([2.0, 2.0, 4.0, 1.0]))
    elif what == "4d":
        fake_data.nifti(path, np.stack([data, data], -1))
    elif what == "4d after a flat axis":
        fake_data.nifti(path, np.stack([data[:, :, :1]] * 5, -1))
    elif what in ("bomb", "smaller bomb"):
        claim(path, 1000 if what == "bomb" else 700)
    elif what == "short":
        fake_data.nifti(path.with_name("s4.nii"), data)
        whole = path.with_name("s4.nii").read_bytes()
        path.with_name("s4.nii").write_bytes(whole[:-1])
        edit(manifest, "s4.nii.gz", "s4.nii")
    elif what == "absurd":
        path.with_name("s4.nii").write_bytes(claimed(1000))
        with path.with_name("s4.nii").open("r+b") as file:
            file.truncate(352 + 10**9)  # Sparse: it takes no place on the disk.
        edit(manifest, "s4.nii.gz", "s4.nii")
    elif what == "empty":
        fake_data.nifti(path, data * 0)
    elif what == "flat":
        fake_data.nifti(path, (data > 0).astype(np.float32))
    elif what == "unreadable":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("truncated", "s4.nii.gz cannot be read"),
        ("not nifti", "s4.nii.gz cannot be read"),
        ("nan", "s4.nii.gz: 1 voxel is NaN or infinite"),
        ("mask shape", r"s4_lesion.nii.gz has the shape \(20, 24, 5\) but s4.nii.gz has \(20, 24, 6\)"),
        ("mask affine", "s4_lesion.nii.gz has another affine than s4.nii.gz"),
        ("4d", "s4.nii.gz has 4 axes"),
        ("4d after a flat axis", r"s4.nii.gz has 4 axes \(20, 24, 1, 5\); give one 3-D volume for each modality"),
        (
            "bomb",
            "s4.nii.gz has a header that claims 1000 x 1000 x 1000 voxels, 1,000,000,352 bytes, but with its "
            r"\d+ bytes it can hold at most \d\d,\d+; its header is damaged",
        ),
        ("smaller bomb", "claims 700 x 700 x 700 voxels, 343,000,352 bytes, but .* can hold at most"),
        ("short", "s4.nii has a header that claims 20 x 24 x 6 voxels, 11,872 bytes, but .* at most 11,871; it is cut"),
        ("absurd", "s4.nii has a header that claims 1000 x 1000 x 1000 voxels; possible are 1 to 536,870,912"),
        ("empty", "foreground mask is empty"),
        ("flat", "s4: channel 0 has the same value"),
        ("unreadable", "s4.nii.gz does not exist"),
    ],
)
def test_wrong_files_are_named(manifest: Path, what: str, words: str) -> None:
    wreck(manifest, what)
    with pytest.raises(DataError, match=words):
        read_all(make(manifest))


@pytest.mark.parametrize("side", [700, 1000])
def test_no_voxel_is_read_of_a_file_that_cannot_hold_what_it_claims(tmp_path: Path, side: int) -> None:
    claim(tmp_path / "bomb.nii.gz", side)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="can hold at most"):
            read_volume(tmp_path / "bomb.nii.gz", "test")
        assert tracemalloc.get_traced_memory()[1] < 10**8
    finally:
        tracemalloc.stop()


def test_the_emptiest_volume_that_gzip_can_shrink_is_read(tmp_path: Path) -> None:
    path = fake_data.nifti(tmp_path / "zeros.nii.gz", np.zeros((200, 200, 100), np.uint8))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 9))
    assert path.stat().st_size * 1000 < 4_000_000 * 1.1  # Near the limit, so that one set too low would be seen.
    assert read_volume(path, "test").data.shape == (100, 200, 200)


def test_axes_of_length_1_at_the_end_are_no_axes(tmp_path: Path) -> None:
    path = fake_data.nifti(tmp_path / "a.nii.gz", fake_data.brain(1)[..., None, None])
    assert read_volume(path, "test").data.shape == (6, 24, 20)


def test_too_little_memory_is_not_called_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(image: object) -> None:
        raise MemoryError

    path = fake_data.nifti(tmp_path / "a.nii.gz", fake_data.brain(1))
    monkeypatch.setattr(nibabel, "as_closest_canonical", full)
    with pytest.raises(DataError, match="20 x 24 x 6 voxels, for which there is not enough free memory; end other"):
        read_volume(path, "test")


def test_a_missing_or_damaged_manifest_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest or folder .*datasets prepare nifti"):
        make(tmp_path / "none.csv").subjects()
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as a manifest"):
        make(tmp_path / "bad.json").subjects()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="list of objects"):
        make(tmp_path / "other.json").subjects()
    (tmp_path / "empty.csv").write_text("subject,split,image\n")
    with pytest.raises(DataError, match="holds no volume"):
        make(tmp_path / "empty.csv").subjects()
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="holds none of the folders train, val"):
        make(tmp_path / "folder").subjects()


def patterns(root: Path) -> dict[str, str]:
    return {
        "healthy": f"{root}/healthy/{{subject}}_T1.nii.gz",
        "image": f"{root}/ms/{{subject}}_T1.nii.gz",
        "lesion": f"{root}/ms/{{subject}}_lesion.nii.gz",
    }


def test_a_manifest_is_written_from_patterns(tmp_path: Path) -> None:
    for i in range(10):
        fake_data.nifti(tmp_path / "healthy" / f"IXI{i:03}-HH_T1.nii.gz", fake_data.brain(i))
    for i in range(2):
        fake_data.nifti(tmp_path / "ms" / f"p{i}_T1.nii.gz", fake_data.brain(10 + i))
        fake_data.nifti(tmp_path / "ms" / f"p{i}_lesion.nii.gz", np.ones((20, 24, 6), np.uint8))
    writer, _ = resolve(Manifest, [("test", patterns(tmp_path))])
    path = writer(tmp_path / "out" / "m.csv")
    data = make(path, registered=True)
    read_all(data)
    split = data.split()
    assert [len(x) for x in (split.train, split.val, split.test_healthy, split.test_lesion)] == [6, 2, 2, 2]
    assert str(tmp_path) not in path.read_text()  # relative paths: the folder can be moved
    assert writer(tmp_path / "out" / "n.csv").read_text() == path.read_text()
    other, _ = resolve(Manifest, [("test", {**patterns(tmp_path), "seed": "1"})])
    assert other(tmp_path / "out" / "o.csv").read_text() != path.read_text()


def test_the_subject_may_stand_in_folder_and_file_name(tmp_path: Path) -> None:
    for i in range(10):
        fake_data.nifti(tmp_path / f"h{i}" / f"h{i}_T1.nii.gz", fake_data.brain(i))
        fake_data.nifti(tmp_path / f"h{i}" / "other_T1.nii.gz", fake_data.brain(i))
    fake_data.nifti(tmp_path / "p" / "x_T1.nii.gz", fake_data.brain(0))
    fake_data.nifti(tmp_path / "p" / "x_lesion.nii.gz", np.ones((20, 24, 6), np.uint8))
    words = {
        "healthy": f"{tmp_path}/{{subject}}/{{subject}}_T1.nii.gz",
        "image": f"{tmp_path}/p/{{subject}}_T1.nii.gz",
        "lesion": f"{tmp_path}/p/{{subject}}_lesion.nii.gz",
    }
    data = make(resolve(Manifest, [("test", words)])[0](tmp_path / "m.csv"))
    assert sorted(s.id for s in data.subjects()) == [*(f"h{i}" for i in range(10)), "x"]


def test_the_split_and_the_meaning_of_a_file_are_part_of_the_content(manifest: Path) -> None:
    before = make(manifest).content()
    assert make(manifest).content() == before
    text = manifest.read_text()
    manifest.write_text(text.replace("subject,split,image,lesion,foreground", "subject,split,image,foreground,lesion"))
    assert make(manifest).content() != before


def test_wrong_patterns_are_explained(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"must hold \{subject\}"):
        resolve(Manifest, [("test", {**patterns(tmp_path), "healthy": "x.nii.gz"})])
    with pytest.raises(BadParameter, match="needs image="):
        resolve(Manifest, [("test", {"healthy": "{subject}"})])
    with pytest.raises(DataError, match="no file is called like"):
        resolve(Manifest, [("test", patterns(tmp_path))])[0](tmp_path / "m.csv")
    fake_data.nifti(tmp_path / "healthy" / "a_T1.nii.gz", fake_data.brain(0))
    fake_data.nifti(tmp_path / "healthy" / "b_T1.nii.gz", fake_data.brain(0))
    fake_data.nifti(tmp_path / "ms" / "p_T1.nii.gz", fake_data.brain(0))
    with pytest.raises(DataError, match=r"p_lesion.nii.gz does not exist; subject 'p' needs it"):
        resolve(Manifest, [("test", {**patterns(tmp_path), "test_healthy": "0"})])[0](tmp_path / "m.csv")
    with pytest.raises(UsageError, match=r"written as \.csv"):
        resolve(Manifest, [("test", patterns(tmp_path))])[0](tmp_path / "m.txt")


def test_the_real_volumes_are_read(real_data: Path, tmp_path: Path) -> None:
    ixi, mslub = real_data / "ixi_t1_mni2mm", real_data / "mslub_mni2mm"
    given = {
        "healthy": f"{ixi}/{{subject}}_T1_brain_MNI2mm.nii.gz",
        "image": f"{mslub}/mni2mm_{{subject}}_T1.nii.gz",
        "lesion": f"{mslub}/mni2mm_{{subject}}_lesion.nii.gz",
        "foreground": f"{mslub}/mni2mm_{{subject}}_brainmask.nii.gz",
    }
    path = resolve(Manifest, [("test", given)])[0](tmp_path / "m.csv")
    data = make(path, registered=True)
    check_dataset(data)
    split = data.split()
    assert len(split.train) + len(split.val) + len(split.test_healthy) == 32
    assert [s.id for s in split.test_lesion] == ["patient07", "patient19", "patient26"]
    volume = data.load(split.test_lesion[0])
    assert volume.image.shape == (1, 91, 109, 91)
    assert volume.spacing == (2.0, 2.0, 2.0)
    assert volume.lesion is not None
    assert volume.foreground is not None
    assert (volume.lesion & ~volume.foreground).mean() < 1e-4
