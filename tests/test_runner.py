"""Whole cells through the Python interface, on small data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import PLUGINS
from sklearn.metrics import average_precision_score, f1_score
from typer.testing import CliRunner

from uadbench.dataset import Dataset, Subject, Volume
from uadbench.errors import BadParameter, DataError, UADBenchError, UnknownName
from uadbench.method import Batch
from uadbench.plan import Plan, Request, make_plan
from uadbench.postprocess import postprocess
from uadbench.registry import Registry
from uadbench.reporter import Stop, silent
from uadbench.runner import Outcome, run_plan
from uadbench.store import CellFolder, Store

BLOBS, MEAN = PLUGINS / "blobs.py", PLUGINS / "mean_distance.py"

BRAIN = Path("evaluations/brain-v1")


def plan_for(*methods: str, plugins: tuple[Path, ...] = (BLOBS, MEAN), **request: Any) -> Plan:
    return make_plan(Request(methods=methods, dataset="blobs", device="cpu", **request), Registry(plugins))


def run(plan: Plan, out: Path, **more: Any) -> Outcome:
    return run_plan(plan, Store(out), silent(), **more)


def folders(outcome: Outcome) -> list[CellFolder]:
    return [folder for _, folder, _, _ in outcome.cells if folder]


def states(outcome: Outcome) -> list[str]:
    return [state for _, _, state, _ in outcome.cells]


def test_a_cell_holds_everything_it_should(tmp_path: Path) -> None:
    outcome = run(plan_for("mean_distance"), tmp_path)
    assert states(outcome) == ["done"]
    assert outcome.exit_code == 0
    folder = folders(outcome)[0]
    names = {str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file()}
    assert names >= {
        "cell.json", "status.json", "config.json", "provenance.json", "scores.csv", "sheet.png",
        "checkpoint/fitted.pt", "maps/test_lesion0.npz", "maps/val0.npz",
        *(f"{BRAIN}/{name}" for name in ("metrics.json", "subjects.csv", "lesions.csv", "bootstrap.npz")),
    }  # fmt: skip
    assert not any(name.endswith(".part") or name == "lock" for name in names)
    provenance = folder.read_json("provenance.json")
    assert provenance["seconds"].keys() == {"fit", "score", "evaluate", "sheet"}
    assert provenance["peak_memory_mib"] > 50
    assert provenance["versions"]["torch"]
    subjects = pd.read_csv(folder.path / BRAIN / "subjects.csv")
    assert sorted(subjects["role"].value_counts().items()) == [("test_healthy", 2), ("test_lesion", 4), ("val", 3)]
    scores = pd.read_csv(folder.path / "scores.csv")
    assert set(scores["role"]) == {"val", "val_lesion", "test_healthy", "test_lesion"}
    assert len(scores) == 3 * 10


def test_the_numbers_are_those_of_scikit_learn_on_the_stored_maps(tmp_path: Path) -> None:
    plan = plan_for("mean_distance")
    folder = folders(run(plan, tmp_path))[0]
    scores, lesions, healthy = {}, {}, []
    for role, subject in plan.split.items():
        if role in ("val", "test_lesion"):
            volume = plan.dataset.load(subject)
            assert volume.foreground is not None
            assert volume.lesion is not None
            filtered = postprocess(folder.read_map(subject.key)[0], volume.foreground, plan.protocol.postprocess)[0]
            values = filtered[volume.foreground]
            if role == "val":
                healthy.append(values)
            else:
                scores[subject.key], lesions[subject.key] = values, volume.lesion[volume.foreground]
    pooled = np.sort(np.concatenate(healthy))
    threshold = pooled[len(pooled) - 1 - int(0.05 * len(pooled))]
    result = folder.result(BRAIN)
    assert result.threshold == threshold
    assert result.labels_used == "none"
    keys = list(scores)
    expected = {
        "auprc": np.mean([average_precision_score(lesions[k], scores[k]) for k in keys]),
        "dice": np.mean([f1_score(lesions[k], scores[k] > threshold) for k in keys]),
        "auprc_pooled": average_precision_score(
            np.concatenate([lesions[k] for k in keys]), np.concatenate([scores[k] for k in keys])
        ),
    }
    for name, value in expected.items():
        assert result.metrics[name].value == pytest.approx(value, abs=1e-9), name
        assert result.metrics[name].ci_low <= value <= result.metrics[name].ci_high
    assert list(result.metrics) == list(plan.protocol.metrics)
    assert result.metrics["healthy_fp_ml"].n == 2
    everything = np.concatenate([lesions[k] for k in keys])
    assert result.prevalence == pytest.approx(everything.mean())


def test_finished_cells_are_kept_and_cost_nothing(tmp_path: Path) -> None:
    plan = plan_for("mean_distance", "random", seeds=(0, 1))
    first = run(plan, tmp_path)
    assert states(first) == ["done"] * 4
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    second = run(plan_for("random", "mean_distance", seeds=(1, 0)), tmp_path)
    assert states(second) == ["kept"] * 4
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_editing_a_line_a_parameter_or_the_data_is_a_new_cell_and_a_comment_is_not(tmp_path: Path) -> None:
    plugin = tmp_path / "mine" / "mean_distance.py"
    plugin.parent.mkdir()
    ids = []
    for text in (
        MEAN.read_text(),
        MEAN.read_text() + "\n# a remark\n",
        MEAN.read_text().replace("abs()", "abs().sqrt()"),
    ):
        plugin.write_text(text)
        import sys

        for name in [n for n in sys.modules if n.startswith("uadbench_plugin_mean_distance")]:
            del sys.modules[name]
        cell = plan_for("mean_distance", plugins=(BLOBS, plugin)).cells[0].cell
        assert cell is not None
        ids.append(cell.id)
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]
    base = plan_for("mean_distance").cells[0].cell
    assert base is not None
    for request in ({"params": ["factor=2"]}, {"data": ["level=50"]}, {"seeds": (1,)}):
        other = plan_for("mean_distance", **request).cells[0].cell
        assert other is not None
        assert other.id != base.id, request
    assert replace(base, preparation={**base.preparation, "train_foreground": 0.5}).id != base.id


FAILS = '''"""Fails: in the way it is told."""
from dataclasses import dataclass
import torch
from uadbench import Method


@dataclass
class Fails(Method):
    how: str = "raise"
    def fit(self, healthy, *, val, run):
        if self.how == "raise":
            raise RuntimeError("told to fail")
        self.fitted_ = True
        if self.how == "other":
            return Fails()
        if self.how == "change":
            self.how = "changed"
        return self
    def score(self, batch):
        out = batch.image.mean(dim=1) * 0
        return out + float("nan") if self.how == "nan" else out
'''


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "RuntimeError: told to fail"),
        ("other", "must return self"),
        ("change", "changed its hyper-parameters how"),
        ("nan", "are NaN or infinite"),
        ("constant", "a constant map ranks nothing"),
    ],
)
def test_a_failed_cell_is_a_row_with_its_reason_and_the_others_go_on(tmp_path: Path, how: str, reason: str) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    plan = plan_for("fails", "mean_distance", plugins=(BLOBS, MEAN, tmp_path / "fails.py"), params=[f"fails.how={how}"])
    outcome = run(plan, tmp_path / "runs")
    assert states(outcome) == ["failed", "done"]
    assert outcome.exit_code == 1
    assert reason in outcome.cells[0][3]
    folder = folders(outcome)[0]
    assert folder.status()["state"] == "failed"
    assert reason in folder.status()["reason"]
    assert "Traceback" in (folder.path / "log.txt").read_text()
    if how in ("nan", "constant"):
        assert folder.status()["error"] == "degenerate_scores"
    # A failed cell is tried again.
    assert states(run(plan, tmp_path / "runs")) == ["failed", "kept"]


def test_a_plugin_that_cannot_be_imported_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("import not_there\n" + FAILS)
    plan = plan_for("fails", "mean_distance", plugins=(BLOBS, MEAN, tmp_path / "fails.py"))
    outcome = run(plan, tmp_path / "runs")
    assert states(outcome) == ["failed", "done"]
    assert "not_there" in outcome.cells[0][3]


def test_weights_that_are_missing_fail_before_anything_runs(tmp_path: Path) -> None:
    plan = plan_for("feature_knn", params=["weights=/nowhere.pth"])
    assert "no such file" in str(plan.cells[0].failure)
    assert states(run(plan, tmp_path)) == ["failed"]


def test_random_weights_are_marked(tmp_path: Path) -> None:
    plan = plan_for("feature_knn", params=["weights=none", "backbone=resnet10t", "stages=1", "memory=50"])
    assert plan.cells[0].unranked == "random weights"
    folder = folders(run(plan, tmp_path))[0]
    assert folder.read_json("provenance.json")["unranked"] == "random weights"


class Unregistered(Dataset):
    pass


def test_what_does_not_go_together_is_skipped_with_a_reason(tmp_path: Path) -> None:
    text = BLOBS.read_text().replace('frozenset({"foreground", "registered"})', 'frozenset({"foreground"})')
    (tmp_path / "blobs.py").write_text(text)
    plan = plan_for("voxel_zscore", "mean_distance", plugins=(tmp_path / "blobs.py", MEAN))
    outcome = run(plan, tmp_path / "runs")
    assert states(outcome) == ["skipped", "done"]
    assert outcome.exit_code == 0
    assert "needs volumes registered to one template" in outcome.cells[0][3]


class Guarded(Volume):
    """A volume whose labels raise when they are touched while they are locked."""

    locked = False

    def __getattribute__(self, name: str) -> Any:
        if name == "lesion" and Guarded.locked:
            raise AssertionError("a label was touched")
        return super().__getattribute__(name)

    def without_labels(self) -> Volume:
        return Volume(**{**vars(self), "lesion": None, "ignore": None})


@pytest.mark.usefixtures("fresh_cache")
def test_no_decision_ever_sees_a_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are locked from the beginning of the training until the threshold is fixed."""
    from uadbench import evaluation, phases

    plan = plan_for("mean_distance", "ae", params=["ae.steps=3", "ae.image_size=16"])
    load, fit, choose = type(plan.dataset).load, phases.CellRun._fit, evaluation.choose
    chosen = []

    def locking(self: phases.CellRun) -> None:
        Guarded.locked = True
        fit(self)

    def unlocking(*given: Any) -> float:
        chosen.append(choose(*given))
        Guarded.locked = False
        return chosen[-1]

    monkeypatch.setattr(type(plan.dataset), "load", lambda self, subject: Guarded(**vars(load(self, subject))))
    monkeypatch.setattr(phases.CellRun, "_fit", locking)
    monkeypatch.setattr(evaluation, "choose", unlocking)
    assert states(run(plan, tmp_path)) == ["done", "done"]
    assert len(chosen) == 2
    # The guard itself works: a threshold that peeks fails the cell.
    monkeypatch.setattr(evaluation._Run, "_read", _peeking(evaluation._Run._read))
    outcome = run(plan_for("mean_distance", seeds=(5,)), tmp_path)
    assert "a label was touched" in outcome.cells[0][3]


