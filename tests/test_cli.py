from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import fake_data
import pandas as pd
import pytest
from commands import imported_by, uadbench, uadbench_here
from conftest import PLUGINS, ROOT


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one run was made by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    done = uadbench("run", "--method", "mean_distance", "--dataset", "blobs", "--device", "cpu", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "out.txt").write_text(done.stdout)
    (folder / "err.txt").write_text(done.stderr)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("run", "--help"),
        ("methods", "list"),
        ("runs", "list"),
        ("status",),
        ("--version",),
    ],
)
def test_help_and_lists_import_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    assert imported_by(*words, cwd=tmp_path) == []


def test_the_leaderboard_does_not_import_torch(runs: Path) -> None:
    heavy = ("torch", "diffusers", "timm", "sklearn", "nibabel")
    assert imported_by("leaderboard", cwd=runs, heavy=heavy) == []
    assert imported_by("runs", "show", "mean", cwd=runs, heavy=heavy) == []


def test_a_run_ends_with_a_table_and_says_where_everything_is(runs: Path) -> None:
    text = (runs / "out.txt").read_text()
    for word in (
        "mean_distance",
        "random",
        "intensity",
        "AUPRC",
        "blobs: for tests only.",
        "sheet.png",
        "Next: uadbench leaderboard",
    ):
        assert word in text
    picture = next(line.partition("picture: ")[2] for line in text.splitlines() if "picture: " in line)
    assert (runs / picture).stat().st_size > 10_000
    assert "[3/3] mean_distance" in (runs / "err.txt").read_text()


def test_the_same_command_again_is_free(runs: Path) -> None:
    done = uadbench("run", "--method", "mean_distance", "--dataset", "blobs", "--device", "cpu", cwd=runs)
    assert done.returncode == 0
    assert done.stderr.count("already done") == 3


def test_leaderboard_exports_a_csv(runs: Path) -> None:
    done = uadbench("leaderboard", "--export", "board.csv", cwd=runs)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(runs / "board.csv")
    assert list(table["method"]) == ["mean_distance", *[m for m in table["method"] if m != "mean_distance"]]
    assert set(table["method"]) == {"mean_distance", "random", "intensity"}
    done = uadbench("leaderboard", "--by", "lesion_kind", "--export", "by.csv", cwd=runs)
    assert set(pd.read_csv(runs / "by.csv")["subset"]) == {"lesion_kind=bright", "lesion_kind=dark"}
    rows = json.loads(uadbench("leaderboard", "--json", cwd=runs).stdout)
    assert rows[0]["rank"] == 1
    assert isinstance(rows[0]["auprc"], float)


def test_status_and_runs_show_what_there_is(runs: Path) -> None:
    assert json.loads(uadbench("status", "--json", cwd=runs).stdout)["cells"][0]["done"] == 1
    rows = json.loads(uadbench("runs", "list", "--json", cwd=runs).stdout)
    assert len(rows) == 3
    listed = uadbench_here("runs", "list", cwd=runs).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["state", "done", "done", "done"]
    assert "mean_distance" in listed[2]
    shown = json.loads(
        uadbench("runs", "show", next(r["run"] for r in rows if "mean" in r["run"]), "--json", cwd=runs).stdout
    )
    assert shown["cell"]["method"] == "mean_distance"
    assert shown["evaluations/brain-v1"]["labels_used"] == "none"
    text = uadbench_here("runs", "show", rows[1]["run"], cwd=runs).stdout
    head = text.partition("\n\n")[0].splitlines()
    assert head[1:5] == ["  state: done", "  method: mean_distance", "  dataset: blobs", "  seed: 0, fold 0"]
    value = shown["evaluations/brain-v1"]["metrics"]["auprc"]
    numbers = f"{value['value']:.3f} [{value['ci_low']:.3f}, {value['ci_high']:.3f}]"
    assert head[5].startswith(f"  brain-v1: AUPRC {numbers}, Dice 0.")
    assert head[6].endswith("sheet.png")
    assert text.count("factor = 1.0") == 1
    assert "factor = 1.0   (default)" in text
    assert text.count("train_foreground") == 1


