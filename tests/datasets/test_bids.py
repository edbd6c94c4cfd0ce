from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_data
import fake_healthy
import numpy as np
import pytest

from uadbench.contract import check_dataset
from uadbench.datasets.bids import Bids
from uadbench.datasets.camcan import CamCAN
from uadbench.errors import BadParameter, DataError
from uadbench.joined import Joined
from uadbench.params import resolve


def make(root: Path, **given: Any) -> Bids:
    return resolve(Bids, [("test", {"root": root, **given})])[0]


def image(root: Path, number: int, below: str) -> None:
    fake_data.nifti(root / f"{below}.nii.gz", fake_healthy.volume(number))


def mask(root: Path, below: str, corner: int = 3) -> None:
    data = np.zeros(fake_healthy.SHAPE, np.uint8)
    data[corner : corner + 2, 4:6, 1:3] = 1
    fake_data.nifti(root / f"{below}.nii.gz", data)


def tree(root: Path, people: int = 4, lesions: str = "") -> Path:
    """People with T1w and FLAIR; `lesions` is the path of the masks, {} stands for the person."""
    for i in range(people):
        for k, kind in enumerate(("T1w", "FLAIR")):
            image(root, 10 * i + k, f"sub-0{i}/anat/sub-0{i}_{kind}")
        if lesions:
            mask(root, lesions.format(f"sub-0{i}"))
    return root


@pytest.mark.parametrize(("modality", "names", "top"), [
    ("T1w", ("t1",), [1000.0]), ("t1", ("t1",), [1000.0]), ("flair+T1W", ("flair", "t1"), [1001.0, 1000.0]),
])  # fmt: skip
def test_modalities_are_suffixes_whatever_their_case(
    tmp_path: Path, modality: str, names: tuple[str, ...], top: list[float]
) -> None:
    data = make(tree(tmp_path), modality=modality)
    assert data.channel_names() == names
    assert [s.key for s in data.subjects()] == [f"sub-0{i}" for i in range(4)]
    assert data.load(data.subjects()[0]).image.max(axis=(1, 2, 3)).tolist() == top


def test_a_missing_modality_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bids: none of the 4 scans in .* has the modality 't2'"):
        make(tree(tmp_path), modality="T2w").subjects()


def test_sessions_are_scans_of_one_person(tmp_path: Path) -> None:
    for i, session in enumerate(("ses-01", "ses-02")):
        image(tmp_path, i, f"sub-a/{session}/anat/sub-a_{session}_T1w")
    for i in range(2):
        image(tmp_path, 7 + i, f"sub-b{i}/anat/sub-b{i}_T1w")
    data = make(tmp_path)
    assert [(s.id, s.scan) for s in data.subjects()] == [
        ("sub-a", "ses-01"), ("sub-a", "ses-02"), ("sub-b0", ""), ("sub-b1", ""),
    ]  # fmt: skip
    for fold in range(5):
        split = data.split(fold)
        assert sorted(len(part) for part in (split.train, split.val, split.test_healthy)) == [1, 1, 2]
        assert not split.test_lesion


@pytest.mark.parametrize(
    "where",
    [
        "derivatives/manual/{0}/anat/{0}_space-T1w_desc-lesion_mask",
        "derivatives/{0}/{0}_label-L_desc-T1lesion_mask",
        "derivatives/lesions/{0}/anat/{0}_msk",
        "derivatives/masks/{0}_mask",
        "{0}/anat/{0}_T1w_roi",
    ],
)
def test_lesion_masks_are_found_by_name(tmp_path: Path, where: str) -> None:
    root = tree(tmp_path, lesions=where)
    # What is no lesion: masks of the brain and of tissue, probabilities, functional runs.
    mask(root, "derivatives/p/sub-00/anat/sub-00_desc-brain_mask", 1)
    mask(root, "derivatives/p/sub-00/anat/sub-00_label-GM_mask", 1)
    mask(root, "derivatives/p/sub-00/anat/sub-00_label-GM_probseg", 1)
    mask(root, "derivatives/p/sub-00/func/sub-00_task-rest_desc-brain_mask", 1)
    data = make(root, holds="lesions")
    volume = data.load(data.subjects()[0])
    assert volume.lesion is not None
    assert volume.foreground is not None
    assert sorted({tuple(p) for p in np.argwhere(volume.lesion)})[0] == (1, 4, 3)
    assert volume.lesion.sum() == 8
    assert np.argwhere(volume.foreground)[0].tolist() == [1, 4, 1]
    split = data.split(0)
    assert (len(split.val_lesion), len(split.test_lesion), len(split.train)) == (1, 3, 0)
    assert make(root, holds="lesions", val_lesion=0.5).split(3).val_lesion == data.split(0).val_lesion + (
        make(root, holds="lesions", val_lesion=0.5).split(0).val_lesion[1],
    )


