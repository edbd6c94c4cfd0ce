"""The steps of a recipe, each against a second way to know the answer, and recipes as data."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
from fake_data import nifti
from scipy import ndimage

from uadbench.errors import DataError, UsageError
from uadbench.prepare import strip
from uadbench.prepare.grids import CropPad, CropToBrain, Downsample, Reorient, Resample, Slices
from uadbench.prepare.images import affine_of, array, itk, nifti_bytes, orientation_of, to_image, with_data
from uadbench.prepare.qc import compare, flags_of, measure, ordered
from uadbench.prepare.recipes import RECIPES, STEPS, Recipe, from_content, get_recipe
from uadbench.prepare.register import Register
from uadbench.prepare.scans import Scans, read_scans
from uadbench.prepare.steps import N4, CurvatureFlow, Normalise
from uadbench.prepare.strip import SkullStrip
from uadbench.reading import Scan

OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.1, -0.2, 0.3) @ np.diag([1.5, 2.0, 3.0]), [-20.0, 30.0, -5.0]
)


def image(data: np.ndarray, affine: np.ndarray | None = None) -> Any:
    """An image from (D, H, W) and an affine of (W, H, D)."""
    matrix = np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine
    return to_image(Scan(np.asarray(data, np.float32), matrix, (1.0, 1.0, 1.0), Path("x.nii")))


def ball(shape: tuple[int, int, int] = (16, 20, 18), radius: float = 6.0) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij"))
    return (grid**2).sum(0) < radius**2


def scans(data: np.ndarray | None = None, mask: np.ndarray | None = None, affine: np.ndarray | None = None) -> Scans:
    inside = ball() if mask is None else mask
    values = np.random.default_rng(0).random(inside.shape) + 1 if data is None else data
    one = image(values, affine)
    return Scans("p1", {"t1": one}, {"foreground": with_data(inside.astype(np.uint8), one)}, {"foreground": "t1"})


def place_of_brightest(one: Any) -> np.ndarray:
    """RAS millimetres of the brightest voxel, by nibabel's arithmetic."""
    index = np.unravel_index(np.argmax(array(one)), array(one).shape)[::-1]
    return nibabel.affines.apply_affine(affine_of(one), index)


def case(**given: Any) -> Any:
    return SimpleNamespace(
        **{"person": "p1", "scan": "", "lesions": (), "foreground": None, "ignore": None, "groups": {}, **given}
    )


def read(item: Any, words: tuple[str, ...] = ("t1",), **more: Any) -> Scans:
    rule = {"label": lambda values: (values > 0.5, None), "skull_free": False} | more
    return read_scans(item, words, key="p1", owner="walks", **rule)


# Reading


@pytest.mark.parametrize("code", ["RAS", "LPS", "AIL", "PSR"])
def test_files_of_any_orientation_keep_their_places(tmp_path: Path, code: str) -> None:
    data = np.random.default_rng(1).random((7, 9, 11)).astype(np.float32)
    data[2, 3, 4] = 9
    turned = nibabel.Nifti1Image(data, OBLIQUE).as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(OBLIQUE), nibabel.orientations.axcodes2ornt(tuple(code))
        )
    )
    turned.to_filename(tmp_path / "t1.nii.gz")
    found = read(case(images={"t1": tmp_path / "t1.nii.gz"}))
    assert orientation_of(found.images["t1"]) == code
    truth = nibabel.affines.apply_affine(OBLIQUE, [2, 3, 4])
    np.testing.assert_allclose(place_of_brightest(found.images["t1"]), truth, atol=1e-3)
    note = Reorient("RAS")(found)
    assert note["was"] == {"t1": code}
    np.testing.assert_allclose(place_of_brightest(found.images["t1"]), truth, atol=1e-3)
    (tmp_path / "out.nii.gz").write_bytes(nifti_bytes(found.images["t1"]))
    back = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(back.get_fdata(dtype=np.float32), data)
    np.testing.assert_allclose(back.affine, OBLIQUE, atol=1e-4)
    assert nifti_bytes(found.images["t1"]) == nifti_bytes(found.images["t1"])


