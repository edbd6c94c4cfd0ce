from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from uadbench.dataset import ROLES, Split, Volume
from uadbench.datasets import _phantom_fields as fields
from uadbench.datasets._phantom_anatomy import brain_nodes, draw_person, home_of
from uadbench.datasets._phantom_files import template_files
from uadbench.datasets._phantom_lesions import plan_lesions
from uadbench.datasets._phantom_recipe import Kind, Recipe
from uadbench.datasets._phantom_subject import make_scan
from uadbench.datasets._phantom_template import load_template
from uadbench.datasets.phantom import Phantom
from uadbench.errors import BadParameter, DataError, UsageError
from uadbench.identity import source_files
from uadbench.params import resolve

TINY = dict(Phantom.tiny)
KINDS = ("tumour", "ms", "iso", "hypo")


def tiny(**changes: Any) -> Phantom:
    return Phantom(**{**TINY, **changes})


@lru_cache(maxsize=1)
def volumes() -> list[Volume]:
    return [tiny().load(subject) for subject in tiny().subjects()]


def with_lesions(contrast: str, kind: str) -> list[Volume]:
    phantom = tiny(contrast=contrast, lesions=(kind,))
    return [phantom.load(subject) for subject in phantom.split().test_lesion[:3]]


def brightness(volume: Volume) -> float:
    """Percentile of the lesion's mean intensity among the healthy foreground, 0..100."""
    assert volume.lesion is not None
    assert volume.foreground is not None
    healthy = volume.image[0][volume.foreground & ~volume.lesion]
    return float((healthy < volume.image[0][volume.lesion].mean()).mean() * 100)


def same(a: Volume, b: Volume) -> bool:
    pairs = ((a.image, b.image), (a.foreground, b.foreground), (a.lesion, b.lesion))
    return all(np.array_equal(x, y) for x, y in pairs if x is not None and y is not None)


def persons(split: Split) -> list[str]:
    return [subject.id for _, subject in split.items()]


def test_same_seed_same_arrays_and_other_seed_other_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        monkeypatch.setenv("UADBENCH_CACHE", str(tmp_path / folder))
        phantom = tiny(seed=seed)
        found.append(phantom.load(phantom.subjects()[1]))
        assert list((tmp_path / folder).rglob("phantom-0001.npz"))
    assert same(found[0], found[1])
    assert not np.array_equal(found[0].image, found[2].image)
    assert not np.array_equal(found[0].lesion, found[2].lesion)


def test_seed_and_name_decide_beyond_age_and_scanner() -> None:
    scans = [
        make_scan(Recipe(subject, seed, (8, 48, 40), "t2", 50.0, "a", "tumour"))
        for subject, seed in (("phantom-0001", 0), ("phantom-0001", 1), ("phantom-0002", 0))
    ]
    for other in scans[1:]:
        assert not np.array_equal(scans[0].foreground, other.foreground)
        assert not np.array_equal(scans[0].lesion, other.lesion)


def test_global_random_numbers_and_threads_change_nothing() -> None:
    recipe = Recipe("phantom-0003", 0, (8, 48, 40), "flair", 40.0, "a", "tumour")
    threads = torch.get_num_threads()
    images = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.manual_seed(count)
            before = torch.random.get_rng_state()
            images.append(make_scan(recipe).image)
            assert torch.equal(before, torch.random.get_rng_state())
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*images)


def test_every_person_is_in_one_role_and_shares_are_as_described() -> None:
    for count in (10, 13, 37, 80):
        phantom = Phantom(count=count)
        split = phantom.split(0)
        split.check("phantom")
        assert all(getattr(split, role) for role in ROLES)
        assert sorted(persons(split)) == sorted(s.id for s in phantom.subjects())
    assert [len(getattr(split, role)) for role in ROLES] == [30, 6, 4, 8, 32]
    for role, subject in split.items():
        assert (subject.groups["lesion_kind"] == "none") == ("lesion" not in role)


