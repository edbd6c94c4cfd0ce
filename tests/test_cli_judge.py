"""`evaluate`, `protocols` and `compare`, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import imported_by
from commands import uadbench_here as uadbench

from uadbench.store import CellFolder, Store

TORCH = ("torch", "diffusers", "timm", "torchvision", "accelerate")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two methods were run with two seeds, besides the references."""
    folder = tmp_path_factory.mktemp("judge")
    done = uadbench(
        "run", "-m", "mean_distance,voxel_zscore", "-d", "blobs", "--seed", "0-1", "--device", "cpu", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy of it that may be spoilt."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    return tmp_path


def test_finished_cells_are_evaluated_under_other_protocols(runs: Path) -> None:
    done = uadbench("evaluate", "--protocol", "brain-v1,image-v1,mddpm-paper", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is up to date") == 8
    assert done.stderr.count("    evaluated") == 16
    assert "image-v1, ranked by subject AUROC" in done.stdout
    assert "Threshold: conformal(0.1), labels used: none" in done.stdout
    assert "it is infinite, and nothing is ever found" in done.stdout
    assert "Threshold: val_bisection, labels used: val" in done.stdout
    again = uadbench("evaluate", "--protocol", "brain-v1,image-v1,mddpm-paper", cwd=runs)
    assert again.stderr.count("is up to date") == 24
    board = uadbench("leaderboard", "--json", cwd=runs)
    rows = json.loads(board.stdout)
    assert {r["protocol"] for r in rows} == {"brain-v1", "image-v1", "mddpm-paper"}
    assert len(rows) == 12


def test_a_whole_evaluation_needs_no_torch(runs: Path) -> None:
    source = (Path(__file__).parent / "plugins" / "blobs.py").read_text()
    assert "import torch" not in source
    assert imported_by("evaluate", "--protocol", "image-v1", "--plugin", str(Path(__file__).parent / "plugins" / "blobs.py"),
                       cwd=runs, heavy=TORCH) == []  # fmt: skip
    assert imported_by("compare", cwd=runs, heavy=TORCH) == []
    assert imported_by("protocols", "list", cwd=runs) == []


def test_other_thresholds_and_fewer_steps_have_a_name_of_their_own(runs: Path) -> None:
    done = uadbench("evaluate", "--without", "median", "--threshold", "healthy_fpr:0.01", "--json", cwd=runs)
    rows = json.loads(done.stdout)
    assert {r["protocol"] for r in rows} == {"brain-v1 (without median, healthy_fpr(0.01))"}
    assert {r["state"] for r in rows} == {"evaluated"}
    board = uadbench("leaderboard", cwd=runs).stdout
    assert "blobs, brain-v1 (without median, healthy_fpr(0.01))" in board
    assert "blobs, brain-v1, ranked" in board


def test_results_with_a_threshold_from_test_labels_are_not_ranked(runs: Path) -> None:
    done = uadbench("evaluate", "--threshold", "oracle", cwd=runs)
    assert "the threshold was chosen on test labels" in done.stdout
    rows = json.loads(uadbench("leaderboard", "--protocol", "brain-v1 (oracle)", "--json", cwd=runs).stdout)
    assert [r["rank"] for r in rows] == [None] * 4


def test_damage_is_said_and_the_others_go_on(runs: Path) -> None:
    folders = Store(runs / "runs").folders()
    first, second, third = folders[0], folders[1], folders[2]
    cut = next(first.path.glob("maps/test_lesion*.npz"))
    cut.write_bytes(cut.read_bytes()[:50])
    shutil.rmtree(second.path / "maps")
    third.write_map("test_lesion0", np.ones((2, 3, 4), np.float32), {})
    done = uadbench("evaluate", "--force", cwd=runs)
    assert done.returncode == 1
    assert f"{cut.name} is damaged" in done.stderr
    assert "does not exist; give the run command again to make it" in done.stderr
    assert "has the shape (2, 3, 4) but its subject has" in done.stderr
    assert done.stderr.count("    evaluated") == 5
    assert "Traceback" not in done.stderr


def test_data_that_changed_are_not_evaluated(runs: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parent / "plugins" / "blobs.py").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "blobs.py").write_text(text + "\nCHANGED = True\n")
    done = uadbench("evaluate", "--force", cwd=runs, UADBENCH_PLUGINS=str(tmp_path / "other"))
    assert done.returncode == 1
    assert "the data, their split or their adapter are not those of the run" in done.stderr


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("--protocol", "brain-v2"), "no protocol is called 'brain-v2'. Did you mean 'brain-v1'"),
        (("--threshold", "healthy_fp:0.1"), "Did you mean 'healthy_fpr'"),
        (("--threshold", "conformal:a"), "'a' is no number"),
        (("--without", "erode"), "brain-v1 has no step 'erode'; its steps: median"),
        (("nothing",), "no cell is called 'nothing'"),
    ],
)
def test_wrong_words_get_an_answer(words: tuple[str, ...], answer: str, runs: Path) -> None:
    done = uadbench("evaluate", *words, cwd=runs)
    assert done.returncode == 2
    assert answer in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_evaluates_a_finished_cell_under_another_protocol(runs: Path) -> None:
    words = (
        "run",
        "-m",
        "mean_distance",
        "-d",
        "blobs",
        "--device",
        "cpu",
        "--references",
        "none",
        "--protocol",
        "image-v1",
    )
    done = uadbench(*words, cwd=runs)
    assert done.returncode == 0, done.stderr
    assert "already done; its maps were evaluated" in done.stderr
    assert "image-v1" in done.stdout
    assert "already done, nothing to do" in uadbench(*words, cwd=runs).stderr


