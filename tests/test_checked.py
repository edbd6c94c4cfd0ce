"""Data are read once for the check before a run, and again only when something changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_data
import nibabel
import numpy as np
import pytest

from uadbench.bank import Bank
from uadbench.checked import FOLDER
from uadbench.config import cache_folder
from uadbench.errors import DataError
from uadbench.leaderboard import make_boards
from uadbench.plan import Plan, Request, make_plan
from uadbench.registry import Registry
from uadbench.reporter import silent
from uadbench.rows import read_cells
from uadbench.runner import Outcome, run_plan
from uadbench.store import Store

pytestmark = pytest.mark.usefixtures("fresh_cache")


class Told:
    """A reporter that keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._silent = silent()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._silent, name)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often a split was read for its check."""
    found: list[str] = []
    check = Bank.check

    def counted(self: Bank, *given: Any, **more: Any) -> Any:
        found.append(self.name)
        return check(self, *given, **more)

    monkeypatch.setattr(Bank, "check", counted)
    return found


def plan_of(manifest: Path, *methods: str, **more: Any) -> Plan:
    return make_plan(Request(methods, "nifti", data=[f"root={manifest}"], device="cpu", **more), Registry())


def run(manifest: Path, out: Path, *methods: str, told: Told | None = None, **more: Any) -> Outcome:
    return run_plan(plan_of(manifest, *(methods or ("intensity",)), **more), Store(out), told or Told())  # type: ignore[arg-type]


def test_the_second_run_on_the_same_data_does_not_check_them_again(tmp_path: Path, checks: list[str]) -> None:
    manifest = fake_data.nifti_set(tmp_path / "data")
    outcomes = [run(manifest, tmp_path / name, told=Told()) for name in "ab"]
    assert [o.exit_code for o in outcomes] == [0, 0]
    assert checks == ["nifti"]
    texts = [(folder.path / "scores.csv").read_text() for o in outcomes for _, folder, _, _ in o.cells if folder]
    assert len(texts) == 2
    assert texts[0] == texts[1]


def test_changed_data_another_split_or_a_spoilt_record_are_checked_again(tmp_path: Path, checks: list[str]) -> None:
    manifest = fake_data.nifti_set(tmp_path / "data")
    run(manifest, tmp_path / "a")
    run(manifest, tmp_path / "b", protocol="image-v1")
    assert len(checks) == 2  # It may do without masks, so that something else is checked.
    for record in (cache_folder() / FOLDER).iterdir():
        record.write_text("{}")
    run(manifest, tmp_path / "c")
    assert len(checks) == 3
    image = nibabel.load(tmp_path / "data" / "s0.nii.gz")
    fake_data.nifti(tmp_path / "data" / "s0.nii.gz", image.get_fdata() + 1, image.affine)
    run(manifest, tmp_path / "d")
    assert len(checks) == 4


def test_files_are_looked_for_before_every_run(tmp_path: Path, checks: list[str]) -> None:
    manifest = fake_data.nifti_set(tmp_path / "data")
    run(manifest, tmp_path / "a")
    plan = plan_of(manifest, "random")
    (tmp_path / "data" / "s5.nii.gz").unlink()
    with pytest.raises(DataError, match=r"E-DATA-201.*s5.nii.gz"):
        run_plan(plan, Store(tmp_path / "b"), silent())
    assert len(checks) == 1
    assert not list(tmp_path.glob("b/**/fitted.pt"))


def test_an_error_is_found_every_time(tmp_path: Path, checks: list[str]) -> None:
    manifest = fake_data.nifti_set(tmp_path / "data")
    fake_data.nifti(tmp_path / "data" / "s1.nii.gz", np.full((20, 24, 6), np.nan, np.float32))
    for name in "ab":
        with pytest.raises(DataError, match="NaN or infinite"):
            run(manifest, tmp_path / name)
    assert len(checks) == 2


def heads(folder: Path, *, turned: str = "", masks: bool = False) -> Path:
    """Seven heads with a nose, one of them turned upside down; with `masks` it lies half beside a mask that is right."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 48, 36)), indexing="ij")
    rng = np.random.default_rng(0)
    lines = ["subject,split,image,lesion,foreground"]
    for name, split in zip("abcdefg", ["train"] * 4 + ["val", "test_lesion", "test_lesion"], strict=True):
        head = (x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 0.6) ** 2 < 1
        head |= (np.abs(x) < 0.2) & (y > 0) & (y < 0.98) & (z < -0.1) & (z > -0.5)
        image = head * (100 + 60 * (z > 0.1) + 30 * y + 5 * rng.random(head.shape))
        lesion = np.zeros(head.shape, np.uint8)
        lesion[15:20, 20:25, 15:20] = split == "test_lesion"
        mask = f"{name}_mask.nii.gz" if masks else ""
        if mask:
            fake_data.nifti(folder / mask, head.astype(np.uint8), np.diag([4.0, 4.0, 4.0, 1.0]))
        if name == turned:
            image, lesion = (np.roll(a, 12, axis=1) if masks else a[:, :, ::-1] for a in (image, lesion))
        fake_data.nifti(folder / f"{name}.nii.gz", image.astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
        fake_data.nifti(folder / f"{name}_lesion.nii.gz", lesion, np.diag([4.0, 4.0, 4.0, 1.0]))
        lines.append(f"{name},{split},{name}.nii.gz,{f'{name}_lesion.nii.gz' if lesion.any() else ''},{mask}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder / "manifest.csv"


def test_a_head_that_is_turned_is_told_before_every_run(tmp_path: Path, checks: list[str]) -> None:
    manifest = heads(tmp_path / "data", turned="f")
    for name in "ab":
        told = Told()
        assert run(manifest, tmp_path / name, told=told).exit_code == 0
        assert [n for n in told.notes if "E-DATA-308" in n and "(f: fits" in n and "the slice axis mirrored" in n]
    assert len(checks) == 1
    cells, _ = read_cells(Store(tmp_path / "b").folders())
    (board,) = make_boards(cells)
    assert any("told before the run: E-DATA-308" in w for w in board.warnings)
    assert {row.note for row in board.rows if row.rank} == {"data with E-DATA-308"}
    told = Told()
    run(heads(tmp_path / "right"), tmp_path / "c", told=told)
    assert not [n for n in told.notes if "DATA-30" in n]


def test_an_image_that_does_not_lie_in_its_mask_is_told(tmp_path: Path) -> None:
    told = Told()
    run(heads(tmp_path / "data", turned="f", masks=True), tmp_path / "a", told=told)
    assert [n for n in told.notes if "W-DATA-416" in n and "(f: " in n]
    told = Told()
    run(heads(tmp_path / "right", masks=True), tmp_path / "b", told=told)
    assert not [n for n in told.notes if "DATA-4" in n]