def test_folds_rotate_validation_and_leave_test_alone() -> None:
    phantom = Phantom()
    splits = [phantom.split(fold) for fold in range(5)]
    validation = [s.id for split in splits for s in split.val]
    assert len(validation) == len(set(validation)) == 30
    for split in splits:
        split.check("phantom")
        assert split.test_lesion == splits[0].test_lesion
        assert split.test_healthy == splits[0].test_healthy
        assert split.val_lesion == splits[0].val_lesion
    with pytest.raises(UsageError, match="folds 0 to 4; fold 5 does not"):
        phantom.split(5)
    with pytest.raises(UsageError, match="folds 0 to 3"):
        Phantom(count=10).split(4)


def test_lesion_kinds_are_dealt_evenly_and_scanners_mixed_with_them() -> None:
    split = Phantom().split(0)
    kinds = [s.groups["lesion_kind"] for s in split.test_lesion]
    assert {kinds.count(kind) for kind in KINDS} == {8}
    assert {s.groups["lesion_kind"] for s in split.val_lesion} == set(KINDS)
    assert {(s.groups["lesion_kind"], s.groups["scanner"]) for s in split.test_lesion} >= {
        (kind, scanner) for kind in KINDS for scanner in "ab"
    }
    assert {s.groups["scanner"] for s in split.train} == {"a", "b"}


def test_more_subjects_change_nobody() -> None:
    few, many = tiny(), tiny(count=50)
    assert list(few.subjects()) == list(many.subjects())[:10]
    assert few._folder() == many._folder()
    assert tiny(seed=1)._folder() != few._folder() != tiny(contrast="t1")._folder()