def test_an_interrupted_evaluation_leaves_no_half_result(runs: Path) -> None:
    folder = CellFolder(Store(runs / "runs").folders()[0].path)
    place = folder.evaluations()[0]
    (folder.path / place / "metrics.json").unlink()
    assert folder.evaluations() == []
    assert uadbench("evaluate", str(folder.path), cwd=runs).returncode == 0
    assert folder.evaluations() == [place]


def test_protocols_are_listed_and_shown(tmp_path: Path) -> None:
    listed = uadbench("protocols", "list", cwd=tmp_path).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["brain-v1", "image-v1", "mddpm-paper", "mddpm-text"]
    shown = uadbench("protocols", "show", "mddpm-paper", cwd=tmp_path).stdout
    assert "erode 0" in shown
    assert "labels used: val" in shown
    assert "2x2x2 mm, 50x96x96 voxels" in shown
    assert json.loads(uadbench("protocols", "show", "brain-v1", "--json", cwd=tmp_path).stdout)["rank_by"] == "auprc"
    assert "Did you mean 'brain-v1'" in uadbench("protocols", "show", "brain", cwd=tmp_path).stderr


def test_two_methods_are_compared_by_subject(runs: Path) -> None:
    done = uadbench("compare", "mean_distance", "random", "--export", "pairs.csv", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert "difference in AUPRC" in done.stdout
    assert "Paired by subject" in done.stdout
    rows = pd.read_csv(runs / "pairs.csv").to_dict("records")
    assert len(rows) == 1
    (row,) = rows
    tables = {}
    for method in ("mean_distance", "random"):
        values: dict[str, list[float]] = {}
        for folder in Store(runs / "runs").folders():
            if folder.cell().method == method:
                table = pd.read_csv(folder.path / folder.evaluations()[0] / "subjects.csv")
                for line in table.to_dict("records"):
                    if line["role"] == "test_lesion":
                        values.setdefault(line["subject"], []).append(float(line["auprc"]))
        tables[method] = {k: np.mean(v) for k, v in values.items()}
    difference = np.mean([tables["mean_distance"][k] - tables["random"][k] for k in tables["random"]])
    assert float(row["difference"]) == pytest.approx(difference, abs=1e-9)
    assert float(row["ci_low"]) <= difference <= float(row["ci_high"])


def test_all_methods_are_ranked_with_a_picture(runs: Path) -> None:
    done = uadbench("compare", "--all", "--figure", "ranks.svg", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert (runs / "ranks.svg").read_text().startswith("<?xml")
    assert "probability of being best" in done.stdout
    assert "Friedman" in done.stdout
    answer = json.loads(uadbench("compare", "--all", "--json", cwd=runs).stdout)
    assert len(answer["pairs"]) == 6
    assert sum(r["probability_best"] for r in answer["ranks"]) == pytest.approx(1.0)


def test_metrics_of_all_subjects_have_an_interval_and_no_test(runs: Path) -> None:
    answer = json.loads(
        uadbench("compare", "mean_distance", "random", "--metric", "auprc_pooled", "--json", cwd=runs).stdout
    )
    (pair,) = answer["pairs"]
    assert pair["ci_low"] <= pair["difference"] <= pair["ci_high"]
    assert pair["p_permutation"] is None


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("mean_distanc", "random"), "Did you mean 'mean_distance'"),
        (("random",), "two are needed"),
        (("--metric", "auprcs"), "Did you mean 'auprc'"),
        (("--metric", "dice_val_best"), "brain-v1 has no dice_val_best"),
        (("--figure", "x.png"), "give --all as well"),
        (("--export", "x.txt"), "the ending must be .csv"),
    ],
)
def test_wrong_comparisons_get_an_answer(words: tuple[str, ...], answer: str, runs: Path) -> None:
    done = uadbench("compare", *words, cwd=runs)
    assert done.returncode == 2
    assert answer in done.stderr
    assert "Traceback" not in done.stderr