def _peeking(read: Any) -> Any:
    def peek(self: Any, subject: Subject, *, labels: bool) -> Any:
        found = read(self, subject, labels=True)
        found.lesion()
        return found

    return peek


@pytest.mark.usefixtures("fresh_cache")
def test_wrong_data_stop_everything_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for("mean_distance")
    load = type(plan.dataset).load

    def broken(self: Dataset, subject: Subject) -> Volume:
        volume = load(self, subject)
        if subject.key == "test_lesion3":
            volume.image[0, 0, 0, 0] = np.nan
        return volume

    monkeypatch.setattr(type(plan.dataset), "load", broken)
    with pytest.raises(DataError, match=r"test_lesion3: 1 voxel is NaN or infinite; repair or remove this image"):
        run(plan, tmp_path)
    assert not list(tmp_path.rglob("fitted.pt"))


@pytest.mark.usefixtures("fresh_cache")
def test_healthy_subjects_with_lesions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for("mean_distance")
    load = type(plan.dataset).load

    def broken(self: Dataset, subject: Subject) -> Volume:
        volume = load(self, subject)
        assert volume.lesion is not None
        volume.lesion[1, 10, 10] |= subject.key == "val1"
        return volume

    monkeypatch.setattr(type(plan.dataset), "load", broken)
    with pytest.raises(DataError, match=r"val1 is in val as healthy but 1 of its voxels are lesion"):
        run(plan, tmp_path)