def test_a_mask_belongs_to_the_image_whose_grid_it_has(tmp_path: Path) -> None:
    t1, flair = np.diag([1.0, 1, 1, 1]), np.diag([2.0, 2, 2, 1])
    values = np.zeros((6, 6, 6), np.float32)
    values[2:4, 2:4, 2:4] = [[[1, 2], [1, 2]], [[1, 2], [1, 2]]]
    item = case(
        images={
            "t1": nifti(tmp_path / "t1.nii.gz", np.random.default_rng(0).random((12, 12, 12)).astype("f4"), t1),
            "flair": nifti(tmp_path / "f.nii.gz", np.random.default_rng(1).random((6, 6, 6)).astype("f4"), flair),
        },
        lesions=(nifti(tmp_path / "l.nii.gz", values, flair),),
    )
    # As in WMH: 1 is the lesion, 2 is something else. The image it belongs to is read although nobody asked for it.
    found = read(item, ("t1",), label=lambda v: (v == 1, v == 2))
    assert list(found.images) == ["t1", "flair"]
    assert found.homes == {"lesion": "flair", "ignore": "flair"}
    assert found.before == (4, pytest.approx(4 * 8 / 1000))
    assert int(array(found.masks["ignore"]).sum()) == 4


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("truncated", r"t1.nii.gz cannot be read .*restore the file"),
        ("4-D", r"t1.nii.gz has 4 axes \(6, 7, 8, 3\)"),
        ("nan", r"t1.nii.gz holds NaN or infinite voxels"),
        ("constant", r"t1.nii.gz has the value 0 everywhere"),
        ("sheared", r"t1.nii.gz has a sheared affine"),
        ("mask shape", r"m.nii.gz has the shape \(6, 7, 9\) but t1.nii.gz has \(6, 7, 8\)"),
        ("mask affine", r"m.nii.gz has another affine than t1.nii.gz"),
        ("empty mask", r"m.nii.gz is empty"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, what: str, words: str) -> None:
    data = np.random.default_rng(0).random((6, 7, 8, 3) if what == "4-D" else (6, 7, 8)).astype(np.float32)
    if what == "nan":
        data[1, 1, 1] = np.nan
    if what == "constant":
        data[:] = 0
    affine = np.eye(4)
    if what == "sheared":
        affine[0, 1] = 0.4
    path = nifti(tmp_path / "t1.nii.gz", data, affine)
    if what == "truncated":
        path.write_bytes(path.read_bytes()[:-300])
    mask = np.full((6, 7, 9) if what == "mask shape" else (6, 7, 8), what != "empty mask", np.uint8)
    other = np.diag([1.0, 1.0, 1.5, 1.0]) if what == "mask affine" else affine
    with pytest.raises(DataError, match=words):
        read(case(images={"t1": path}, foreground=nifti(tmp_path / "m.nii.gz", mask, other)))


# Steps


def test_resampling_keeps_places_and_linear_ramps() -> None:
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-10, 5, 7]
    z, y, x = np.meshgrid(np.arange(12), np.arange(15), np.arange(20), indexing="ij")
    ramp = 1.0 + (x * 1.5 - 10) + 2 * (y * 2 + 5) - (z * 3 + 7)
    found = scans(ramp, ball((12, 15, 20), 4), affine)
    Resample(1.0)(found)
    one = found.images["t1"]
    assert one.GetSpacing() == (1.0, 1.0, 1.0)
    assert one.GetSize() == (30, 30, 36)
    places = nibabel.affines.apply_affine(
        affine_of(one), np.stack(np.meshgrid(*(np.arange(n) for n in one.GetSize()), indexing="ij"), axis=-1)
    ).transpose(2, 1, 0, 3)
    truth = 1.0 + places[..., 0] + 2 * places[..., 1] - places[..., 2]
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(array(one)[inner], truth[inner], atol=1e-3)
    assert float(array(found.masks["foreground"]).sum()) == pytest.approx(ball((12, 15, 20), 4).sum() * 9, rel=0.05)


def test_b_splines_overshoot_only_where_a_recipe_lets_them() -> None:
    step = np.where(ball(), 100.0, 0.0)
    found = {clip: scans(step) for clip in (True, False)}
    for clip, one in found.items():
        Resample(0.9, "bspline", clip=clip)(one)
    free = array(found[False].images["t1"])
    # Voxels of 2 mm become voxels of 0.9 mm around the same middle; scipy's splines are of the same kind.
    places = np.meshgrid(
        *((np.arange(m) - (m - 1) / 2) * 0.45 + (n - 1) / 2 for m, n in zip(free.shape, step.shape, strict=True)),
        indexing="ij",
    )
    truth = ndimage.map_coordinates(step, places, order=3, mode="mirror")
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(free[inner], truth[inner], atol=1e-3)
    assert -25 < free.min() < -10
    assert 125 < free.max() < 140
    np.testing.assert_allclose(array(found[True].images["t1"])[inner], np.clip(truth, 0, 100)[inner], atol=1e-3)