def test_several_lesion_masks_are_joined_and_a_pattern_chooses(tmp_path: Path) -> None:
    root = tree(tmp_path, lesions="derivatives/a/{0}/{0}_desc-lesion1_mask")
    for i in range(4):
        mask(root, f"derivatives/b/sub-0{i}/sub-0{i}_desc-lesion2_mask", 5)
        mask(root, f"derivatives/c/sub-0{i}/sub-0{i}_FLAIR", 1)

    def voxels(**given: Any) -> int:
        data = make(root, holds="lesions", **given)
        lesion = data.load(data.subjects()[1]).lesion
        assert lesion is not None
        return int(lesion.sum())

    assert voxels() == 16
    assert voxels(mask="*lesion2*") == 8
    assert voxels(mask="derivatives/a/*,derivatives/b/*") == 8
    # A mask may be called as an image is, if its folder is named.
    assert voxels(mask="derivatives/c/*", modality="flair") == 8
    with pytest.raises(
        DataError, match="sub-00 has no lesion mask, as 4 of 4 scans in .*; correct holds or the pattern mask$"
    ):
        voxels(mask="*nothing*")


def test_masks_in_the_images_space_are_preferred(tmp_path: Path) -> None:
    for i in range(3):
        name = f"sub-{i}"
        image(tmp_path, i, f"{name}/anat/{name}_space-MNI_desc-preproc_T1w")
        for corner, space in ((1, ""), (5, "_space-MNI")):
            mask(tmp_path, f"{name}/anat/{name}{space}_desc-brain_mask", corner)
            mask(tmp_path, f"derivatives/m/{name}/{name}{space}_desc-lesion_mask", corner)
    data = make(tmp_path, holds="lesions")
    volume = data.load(data.subjects()[0])
    for found in (volume.lesion, volume.foreground):
        assert found is not None
        assert np.argwhere(found)[0].tolist() == [1, 4, 5]
    assert "foreground" in data.provides()


@pytest.mark.parametrize("person", ["sub-brain01", "sub-head2", "sub-fov", "sub-skull", "sub-ribbon", "sub-lesion3"])
@pytest.mark.parametrize("session", ["", "ses-brain", "ses-lesion"])
def test_what_people_and_sessions_are_called_says_nothing_of_masks(tmp_path: Path, person: str, session: str) -> None:
    below, stem = f"{person}/{session}".rstrip("/"), f"{person}_{session}".rstrip("_")
    image(tmp_path, 1, f"{below}/anat/{stem}_T1w")
    image(tmp_path, 2, f"{below}/anat/{stem}_PDT2")
    mask(tmp_path, f"derivatives/a/{below}/{stem}_desc-stroke_mask", 1)
    mask(tmp_path, f"derivatives/b/{below}/{stem}_desc-brain_mask", 5)
    for patterns in ({}, {"mask": "derivatives/*stroke*", "brain_mask": "derivatives/*brain*"}):
        data = make(tmp_path, holds="lesions", **patterns)
        volume = data.load(data.subjects()[0])
        for found, corner in ((volume.lesion, 1), (volume.foreground, 5)):
            assert found is not None
            assert np.argwhere(found)[0].tolist() == [1, 4, corner]
    # An image with a suffix of its own is no mask either.
    assert len(make(tmp_path, holds="lesions", modality="pdt2").subjects()) == 1
    assert len(make(tmp_path, holds="lesions", keep=f"{person}_*t1w*").subjects()) == 1


@pytest.mark.parametrize(
    "name", ["desc-brainlesion_mask", "acq-headcoil_desc-lesion_mask", "label-lesion_desc-brain_mask"]
)
def test_a_file_that_says_lesion_is_no_brain_mask(tmp_path: Path, name: str) -> None:
    image(tmp_path, 1, "sub-01/anat/sub-01_T1w")
    mask(tmp_path, f"derivatives/sub-01/sub-01_{name}")
    data = make(tmp_path, holds="lesions")
    volume = data.load(data.subjects()[0])
    assert volume.lesion is not None
    assert volume.foreground is None
    assert "foreground" not in data.provides()


