from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PLUGINS

from uadbench.errors import UsageError
from uadbench.export import COLUMNS, LONG_COLUMNS, export, long, wide
from uadbench.groups import CODES, group_word, measured
from uadbench.leaderboard import Board, make_boards
from uadbench.metrics.bootstrap import interval, mean_draws
from uadbench.metrics.table import METRICS
from uadbench.plan import Request, make_plan
from uadbench.registry import Registry
from uadbench.reporter import silent
from uadbench.rows import group_values, read_cells
from uadbench.runner import run_plan
from uadbench.statistics.intervals import IntervalMethod
from uadbench.store import CellFolder, Store

BRAIN = Path("evaluations/brain-v1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two methods x two seeds, one variant, one random-weight method, one seed too few."""
    root = tmp_path_factory.mktemp("store")
    registry = Registry([PLUGINS / "blobs.py", PLUGINS / "mean_distance.py"])
    for request in (
        Request(["random", "mean_distance"], "blobs", seeds=(0, 1), device="cpu"),
        Request(["intensity"], "blobs", seeds=(0,), device="cpu"),
        Request(["intensity"], "blobs", seeds=(0, 1), params=["mode=median"], device="cpu"),
        Request(["feature_knn"], "blobs", seeds=(0, 1), device="cpu",
                params=["weights=none", "backbone=resnet10t", "stages=1", "memory=50"]),
    ):  # fmt: skip
        assert run_plan(make_plan(request, registry), Store(root), silent()).exit_code == 0
    return root


def board_of(root: Path, where: str = "") -> Board:
    cells, problems = read_cells(Store(root).folders())
    assert problems == []
    boards = make_boards(cells, where=where)
    assert len(boards) == 1
    return boards[0]


def test_few_healthy_people_behind_a_threshold_are_told_in_every_table(made: Path) -> None:
    cells, _ = read_cells(Store(made).folders())
    for number, told in ((2, True), (4, True), (5, False)):
        for cell in cells:
            cell.provenance.setdefault("fit", {})["val_subjects"] = number
        words = f"thresholds come from {number} healthy validation subject(s); fewer than 5 say little"
        assert (words in make_boards(cells)[0].warnings) == told


def test_complete_rows_are_ranked_and_others_say_why_not(made: Path) -> None:
    board = board_of(made)
    ranks = {row.method: row.rank for row in board.rows}
    assert ranks["intensity [mode=median]"] is not None
    assert ranks["intensity [mode=raw]"] is None
    assert ranks["feature_knn"] is None
    notes = {row.method: row.note for row in board.rows}
    assert notes["intensity [mode=raw]"] == "1 of 2 seeds or folds missing"
    assert notes["feature_knn"] == "random weights"
    ranked = [row for row in board.rows if row.rank]
    assert [row.rank for row in ranked] == [1, 2, 3]
    values = [row.values["auprc"].value for row in ranked]
    assert values == sorted(values, reverse=True)
    assert ranked[-1].name == "random"


def test_a_row_is_the_mean_over_seeds_with_an_interval_over_subjects(made: Path) -> None:
    row = next(r for r in board_of(made).rows if r.name == "random")
    tables = [c.subjects for c in row.cells]
    assert all(t is not None for t in tables)
    by_seed = [t[t["role"] == "test_lesion"].set_index("subject")["auprc"] for t in tables if t is not None]
    per_subject = pd.concat(by_seed, axis=1).mean(axis=1).to_numpy()
    assert row.values["auprc"].value == pytest.approx(per_subject.mean())
    low, high = interval(mean_draws(per_subject, 2000, 2023), 0.95)
    assert (row.values["auprc"].ci_low, row.values["auprc"].ci_high) == pytest.approx((low, high))
    assert row.values["auprc"].n == 4
    assert row.values["healthy_fp_ml"].n == 2
    assert row.seed_std["auprc"] == pytest.approx(np.std([t.mean() for t in by_seed], ddof=1))
    pooled = [c.result.metrics["auprc_pooled"].value for c in row.cells if c.result]
    assert row.values["auprc_pooled"].value == pytest.approx(np.mean(pooled))
    assert row.values["auprc_pooled"].ci_low < row.values["auprc_pooled"].ci_high


def test_people_with_words_for_names_that_mean_nothing_elsewhere_count(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "store")
    for folder in Store(tmp_path / "store").folders():
        table = folder.path / BRAIN / "subjects.csv"
        names = pd.read_csv(table)["person"].unique()
        text = table.read_text()
        for name, word in zip(names, ("NA", "null", "None", "nan", "n/a"), strict=False):
            text = text.replace(f",{name},", f",{word},").replace(f"\n{name},", f"\n{word},")
        table.write_text(text)
    rows = board_of(tmp_path / "store").rows
    for row, before in zip(rows, board_of(made).rows, strict=True):
        for name in ("auprc", "healthy_fp_ml"):
            assert str(row.values[name]) == str(before.values[name])  # NaN equals itself as a word only.


def test_a_cell_without_a_whole_evaluation_is_named(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "store")
    folder = next(iter(Store(tmp_path / "store").folders()))
    (folder.path / BRAIN / "metrics.json").unlink()
    cells, problems = read_cells(Store(tmp_path / "store").folders())
    assert len(problems) == 1
    assert "has maps but no whole evaluation; give: uadbench evaluate" in problems[0]
    assert folder.path not in {c.folder.path for c in cells}


def test_the_state_of_a_process_that_was_killed_is_not_running(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "store")
    folder = next(iter(Store(tmp_path / "store").folders()))
    folder.set_status("running")
    cells, _ = read_cells([folder])
    assert [c.state for c in cells] == [folder.state] == ["interrupted"]


def test_codes_of_sites_are_groups_and_ages_are_not(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "store")
    groups = {
        "site": ("1.0", "2.0"), "scanner": ("1234567.0", "1234568.0"), "code": ("001", "1"), "sure": ("True", "False"),
    }  # fmt: skip
    for folder in Store(tmp_path / "store").folders():
        table = pd.read_csv(folder.path / BRAIN / "subjects.csv")
        bright = table["group:lesion_kind"] == "bright"
        for name, (first, second) in groups.items():
            table[f"group:{name}"] = np.where(bright, first, np.where(table["role"] == "val", "NA", second))
        table["group:age"] = 40.5 + np.arange(len(table))
        table.to_csv(folder.path / BRAIN / "subjects.csv", index=False)
    cells, _ = read_cells(Store(tmp_path / "store").folders())
    found = group_values(cells)
    words = {"site": ["1", "2"], "scanner": ["1234567", "1234568"], "code": ["001", "1"], "sure": ["True", "False"]}
    assert {name: found[name] for name in words} == words
    assert "age" not in found
    by_kind = board_of(made, "lesion_kind=bright")
    for name, (first, _) in words.items():
        board = board_of(tmp_path / "store", f"{name}={first}")
        assert [str(r.values["auprc"]) for r in board.rows] == [str(r.values["auprc"]) for r in by_kind.rows]
        # The multiverse, which asks the subjects and not the table, calls them the same.
        assert group_word({"site": 1.0, "scanner": 1234567.0, "code": "001", "sure": "True"}[name]) == first


def test_more_numbers_than_codes_are_a_measure() -> None:
    assert not measured(map(str, range(CODES)))
    assert measured(map(str, range(CODES + 1)))
    assert measured(["61.5", "1"])
    assert not measured(["61.5", "iso"])
    assert not measured([f"{n:03}" for n in range(100)])


def test_few_subjects_and_unequal_budgets_are_told(made: Path) -> None:
    assert any("n = 4 lesion subjects is too small" in w for w in board_of(made).warnings)


def test_groups_are_tables_of_their_own(made: Path) -> None:
    cells, _ = read_cells(Store(made).folders())
    assert group_values(cells)["lesion_kind"] == ["bright", "dark"]
    all_, bright, dark = board_of(made), board_of(made, "lesion_kind=bright"), board_of(made, "lesion_kind=dark")

    def value(board: Board, name: str) -> float:
        return next(r for r in board.rows if r.method == name).values["auprc"].value

    raw = "intensity [mode=raw]"
    assert value(bright, raw) > 0.6 > 0.2 > value(dark, raw)
    assert (value(bright, raw) + value(dark, raw)) / 2 == pytest.approx(value(all_, raw))
    row = next(r for r in dark.rows if r.method == raw)
    assert row.values["auprc"].n == 2
    assert np.isnan(row.values["auprc_pooled"].value)


def test_the_csv_has_the_documented_columns_in_order_and_plain_numbers(made: Path, tmp_path: Path) -> None:
    board = board_of(made)
    export([board], tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv")
    expected: list[str] = []
    for name in COLUMNS:
        if name == "<metric>":
            for metric in board.metrics:
                expected += [metric.name, *(f"{metric.name}_{end}" for end in ("ci_low", "ci_high", "seed_std"))]
        elif not name.startswith("<metric>"):
            expected.append(name)
    assert list(table.columns) == expected
    assert len(table) == 5
    numbers = [c for c in table if c in METRICS or c.endswith(("_ci_low", "_ci_high", "_seed_std"))]
    assert all(pd.api.types.is_numeric_dtype(table[c]) for c in numbers)
    assert table["method"].is_unique
    assert set(json.loads(table["method_params"][0])) >= {"image_size"}
    assert table.loc[table["method"] == "random", "auprc"].item() == pytest.approx(
        next(r for r in board.rows if r.name == "random").values["auprc"].value, abs=1e-15
    )
    export([board_of(made)], tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert b"\xc2\xb1" not in (tmp_path / "a.csv").read_bytes()  # no plus-minus signs in cells


def test_the_long_table_has_one_row_a_metric(made: Path, tmp_path: Path) -> None:
    board = board_of(made)
    table = long([board])
    assert list(table.columns) == list(LONG_COLUMNS)
    assert len(table) == 5 * len(board.metrics)
    assert set(table.loc[table["oracle"], "metric"]) == {"oracle_dice", "oracle_dice_shared", "oracle_dice_subject"}
    for ending in (".csv", ".md", ".html", ".json", ".tex"):
        export([board], tmp_path / f"long{ending}", as_long=True)
        assert (tmp_path / f"long{ending}").stat().st_size > 500


@pytest.mark.parametrize("ending", [".md", ".html", ".tex"])
def test_tables_for_readers_say_that_oracles_peek(made: Path, tmp_path: Path, ending: str) -> None:
    board = board_of(made)
    export([board], tmp_path / f"a{ending}")
    words = "Oracle values peek at the test labels and never rank; oracle Dice: each subject at its own best threshold."
    assert words in (tmp_path / f"a{ending}").read_text()
    board.metrics = [m for m in board.metrics if not m.oracle]
    export([board], tmp_path / f"b{ending}")
    assert "Oracle" not in (tmp_path / f"b{ending}").read_text()


def test_a_table_in_tex_fits_on_a_page(made: Path, tmp_path: Path) -> None:
    board = board_of(made)
    board.rank_by = METRICS["dice"]
    export([board], tmp_path / "a.tex")
    lines = (tmp_path / "a.tex").read_text().splitlines()
    assert r"\begin{tabular}{rlrrrrrrr}" in lines
    assert r"rank & method & Dice & AUPRC & oracle Dice & AUROC & lesion F1 & healthy FP ml & n \\" in lines
    row = next(line for line in lines if "mean\\_distance" in line)
    assert [("[" in cell) for cell in row.split(" & ")] == [False, False, True, *[False] * 6]
    assert any(line.startswith(r"\caption") and "The CSV holds all metrics." in line for line in lines)


@pytest.mark.parametrize("ending", [".md", ".html", ".json", ".tex"])
def test_other_formats_hold_the_same_rows(made: Path, tmp_path: Path, ending: str) -> None:
    board = board_of(made)
    export([board], tmp_path / f"a{ending}")
    text = (tmp_path / f"a{ending}").read_text()
    for row in board.rows:
        name = row.method.replace("_", r"\_") if ending == ".tex" else row.method
        assert name in text
    if ending == ".json":
        assert len(json.loads(text)["rows"]) == 5
    else:
        assert "too small" in text
        assert ("tests only" in text) == (ending != ".json")


def test_an_unknown_format_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a.xlsx: the ending must be \.csv or \.md"):
        export([board_of(made)], tmp_path / "a.xlsx")


def test_html_escapes_and_tex_compiles_as_text(made: Path, tmp_path: Path) -> None:
    board = board_of(made)
    board.rows[0].note = "a < b & c_d 100 %"
    export([board], tmp_path / "a.html")
    assert "a &lt; b &amp; c_d" in (tmp_path / "a.html").read_text()
    export([board], tmp_path / "a.tex")
    assert r"c\_d 100 \%" in (tmp_path / "a.tex").read_text()


def test_damaged_cells_are_named_and_left_out(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    broken = Store(tmp_path / "copy").folders()[0]
    (broken.path / BRAIN / "metrics.json").write_text("{")
    cells, problems = read_cells(Store(tmp_path / "copy").folders())
    assert len(problems) == 1
    assert broken.path.name in problems[0]
    assert len(cells) == len(Store(made).folders()) - 1


def test_older_code_is_left_out_unless_asked_for(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    folder = next(f for f in Store(tmp_path / "copy").folders() if f.cell().method == "random" and f.cell().seed == 0)
    newer = folder.path.with_name("seed0-fold0-ffffffff")
    shutil.copytree(folder.path, newer)
    data = json.loads((newer / "cell.json").read_text())
    (newer / "cell.json").write_text(json.dumps({**data, "source": "edited"}))
    status = json.loads((newer / "status.json").read_text())
    (newer / "status.json").write_text(json.dumps({**status, "changed": "2999-01-01T00:00:00+00:00"}))
    cells, _ = read_cells(Store(tmp_path / "copy").folders())
    rows = [r for r in make_boards(cells)[0].rows if r.name == "random"]
    assert [r.done for r in rows] == [1]
    rows = [r for r in make_boards(cells, every_variant=True)[0].rows if r.name == "random"]
    assert sorted(r.method for r in rows) == sorted(
        f"random [code {source[:6]}]" for source in ("edited", data["source"])
    )


def test_other_protocols_and_other_data_are_never_averaged_in(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    for i, change in enumerate(({"preparation": {}}, {"dataset_params": {"level": 3.0}}, {})):
        folder = next(f for f in Store(made).folders() if f.cell().method == "random")
        other = tmp_path / "copy" / "blobs" / "random" / f"seed0-fold0-0000000{i}"
        shutil.copytree(folder.path, other)
        data = json.loads((other / "cell.json").read_text())
        (other / "cell.json").write_text(json.dumps({**data, **change}))
        if not change:
            numbers = json.loads((other / BRAIN / "metrics.json").read_text())
            numbers["protocol"]["name"] = "brain-v2"
            (other / BRAIN / "metrics.json").write_text(json.dumps(numbers))
    cells, _ = read_cells(Store(tmp_path / "copy").folders())
    boards = make_boards(cells)
    assert len(boards) == 4
    assert sum(len(b.rows) for b in boards) == 5 + 1 + 1 + 1
    assert len(wide(boards)["data_id"].unique()) == 4


def edit(folder: CellFolder, protocol: dict[str, object] | None = None, **changes: object) -> None:
    """Change the stored result, or what its protocol says."""
    name = str(BRAIN / "metrics.json")
    data = folder.read_json(name)
    data["protocol"] |= protocol or {}
    folder.write_json(name, data | changes)


def of_method(root: Path, name: str) -> list[CellFolder]:
    return [f for f in Store(root).folders() if f.cell().method == name]


def test_results_of_an_older_protocol_are_left_out_with_a_word(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    assert not any("evaluate" in w for w in board_of(made).warnings)
    for folder in of_method(tmp_path / "copy", "random"):
        edit(folder, protocol={"few": 3})
        os.utime(
            folder.path / BRAIN / "metrics.json", (4e9, 4e9)
        )  # The present protocol wins, whatever the clock says.
    board = board_of(tmp_path / "copy")
    assert "random" not in {r.name for r in board.rows}
    assert len(board.rows) == 4
    wanted = "2 result(s) were evaluated under an older brain-v1 and are left out; give: uadbench evaluate"
    assert wanted in board.warnings
    both = make_boards(read_cells(Store(tmp_path / "copy").folders())[0], every_variant=True)
    assert sorted(len(b.rows) for b in both) == [1, 4]
    assert len({b.title for b in both}) == 2
    assert not any("left out" in w for b in both for w in b.warnings)


def test_of_two_older_protocols_the_latest_evaluation_is_shown(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    for folder in Store(tmp_path / "copy").folders():
        newer = folder.cell().method == "random"
        edit(folder, protocol={"few": 3 if newer else 4})
        os.utime(folder.path / BRAIN / "metrics.json", (2e9 + newer, 2e9 + newer))
    board = board_of(tmp_path / "copy")
    assert [r.name for r in board.rows] == ["random"]
    assert any(w.startswith("7 result(s) were evaluated under an older brain-v1") for w in board.warnings)
    assert any(w.startswith("all results were evaluated under an older brain-v1") for w in board.warnings)


def test_what_failed_stays_in_the_table_when_the_protocol_changed(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    for folder in of_method(tmp_path / "copy", "random"):
        config = folder.read_json("config.json")
        folder.write_json("config.json", {**config, "protocol": {**config["protocol"], "few": 3}})
        folder.set_status("failed", reason="no memory")
    board = board_of(tmp_path / "copy")
    assert next(r.note for r in board.rows if r.name == "random") == "failed: no memory"
    assert not any("older" in w for w in board.warnings)


def test_older_evaluation_code_is_told(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    folders = Store(tmp_path / "copy").folders()
    edit(folders[0], code="0")
    assert (
        "not all results were evaluated by the same code; give: uadbench evaluate"
        in board_of(tmp_path / "copy").warnings
    )
    for folder in folders:
        edit(folder, code="0")
    assert "all results were evaluated by older code; give: uadbench evaluate" in board_of(tmp_path / "copy").warnings


def test_boards_of_other_preparations_have_other_titles(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    for number, name in enumerate(("mddpm-paper", "image-v1", "image-v1")):
        other = tmp_path / "copy" / "blobs" / "random" / f"seed0-fold0-0000000{number}"
        shutil.copytree(of_method(made, "random")[0].path, other)
        folder = CellFolder(other)
        folder.write_json("cell.json", {**folder.read_json("cell.json"), "preparation": {"other": number}})
        config = folder.read_json("config.json")
        folder.write_json("config.json", {**config, "protocol": {**config["protocol"], "name": name}})
    titles = [b.title for b in make_boards(read_cells(Store(tmp_path / "copy").folders())[0])]
    assert len(set(titles)) == 4
    assert {"blobs (prepared as brain-v1), brain-v1", "blobs (prepared as mddpm-paper), brain-v1"} < set(titles)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_folds_with_other_people_have_no_interval_of_pooled_metrics(
    made: Path, tmp_path: Path, method: IntervalMethod
) -> None:
    shutil.copytree(made, tmp_path / "copy")
    for folder in of_method(tmp_path / "copy", "random"):
        twin = folder.path.with_name(folder.path.name.replace("fold0", "fold1"))
        shutil.copytree(folder.path, twin)
        other = CellFolder(twin)
        other.write_json("cell.json", {**other.read_json("cell.json"), "fold": 1})
        table = pd.read_csv(twin / BRAIN / "subjects.csv")
        table["person"] = "other " + table["person"]
        table.to_csv(twin / BRAIN / "subjects.csv", index=False)
        arrays = other.read_arrays(str(BRAIN / "bootstrap.npz"))
        cut = {k: v[1:] if k.endswith("/without") else v for k, v in arrays.items()}
        other.write_arrays(str(BRAIN / "bootstrap.npz"), cut)
    (board,) = make_boards(read_cells(Store(tmp_path / "copy").folders())[0], interval=method)
    row = next(r for r in board.rows if r.name == "random")
    alone = next(r for r in board_of(made).rows if r.name == "random")
    pooled = row.values["auprc_pooled"]
    assert pooled.value == pytest.approx(alone.values["auprc_pooled"].value)
    assert (pooled.n, alone.values["auprc_pooled"].n) == (8, 4)
    assert np.isnan([pooled.ci_low, pooled.ci_high]).all()
    assert row.values["auprc"].n == 8
    assert np.isfinite(row.values["auprc"].ci_low)


def test_draws_that_are_damaged_leave_out_their_cell_alone(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    draws = of_method(tmp_path / "copy", "random")[0].path / BRAIN / "bootstrap.npz"
    draws.write_bytes(draws.read_bytes()[:100])
    cells, problems = read_cells(Store(tmp_path / "copy").folders())
    assert problems == [f"{draws} is missing or damaged; give: uadbench evaluate --force"]
    (board,) = make_boards(cells)
    assert next(r.note for r in board.rows if r.name == "random") == "1 of 2 seeds or folds missing"


def test_budgets_that_differ_stand_beside_their_rows(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    for name, steps in (("random", 10), ("mean_distance", 2000)):
        for folder in of_method(tmp_path / "copy", name):
            facts = folder.read_json("provenance.json")
            fit = {**facts["fit"], "steps": steps, "images_seen": 8 * steps}
            folder.write_json("provenance.json", {**facts, "fit": fit})
    board = board_of(tmp_path / "copy")
    assert "the training budgets differ: 10 steps, 80 images; 2,000 steps, 16,000 images" in board.warnings
    notes = {r.name: r.note for r in board.rows if r.rank}
    assert notes == {"random": "10 steps, 80 images", "mean_distance": "2,000 steps, 16,000 images", "intensity": ""}


def test_ties_share_a_rank(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    for folder in Store(tmp_path / "copy").folders():
        if folder.cell().method == "random":
            twin = folder.path.with_name(folder.path.name[:-8] + f"0000000{folder.cell().seed}")
            shutil.copytree(folder.path, twin)
            data = json.loads((twin / "cell.json").read_text())
            (twin / "cell.json").write_text(json.dumps({**data, "params": {"image_size": 99}}))
    ranks = sorted(r.rank for r in board_of(tmp_path / "copy").rows if r.rank)
    assert ranks == [1, 2, 3, 3]


def test_html_is_drawn_by_a_browser(made: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here")
    export([board_of(made)], tmp_path / "a.html")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         f"--user-data-dir={tmp_path / 'u'}", f"--screenshot={tmp_path / 'a.png'}", (tmp_path / "a.html").as_uri()],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_bca_intervals_are_those_of_scipy_for_means_and_there_for_pooled_metrics(made: Path) -> None:
    cells, _ = read_cells(Store(made).folders())
    (plain,), (better,) = make_boards(cells), make_boards(cells, interval="bca")
    for a, b in zip(plain.rows, better.rows, strict=True):
        assert a.values["auprc"].value == b.values["auprc"].value
        assert b.values["auprc"].ci_low <= b.values["auprc"].value <= b.values["auprc"].ci_high
    done = [r for r in better.rows if r.done and r.name == "random"]
    assert np.isfinite(done[0].values["auprc_pooled"].ci_low)
    assert (
        done[0].values["auprc_pooled"].ci_low
        != next(r for r in plain.rows if r.method == done[0].method).values["auprc_pooled"].ci_low
    )