def test_downsampling_is_the_mean_of_blocks() -> None:
    found = scans()
    before = np.array(array(found.images["t1"]))
    place = affine_of(found.images["t1"])
    Downsample(2)(found)
    blocks = before.reshape(8, 2, 10, 2, 9, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(array(found.images["t1"]), blocks, rtol=1e-5)
    after = affine_of(found.images["t1"])
    np.testing.assert_allclose(after[:3, :3], 2 * place[:3, :3])
    np.testing.assert_allclose(after[:3, 3], place[:3, 3] + 1.0)  # The middle of a block of 2 voxels of 2 mm.
    fresh = scans()
    mask = np.array(array(fresh.masks["foreground"]), float)
    half = mask.reshape(8, 2, 10, 2, 9, 2).mean(axis=(1, 3, 5)) >= 0.5
    np.testing.assert_array_equal(array(found.masks["foreground"]) > 0, half)


def test_downsampling_moves_no_mask() -> None:
    found = scans()
    rng = np.random.default_rng(0)
    blob = ndimage.gaussian_filter(rng.random(array(found.images["t1"]).shape), 1.5) > 0.5
    image = itk().GetImageFromArray(blob.astype(np.uint8))
    image.CopyInformation(found.images["t1"])
    found.masks["foreground"] = image
    found.images["t1"] = itk().Cast(image, itk().sitkFloat32)
    Downsample(2)(found)
    soft, hard = array(found.images["t1"]), array(found.masks["foreground"])
    np.testing.assert_allclose(ndimage.center_of_mass(hard), ndimage.center_of_mass(soft), atol=0.1)


@pytest.mark.parametrize("size", [(18, 20, 16), (10, 24, 7), (25, 9, 30)])
def test_crop_and_pad_move_nothing(size: tuple[int, int, int]) -> None:
    data = np.random.default_rng(2).random((16, 20, 18))
    data[8, 10, 9] = 5
    found = scans(data)
    place = place_of_brightest(found.images["t1"])
    CropPad(size)(found)
    assert found.images["t1"].GetSize() == size
    np.testing.assert_allclose(place_of_brightest(found.images["t1"]), place)
    # In numpy: as many voxels go or come on one side as on the other.
    out = data
    for axis, n in zip((2, 1, 0), size, strict=True):
        have = out.shape[axis]
        if n < have:
            out = np.take(out, range((have - n + 1) // 2, (have - n + 1) // 2 + n), axis=axis)
        else:
            low = (n - have) // 2
            out = np.pad(out, [(low, n - have - low) if a == axis else (0, 0) for a in range(3)])
    np.testing.assert_allclose(array(found.images["t1"]), out, rtol=1e-6)


def test_the_box_around_the_brain_is_kept_and_what_is_cut_is_told() -> None:
    mask = np.zeros((16, 20, 18), bool)
    mask[3:9, 5:15, 2:12] = True
    found = scans(mask=mask)
    note = CropToBrain("brain")(found)
    assert note["size"] == [10, 10, 6]
    assert array(found.masks["foreground"]).all()
    assert found.lost == 0
    legacy = scans(mask=mask)
    CropToBrain("brain", last_plane=False)(legacy)
    assert legacy.images["t1"].GetSize() == (9, 9, 5)
    assert legacy.lost == pytest.approx(1 - 9 * 9 * 5 / 600)
    with pytest.raises(DataError, match="crop_to_brain goes by the template and there is none; put the step register"):
        CropToBrain()(scans())


@pytest.mark.parametrize("code", ["RAS", "LPI"])
def test_slices_are_left_out_at_the_bottom_and_at_the_top(code: str) -> None:
    data = np.zeros((16, 20, 18)) + np.arange(16)[:, None, None]
    found = scans(data)
    found.change(lambda one, _: itk().DICOMOrient(one, code))
    Slices(bottom=3, top=5)(found)
    Reorient("RAS")(found)
    assert np.asarray(array(found.images["t1"]))[:, 0, 0].tolist() == list(range(3, 11))
    with pytest.raises(DataError, match="8 slices and 9 are to be left out"):
        Slices(4, 5)(found)
    turned = scans()
    turned.change(lambda one, _: itk().DICOMOrient(one, "SRA"))
    with pytest.raises(DataError, match="the axes are SRA; put the step reorient before it"):
        Slices(1, 1)(turned)


def test_normalising_uses_the_percentiles_of_the_foreground() -> None:
    found = scans(np.random.default_rng(3).gamma(2.0, 50.0, (16, 20, 18)))
    before, inside = np.array(array(found.images["t1"])), ball()
    low, high = np.percentile(before[inside], [2, 98])
    Normalise(2, 98)(found)
    after = array(found.images["t1"])
    np.testing.assert_allclose(after[inside], np.maximum((before[inside] - low) / (high - low), 0), rtol=1e-4)
    assert after[inside].max() > 1
    assert not after[~inside].any()
    Normalise(clip_high=True)(found)
    assert array(found.images["t1"]).max() == 1
    with pytest.raises(ValueError, match="low .* must be less than high"):
        Normalise(50, 50)


def test_n4_takes_out_a_bias_field() -> None:
    shape, rng = (32, 40, 36), np.random.default_rng(4)
    inside = ball(shape, 13)
    tissue = np.where(np.indices(shape).sum(0) // 6 % 2, 100.0, 160.0) + rng.normal(0, 2, shape)
    field = np.exp(0.5 * np.linspace(-1, 1, shape[2]))[None, None, :] * np.ones(shape)
    found = scans(np.where(inside, tissue * field, 0), inside)
    note = N4(shrink=2)(found)
    after = array(found.images["t1"])
    spread = [np.std(v[inside] / tissue[inside]) / np.mean(v[inside] / tissue[inside]) for v in (tissue * field, after)]
    assert spread[0] > 0.15
    assert spread[1] < 0.4 * spread[0]
    assert note["field"]["t1"][1] / note["field"]["t1"][0] > 1.3
    assert not after[~inside].any()
    found.masks.clear()
    with pytest.raises(DataError, match="n4 works inside the foreground and there is none"):
        N4()(found)


def test_voxels_outlive_their_image() -> None:
    """Of a view, memory would be read that was given to something else when nobody held the image any more."""
    found = [array(itk().Image([60, 60, 60], itk().sitkFloat32) + n) for n in range(30)]
    assert [float(values.max()) for values in found] == list(range(30))
    assert [float(values.min()) for values in found] == list(range(30))


@pytest.mark.parametrize("step", [N4(), Normalise()], ids=["n4", "normalise"])
def test_an_image_that_shows_nothing_of_the_foreground_is_told(step: N4 | Normalise) -> None:
    found = scans()
    far = with_data(np.array(array(found.images["t1"])), found.images["t1"])
    far.SetOrigin((900.0, 0.0, 0.0))  # A T2 of somewhere else, on a grid of its own.
    found.images["t2"] = far
    with pytest.raises(DataError, match=f"p1: {step.name} finds nothing of the brain in the t2; look at the image"):
        step(found)


def test_curvature_flow_smooths_and_leaves_the_background() -> None:
    found = scans(100 + np.random.default_rng(5).normal(0, 5, (16, 20, 18)))
    found.strip()
    before = np.array(array(found.images["t1"]))
    CurvatureFlow()(found)
    inner = ball(radius=4)
    assert array(found.images["t1"])[inner].std() < 0.8 * before[inner].std()
    assert not array(found.images["t1"])[~ball()].any()


def test_skulls_are_stripped_by_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = scans()
    assert SkullStrip()(given)["by"] == "given"
    assert not array(given.images["t1"])[~ball()].any()
    free = scans(np.where(ball(), 3.0, 0.0))
    free.masks.clear()
    free.skull_free = True
    assert SkullStrip()(free)["by"] == "nonzero"
    assert (array(free.masks["foreground"]) == ball()).all()
    whole = scans()
    whole.masks.clear()
    monkeypatch.setattr(strip, "installed", lambda tool: False)
    with pytest.raises(DataError, match=r"no brain mask and its skull was not removed; .*pip install hd-bet .*deepbet"):
        SkullStrip()(whole)
    with pytest.raises(DataError, match="no voxel is 0"):
        SkullStrip("nonzero")(whole)
    with pytest.raises(UsageError, match=r"skulls by deepbet, which is not installed: pip install deepbet"):
        SkullStrip("deepbet").inputs()
    monkeypatch.undo()
    tool, mask = tmp_path / "hd-bet", nifti(tmp_path / "mask.nii.gz", ball().T.astype("f4"), np.diag([2.0, 2, 2, 1]))
    # Stands for the real one, version 2: the same words, and the mask where it leaves it.
    tool.write_text(
        "#!/bin/sh\n"
        '[ "$1 $3 $5 $6 $7 $8" = "-i -o -device cpu --save_bet_mask --no_bet_image" ] || { echo wrong words >&2; exit 2; }\n'
        f'cp "{mask}" "${{4%.nii.gz}}_bet.nii.gz"\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    whole.change(lambda one, _: itk().DICOMOrient(one, "LPS"))
    assert SkullStrip()(whole)["by"] == "hd-bet"
    Reorient("RAS")(whole)
    assert (array(whole.masks["foreground"]) == ball()).all()
    tool.write_text("#!/bin/sh\necho no weights >&2\nexit 1\n")
    with pytest.raises(DataError, match=r"hd-bet failed \(no weights\)"):
        SkullStrip("hd-bet")(whole)


def test_without_simpleitk_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(UsageError, match=r"needs SimpleITK; install it: pip install 'uadbench\[prepare\]'"):
        itk()


# Recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_written_and_read_as_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    path = tmp_path / "größe.toml"
    path.write_text(recipe.as_toml(), encoding="utf-8")
    again = get_recipe(str(path))
    assert again.steps == recipe.steps
    assert again.text == recipe.text
    assert again.hash() == recipe.hash()  # The name is no part of it.
    assert len({r.hash() for r in RECIPES.values()}) == len(RECIPES)


def test_the_hash_follows_parameters_order_and_the_content_of_the_template(tmp_path: Path) -> None:
    recipe = RECIPES["standard"]
    first, second, *rest = recipe.steps
    assert replace(recipe, steps=(second, first, *rest)).hash() != recipe.hash()
    assert Recipe("a", "", (N4(shrink=3),)).hash() != Recipe("a", "", (N4(),)).hash()
    hashes = []
    for name, value in (("a", 1), ("b", 1), ("c", 2)):
        brain = np.pad(np.full((4, 4, 4), value, np.uint8), 2)
        path = nifti(tmp_path / f"{name}.nii.gz", brain)
        hashes.append(recipe.with_template(str(path)).hash())
    assert hashes[0] == hashes[1] != hashes[2]
    with pytest.raises(UsageError, match="registers to no template; leave out --template"):
        RECIPES["convert"].with_template("x.nii")
    with pytest.raises(UsageError, match=r"there is no template .*nowhere.nii; .* with --template"):
        recipe.with_template(str(tmp_path / "nowhere.nii")).hash()
    whole = nifti(tmp_path / "{modality}.nii.gz", np.ones((4, 4, 4), np.uint8))
    whole.rename(tmp_path / "head_t1.nii.gz")
    with pytest.raises(UsageError, match="a template must be a brain without skull"):
        recipe.with_template(str(tmp_path / "head_t1.nii.gz")).hash()
    assert recipe.with_template(str(tmp_path / "head_{modality}.nii.gz")).hash()  # It may never be used.


def test_what_a_recipe_says_of_registration() -> None:
    assert {name: recipe.registered for name, recipe in RECIPES.items()} == {
        "standard": True, "mddpm": True, "mddpm-legacy": False, "convert": False,
    }  # fmt: skip
    assert not Recipe("a", "", (Register(), CropPad(centre="brain"))).registered


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"step": [{"do": "reoriant"}]}, r"x, step 1: no step is called 'reoriant'. Did you mean 'reorient'\?"),
        ({"step": [{"do": "n4", "shrinc": 2}]}, r"x, step 1: n4 has no parameter 'shrinc' .*Did you mean 'shrink'\?"),
        ({"step": [{"do": "n4"}, {"do": "resample", "mm": -1}]}, r"step 2: resample.mm must be number > 0"),
        ({"step": [{"do": "resample", "how": "cubic"}]}, "how must be one of: linear, bspline; got 'cubic'"),
        ({"step": [{"do": "crop_pad", "size": [1, 2]}]}, "crop_pad.size must be 3 integers"),
        (
            {"step": [{"do": "crop_pad", "centre": "template"}]},
            "x, step 1: crop_pad goes by the template; put the step reg",
        ),
        ({"step": [{"do": "crop_to_brain"}, {"do": "register"}]}, "step 1: crop_to_brain goes by the template"),
        ({"step": [{"to": "RAS"}]}, 'a line do = "..." is missing; steps: reorient'),
        ({"steps": []}, r"nothing is called 'steps' here. Did you mean 'step'\?"),
        ({"step": {"do": "n4"}}, r"steps are written as \[\[step\]\]"),
        ({"text": 3}, "text must be text in quotes"),
        ({}, r"x: a recipe needs at least one step: \[\[step\]\] and a line do = .*; steps: reorient"),
    ],
)
def test_mistakes_in_recipes_are_told(content: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_content("x", content, "x")


def test_unknown_recipes_and_damaged_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recipe is called 'mdppm'. Did you mean 'mddpm'\? .*ends in .toml"):
        get_recipe("mdppm")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        get_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("[[step]\n")
    with pytest.raises(UsageError, match="bad.toml is not valid TOML"):
        get_recipe(str(tmp_path / "bad.toml"))


def test_every_step_is_in_a_built_in_recipe() -> None:
    assert {step.name for recipe in RECIPES.values() for step in recipe.steps} == set(STEPS)


# Quality


def test_numbers_and_flags_of_one_scan() -> None:
    from uadbench.prepare.template import Template

    inside = ball((24, 24, 24), 7)
    found = scans(np.where(inside, 50.0 + np.indices(inside.shape)[0], 0), inside)
    lesion = np.zeros_like(inside)
    lesion[10:14, 10:14, 2:8] = True
    found.masks["lesion"] = with_data(lesion.astype(np.uint8), found.images["t1"])
    found.before = (96, 96 * 0.008)
    found.matrix = np.diag([1.0, 1.0, 2.0, 1.0])  # The scan is twice as tall as the template.
    there = np.roll(inside, 4, axis=1)
    found.template = Template("t", None, with_data(there.astype(np.uint8), found.images["t1"]))
    found.lost = 0.2
    numbers = measure(found)
    both = (inside & there).sum()
    assert numbers["coverage"] == pytest.approx(both / there.sum())
    assert numbers["dice"] == pytest.approx(2 * both / (inside.sum() + there.sum()))
    assert numbers["centroid_mm"] == pytest.approx(8.0)
    assert (numbers["zoom_min"], numbers["zoom_max"]) == pytest.approx((0.5, 1.0))
    assert numbers["lesion_kept"] == pytest.approx(2.0)
    assert numbers["lesion_outside"] == pytest.approx((lesion & ~inside).sum() / lesion.sum())
    assert numbers["t1_p50"] == pytest.approx(np.percentile(array(found.images["t1"])[inside], 50))
    assert numbers["t1_empty"] == 0
    assert "is 0" not in " | ".join(flags_of(numbers))
    moved = scans(np.roll(array(found.images["t1"]), 5, axis=0), inside)
    assert measure(moved)["t1_empty"] > 0.2
    assert "of the brain's mask is 0 in the t1" in " | ".join(flags_of(measure(moved)))
    # All around is 0, and no mask says that it should not be.
    bare = measure(Scans("p1", {"t1": found.images["t1"]}, {}, {}))
    assert "t1_empty" not in bare
    assert "is 0" not in " | ".join(flags_of(bare))
    flags = " | ".join(flags_of(numbers))
    for words in (
        "of the template's brain", "Dice", "8 mm off", "made 0.50 times", "20.0% of the brain cut", "of the lesion outside",
        "the lesion's volume is 200% of what it was",
    ):  # fmt: skip
        assert words in flags
    good = {
        "coverage": 0.96,
        "dice": 0.95,
        "centroid_mm": 1.0,
        "zoom_min": 0.9,
        "zoom_max": 1.1,
        "lost": 0.0,
        "metric": -0.4,
    }
    assert flags_of(good) == []
    assert flags_of({**good, "metric": -0.2}) == ["unlike the template (metric -0.20)"]
    gone = {**good, "lesion_voxels_before": 5, "lesion_voxels": 0, "lesion_kept": 0.0}
    assert flags_of(gone) == ["nothing of the lesion is left"]


def test_one_unlike_the_others_is_found_and_comes_first() -> None:
    rng = np.random.default_rng(6)
    numbers = {f"p{i}": {"metric": -0.5 + 0.01 * rng.normal(), "dice": 0.95} for i in range(12)}
    numbers["p7"]["metric"] = -0.2
    numbers["p8"]["metric"] = -0.9  # Unusually good: nobody minds.
    unlike = compare(numbers)
    assert [key for key, flags in unlike.items() if flags] == ["p7"]
    assert not any(compare(dict(list(numbers.items())[5:9])).values())
    rows = [
        {"key": "a", "flags": "", "dice": 0.95},
        {"key": "b", "flags": "x; y", "dice": 0.96},
        {"key": "c", "flags": "failed: gone"},
        {"key": "d", "flags": "", "dice": 0.91},
    ]
    assert [row["key"] for row in ordered(rows)] == ["c", "b", "d", "a"]
