"""What must not go wrong in long runs: resumed cells, changed splits, mixed sizes, several scans of a person."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_data
import numpy as np
import pandas as pd
import pytest
import typer
from conftest import PLUGINS

from uadbench.bank import Bank
from uadbench.cli.requests import share_data
from uadbench.errors import BadParameter, DataError, UsageError
from uadbench.evaluation import by_person
from uadbench.leaderboard import make_boards
from uadbench.phases import CellRun
from uadbench.plan import Plan, Request, make_plan
from uadbench.protocols import get_protocol
from uadbench.registry import Registry
from uadbench.replay import Replay
from uadbench.reporter import silent
from uadbench.rows import read_cells
from uadbench.runner import run_plan
from uadbench.store import CellFolder, Store

BRAIN = Path("evaluations/brain-v1")

PLUGIN_FILES = (PLUGINS / "blobs.py", PLUGINS / "mean_distance.py")
TINY = ["ae.steps=3", "ae.image_size=16", "ae.batch_size=4", "ae.width=4", "ae.max_width=8", "ae.latent=4"]


def plan_for(*methods: str, dataset: str = "blobs", **request: Any) -> Plan:
    return make_plan(Request(methods=methods, dataset=dataset, device="cpu", **request), Registry(PLUGIN_FILES))


def one(plan: Plan, out: Path) -> tuple[CellFolder, str, str]:
    _, folder, state, reason = run_plan(plan, Store(out), silent()).cells[0]
    assert folder is not None
    return folder, state, reason


def test_moving_a_subject_to_another_split_is_a_new_cell(tmp_path: Path) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    ids = []
    for text in (manifest.read_text(), manifest.read_text().replace("s1,train", "s1,val")):
        manifest.write_text(text)
        cell = plan_for("random", dataset="nifti", data=[f"root={manifest}"]).cells[0].cell
        assert cell is not None
        ids.append(cell.id)
    assert ids[0] != ids[1]


def mixed_sizes(root: Path) -> Path:
    manifest = fake_data.nifti_set(root)
    for i, shape in ((1, (26, 18, 5)), (4, (16, 30, 6))):
        data = fake_data.brain(i, shape)
        if i == 4:
            mask = np.zeros(shape, np.uint8)
            mask[6:9, 8:12, 2:4] = 1
            data[mask > 0] = 300
            fake_data.nifti(root / "s4_lesion.nii.gz", mask)
        fake_data.nifti(root / f"s{i}.nii.gz", data)
        if (old := root / f"s{i}_foreground.nii.gz").exists():
            fake_data.nifti(old, (data > 0).astype(np.uint8))
    return manifest


def test_volumes_of_different_sizes_train_one_network(tmp_path: Path) -> None:
    manifest = mixed_sizes(tmp_path / "data")
    plan = plan_for("ae", "mean_distance", dataset="nifti", data=[f"root={manifest}"], params=TINY)
    outcome = run_plan(plan, Store(tmp_path / "runs"), silent())
    assert [(s, r) for _, _, s, r in outcome.cells] == [("done", ""), ("done", "")]
    folder = outcome.cells[0][1]
    assert folder is not None
    assert (folder.path / "sheet.png").is_file()
    assert folder.read_map("s4")[0].shape == (6, 30, 16)


def test_volumes_that_are_said_to_be_registered_must_lie_on_one_grid(tmp_path: Path) -> None:
    manifest = mixed_sizes(tmp_path)
    plan = plan_for("random", dataset="nifti", data=[f"root={manifest}", "registered=true"])
    with pytest.raises(DataError, match="said to be registered"):
        Bank(plan.dataset, "nifti", get_protocol("brain-v1").preparation.intensity).check(plan.split)


def test_other_subjects_are_another_board_and_older_content_of_the_same_is_hidden(tmp_path: Path) -> None:
    def run(manifest: Path) -> None:
        one(plan_for("random", dataset="nifti", data=[f"root={manifest}"]), tmp_path / "runs")

    first, second = (fake_data.nifti_set(tmp_path / name) for name in ("first", "second"))
    run(first)
    for file in second.parent.glob("s4*"):
        file.rename(file.with_name(file.name.replace("s4", "t4")))
    second.write_text(second.read_text().replace("s4", "t4"))
    run(second)
    fake_data.nifti(first.parent / "s0.nii.gz", fake_data.brain(0) * 2)
    run(first)
    cells, _ = read_cells(Store(tmp_path / "runs").folders())
    assert len(cells) == 3
    boards = make_boards(cells)
    assert len(boards) == 2
    assert len({b.title for b in boards}) == 2
    assert len(make_boards(cells, every_variant=True)) == 3


def test_parameters_of_the_data_are_in_the_title_and_in_the_table(tmp_path: Path) -> None:
    for data in ([], ["level=50"]):
        one(plan_for("random", data=data), tmp_path)
    titles = [b.title for b in make_boards(read_cells(Store(tmp_path).folders())[0])]
    assert titles == ["blobs, brain-v1", "blobs (level=50.0), brain-v1"]


def test_references_and_single_methods_may_have_another_preset() -> None:
    plan = plan_for("mddpm", references=["random"], preset="official")
    assert [p.config["preset"] for p in plan.cells] == ["quick", "official"]
    plan = plan_for("ae", "mddpm", preset="paper,mddpm=official")
    assert [p.config["preset"] for p in plan.cells] == ["paper", "official"]
    with pytest.raises(UsageError, match="no preset of ae is called 'official'"):
        plan_for("ae", "mddpm", preset="official")
    with pytest.raises(UsageError, match="takes no part"):
        plan_for("ae", preset="mddpm=official")


def test_data_parameters_go_to_the_dataset_that_has_them() -> None:
    requests = [Request(["random"], name, data=["root=/x", "phantom.count=12"]) for name in ("phantom", "lgg")]
    shared = share_data(requests, Registry())
    assert [list(r.data) for r in shared] == [["count=12"], ["root=/x"]]
    with pytest.raises(BadParameter, match="no dataset here"):
        share_data([replace(requests[0], data=["rot=/x"])], Registry())


def test_scores_and_seconds_of_a_resumed_cell_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for("ae", params=TINY)
    whole, _, _ = one(plan, tmp_path / "whole")

    def killed(*given: object) -> None:
        raise SystemExit(9)

    monkeypatch.setattr("uadbench.phases.evaluate_cell", killed)
    with pytest.raises(SystemExit):
        one(plan, tmp_path / "parts")
    monkeypatch.undo()
    parts, state, _ = one(plan, tmp_path / "parts")
    assert state == "done"
    assert (parts.path / "scores.csv").read_bytes() == (whole.path / "scores.csv").read_bytes()
    assert parts.read_json("provenance.json")["fit"]["score_seconds_per_volume"] > 0
    # Dropout and batch statistics are off although nothing was scored in the second attempt.
    assert (parts.path / "sheet.png").read_bytes() == (whole.path / "sheet.png").read_bytes()


def test_damaged_weights_are_learned_again(tmp_path: Path) -> None:
    plan = plan_for("ae", params=TINY)
    folder, _, _ = one(plan, tmp_path)
    before = (folder.path / BRAIN / "subjects.csv").read_bytes()
    (folder.path / BRAIN / "metrics.json").unlink()
    (folder.checkpoint / "fitted.pt").write_bytes(b"")
    folder, state, reason = one(plan, tmp_path)
    assert (state, reason) == ("done", "")
    assert (folder.path / BRAIN / "subjects.csv").read_bytes() == before


def test_neither_a_log_nor_a_picture_that_cannot_be_written_stops_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for("random")

    def broken(self: CellRun, rows: Any) -> None:
        raise ValueError("no picture")

    monkeypatch.setattr(CellRun, "_draw", broken)
    folder = CellFolder(tmp_path / plan.cells[0].cell.place)  # type: ignore[union-attr]
    (folder.path / "log.txt").mkdir(parents=True)  # Nothing can be appended to it.
    assert one(plan, tmp_path)[1] == "done"


def test_an_unreadable_identity_stops_no_other_cell(tmp_path: Path) -> None:
    plan = plan_for("random", "mean_distance")
    run_plan(plan, Store(tmp_path), silent())
    broken = next(tmp_path.glob("blobs/random/*/cell.json"))
    broken.write_text("{")
    assert len(Store(tmp_path).find("nothing")) == 0
    assert run_plan(plan, Store(tmp_path), silent()).exit_code == 0
    assert "id" in json.loads(broken.read_text())


def test_people_count_once_however_often_they_were_scanned(tmp_path: Path) -> None:
    rows = [{"person": p, "auprc": v} for p, v in (("a", 0.2), ("b", 0.5), ("a", 0.4), ("c", float("nan")))]
    np.testing.assert_allclose(by_person(rows, "auprc"), [0.3, 0.5, np.nan])
    folder, _, _ = one(plan_for("random"), tmp_path)
    table = pd.read_csv(folder.path / BRAIN / "subjects.csv")
    lesion = table[table.role == "test_lesion"].index
    table.loc[lesion[:2], "person"] = "twice"
    table.to_csv(folder.path / BRAIN / "subjects.csv", index=False)
    value = make_boards(read_cells([folder])[0])[0].rows[0].values["auprc"]
    scans = table.loc[lesion, "auprc"].to_numpy()
    assert value.n == len(lesion) - 1
    assert value.value == pytest.approx(np.mean([scans[:2].mean(), *scans[2:]]))


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="file is a file, not a folder; give another --out"):
            Store(place).check_writable()
    Store(tmp_path / "new").check_writable()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UsageError, match="no file can be made in .*give another --out"):
        Store(Path("/proc/uadbench")).check_writable()


def test_what_another_process_works_on_is_left_to_it(tmp_path: Path) -> None:
    plan = plan_for("random")
    with CellFolder(tmp_path / plan.cells[0].cell.place).locked():  # type: ignore[union-attr]
        outcome = run_plan(plan, Store(tmp_path), silent())
    assert [state for _, _, state, _ in outcome.cells] == ["busy"]
    assert outcome.exit_code == 1
    assert run_plan(plan, Store(tmp_path), silent()).exit_code == 0


def test_nothing_that_can_run_is_no_success(tmp_path: Path) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    plan = plan_for("voxel_zscore", dataset="nifti", data=[f"root={manifest}"], references=["random"])
    outcome = run_plan(plan, Store(tmp_path / "runs"), silent())
    assert outcome.exit_code == 1
    assert "-D registered=true" in outcome.cells[1][3]
    assert "datasets prepare" not in outcome.cells[1][3]  # nifti is prepared by no recipe.


def test_the_same_image_under_two_names_is_refused(tmp_path: Path) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    text = manifest.read_text()
    again = next(line for line in text.splitlines() if line.startswith("s0,")).replace("s0,train", "t0,test_healthy")
    manifest.write_text(text.rstrip() + "\n" + again + "\n")
    with pytest.raises(DataError, match="'s0' and 't0' have the same image"):
        plan_for("random", dataset="nifti", data=[f"root={manifest}"])
    manifest.write_text(text.replace("image", "picture"))
    with pytest.raises(DataError, match="there is no image"):
        plan_for("random", dataset="nifti", data=[f"root={manifest}"])


def test_the_path_that_a_run_prints_is_found(tmp_path: Path) -> None:
    folder, _, _ = one(plan_for("random"), tmp_path)
    store = Store(tmp_path)
    for word in (str(folder.path), folder.path.name, f"random/{folder.path.name}", folder.cell().id[:8]):
        assert [f.path for f in store.find(word)] == [folder.path], word


def test_empty_masks_are_counted(tmp_path: Path) -> None:
    folder, _, _ = one(plan_for("random"), tmp_path)
    table = pd.read_csv(folder.path / BRAIN / "subjects.csv")
    table.loc[table[table.role == "test_lesion"].index[0], "auprc"] = np.nan
    table.to_csv(folder.path / BRAIN / "subjects.csv", index=False)
    assert any("1 lesion test subject(s)" in w for w in make_boards(read_cells([folder])[0])[0].warnings)


def test_a_damaged_file_is_said_once_by_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from uadbench.cli.data_check import check_data

    manifest = fake_data.nifti_set(tmp_path)
    image = tmp_path / "s0.nii.gz"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(typer.Exit) as end:
        check_data("nifti", root=manifest)
    assert end.value.exit_code == 3
    out = capsys.readouterr().out
    assert "E-DATA-203" in out
    assert out.count("s0.nii.gz") == 1


def test_stored_maps_outlive_a_rewritten_adapter_but_not_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    folder, _, _ = one(plan_for("random", dataset="nifti", data=[f"root={manifest}"]), tmp_path / "runs")
    image = get_protocol("image-v1")
    monkeypatch.setattr("uadbench.opening.source_hash", lambda cls, maps=True: "another code")
    assert Replay(Registry(PLUGIN_FILES)).one(folder, image, silent()).state == "evaluated"
    fake_data.nifti(tmp_path / "s4.nii.gz", fake_data.brain(9))
    done = Replay(Registry(PLUGIN_FILES), force=True).one(folder, image, silent())
    assert done.state == "failed"
    assert "not those of the run" in done.reason


def test_a_missing_map_is_made_again_by_the_run_command(tmp_path: Path) -> None:
    plan = plan_for("random")
    folder, _, _ = one(plan, tmp_path)
    before = folder.result(BRAIN)
    gone = next(folder.path.glob("maps/test_lesion*.npz"))
    gone.unlink()
    done = Replay(Registry(PLUGIN_FILES), force=True).one(folder, get_protocol("brain-v1"), silent())
    assert (done.state, folder.state) == ("failed", "interrupted")
    assert "give the run command again to make it" in done.reason
    folder, state, _ = one(plan, tmp_path)
    assert state == "done"
    assert gone.is_file()
    assert repr(folder.result(BRAIN)) == repr(before)


def test_a_cell_that_was_prepared_otherwise_is_evaluated_under_a_name_that_says_so(tmp_path: Path) -> None:
    folder, _, _ = one(plan_for("random"), tmp_path)
    done = Replay(Registry(PLUGIN_FILES)).one(folder, get_protocol("mddpm-paper"), silent())
    assert (done.state, done.protocol) == ("evaluated", "mddpm-paper (prepared as brain-v1)")
    assert folder.result(folder.evaluation(done.protocol)).protocol["preparation"] == dict(folder.cell().preparation)
    paper, _, _ = one(plan_for("random", protocol="mddpm-paper"), tmp_path)
    assert paper.path != folder.path
    titles = [b.title for b in make_boards(read_cells(Store(tmp_path).folders())[0])]
    assert len(titles) == len(set(titles)) == 3


def test_whole_images_are_judged_without_masks(tmp_path: Path) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    manifest.write_text(manifest.read_text().replace("s4_lesion.nii.gz", "").replace("s5_lesion.nii.gz", ""))
    data = [f"root={manifest}"]
    with pytest.raises(DataError, match="judge whole images: --protocol image-v1"):
        one(plan_for("random", dataset="nifti", data=data), tmp_path / "runs")
    folder, state, reason = one(plan_for("random", dataset="nifti", data=data, protocol="image-v1"), tmp_path / "runs")
    assert (state, reason) == ("done", "")
    result = folder.result(folder.evaluation("image-v1"))
    assert np.isfinite(result.metrics["subject_auroc"].value)
    assert np.isnan(result.metrics["slice_auroc"].value)
    assert (folder.path / "sheet.png").is_file()