def test_a_protocol_that_the_data_do_not_allow_judges_no_finished_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states(run(plan_for("random", protocol="image-v1"), tmp_path)) == ["done"]
    plan = plan_for("random")
    monkeypatch.setattr(type(plan.dataset), "annotated", lambda self: False)
    outcome = run(plan, tmp_path)
    assert states(outcome) == ["skipped"]
    assert "brain-v1 needs outlined lesions" in outcome.cells[0][3]
    assert not (folders(outcome)[0].path / BRAIN).exists()


def test_what_a_stopped_attempt_took_counts(tmp_path: Path) -> None:
    plan = plan_for("ae", params=["ae.steps=60", "ae.image_size=16", "ae.width=4", "ae.latent=4"])

    class AtEnd(Stop):
        def __call__(self) -> bool:
            return bool(list(tmp_path.rglob("fitted.pt")))

    assert states(run(plan, tmp_path, stop=AtEnd())) == ["interrupted"]
    folder = folders(run(plan, tmp_path))[0]
    provenance = folder.read_json("provenance.json")
    assert provenance["fit"]["fitted"] == "in an earlier attempt"
    assert provenance["seconds"]["fit"] >= provenance["fit"]["train_seconds"] > 0


@pytest.mark.usefixtures("fresh_cache")
def test_a_stop_while_the_data_are_checked_leaves_nothing_begun(tmp_path: Path) -> None:
    plan = plan_for("random", "intensity")
    count = {"n": 0}

    class Third(Stop):
        def __call__(self) -> bool:
            count["n"] += 1
            return count["n"] >= 3

    outcome = run(plan, tmp_path, stop=Third())
    assert states(outcome) == ["interrupted", "interrupted"]
    assert outcome.exit_code == 130
    assert outcome.cells[0][3] == "stopped while the data were checked"
    assert not list(Store(tmp_path).folders())


