"""Preparing whole sets: resuming, failures, signals, a full disk, and reading what was prepared."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
import pytest
from commands import imported_by, uadbench_here
from conftest import ROOT
from fake_data import nifti

from uadbench.cli.data_prepare import Opening
from uadbench.errors import DataError, StoreError, UsageError
from uadbench.prepare import sheet, work
from uadbench.prepare.finish import Outcome
from uadbench.prepare.recipes import Recipe, from_content
from uadbench.prepare.run import prepare
from uadbench.prepare.work import Task
from uadbench.prepared import prepared_facts

PLUGIN = '''"""Walks: p0_t1.nii.gz and so on, with p0_lesion.nii.gz where 1 is a lesion and 2 is something else."""
import os
import time
from dataclasses import dataclass
from typing import ClassVar
from uadbench.dataset import DatasetCard
from uadbench.datasets._volumes import Case, HealthySet

@dataclass
class Walks(HealthySet):
    card: ClassVar[DatasetCard] = DatasetCard(
        title="Walks", licence="none", url="none", reference="none", modality=("t1",), healthy="controls"
    )
    stripped: ClassVar[bool] = True

    def cases(self):
        for path in sorted(self.root.glob("*_t1.nii.gz")):
            name = path.name.partition("_")[0]
            yield Case(
                name, {word: file for word in ("t1", "t2") if (file := path.with_name(f"{name}_{word}.nii.gz")).is_file()},
                lesions=tuple(self.root.glob(f"{name}_lesion.nii.gz")), groups={"site": "a", "age": 40 + int(name[1:])},
            )

    def label(self, mask):
        time.sleep(float(os.environ.get("WALKS_PAUSE", "0")))
        return mask == 1, mask == 2
'''

RECIPE = """text = "small"
[[step]]
do = "reorient"
[[step]]
do = "skull_strip"
[[step]]
do = "normalise"
[[step]]
do = "crop_pad"
size = [12, 12, 8]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plug-in, a recipe, and five scans with lesion masks, in a folder whose name not every program can write."""
    monkeypatch.setattr(sheet, "MOST", 1)  # Drawing takes most of the time.
    home = tmp_path / "Größe 腦"
    home.mkdir()
    (home / "walks.py").write_text(PLUGIN)
    (home / "small.toml").write_text(RECIPE)
    rng = np.random.default_rng(0)
    for n in range(5):
        data = np.zeros((14, 13, 9), np.float32)
        data[2:11, 2:11, 1:8] = 100 + 20 * rng.random((9, 9, 7))
        labels = np.zeros(data.shape, np.uint8)
        labels[4:6, 4:6, 3:5], labels[7, 7, 4] = 1, 2
        affine = np.diag([-12.0, 12.0, 12.0, 1.0])
        nifti(home / f"raw/p{n}_t1.nii.gz", data, affine)
        nifti(home / f"raw/p{n}_lesion.nii.gz", labels, affine)
    return home


def walks(home: Path, root: str = "raw", **more: Any) -> Any:
    texts = (f"root={home / root}", *(f"{k}={v}" for k, v in more.items()))
    return Opening("walks", texts, (str(home / "walks.py"),))()


def small(home: Path) -> Recipe:
    from uadbench.prepare.recipes import get_recipe

    return get_recipe(str(home / "small.toml"))


def here(home: Path, recipe: Recipe | None = None, **more: Any) -> Outcome:
    """Prepare in this process."""
    wanted = more.pop("wanted", ())
    return prepare(walks(home), Task("walks", home / "out", recipe or small(home), wanted), **more)


def command(home: Path, *more: str) -> list[str]:
    words = ["datasets", "prepare", "walks", "--source", "raw", "--recipe", "small.toml", "--out", "out"]
    return [*words, "--plugin", str(home / "walks.py"), *more]


def start(home: Path, *more: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "uadbench", *command(home, *more)], cwd=home, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )  # fmt: skip


def times(home: Path) -> dict[str, int]:
    """When every finished scan was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in home.glob("out/volumes/*/record.json")}