def test_index_and_split_need_no_torch() -> None:
    code = (
        "import sys; from uadbench.datasets.phantom import Phantom; p = Phantom(); p.subjects(); p.split(0); "
        "assert not {'torch', 'scipy', 'nibabel', 'nilearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_masks_lie_in_the_foreground_and_are_empty_in_the_healthy() -> None:
    kinds = set()
    for volume in volumes():
        volume.check(volume.subject)
        assert volume.lesion is not None
        assert volume.foreground is not None
        kinds.add(volume.groups["lesion_kind"])
        assert volume.lesion.any() == (volume.groups["lesion_kind"] != "none")
        assert not (volume.lesion & ~volume.foreground).any()
    assert kinds == {"none", *KINDS}


def test_lesions_have_twenty_voxels_at_the_default_size() -> None:
    limits: dict[Kind, tuple[float, float]] = {"tumour": (4, 65), "ms": (0.2, 20), "iso": (2.9, 31), "hypo": (1.9, 21)}
    for kind, (least, most) in limits.items():
        voxels = make_scan(Recipe("phantom-0004", 0, (48, 112, 96), "t2", 50.0, "a", kind)).lesion.sum()
        assert voxels >= 20, kind
        assert least < voxels * 3.5 * 1.75 * 1.75 / 1000 < most, kind


def test_background_is_zero_and_intensities_are_whole_numbers() -> None:
    for volume in volumes():
        assert volume.foreground is not None
        assert volume.image.dtype == np.float32
        assert (volume.image[0][~volume.foreground] == 0).all()
        assert (volume.image[0][volume.foreground] >= 1).all()
        assert (volume.image == np.round(volume.image)).all()
        assert 100 < np.median(volume.image[0][volume.foreground]) < 1500


def test_geometry_is_that_of_the_template() -> None:
    import nibabel

    volume = tiny(size=(32, 40, 36)).load(tiny().subjects()[0])
    assert volume.affine is not None
    assert volume.foreground is not None
    assert volume.spacing == pytest.approx((168 / 32, 196 / 40, 168 / 36))
    assert np.linalg.norm(volume.affine[:3, :3], axis=0) == pytest.approx(volume.spacing[::-1])
    left, right = (volume.affine @ [w, 20, 16, 1] for w in (5, 30))
    assert left[0] < -50 < 50 < right[0]

    template = nibabel.load(template_files()[0])
    brain = np.asarray(template.dataobj) > 0
    w, h, d = np.meshgrid(*(np.arange(n) for n in (36, 40, 32)), indexing="ij")
    points = volume.affine @ np.stack([w.ravel(), h.ravel(), d.ravel(), np.ones(w.size)])
    i, j, k = np.round(np.linalg.inv(template.affine) @ points)[:3].astype(int)
    inside = (i >= 0) & (i < brain.shape[0]) & (j >= 0) & (j < brain.shape[1]) & (k >= 0) & (k < brain.shape[2])
    expected = np.zeros(w.size, bool)
    expected[inside] = brain[i[inside], j[inside], k[inside]]
    expected = expected.reshape(w.shape).transpose(2, 1, 0)
    overlap = [2 * (m & expected).sum() / (m.sum() + expected.sum()) for m in _flips(volume.foreground)]
    assert overlap[0] > 0.9
    assert overlap[0] > max(overlap[1:]) + 0.03


def _flips(mask: np.ndarray) -> list[np.ndarray]:
    return [mask, mask[::-1], mask[:, ::-1]]


def test_contrasts_show_the_same_person_as_mri_does() -> None:
    size = (24, 56, 48)
    scans = [
        make_scan(Recipe("phantom-0000", 0, size, contrast, 30.0, "a", "iso")) for contrast in ("t1", "t2", "flair")
    ]
    for scan in scans[1:]:
        assert np.array_equal(scan.foreground, scans[0].foreground)
        assert np.array_equal(scan.lesion, scans[0].lesion)
    core = ndimage.binary_erosion(scans[0].foreground & ~scans[0].lesion, iterations=3)
    t1, t2, flair = (scan.image[core] for scan in scans)
    fluid = t2 > np.percentile(t2, 98)
    assert np.median(t1[fluid]) < 0.6 * np.median(t1)
    assert np.median(flair[fluid]) < 0.6 * np.median(flair)
    tissue = t2 < np.percentile(t2, 85)
    assert np.corrcoef(t1[tissue], t2[tissue])[0, 1] < -0.5


@pytest.mark.parametrize("contrast", ["t2", "flair"])
def test_tumour_and_ms_are_bright(contrast: str) -> None:
    for kind in ("tumour", "ms"):
        ranks = [brightness(v) for v in with_lesions(contrast, kind)]
        assert len(ranks) == 3
        assert np.median(ranks) > 68, kind


@pytest.mark.parametrize("contrast", ["t1", "t2", "flair"])
def test_iso_is_as_bright_as_healthy_tissue(contrast: str) -> None:
    ranks = [brightness(v) for v in with_lesions(contrast, "iso")]
    assert len(ranks) == 3
    assert all(10 < rank < 90 for rank in ranks), ranks


@pytest.mark.parametrize("contrast", ["t1", "t2", "flair"])
def test_hypo_is_dark(contrast: str) -> None:
    ranks = [brightness(v) for v in with_lesions(contrast, "hypo")]
    assert len(ranks) == 3
    assert np.median(ranks) < 15
    assert max(ranks) < 30


def test_old_people_have_wider_ventricles() -> None:
    def fluid(age: float) -> int:
        voxels = 0
        for number in range(3):
            image = make_scan(Recipe(f"phantom-{number}", 0, (24, 56, 48), "t2", age, "a", "none")).image
            middle = image[10:16, 18:42, 15:33]
            voxels += int((middle > 2.2 * np.median(middle)).sum())
        return voxels

    assert fluid(80) > 1.5 * fluid(22)


def test_deformations_do_not_fold_and_differ_between_people() -> None:
    template = load_template()
    homes = []
    for number in range(3):
        recipe = Recipe(f"phantom-{number}", 0, (8, 48, 40), "t2", 80.0, "a", "tumour")
        person = draw_person(recipe.stream("anatomy"), template, recipe.age)
        push = plan_lesions(recipe.stream("lesion"), "tumour", person, template).push
        assert push is not None
        for home in (person.home, home_of(person, template, push)):
            assert _least_jacobian(home) > 0
        homes.append(person.home)
    assert (homes[0] - homes[1]).norm(dim=1).mean() > 4


def _least_jacobian(home: torch.Tensor) -> float:
    """Least determinant of the map from image to template in and around the brain."""
    whole = torch.full((len(fields.nodes()), 3), torch.nan)
    whole[brain_nodes()] = home
    x, y, z = (torch.gradient(whole.view(*fields.SHAPE, 3), dim=axis)[0] for axis in (2, 1, 0))
    determinant = torch.linalg.det(torch.stack([x, y, z], dim=-1)[1:-1, 1:-1, 1:-1])
    known = determinant[determinant.isfinite()]
    assert len(known) > 20000
    return float(known.min())


def test_damaged_cache_files_are_made_again() -> None:
    phantom = tiny(seed=7)
    subject = phantom.subjects()[1]
    first = phantom.load(subject)
    path = phantom._folder() / f"{subject.id}.npz"
    whole = path.read_bytes()
    assert same(phantom.load(subject), first)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    other = tiny(seed=7, size=(9, 48, 40))
    other.load(subject)
    wrong_size = (other._folder() / path.name).read_bytes()
    for damaged in (whole[: len(whole) // 3], bytes(flipped), b"", b"no zip file", wrong_size):
        path.write_bytes(damaged)
        assert same(phantom.load(subject), first)
        assert path.read_bytes() == whole
    assert not list(path.parent.glob("*.tmp"))


def test_cached_subjects_are_read_and_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = tiny()
    subject = phantom.subjects()[0]
    first = phantom.load(subject)

    def fail(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("uadbench.datasets._phantom_subject.make_scan", fail)
    assert same(phantom.load(subject), first)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tiny().subjects()[3]
    expected = tiny().load(subject)
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("UADBENCH_CACHE", str(blocked))
    assert same(tiny().load(subject), expected)
    assert blocked.read_text() == "a file where a folder should be"


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 17, 23), (33, 16, 70)])
def test_odd_sizes(size: tuple[int, int, int]) -> None:
    phantom = tiny(size=size)
    for number in (0, 1, 4, 9):
        volume = phantom.load(phantom.subjects()[number])
        volume.check("odd")
        assert volume.image.shape == (1, *size)
        assert volume.lesion is not None
        assert volume.foreground is not None
        assert volume.lesion.any() == (volume.groups["lesion_kind"] != "none")
        assert 0.25 < volume.foreground.mean() < 0.45


def test_parameters_from_text_and_their_limits() -> None:
    phantom, _ = resolve(
        Phantom, [("test", {"size": "8,48,40", "lesions": "ms,iso", "count": "12", "contrast": "flair"})]
    )
    assert phantom == Phantom(count=12, size=(8, 48, 40), lesions=("ms", "iso"), contrast="flair")
    assert phantom.channel_names() == ("flair",)
    assert {s.groups["lesion_kind"] for s in phantom.subjects()} == {"none", "ms", "iso"}
    for name, value in (
        ("count", "9"),
        ("size", "7,48,40"),
        ("size", "48,300,40"),
        ("lesions", "cyst"),
        ("lesions", "ms,ms"),
    ):
        with pytest.raises(BadParameter):
            resolve(Phantom, [("test", {name: value})])


def test_foreign_subjects_are_refused() -> None:
    stranger = Phantom(count=40).subjects()[20]
    with pytest.raises(DataError, match="'phantom-0020' is no subject of phantom with count=10"):
        tiny().load(stranger)


def test_content_covers_all_modules_of_the_generator_and_no_parameter() -> None:
    folder = Path(__file__).resolve().parents[2] / "datasets"
    own = {path.name for path in folder.glob("*phantom*.py")}
    assert own <= {path.name for path in source_files(Phantom)}
    assert len(own) > 5
    assert tiny().content() == tiny(seed=3, contrast="t1").content()