@pytest.mark.usefixtures("fresh_cache")
def test_a_stop_in_training_and_in_scoring_is_resumed_with_the_same_numbers(tmp_path: Path) -> None:
    params = ["ae.steps=12", "ae.image_size=16", "ae.batch_size=4", "ae.width=4", "ae.latent=4"]
    plan = plan_for("ae", params=params)
    whole = folders(run(plan, tmp_path / "whole"))[0]
    stop = Stop()
    calls = {"n": 0}

    def after(n: int) -> Stop:
        class Counting(Stop):
            def __call__(self) -> bool:
                calls["n"] += 1
                return calls["n"] > n or self.asked

        return Counting()

    outcomes = []
    for n in (5, 3, 7, 4, 3):  # Each attempt goes a little further: in training first, in scoring later.
        calls["n"] = 0
        outcomes.append(states(run(plan, tmp_path / "parts", stop=after(n))))
    assert outcomes[0] == ["interrupted"]
    parts = run(plan, tmp_path / "parts", stop=stop)
    assert states(parts)[0] in ("done", "kept")
    folder = folders(parts)[0]
    assert folder.status()["attempts"] >= 3
    assert folder.result(BRAIN).metrics["auprc"].value == whole.result(BRAIN).metrics["auprc"].value
    for path in sorted((whole.path / "maps").iterdir()):
        key = path.stem
        np.testing.assert_array_equal(whole.read_map(key)[0], folder.read_map(key)[0])
    assert (folder.path / BRAIN / "subjects.csv").read_text() == (whole.path / BRAIN / "subjects.csv").read_text()


def test_a_truncated_map_is_made_again(tmp_path: Path) -> None:
    plan = plan_for("mean_distance")
    folder = folders(run(plan, tmp_path))[0]
    path = folder.map_path("test_lesion1")
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    folder.set_status("interrupted", reason="killed")
    assert states(run(plan, tmp_path)) == ["done"]
    assert path.read_bytes() == good