def test_runs_rm_removes_after_asking(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.copytree(runs / "runs", tmp_path / "runs")
    rows = json.loads(uadbench("runs", "list", "--json", cwd=tmp_path).stdout)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    done = uadbench_here("runs", "rm", rows[0]["run"], cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.endswith("nothing was removed\n")
    assert len(json.loads(uadbench("runs", "list", "--json", cwd=tmp_path).stdout)) == 3
    done = uadbench_here("runs", "rm", rows[0]["run"], "--yes", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == f"removed runs/{rows[0]['run']}\n"
    assert len(json.loads(uadbench("runs", "list", "--json", cwd=tmp_path).stdout)) == 2


def test_a_dry_run_only_says(runs: Path) -> None:
    done = uadbench_here(
        "run",
        "--method",
        "mean_distance,ae",
        "--dataset",
        "blobs",
        "--seed",
        "0-1",
        "--dry-run",
        "--json",
        "--device",
        "cpu",
        cwd=runs,
    )
    rows = json.loads(done.stdout)
    states = {(r["method"], r["seed"]): r["state"] for r in rows}
    assert states["mean_distance", 0] == "done"
    assert states["ae", 1] == "to do"
    assert next(r for r in rows if r["method"] == "mean_distance")["seconds_before"] > 0
    assert "to do" in uadbench_here("run", "--method", "ae", "--dataset", "blobs", "--dry-run", cwd=runs).stdout


def test_a_failed_cell_makes_the_exit_code_one(tmp_path: Path) -> None:
    done = uadbench_here(
        "run",
        "-m",
        "feature_knn,mean_distance",
        "-d",
        "blobs",
        "-p",
        "weights=/none.pth",
        "--references",
        "none",
        "--json",
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert [c["outcome"] for c in json.loads(done.stdout)] == ["failed", "done"]
    assert "FAILED: weights=/none.pth: there is no such file" in done.stderr
    status = uadbench_here("status", cwd=tmp_path).stdout
    assert "there is no such file" in status


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "--method", "mdpm"), 2, "no method is called 'mdpm'. Did you mean 'mddpm'"),
        (("run", "--method", "mddpm", "--dataset", "phantm"), 2, "called 'phantm'. Did you mean 'phantom'"),
        (("run", "--method", "random", "-p", "noise=3", "-d", "blobs"), 2, "(random) has a parameter 'noise'"),
        (("run", "--method", "mean_distance", "-p", "factor=abc", "-d", "blobs"), 2, "factor must be number > 0; got 'abc'"),
        (("run", "--method", "mean_distance", "-p", "facto=1", "-d", "blobs"), 2, "Did you mean 'factor'"),
        (("run", "--method", "random", "-d", "blobs", "-D", "levl=1"), 2, "Did you mean 'level'"),
        (("run", "--method", "random", "--seed", "2-0"), 2, "names no seed"),
        (("run", "--method", "random", "--seed", "x"), 2, "not of the form 0, 0-2"),
        (("run", "--suite", "quikstart"), 2, "Did you mean 'quickstart'"),
        (("run", "--method", "random", "-d", "blobs", "--preset", "quik"), 2, "Did you mean 'quick'"),
        (("run",), 2, "no method is named"),
        (("runn",), 2, "Did you mean 'run'"),
        (("methods", "lst"), 2, "Did you mean 'list'"),
        (("methods", "show", "mdpm"), 2, "Did you mean 'mddpm'"),
        (("run", "--methd", "x"), 2, "--method"),
        (("run", "--method", "random", "--dataset", "lgg", "--root", "nowhere"), 3, "there is no folder nowhere"),
        (("run", "--method", "random", "--dataset", "nifti"), 3, "datasets prepare nifti"),
        (("run", "--method", "random", "-d", "blobs", "--fold", "3"), 2, "blobs has the fold 0 only"),
        (("leaderboard",), 2, "holds no results; begin with: uadbench run"),
        (("leaderboard", "--export", "a.xls"), 2, "the ending must be .csv or .md"),
        (("runs", "show", "abc"), 2, "no cell is called 'abc'"),
        (("run", "--method", "random", "--device", "tpu", "-d", "blobs"), 2, "device 'tpu'"),
        (("datasets", "prepare", "nifti"), 2, "give --out PATH"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_clear_sentence(words: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    done = uadbench_here(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


BLOBS = ("run", "-m", "random", "-d", "blobs")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run]\nout = 5", "uadbench.toml: [run] out must be text in quotes; got 5"),
        ("[run]\nseed = [0, 1]", '[run] seed must be a whole number, or text such as "0,1" or "0-2"; got [0, 1]'),
        ('[run]\nseed = "a"', "uadbench.toml: [run] seed 'a' is not of the form 0, 0-2 or 0,5,7"),
        ("[methods]\nmddpm = 3", "uadbench.toml: methods.mddpm must be a section, [methods.mddpm]; got 3"),
        ("run = 3", "run must be a section, [run]; got 3"),
        ("[runn]", "no section is called 'runn'. Did you mean 'run'?"),
        ("[methods.mdpm]", "[methods.mdpm]: no method is called 'mdpm'. Did you mean 'mddpm'?"),
        ("[datasets.phantm]", "[datasets.phantm]: no dataset is called 'phantm'. Did you mean 'phantom'?"),
    ],
)
def test_settings_that_nobody_would_read_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "uadbench.toml").write_text(text)
    done = uadbench_here(*BLOBS, "--dry-run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert uadbench_here("methods", "list", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "-m", "MDDPM"), "Did you mean 'mddpm'?"),
        (("run", "--suite", "nope.toml"), "there is no such file; built-in suites: brain-t2, quickstart"),
        (("run", "-m", "random", "-d", "lgg", "-D", "modality=t1"), "must be pre, flair, post, or several with +; got 't1'"),
        (("run", "-m", "random", "-D", "size=3,3"), "must be 3 integers; got '3,3' (voxels along D, H, W, 8 to 256 each;"),
        (("run", "-m", "random", "--fold", "9"), "folds 0 to 4; fold 9 does not exist"),
        ((*BLOBS, "--out", "file.md"), "file.md is a file, not a folder"),
        ((*BLOBS, "--out", "file.md", "--dry-run"), "file.md is a file, not a folder"),
        (("leaderboard", "--long"), "--long is about the file: give --export"),
        (("leaderboard", "--export", "none/a.csv"), "the folder none does not exist; give another --export"),
        (("leaderboard", "--export", "/proc/a.csv"), "give another --export"),
        (("leaderboard", "--export", "folder.csv"), "folder.csv is a folder; give another --export"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_done(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    (tmp_path / "file.md").write_text("")
    (tmp_path / "folder.csv").mkdir()
    done = uadbench_here(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.md", "folder.csv"]


def test_a_seed_from_the_environment_is_named() -> None:
    done = uadbench_here(*BLOBS, cwd=ROOT, UADBENCH_SEED="x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: UADBENCH_SEED 'x' is not of the form")


def test_a_dry_run_ends_as_the_run_would(tmp_path: Path) -> None:
    common = ("run", "-d", "blobs", "--dry-run", "--references", "none", "--json")
    done = uadbench_here(*common, "-m", "feature_knn", "-p", "weights=foo", cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no such file" in json.loads(done.stdout)[0]["state"]
    text = (PLUGINS / "mean_distance.py").read_text().replace("import torch", "import tortch")
    (tmp_path / "fails.py").write_text(text)
    done = uadbench_here(*common, "-m", "fails,random", "--plugin", "fails.py", cwd=tmp_path)
    assert done.returncode == 1
    assert [row["state"] == "to do" for row in json.loads(done.stdout)] == [False, True]
    assert uadbench_here(*common, "-m", "random", cwd=tmp_path).returncode == 0
    done = uadbench_here("run", "-m", "random", "-d", "lgg", "--root", "nowhere", "--dry-run", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "lgg cannot run" in done.stderr


def test_a_cache_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = uadbench_here(*BLOBS, "--references", "none", cwd=tmp_path, UADBENCH_CACHE=str(tmp_path / "file" / "x"))
    assert done.returncode == 0
    assert done.stderr.count("warning: the cache") == 1
    assert "file is a file, not a folder" in done.stderr
    done = uadbench_here(
        "doctor", cwd=tmp_path, UADBENCH_CACHE=str(tmp_path / "file" / "x"), UADBENCH_DATA=str(tmp_path / "nope")
    )
    assert done.returncode == 1
    problems = [line for line in done.stdout.splitlines() if line.startswith("PROBLEM")]
    assert len(problems) == 2
    assert "file is a file, not a folder; choose another folder (UADBENCH_CACHE)" in problems[0]
    assert "nope: there is no such folder" in problems[1]


def test_a_manifest_is_never_lost_and_the_next_command_is_told(tmp_path: Path) -> None:
    words = ["datasets", "prepare", "nifti", "--out", "m.csv"]
    for i in range(5):
        fake_data.nifti(tmp_path / "h" / f"{i}.nii.gz", fake_data.brain(i))
    fake_data.nifti(tmp_path / "p" / "x.nii.gz", fake_data.brain(9))
    for name, pattern in (("healthy", "h"), ("image", "p"), ("lesion", "p")):
        words += ["-D", f"{name}={pattern}/{{subject}}.nii.gz"]
    done = uadbench_here(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "subjects: train 3, val 1, test_healthy 1, test_lesion 1" in done.stdout
    assert "Next: uadbench datasets check nifti --root m.csv" in done.stdout
    (tmp_path / "m.csv").write_text("mine")
    done = uadbench_here(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "m.csv is there already; give another --out, or --force" in done.stderr
    assert (tmp_path / "m.csv").read_text() == "mine"
    assert uadbench_here(*words, "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "m.csv").read_text() != "mine"
    done = uadbench_here(*[w.replace("m.csv", "/proc/m.csv") for w in words], cwd=tmp_path)
    assert done.returncode == 2
    assert "/proc/m.csv cannot be written" in done.stderr


def test_a_broken_file_is_one_sentence_for_the_check_and_for_doctor(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1\ndef (\n")
    for part in ("methods", "datasets"):
        done = uadbench_here(part, "check", "bad.py", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: plug-in {tmp_path / 'bad.py'} left out: SyntaxError in line 2: ")
        assert done.stderr.count("\n") == 1
    done = uadbench_here("doctor", "--plugin", "bad.py", cwd=tmp_path, UADBENCH_PLUGINS="")
    assert "left out: 1, see the problems below" in done.stdout
    assert "none" not in done.stdout.partition("plug-ins")[2].partition("extras")[0]


def test_a_broken_plugin_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def (")
    done = uadbench("methods", "list", "--plugin", tmp_path / "bad.py")
    assert done.returncode == 0
    assert done.stderr.count("warning:") == 1
    assert "bad.py left out: SyntaxError" in done.stderr
    (tmp_path / "vae.py").write_text((PLUGINS / "mean_distance.py").read_text())
    done = uadbench("methods", "list", "--plugin", tmp_path / "vae.py")
    assert done.returncode == 2
    assert "two methods are called 'vae'" in done.stderr


def test_show_tells_parameters_presets_and_published_numbers(tmp_path: Path) -> None:
    done = uadbench_here("methods", "show", "mddpm", cwd=tmp_path)
    for word in (
        "noise_level",
        "integer in [1, 1000]",
        "default 500",
        "preset official",
        "mask_sampler=code",
        "53.02",
        "2305.19867",
    ):
        assert word in done.stdout
    facts = json.loads(uadbench_here("methods", "show", "mddpm", "--json", cwd=tmp_path).stdout)
    assert facts["needs"] == ["foreground"]
    done = uadbench_here("datasets", "show", "lgg", cwd=tmp_path)
    assert "slices of patients" in done.stdout
    assert "UADBENCH_DATA/lgg" in done.stdout
    assert "healthy=" not in done.stdout
    assert "required" in uadbench_here("datasets", "show", "nifti", cwd=tmp_path).stdout


def test_check_runs_the_contract(tmp_path: Path) -> None:
    done = uadbench("methods", "check", PLUGINS / "mean_distance.py", UADBENCH_PLUGINS="")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("ok ") == 13
    text = (PLUGINS / "mean_distance.py").read_text().replace("self.mean_).abs()", "self.mean_).abs().neg()")
    (tmp_path / "mean_distance.py").write_text(text)
    done = uadbench("methods", "check", tmp_path / "mean_distance.py", UADBENCH_PLUGINS="")
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
    assert "higher must mean more anomalous" in done.stdout
    done = uadbench("datasets", "check", "blobs")
    assert done.returncode == 0, done.stderr


def test_doctor_finds_no_problem_here_and_names_a_broken_plugin(tmp_path: Path) -> None:
    done = uadbench("doctor", cwd=tmp_path)
    assert all(extra in done.stdout for extra in ("weights", "tensorboard", "prepare", "dicom", "tables"))
    assert done.returncode == 0, done.stdout
    assert "device that auto takes" in done.stdout
    (tmp_path / "bad.py").write_text(
        (PLUGINS / "mean_distance.py").read_text().replace("import torch", "import tortch")
    )
    done = uadbench("doctor", "--plugin", tmp_path / "bad.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "No module named 'tortch'" in done.stdout


def test_settings_come_from_the_command_line_then_the_environment_then_the_file(tmp_path: Path) -> None:
    (tmp_path / "uadbench.toml").write_text('[run]\nout = "from_file"\nseed = "3"\n[datasets.blobs]\nlevel = 50.0\n')

    def seeds(*words: str, **env: str) -> set[int]:
        done = uadbench_here(
            "run",
            "-m",
            "random",
            "-d",
            "blobs",
            "--dry-run",
            "--json",
            "--references",
            "none",
            *words,
            cwd=tmp_path,
            **env,
        )
        rows = json.loads(done.stdout)
        assert all(
            r["folder"].startswith(words[1] if "--out" in words else env.get("UADBENCH_OUT", "from_file")) for r in rows
        )
        return {r["seed"] for r in rows}

    assert seeds() == {3}
    assert seeds(UADBENCH_SEED="4", UADBENCH_OUT="from_env") == {4}
    assert seeds("--out", "from_words", "--seed", "5-6", UADBENCH_SEED="4", UADBENCH_OUT="from_env") == {5, 6}
    (tmp_path / "uadbench.toml").write_text("[run\n")
    done = uadbench_here("run", "-m", "random", "-d", "blobs", cwd=tmp_path)
    assert done.returncode == 2
    assert "uadbench.toml is not valid TOML" in done.stderr
    (tmp_path / "uadbench.toml").write_text('[run]\npresets = "paper"\n')
    done = uadbench_here("run", "-m", "random", "-d", "blobs", cwd=tmp_path)
    assert done.returncode == 2
    assert "[run] has no setting 'presets'. Did you mean 'preset'" in done.stderr


def test_a_suite_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'methods = ["mean_distance"]\ndatasets = ["blobs"]\nseed = "0-1"\nparams = ["factor=2"]\n'
    )
    done = uadbench_here("run", "--suite", "mine.toml", "--dry-run", "--json", "--references", "none", cwd=tmp_path)
    rows = json.loads(done.stdout)
    assert [(r["method"], r["seed"], r["parameters"]["factor"]) for r in rows] == [
        ("mean_distance", s, 2.0) for s in (0, 1)
    ]
    (tmp_path / "bad.toml").write_text('method = ["x"]\n')
    done = uadbench_here("run", "--suite", "bad.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "'method' is no key of a suite. Did you mean 'methods'" in done.stderr


def test_a_closed_pipe_is_no_error(runs: Path) -> None:
    command = f"{sys.executable} -m uadbench runs list | head -1"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=runs, env=env, check=False)
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
