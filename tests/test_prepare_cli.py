"""Preparing whole sets: resuming, failures, signals, a full disk, and reading what was prepared."""

from __future__ import annotations

import csv
import errno
import json
import os
import shlex
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
from uadbench.errors import BadParameter, DataError, Interrupted, StoreError, UsageError
from uadbench.prepare import sheet, work
from uadbench.prepare.finish import COLUMNS, Outcome
from uadbench.prepare.recipes import Recipe, from_content
from uadbench.prepare.run import prepare
from uadbench.prepare.work import Task
from uadbench.prepared import prepared_facts

PLUGIN = '''"""Walks: p0_t1.nii.gz and so on, p0_lesion.nii.gz where 1 is a lesion and 2 is not, and p0_mask.nii.gz."""
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
        for name in sorted({path.name.partition("_")[0] for path in self.root.glob("*_t?.nii.gz")}):
            yield Case(
                name, {word: file for word in ("t1", "t2") if (file := self.root / f"{name}_{word}.nii.gz").is_file()},
                lesions=tuple(self.root.glob(f"{name}_lesion.nii.gz")), groups={"site": "a", "age": 40 + int(name[1:])},
                foreground=next(self.root.glob(f"{name}_mask.nii.gz"), None),
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
    wanted, data = more.pop("wanted", ()), more.pop("data", {})
    return prepare(walks(home, **data), Task("walks", home / "out", recipe or small(home), wanted), **more)


def add_t2(home: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        data = np.zeros((14, 13, 9), np.float32)
        data[2:11, 2:11, 1:8] = 300 + 30 * np.random.default_rng(seed).random((9, 9, 7))
        nifti(home / f"raw/{name}_t2.nii.gz", data, np.diag([-12.0, 12, 12, 1]))


def recipe_of(name: str, *steps: str, **last: Any) -> Recipe:
    listed: list[dict[str, Any]] = [{"do": step} for step in steps]
    listed[-1] |= last
    return from_content(name, {"step": listed}, "x")


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
    assert facts["brains"] == ["nonzero"]
    assert data.foreground_from() == "nonzero"
    assert facts["recipe_hash"] == small(folder).hash()
    assert (folder / "out/qc.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "out/qc.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["key"] for row in rows} == {"p0", "p1", "p2", "p3", "p4"}
    assert {row["lesion_voxels_before"] for row in rows} == {"8"}
    described = {name.format(modality="t1") for name in COLUMNS}
    assert set(rows[0]) < described
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
    # Who is in which split is seen by no voxel.
    assert here(folder, data={"val": 0.3, "test_healthy": 0.4, "seed": 3}).kept == 5
    other = recipe_of("small", "reorient", "skull_strip")
    assert here(folder, other, again=True).done == 5
    assert here(folder, other).kept == 5
    assert here(folder, other, again=True, first=2).done == 2


def test_finished_scans_are_not_replaced_by_what_something_else_was_asked_of_without_leave(folder: Path) -> None:
    add_t2(folder, "p0")
    broken = folder / "raw/p1_t1.nii.gz"
    whole = broken.read_bytes()

    def refused(words: str, recipe: Recipe | None = None, **more: Any) -> None:
        before = times(folder)
        with pytest.raises(UsageError, match=words):
            here(folder, recipe, **more)
        assert times(folder) == before

    broken.write_bytes(whole[:200])
    assert not here(folder).finished  # The hours of the others would be lost as well.
    refused(
        r"out holds scans that were prepared with the recipe small \(4\), and this asks for the recipe convert; "
        "give another --out, or --force to write over them",
        recipe_of("convert", "reorient"),
    )
    broken.write_bytes(whole)
    assert here(folder).finished
    refused(r"the recipe small \(5\), and this asks for the recipe convert;", recipe_of("convert", "reorient"))
    refused(
        r"the recipe small as it was then \(5\), and this asks for the recipe small as it is now, with other steps,",
        recipe_of("small", "reorient"),
    )
    refused(
        r"the recipe small, all modalities \(5\), and this asks for the recipe small, t1 and t2;", wanted=("t1", "t2")
    )
    refused(r"foreground=auto \(5\), and this asks for .*, foreground=nonzero;", data={"foreground": "nonzero"})
    assert here(folder).kept == 5
    assert here(folder, wanted=("t2",), again=True).done == 1
    refused(r"the recipe small, t2 \(5\), and this asks for the recipe small, all modalities;")


def test_stopped_work_that_replaces_everything_goes_on_without_force(folder: Path) -> None:
    def stop(label: str, total: int) -> Any:
        raise KeyboardInterrupt

    assert here(folder).finished
    with pytest.raises(Interrupted, match="and the same command without --force goes on from there"):
        here(folder, recipe_of("convert", "reorient"), again=True, bar=stop)
    assert here(folder, recipe_of("convert", "reorient")).done == 5


def test_where_all_scans_fail_nothing_is_offered(folder: Path) -> None:
    for path in folder.glob("raw/*_t1.nii.gz"):
        path.write_bytes(path.read_bytes()[:200])
    done = uadbench_here(*command(folder, "--jobs", "1", "--allow-failures"), cwd=folder)
    assert done.returncode == 1
    assert "0 scans prepared, 0 kept, 5 failed" in done.stdout
    assert "Nothing was prepared. Mend" in done.stdout
    assert "--allow-failures" not in done.stdout


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
    add_t2(folder, "p0", "p3")
    told: list[str] = []
    outcome = here(folder, wanted=("t2",), note=told.append)
    assert outcome.done == 2
    assert told == ["3 of 5 scans have no t2 and are left out"]
    assert sorted(p.name for p in (folder / "out/volumes/p3").iterdir()) == [
        "foreground_mask.nii.gz", "ignore_mask.nii.gz", "lesion_mask.nii.gz", "record.json", "t2.nii.gz",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"no modality is called 't3'.*Known: t1, t2"):
        here(folder, wanted=("t3",))
    for words in (("--modality", "t2"), ("--modality", "T2"), ("-D", "modality=t2")):
        done = uadbench_here(*command(folder, *words, "--jobs", "1"), cwd=folder)
        assert "0 scans prepared, 2 kept" in done.stdout, done.stderr


def test_scans_without_the_usual_modality_are_prepared_too(folder: Path) -> None:
    add_t2(folder, "p1", "p5")
    told: list[str] = []
    outcome = here(folder, note=told.append)
    assert (outcome.done, told) == (6, [])
    assert prepared_facts(folder / "out")["of"] == 6
    assert list(walks(folder, "out", modality="t2").index) == ["p1", "p5"]
    assert list(walks(folder, "out").index) == ["p0", "p1", "p2", "p3", "p4"]
    done = uadbench_here(*command(folder, "--modality", "t1,t2", "--out", "both", "--jobs", "1"), cwd=folder)
    assert "6 scans prepared" in done.stdout, done.stderr
    assert "a part of the set" not in done.stdout
    done = uadbench_here(*command(folder, "--modality", "t1", "--out", "some", "--jobs", "1"), cwd=folder)
    assert "1 of 6 scans have no t1 and are left out" in done.stderr
    assert "5 scans prepared" in done.stdout
    assert "a part of the set: 5 of 6 scans" in done.stdout


@pytest.mark.parametrize("last", ["skull_strip", "reorient"])
def test_what_a_step_goes_by_is_not_written_wherever_that_step_stands(folder: Path, last: str) -> None:
    add_t2(folder, "p0", "p1")
    steps = ["reorient", "skull_strip"] if last == "skull_strip" else ["skull_strip", "reorient"]
    assert here(folder, recipe_of("order", *steps), wanted=("t2",)).done == 2
    files = {p.name for p in (folder / "out/volumes/p0").iterdir()}
    assert "t2.nii.gz" in files
    assert "t1.nii.gz" not in files
    assert prepared_facts(folder / "out")["modalities"] == ["t2"]


def test_a_brain_that_is_cut_away_fails_and_the_others_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MOST", 9)
    data = np.zeros((14, 13, 9), np.float32)
    data[:3, :3, :3] = 100 + 20 * np.random.default_rng(1).random((3, 3, 3))
    nifti(folder / "raw/p1_t1.nii.gz", data, np.diag([-12.0, 12, 12, 1]))
    recipe = recipe_of("cut", "reorient", "skull_strip", "crop_pad", size=[4, 4, 3])
    outcome = here(folder, recipe, allow_failures=True)
    assert outcome.failed == {"p1": "p1: nothing of the brain is left after crop_pad; look at its mask and the recipe"}
    assert (outcome.done, outcome.finished) == (4, True)
    path = folder / "out/volumes/p2/foreground_mask.nii.gz"
    empty = np.zeros(nibabel.load(path).shape, np.uint8)
    nifti(path, empty, nibabel.load(path).affine)
    assert sheet.draw(outcome.rows, folder / "out", "walks").startswith(b"\x89PNG")


def test_the_foreground_that_is_asked_for_is_taken(folder: Path) -> None:
    for n in range(5):
        mask = np.zeros((14, 13, 9), np.uint8)
        mask[4:9, 4:9, 2:6] = 1
        nifti(folder / f"raw/p{n}_mask.nii.gz", mask, np.diag([-12.0, 12, 12, 1]))
    seen = {}
    for word in ("auto", "file", "nonzero"):
        done = uadbench_here(*command(folder, "-D", f"foreground={word}", "--out", word, "--jobs", "1"), cwd=folder)
        assert done.returncode == 0, done.stderr
        record = json.loads((folder / word / "volumes/p0/record.json").read_text())
        steps = {step["do"]: step for step in record["steps"]}
        seen[word] = steps["skull_strip"]["by"], steps["skull_strip"]["foreground_ml"]
    given, nonzero = 5 * 5 * 4 * 12**3 / 1000, 9 * 9 * 7 * 12**3 / 1000
    assert seen == {"auto": ("given", given), "file": ("given", given), "nonzero": ("nonzero", round(nonzero, 1))}
    for word, masks in (("auto", 5), ("none", 0)):
        task = Task("walks", folder / f"bare {word}", recipe_of("bare", "reorient"))
        prepare(walks(folder, foreground=word), task)
        assert len(list(task.folder.glob("volumes/*/foreground_mask.nii.gz"))) == masks
    (folder / "raw/p3_mask.nii.gz").unlink()
    with pytest.raises(
        DataError, match=r"walks: 1 of 5 scans have no foreground mask, the first is p3; add them, or leave out"
    ):
        here(folder, data={"foreground": "file"})


def test_the_command_that_is_printed_reads_what_was_prepared(folder: Path) -> None:
    add_t2(folder, *(f"p{n}" for n in range(5)))
    done = uadbench_here(*command(folder, "--modality", "t2", "--out", "my scans", "--jobs", "1"), cwd=folder)
    line = next(line for line in done.stdout.splitlines() if line.startswith("Next: uadbench "))
    words = shlex.split(line.removeprefix("Next: uadbench "))
    assert words[:5] == ["datasets", "check", "walks", "--root", "my scans"]
    assert words[5:7] == ["-D", "modality=t2"]
    checked = uadbench_here(*words, cwd=folder)
    assert "walks, 5 subjects" in checked.stdout, checked.stderr
    with_t1 = uadbench_here(*command(folder, "--modality", "t2,t1", "--out", "both", "--jobs", "1"), cwd=folder)
    assert "--root both --plugin" in with_t1.stdout  # The usual modality needs no word.


def test_a_folder_is_named_after_dataset_and_recipe_where_nobody_names_one(folder: Path) -> None:
    words = [word for word in command(folder, "--jobs", "1") if word not in ("--out", "out")]
    done = uadbench_here(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"writing into {Path('prepared/walks-small')}; --out names another folder" in done.stderr
    assert "uadbench datasets check walks --root prepared/walks-small" in done.stdout
    assert len(walks(folder, "prepared/walks-small").subjects()) == 5


def test_a_dataset_that_cannot_be_opened_in_a_worker_says_why(folder: Path) -> None:
    def fails(texts: Any, kind: type[Exception], words: str) -> None:
        opener = Opening("walks", texts, (str(folder / "walks.py"),))
        with pytest.raises(kind, match=words):
            here(folder, opener=opener, jobs=1)

    fails(("root=raw", "val=7"), BadParameter, r"walks.val must be number in .*; got '7'")
    fails(None, DataError, "walks cannot be opened in a worker process: TypeError: .*; what is finished is kept")


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
        (("walks", "--source", "raw", "--template", "no.nii"), 2, "writing into prepared/walks-standard; --out names"),
        (("walks", "--source", "nowhere", "--out", "o"), 3, "nowhere"),
        (("walks", "--root", "nowhere", "--out", "o"), 3, "nowhere"),
        (("walks", "--out", "o", "--source", "raw", "--template", "no.nii"), 2, "there is no template no.nii"),
        (("walks", "--out", "o", "--source", "raw", "--template", "walks.py"), 2, "template: walks.py cannot be read"),
        ((), 2, "say which dataset is to be prepared"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    folder: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = uadbench_here("datasets", "prepare", *words, "--plugin", folder / "walks.py", cwd=folder)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (folder / "o").exists()
    assert not (folder / "prepared").exists()


def test_a_recipe_is_shown_as_a_file(folder: Path) -> None:
    done = uadbench_here("datasets", "prepare", "--recipe", "mddpm", "--show", cwd=folder)
    (folder / "mine.toml").write_text(done.stdout, encoding="utf-8")
    again = uadbench_here("datasets", "prepare", "--recipe", "mine.toml", "--show", cwd=folder)
    assert again.stdout == done.stdout
    assert 'do = "register"' in done.stdout
    heavy = ("SimpleITK", "nibabel", "matplotlib", "torch", "scipy", "pandas")
    assert imported_by("datasets", "prepare", "--recipe", "mddpm", "--show", cwd=folder, heavy=heavy) == []
    assert imported_by("datasets", "list", cwd=folder, heavy=heavy) == []
