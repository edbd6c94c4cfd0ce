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
    assert "Threshold: conformal(0.2), labels used: none" in done.stdout
    assert "it is infinite, and nothing is ever found" in done.stdout
    assert "Threshold: val_bisection, labels used: val" in done.stdout
    again = uadbench("evaluate", "--protocol", "brain-v1,image-v1,mddpm-paper", cwd=runs)
    assert again.stderr.count("is up to date") == 24
    board = uadbench("leaderboard", "--json", cwd=runs)
    rows = json.loads(board.stdout)
    assert {r["protocol"] for r in rows} == {"brain-v1", "image-v1", "mddpm-paper (prepared as brain-v1)"}
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


def test_what_could_not_be_evaluated_is_not_in_the_tables(runs: Path) -> None:
    zscore, *_ = broken = [f for f in Store(runs / "runs").folders() if f.cell().method == "voxel_zscore"]
    for folder in broken:
        shutil.rmtree(folder.path / "maps")
    done = uadbench("evaluate", "--force", cwd=runs)
    assert done.returncode == 1
    assert "warning: 2 result(s) under brain-v1 could not be evaluated and are left out" in done.stderr
    assert "mean_distance" in done.stdout
    assert "voxel_zscore" not in done.stdout
    assert (zscore.path / zscore.evaluation("brain-v1") / "metrics.json").is_file()


def test_data_that_changed_are_not_evaluated(runs: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parent / "plugins" / "blobs.py").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "blobs.py").write_text(text + "\nCHANGED = True\n")
    done = uadbench("evaluate", "--force", cwd=runs, UADBENCH_PLUGINS=str(tmp_path / "other"))
    assert done.returncode == 1
    assert "the data or their split are not those of the run" in done.stderr


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("--protocol", "brain-v2"), "no protocol is called 'brain-v2'. Did you mean 'brain-v1'"),
        (("--threshold", "healthy_fp:0.1"), "Did you mean 'healthy_fpr'"),
        (("--threshold", "conformal:a"), "'a' is no number"),
        (("--without", "erode"), "brain-v1 has no step 'erode'; its steps: median"),
        (("--hit", "iuo"), "Did you mean 'iou'"),
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
    assert pair["wins"] is None
    text = uadbench("compare", "mean_distance", "random", "--metric", "auprc_pooled", cwd=runs).stdout
    assert "95 % percentile interval of bootstrap draws" in text
    assert "BCa" not in text
    assert "0 / 0 / 0" not in text


def test_medians_are_compared_by_paired_draws(runs: Path) -> None:
    words = ("compare", "mean_distance", "random", "--metric", "auprc_median", "--json")
    (pair,) = json.loads(uadbench(*words, cwd=runs).stdout)["pairs"]
    rows = {r["method"]: r for r in json.loads(uadbench("leaderboard", "--json", cwd=runs).stdout)}
    difference = rows["mean_distance"]["auprc_median"] - rows["random"]["auprc_median"]
    assert pair["difference"] == pytest.approx(difference, abs=1e-6)
    assert pair["ci_low"] <= pair["difference"] <= pair["ci_high"]
    assert (pair["n"], pair["wins"], pair["p_wilcoxon"]) == (4, None, None)
    (part,) = json.loads(uadbench(*words, "--where", "lesion_kind=bright", cwd=runs).stdout)["pairs"]
    assert (part["n"], part["ci_low"]) == (2, None)  # Two subjects have no interval.


def test_rows_that_never_rank_are_left_out_unless_named(runs: Path) -> None:
    for folder in Store(runs / "runs").folders():
        if folder.cell().method == "mean_distance":
            folder.write_json("provenance.json", {**folder.read_json("provenance.json"), "unranked": "random weights"})
    done = uadbench("compare", "--all", "--json", cwd=runs)
    answer = json.loads(done.stdout)
    assert answer["never_ranked"] == {"mean_distance": "random weights"}
    assert "mean_distance" not in {r["method"] for r in answer["ranks"]}
    assert len(answer["pairs"]) == 3
    text = uadbench("compare", cwd=runs).stderr
    assert "warning: mean_distance never ranks and is left out: random weights" in text
    grid = runs / "grid.toml"
    choices = {"metric": ["auprc", "dice"], "aggregate": ["mean"], "resolution": ["native"], "postprocess": ["none"],
               "threshold": ["healthy_fpr:0.05"], "found_steps": ["none"], "hit": ["any"]}  # fmt: skip
    grid.write_text("".join(f"{name} = {json.dumps(words)}\n" for name, words in choices.items()))
    again = uadbench("multiverse", "--grid", str(grid), "--json", cwd=runs)
    assert "mean_distance never ranks and is left out" in again.stderr
    assert "mean_distance" not in {m["method"] for m in json.loads(again.stdout)["methods"]}
    named = uadbench("compare", "mean_distance", "random", cwd=runs)
    assert named.returncode == 0
    assert "warning: mean_distance never ranks: random weights" in named.stderr


def test_one_of_several_tables_is_chosen_by_its_title(runs: Path) -> None:
    assert uadbench("evaluate", "--without", "median", cwd=runs).returncode == 0
    assert "--board and a title" in uadbench("compare", cwd=runs).stderr
    for words, title in (("blobs, brain-v1", "blobs, brain-v1"), ("without", "blobs, brain-v1 (without median)")):
        assert json.loads(uadbench("compare", "--board", words, "--json", cwd=runs).stdout)["board"] == title
    assert "no table has 'erode' in its title" in uadbench("compare", "--board", "erode", cwd=runs).stderr
    shown = json.loads(uadbench("leaderboard", "--board", "without", "--json", cwd=runs).stdout)
    assert {r["protocol"] for r in shown} == {"brain-v1 (without median)"}
    assert "--board and a title" in uadbench("multiverse", cwd=runs).stderr
    assert "no table has 'erode'" in uadbench("multiverse", "--board", "erode", cwd=runs).stderr


def test_data_that_no_dataset_takes_are_a_typo(runs: Path) -> None:
    done = uadbench("evaluate", "--force", "-D", "rooot=/x", cwd=runs)
    assert done.returncode == 2
    assert "has a parameter 'rooot'" in done.stderr


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("mean_distanc", "random"), "Did you mean 'mean_distance'"),
        (("random",), "two are needed"),
        (("--metric", "auprcs"), "Did you mean 'auprc'"),
        (("--metric", "dice_val_best"), "brain-v1 has no dice_val_best"),
        (("--metric", "auprc_pooled", "--where", "lesion_kind=dark"), "so there is none of lesion_kind=dark"),
        (("--metric", "oracle_dice_subject"), "oracle_dice_subject peeks at the test labels"),
        (("--metric", "oracle_dice", "--all"), "oracle_dice peeks at the test labels"),
        (("--metric", "auprc_median", "--all"), "--all cannot rank by it"),
        (("--figure", "x.png"), "give --all as well"),
        (("--export", "x.txt"), "the ending must be .csv"),
        (("--export", "nowhere/x.csv"), "the folder nowhere does not exist; give another --export"),
        (("--all", "--figure", "nowhere/x.svg"), "the folder nowhere does not exist; give another --figure"),
    ],
)
def test_wrong_comparisons_get_an_answer(words: tuple[str, ...], answer: str, runs: Path) -> None:
    done = uadbench("compare", *words, cwd=runs)
    assert done.returncode == 2
    assert answer in done.stderr
    assert "Traceback" not in done.stderr
