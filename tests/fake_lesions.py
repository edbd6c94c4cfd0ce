"""Writes small sets of people with lesions in the layout their owners distribute."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import fake_data
import numpy as np

SHAPE = (10, 12, 4)
BOX = (slice(3, 7), slice(4, 8), slice(1, 3))
"""Where lesions lie, (x, y, z)."""

GRIDS = {"small": np.diag([2.0, 2.0, 3.0, 1.0]), "other": np.diag([1.0, 1.0, 1.0, 1.0])}


def image(seed: int = 0) -> np.ndarray:
    """Return a skull-stripped head with a bright lesion, float32 (x, y, z)."""
    data = fake_data.brain(seed, SHAPE)
    data[BOX] = 300.0
    return data


def mask(values: Sequence[int] = (1,)) -> np.ndarray:
    """Return a mask, uint8 (x, y, z): the box holds the values in turn along x."""
    data = np.zeros(SHAPE, np.uint8)
    for i, x in enumerate(range(3, 7)):
        data[x, 4:8, 1:3] = values[i % len(values)]
    return data


def foreground() -> np.ndarray:
    """Return the mask of the head, uint8 (x, y, z)."""
    return (fake_data.brain(0, SHAPE) > 0).astype(np.uint8)


BRATS_NAMES = {
    "brats20": ([f"BraTS20_Training_{n:03d}" for n in (1, 2, 355)], "_", ("t1", "t1ce", "t2", "flair"), 4),
    "brats21": ([f"BraTS2021_{n:05d}" for n in (0, 2, 1666)], "_", ("t1", "t1ce", "t2", "flair"), 4),
    "brats23": (
        ["BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000", "BraTS-MET-00002-000"],
        "-",
        ("t1n", "t1c", "t2w", "t2f"),
        3,
    ),
}


def brats(root: Path, year: str, ending: str = ".nii.gz") -> Path:
    """Write a folder for each case: modality k of case n has 1000 n + 100 k in its first voxel."""
    names, joint, words, enhancing = BRATS_NAMES[year]
    for n, name in enumerate(names):
        for k, word in enumerate(words):
            data = image(10 * n + k)
            data[0, 0, 0] = 1000 * n + 100 * k
            fake_data.nifti(root / name / f"{name}{joint}{word}{ending}", data)
        seg = f"W39_1998.09.19_Segm{ending}" if name.endswith("_355") else f"{name}{joint}seg{ending}"
        fake_data.nifti(root / name / seg, mask((1, 2, enhancing)))
    return root


MSLUB_WORDS = {"t1": "T1W", "t1ce": "T1WKS", "t2": "T2W", "flair": "FLAIR"}
MSLUB_MNI = {"t1": "T1", "t1ce": "T1POST", "t2": "T2", "flair": "FLAIR"}


def mslub(root: Path, layout: str, patients: Iterable[int] = (1, 2, 7)) -> Path:
    """Write "original", "mirror" (all three folders) or "flat" names."""
    for n in patients:
        name = f"patient{n:02d}"
        if layout == "original":
            for word in MSLUB_WORDS.values():
                fake_data.nifti(root / name / f"{name}_{word}.nii.gz", image(n))
                fake_data.nifti(root / name / "raw" / f"{name}_{word}.nii.gz", image(n)[:-1], GRIDS["other"])
            fake_data.nifti(root / name / f"{name}_brainmask.nii.gz", foreground())
            fake_data.nifti(root / name / f"{name}_consensus_gt.nii.gz", mask())
            (root / name / f"{name}_T1W_to_FLAIR.txt").write_text("1 0 0 0\n")
        elif layout == "mirror":
            top = root / "cross_sectional"
            for word in MSLUB_WORDS.values():
                grid = GRIDS["small" if word == "FLAIR" else "other"]
                fake_data.nifti(top / "coregistered" / name / f"{word}.nii.gz", image(n))
                fake_data.nifti(top / "raw" / name / f"{word}.nii.gz", image(n), grid)
            # The mirror has both ways of naming masks.
            start = f"{name}_" if n % 2 else ""
            fake_data.nifti(top / "coregistered" / name / f"{start}brainmask.nii.gz", foreground())
            fake_data.nifti(top / "coregistered" / name / f"{start}consensus_gt.nii.gz", mask())
            (top / "coregistered" / name / "T2W_to_FLAIR.txt").write_text("1 0 0 0\n")
            fake_data.nifti(top / "raw" / name / "consensus_gt.nii.gz", mask())
            steps = "N4_noneck_reduced_winsor_regtoFLAIR"
            for word in MSLUB_MNI.values():
                fake_data.nifti(top / "MNI" / name / f"{word}_{steps}_brain_N4_regtoMNI.nii.gz", image(n))
            fake_data.nifti(top / "MNI" / name / f"GOLD_STANDARD_{steps}_regtoMNI.nii.gz", mask())
        else:
            for word in ("T1", "T2", "FLAIR"):
                fake_data.nifti(root / f"mni2mm_{name}_{word}.nii.gz", image(n))
            fake_data.nifti(root / f"mni2mm_{name}_brainmask.nii.gz", foreground())
            fake_data.nifti(root / f"mni2mm_{name}_lesion.nii.gz", mask())
    return root


def atlas_2(root: Path, people: Sequence[tuple[str, str]] = (("R001", "r001s001"), ("R031", "r031s006"))) -> Path:
    """Write release 2.0 with a person without a mask in Testing."""
    for n, (site, person) in enumerate(people):
        folder = root / "Training" / site / f"sub-{person}" / "ses-1" / "anat"
        stem = f"sub-{person}_ses-1_space-MNI152NLin2009aSym"
        fake_data.nifti(folder / f"{stem}_T1w.nii.gz", image(n))
        fake_data.nifti(folder / f"{stem}_label-L_desc-T1lesion_mask.nii.gz", mask())
    hidden = root / "Testing" / "R002" / "sub-r002s001" / "ses-1" / "anat"
    fake_data.nifti(hidden / "sub-r002s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz", image())
    return root


def atlas_1(root: Path) -> Path:
    """Write release 1.2: the second person has two masks."""
    for n, (site, person, names) in enumerate(
        (("Site1", "031768", ("LesionSmooth_stx",)), ("Site2", "031844", ("LesionSmooth_stx", "LesionSmooth_1_stx")))
    ):
        folder = root / site / person / "t01"
        fake_data.nifti(folder / f"{person}_t1w_deface_stx.nii.gz", image(n))
        for k, name in enumerate(names):
            data = np.zeros(SHAPE, np.uint8)
            data[3 + k, 4, 1] = 255
            fake_data.nifti(folder / f"{person}_{name}.nii.gz", data)
    return root


WMH_TRAINING = ("Utrecht/0", "Utrecht/17", "Singapore/64", "Amsterdam/GE3T/100")
WMH_TEST = (
    "Utrecht/1",
    "Singapore/51",
    "Amsterdam/GE3T/101",
    "Amsterdam/GE1T5/150",
    "Amsterdam/Philips_VU .PETMR_01./160",
)


def wmh(root: Path) -> Path:
    """Write training and test: pre is brighter than orig by 1, 3DT1 lies on another grid, labels are 1 and 2."""
    for part, cases in (("training", WMH_TRAINING), ("test", WMH_TEST)):
        for n, case in enumerate(cases):
            for folder, offset in (("orig", 0), ("pre", 1)):
                for k, word in enumerate(("T1", "FLAIR")):
                    fake_data.nifti(root / part / case / folder / f"{word}.nii.gz", image(10 * n + k) + offset)
                fake_data.nifti(root / part / case / folder / "3DT1.nii.gz", image(n)[:, :, :2], GRIDS["other"])
            fake_data.nifti(root / part / case / "wmh.nii.gz", mask((1, 2)))
    return root


def mddpm(root: Path, splits: Path, below: str = "Data", ending: str = "nii.gz", *, empty: bool = False) -> Path:
    """Write every file that the CSV files name, for T1 and T2; `empty` files have no content.

    Returns:
        DATA_DIR.
    """
    written: set[str] = set()
    for table in sorted(splits.glob("*_*.csv")):
        with table.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if "img_path" in row]
        for row in rows:
            # Files are written by plain replacement of the only "t1" in folder and name.
            t1 = row["img_path"]
            t2 = t1.replace("/t1/", "/t2/").replace(f"_t1.{ending}", f"_t2.{ending}")
            for name in {t1, t2, row["mask_path"], row["seg_path"]} - written - {""}:
                written.add(name)
                path = root / below / name.lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                if empty:
                    path.touch()
                elif "/mask/" in name:
                    fake_data.nifti(path, foreground())
                elif "/seg/" in name:
                    fake_data.nifti(path, mask((1, 2, 4)))
                else:
                    fake_data.nifti(path, image(len(written)) + (1000 if "/t2/" in name else 0))
    return root


IXI_COLUMNS = ["", "img_name", "SEX_ID (1=m, 2=f)", "age", "label", "img_path", "mask_path", "seg_path", "Agegroup"]


def mddpm_csvs(folder: Path) -> Path:
    """Write CSV files with every defect of the published ones, in small: doubles, leaks, a person without T2."""
    folder.mkdir(parents=True)

    def write(name: str, people: Sequence[str], where: str) -> None:
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(IXI_COLUMNS)
            for n, person in enumerate(people):
                healthy = where == "Train/ixi"
                scan = f"{person}_t1.nii.gz" if healthy else person
                out.writerow(
                    [n, scan, "2" if healthy else "", 30 + n, 0 if healthy else 1, f"/{where}/t1/{person}_t1.nii.gz"]
                    + [
                        f"/{where}/mask/{person}_mask.nii.gz",
                        "" if healthy else f"/{where}/seg/{person}_seg.nii.gz",
                        "1.0",
                    ]
                )

    ixi = [f"IXI{n:03d}-{site}-{1000 + n}" for n, site in enumerate(("Guys", "HH", "IOP") * 4)]
    for k in range(5):
        # 0 is listed twice, 8 is in train and test, 5 in train and validation from fold 2 on, 9 in validation and test.
        train = [ixi[0], ixi[0], ixi[1], ixi[2], ixi[8], ixi[10], *([ixi[5]] if k >= 2 else [])]
        write(f"IXI_train_fold{k}", train, "Train/ixi")
        write(f"IXI_val_fold{k}", [ixi[4], ixi[5], *([ixi[9]] if k >= 3 else [])], "Train/ixi")
    write("IXI_test", [ixi[6], ixi[7], ixi[8], ixi[9]], "Train/ixi")
    for target, people in (
        ("Brats21", [f"BraTS2021_{n:05d}" for n in range(4)]),
        ("MSLUB", ["patient01", "patient26"]),
    ):
        write(f"{target}_val", people[:1], f"Test/{target}")
        write(f"{target}_test", people[1:], f"Test/{target}")
    with (folder / "avail_t2.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["", "0"])
        out.writerows([n, f"{person}_t2.nii.gz"] for n, person in enumerate(ixi) if person != ixi[10])
    return folder