def test_a_mask_without_a_session_is_for_the_only_one(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        image(tmp_path, 1, f"sub-a/{session}/anat/sub-a_{session}_T1w")
    image(tmp_path, 2, "sub-b/ses-1/anat/sub-b_ses-1_T1w")
    mask(tmp_path, "derivatives/sub-a/sub-a_desc-lesion_mask")
    mask(tmp_path, "derivatives/sub-a/ses-2/sub-a_desc-lesion_mask")
    mask(tmp_path, "derivatives/sub-b/sub-b_desc-lesion_mask")
    found = make(tmp_path, holds="lesions", others="leave_out").subjects()
    assert [s.key for s in found] == ["sub-a_ses-2", "sub-b_ses-1"]


def test_healthy_and_lesions_are_not_mixed(tmp_path: Path) -> None:
    root = tree(tmp_path)
    mask(root, "derivatives/m/sub-02/sub-02_desc-lesion_mask")
    with pytest.raises(
        DataError, match=r"sub-02 has the lesion mask .*sub-02_desc-lesion_mask.nii.gz, as 1 of 4 .*leave_out"
    ):
        make(root).subjects()
    assert [s.id for s in make(root, others="leave_out").subjects()] == ["sub-00", "sub-01", "sub-03"]
    with pytest.raises(
        DataError, match=r"sub-00 has no lesion mask, as 3 of 4 scans .* holds=lesions; .*others=leave_out"
    ):
        make(root, holds="lesions").subjects()
    assert [s.id for s in make(root, holds="lesions", others="leave_out").subjects()] == ["sub-02"]
    with pytest.raises(BadParameter, match="holds"):
        make(root, holds="both")


def test_two_images_of_a_modality_need_a_choice(tmp_path: Path) -> None:
    root = tree(tmp_path)
    image(root, 77, "sub-01/anat/sub-01_run-2_T1w")
    with pytest.raises(DataError, match=r"sub-01_T1w.nii.gz and .*run-2.* are both the t1 image.*keep="):
        make(root).subjects()
    # Only what is asked for has to be clear.
    assert len(make(root, modality="flair").subjects()) == 4
    data = make(root, keep="*run-2*")
    assert [data.load(s).image.max() for s in data.subjects()] == [1077.0]


def test_two_brain_masks_need_a_choice(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for i in range(4):
        mask(root, f"derivatives/fast/sub-0{i}/sub-0{i}_desc-brain_mask", 1)
        mask(root, f"derivatives/good/sub-0{i}/sub-0{i}_desc-brain_mask", 5)
    with pytest.raises(DataError, match=r"both a brain mask of sub-00; .*brain_mask=derivatives/NAME"):
        make(root).subjects()
    data = make(root, brain_mask="derivatives/good/*")
    volume = data.load(data.subjects()[0])
    assert volume.foreground is not None
    assert np.argwhere(volume.foreground)[0].tolist() == [1, 4, 5]


def test_columns_of_participants_are_groups(tmp_path: Path) -> None:
    root = tree(tmp_path / "rawdata")
    table = root / "participants.tsv"
    table.write_text("participant_id\tage\tsex\tsite\nsub-00\t31.5\tF\tn/a\n01\tn/a\tM\tA\nsub-99\t1\tF\tB\n")
    # `rawdata` beside `derivatives`, both in the root, is read too.
    groups = [dict(s.groups) for s in make(tmp_path).subjects()]
    assert groups == [{"age": 31.5, "sex": "F"}, {"sex": "M", "site": "A"}, {}, {}]
    table.write_bytes(b"participant_id\tage\n\xff\xff\n")
    with pytest.raises(DataError, match=r"participants.tsv cannot be read .*; restore it or take it away"):
        make(tmp_path).subjects()


def test_a_wrong_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bids: there is no folder .*; give the one that holds sub-01/anat/sub-01_T1w"):
        make(tmp_path / "nowhere").subjects()
    image(tmp_path, 0, "patient01/patient01_T1W")
    with pytest.raises(
        DataError, match=r"bids: .* holds nothing like sub-01/anat/.*it holds patient01/patient01_T1W.nii.gz"
    ):
        make(tmp_path).subjects()
    (tmp_path / "sub-01" / "func").mkdir(parents=True)
    with pytest.raises(DataError, match="bids: .* holds nothing like sub-01/anat/"):
        make(tmp_path).subjects()


def test_lesions_and_healthy_trees_make_a_benchmark(tmp_path: Path) -> None:
    ill = tree(tmp_path / "ill", lesions="derivatives/m/{0}/{0}_desc-lesion_mask")
    fake_healthy.camcan(tmp_path / "well")
    lesions = make(ill, holds="lesions", modality="T1w", foreground="nonzero")
    healthy = resolve(CamCAN, [("test", {"root": tmp_path / "well", "foreground": "nonzero"})])[0]
    check_dataset(Joined(lesions, healthy, ("bids", "camcan")))


@pytest.mark.parametrize(
    "below", [".", "cc700", "cc700/mri/pipeline/release004", "cc700/mri/pipeline/release004/BIDS_20190411/anat"]
)
def test_camcan_is_found_from_any_folder_of_its_path(tmp_path: Path, below: str) -> None:
    fake_healthy.camcan(tmp_path)
    data = resolve(CamCAN, [("test", {"root": tmp_path / below, "modality": "t2"})])[0]
    subjects = data.subjects()
    assert [s.id for s in subjects] == [f"sub-CC11003{i}" for i in range(5)]
    assert subjects[1].groups == {"age": 21.0, "hand": 95.0, "gender_code": 2.0}
    assert data.load(subjects[1]).image.max() == 1011.0
    split = data.split(0)
    assert (len(split.train), len(split.val), len(split.test_healthy)) == (3, 1, 1)


def test_camcan_explains_a_wrong_folder_and_a_missing_modality(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(DataError, match=r"camcan: .* holds nothing like sub-CC110033/anat/.* it holds readme.txt"):
        resolve(CamCAN, [("test", {"root": tmp_path})])[0].subjects()
    fake_healthy.camcan(tmp_path)
    with pytest.raises(
        DataError, match="camcan: none of the 5 scans in .* has the modality 'flair'; there: .* .possible: t1, t2"
    ):
        resolve(CamCAN, [("test", {"root": tmp_path, "modality": "flair"})])[0].subjects()