def test_typos_are_answered_before_any_data_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dataset, "content", lambda self: pytest.fail("data were read"))
    with pytest.raises(BadParameter, match=r"mddpm.noise_level must be integer in \[1, 1000\]; got 'abc'"):
        plan_for("mddpm", params=["noise_level=abc"])
    with pytest.raises(BadParameter, match="Did you mean 'noise_level'"):
        plan_for("mddpm", params=["nois_level=3"])
    with pytest.raises(UnknownName, match="preset of mddpm is called 'quik'. Did you mean 'quick'"):
        plan_for("mddpm", preset="quik")
    with pytest.raises(UnknownName, match="no protocol is called 'brain'"):
        plan_for("mddpm", protocol="brain")
    with pytest.raises(UADBenchError, match="device 'tpu' does not exist"):
        make_plan(Request(methods=["random"], dataset="blobs", device="tpu"), Registry([BLOBS]))


def test_the_configuration_says_where_each_value_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uadbench.toml").write_text("[methods.ddpm]\nsteps = 17\n[datasets.blobs]\nlevel = 50.0\n")
    monkeypatch.chdir(tmp_path)
    planned = plan_for("ddpm", params=["noise_level=300"]).cells[0]
    sources = {k: v["source"] for k, v in planned.config["method"].items()}
    assert sources["noise_level"] == "command line"
    assert sources["steps"] == "uadbench.toml"
    assert sources["channels"] == "preset quick"
    assert sources["timesteps"] == "default"
    assert planned.cell is not None
    assert planned.cell.params["steps"] == 17
    assert planned.cell.dataset_params == {"level": 50.0}


def test_methods_without_networks_are_recorded_as_fp32() -> None:
    cells = {p.name: p.cell for p in plan_for("random", "ae", precision="bf16").cells}
    assert cells["random"] is not None
    assert cells["ae"] is not None
    assert (cells["random"].precision, cells["ae"].precision) == ("fp32", "bf16")


def test_the_python_interface_gives_the_same_table(tmp_path: Path) -> None:
    import uadbench as ub

    table = ub.run(
        "mean_distance",
        dataset="blobs",
        out=tmp_path,
        plugins=[BLOBS, MEAN],
        references=["random"],
        params={"mean_distance.factor": 2},
    )
    assert '"factor": 2' in table["method_params"][0]
    assert list(table["method"]) == ["mean_distance", "random"]
    assert list(ub.load_leaderboard(tmp_path)["auprc"]) == list(table["auprc"])
    method = ub.create_method("ddpm", preset="quick", noise_level=300)
    assert method.noise_level == 300  # type: ignore[attr-defined]
    with pytest.raises(BadParameter, match="Did you mean"):
        ub.create_method("ddpm", nois_level=300)
    assert ub.load_dataset("phantom", count=10).count == 10  # type: ignore[attr-defined]
    with pytest.raises(UADBenchError, match="weights"):
        ub.run(
            "feature_knn", dataset="blobs", out=tmp_path, plugins=[BLOBS], params=["weights=/none.pth"], references=[]
        )


def test_scores_of_a_method_are_kept(tmp_path: Path) -> None:
    text = (
        MEAN.read_text()
        + "\n    def image_score(self, batch: Batch) -> torch.Tensor:\n        return batch.image.amax(dim=(1, 2, 3))\n"
    )
    (tmp_path / "mean_distance.py").write_text(text)
    folder = folders(run(plan_for("mean_distance", plugins=(BLOBS, tmp_path / "mean_distance.py")), tmp_path / "runs"))[
        0
    ]
    scores = pd.read_csv(folder.path / "scores.csv")
    assert scores["method_score"].notna().all()
    assert json.loads((folder.path / "cell.json").read_text())["method"] == "mean_distance"
    assert Batch is not None


def test_a_stop_between_two_datasets_ends_as_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uadbench import cli

    def once(plan: Plan, store: Store, reporter: Any, *, stop: Stop) -> Outcome:
        outcome = run_plan(plan, store, reporter, stop=stop)
        stop.asked = True  # Ctrl-C, as the last cell of a dataset ended.
        return outcome

    monkeypatch.setattr("uadbench.runner.run_plan", once)
    words = ["run", "-m", "random", "-d", "blobs,other", "--references", "none", "--device", "cpu", "--json"]
    (tmp_path / "other.py").write_text(BLOBS.read_text())
    words += ["--out", str(tmp_path / "runs"), "--plugin", str(BLOBS), "--plugin", str(tmp_path / "other.py")]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 130
    assert [c["outcome"] for c in json.loads(done.stdout)] == ["done", "interrupted"]