def wait_until(home: Path, ready: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if ready():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail("nothing was prepared")


def test_the_same_dataset_reads_what_was_prepared(folder: Path) -> None:
    done = uadbench_here(*command(folder, "--jobs", "2"), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "5 scans prepared, 0 kept, 0 failed, 0 suspicious" in done.stdout
    assert "uadbench datasets check walks --root out" in done.stdout
    data = walks(folder, "out")
    assert [s.key for s in data.subjects()] == ["p0", "p1", "p2", "p3", "p4"]
    assert data.subjects()[3].groups == {"site": "a", "age": 43.0}
    volume = data.load(data.subjects()[0])
    assert volume.image.shape == (1, 8, 12, 12)
    assert volume.foreground is not None
    assert volume.lesion is not None
    assert volume.ignore is not None
    assert (int(volume.lesion.sum()), int(volume.ignore.sum())) == (8, 1)
    # The same, worked out from the file: mirrored to RAS, scaled, and 13 x 14 x 9 voxels cut to 12 x 12 x 8.
    raw = nibabel.as_closest_canonical(nibabel.load(folder / "raw/p0_t1.nii.gz")).get_fdata()
    low, high = np.percentile(raw[raw > 0], [1, 99])
    scaled = np.where(raw > 0, np.maximum((raw - low) / (high - low), 0), 0)[1:13, 1:13, 1:9].transpose(2, 1, 0)
    np.testing.assert_allclose(volume.image[0], scaled, atol=1e-5)
    facts = json.loads((folder / "out/prepared.json").read_text())
    assert facts["dataset"] == "walks"
    assert not facts["registered"]
    assert facts["recipe_hash"] == small(folder).hash()
    assert (folder / "out/qc.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "out/qc.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["key"] for row in rows} == {"p0", "p1", "p2", "p3", "p4"}
    assert {row["lesion_voxels_before"] for row in rows} == {"8"}
    before = times(folder)
    again = uadbench_here(*command(folder), cwd=folder)
    assert "0 scans prepared, 5 kept" in again.stdout
    assert times(folder) == before
    assert walks(folder, "out").content() == data.content()


def test_only_what_changed_is_prepared_again(folder: Path) -> None:
    assert here(folder).done == 5
    path = folder / "raw/p2_t1.nii.gz"
    changed = np.asarray(nibabel.load(path).dataobj) * 2
    nifti(path, changed, np.diag([-12.0, 12, 12, 1]))
    outcome = here(folder)
    assert (outcome.done, outcome.kept) == (1, 4)
    (folder / "out/volumes/p4/t1.nii.gz").unlink()
    (folder / "out/volumes/p1/foreground_mask.nii.gz").write_bytes(b"cut short")
    outcome = here(folder)
    assert (outcome.done, outcome.kept) == (2, 3)
    other = from_content("small", {"step": [{"do": "reorient"}, {"do": "skull_strip"}]}, "x")
    assert here(folder, other).done == 5
    assert here(folder, other, again=True, first=2).done == 2


def test_scans_that_fail_are_listed_and_the_folder_is_not_finished_without_leave(folder: Path) -> None:
    path = folder / "raw/p1_t1.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    done = uadbench_here(*command(folder, "--jobs", "1"), cwd=folder)
    assert done.returncode == 1
    assert "4 scans prepared, 0 kept, 1 failed" in done.stdout
    assert "p1_t1.nii.gz cannot be read" in done.stdout
    assert "The folder is not finished" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    with pytest.raises(DataError, match=r"out was not prepared to the end; give the same command"):
        walks(folder, "out").subjects()
    outcome = here(folder, allow_failures=True)
    assert (outcome.kept, list(outcome.failed), outcome.finished) == (4, ["p1"], True)
    assert [s.key for s in walks(folder, "out").subjects()] == ["p0", "p2", "p3", "p4"]
    assert outcome.rows[0]["flags"].startswith("failed: ")
    path.write_bytes(whole)
    assert (here(folder).done, len(walks(folder, "out").subjects())) == (1, 5)


def test_a_trial_with_a_few_scans_does_not_replace_a_finished_folder(folder: Path) -> None:
    assert here(folder).finished
    with pytest.raises(UsageError, match=r"holds 5 prepared scans, and these are 2; .* give another --out"):
        here(folder, first=2)
    assert len(walks(folder, "out").subjects()) == 5


def test_a_recipe_that_leaves_the_skull_says_so(folder: Path) -> None:
    """What was not stripped before is not stripped afterwards, unless the recipe does it."""
    raw = walks(folder)
    bare = from_content("bare", {"step": [{"do": "reorient"}]}, "x")
    vars(raw)["skull_free"] = False  # As for people whose skull is still there.
    outcome = prepare(raw, Task("walks", folder / "bare", bare))
    assert outcome.finished
    assert not prepared_facts(folder / "bare")["stripped"]
    assert prepared_facts(folder / "bare")["of"] == 5
    assert here(folder).finished
    assert prepared_facts(folder / "out")["stripped"]


def test_kill_9_loses_only_the_scan_at_work(folder: Path) -> None:
    process = start(folder, "--jobs", "1", WALKS_PAUSE="0.4")
    wait_until(folder, lambda: len(times(folder)) >= 2, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.kill()
    process.communicate(timeout=60)
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive  # A worker without a parent ends.
    before = times(folder)
    assert len(before) < 5
    with pytest.raises(DataError, match="not prepared to the end"):
        walks(folder, "out").subjects()
    outcome = here(folder)
    assert (outcome.kept, outcome.done) == (len(before), 5 - len(before))
    assert before.items() <= times(folder).items()
    assert not list(folder.glob("out/**/.*"))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_stops_and_says_how_to_go_on(folder: Path, number: signal.Signals) -> None:
    process = start(folder, "--jobs", "2", WALKS_PAUSE="3")
    wait_until(folder, lambda: len(times(folder)) >= 1, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "of 5 scans are finished and kept in out, and the same command goes on from there" in err
    assert "Traceback" not in err
    assert not psutil.wait_procs(workers, timeout=20)[1]
    assert not list(folder.glob("out/volumes/.*.part/record.json"))
    assert not (folder / "out/lock").exists()
    kept = len(times(folder))
    assert here(folder).kept == kept


def test_a_full_disk_is_one_sentence_and_nothing_half_written_is_taken_as_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = work.write_atomic

    def full(path: Path, data: bytes) -> None:
        if "p2" in path.parent.name and path.name.startswith("lesion"):
            raise work.cannot_write(path, OSError(errno.ENOSPC, "No space left on device"))
        write(path, data)

    monkeypatch.setattr(work, "write_atomic", full)
    with pytest.raises(StoreError, match=r"No space left on device; free some space and give the same command again"):
        here(folder)
    assert sorted(times(folder)) == ["p0", "p1"]
    assert not list(folder.glob("out/volumes/.*"))
    with pytest.raises(DataError, match="not prepared to the end"):
        walks(folder, "out").subjects()
    monkeypatch.undo()
    assert (here(folder).kept, here(folder).kept) == (2, 5)


def test_a_target_that_is_something_else_is_refused(folder: Path) -> None:
    recipe = small(folder)

    def refused(out: Path, words: str, name: str = "walks") -> None:
        with pytest.raises(UsageError, match=words):
            prepare(walks(folder), Task(name, out, recipe))

    refused(folder / "walks.py", "is a file; give a folder")
    refused(folder / "raw", r"raw holds the data that are to be prepared")
    (folder / "thesis").mkdir()
    (folder / "thesis/chapter1.tex").write_text("...")
    refused(folder / "thesis", r"is no prepared folder and holds other things \(chapter1.tex\)")
    here(folder)
    refused(folder / "out", "was prepared from walks; give runs a folder of its own", "runs")
    assert (folder / "thesis/chapter1.tex").read_text() == "..."
    wrong = walks(folder, "out")
    type(wrong).__module__ = "uadbench_plugin_runs_123abc"
    with pytest.raises(DataError, match="was prepared from walks; give --dataset walks"):
        wrong.subjects()


def test_modalities_can_be_chosen(folder: Path) -> None:
    for n in (0, 3):
        data = np.zeros((14, 13, 9), np.float32)
        data[2:11, 2:11, 1:8] = n + 1 + np.random.default_rng(n).random((9, 9, 7))
        nifti(folder / f"raw/p{n}_t2.nii.gz", data, np.diag([-12.0, 12, 12, 1]))
    told: list[str] = []
    outcome = here(folder, wanted=("t2",), note=told.append)
    assert outcome.done == 2
    assert told == ["3 of 5 scans have no t2"]
    assert sorted(p.name for p in (folder / "out/volumes/p3").iterdir()) == [
        "foreground_mask.nii.gz", "ignore_mask.nii.gz", "lesion_mask.nii.gz", "record.json", "t2.nii.gz",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"no modality is called 't3'.*Known: t1, t2"):
        here(folder, wanted=("t3",))
    done = uadbench_here(*command(folder, "--modality", "t2", "--jobs", "1"), cwd=folder)
    assert "0 scans prepared, 2 kept" in done.stdout, done.stderr


def test_the_sheet_grows_with_the_scans_and_says_when_it_has_not_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    rows = here(folder).rows
    heights = []
    texts: list[str] = []
    for most in (1, 3):
        monkeypatch.setattr(sheet, "MOST", most)
        picture = sheet.draw(rows, folder / "out", "walks")
        (folder / "sheet.png").write_bytes(picture)
        with Image.open(folder / "sheet.png") as opened:
            heights.append(opened.size[1])
            colours = np.asarray(opened.convert("RGB")).reshape(-1, 3)
        red = (colours[:, 0] > 200) & (colours[:, 1] < 110) & (colours[:, 2] < 110)
        blue = (colours[:, 2] > 200) & (colours[:, 0] < 90)
        assert red.sum() > 20 * most  # Outlines of lesions.
        assert blue.sum() > 50 * most  # And of brains.
    assert heights[1] > 1.5 * heights[0]
    monkeypatch.setattr("matplotlib.figure.Figure.text", lambda self, x, y, text, **more: texts.append(text))
    sheet.draw(rows, folder / "out", "walks")
    assert texts[0] == "walks (3 of 5 scans; qc.csv has all)"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("phantom", "--recipe", "mddpm"), 2, "--recipe is for sets of volumes; phantom is prepared without it"),
        (("walks", "--recipe", "mddpn", "--out", "o"), 2, "no recipe is called 'mddpn'. Did you mean 'mddpm'?"),
        (("walks", "--recipe", "mddpm"), 2, "writes a folder: give --out FOLDER"),
        (("walks", "--source", "nowhere", "--out", "o"), 3, "nowhere"),
        (("walks", "--out", "o", "--source", "raw", "--template", "no.nii"), 2, "there is no template no.nii"),
        ((), 2, "say which dataset is to be prepared"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    folder: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = uadbench_here("datasets", "prepare", *words, "--plugin", folder / "walks.py", cwd=folder)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (folder / "o").exists()


def test_a_recipe_is_shown_as_a_file(folder: Path) -> None:
    done = uadbench_here("datasets", "prepare", "--recipe", "mddpm", "--show", cwd=folder)
    (folder / "mine.toml").write_text(done.stdout, encoding="utf-8")
    again = uadbench_here("datasets", "prepare", "--recipe", "mine.toml", "--show", cwd=folder)
    assert again.stdout == done.stdout
    assert 'do = "register"' in done.stdout
    heavy = ("SimpleITK", "nibabel", "matplotlib", "torch", "scipy", "pandas")
    assert imported_by("datasets", "prepare", "--recipe", "mddpm", "--show", cwd=folder, heavy=heavy) == []
    assert imported_by("datasets", "list", cwd=folder, heavy=heavy) == []
