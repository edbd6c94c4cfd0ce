"""Ctrl-C, SIGTERM, kill -9 and a full disk, on real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import PLUGINS, ROOT

from uadbench.errors import StoreError
from uadbench.store import Store

BRAIN = Path("evaluations/brain-v1")

SLOW = '''"""Slow: trains for as long as it is let, and says where it is."""
import time
from dataclasses import dataclass
import torch
from torch import Tensor, nn
from uadbench import Batch
from uadbench.training import TrainedMethod

@dataclass
class Slow(TrainedMethod):
    steps: int = 40
    batch_size: int = 2
    pause: float = 0.1

    def build(self, shape):
        self.net_ = nn.Conv2d(1, 1, 3, padding=1)

    def loss(self, batch: Batch) -> Tensor:
        time.sleep(self.pause * self.net_.training)
        return (self.net_(batch.image) - batch.image).abs().mean()

    def reconstruct(self, batch: Batch) -> Tensor:
        return self.net_(batch.image)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "blobs.py").write_text((PLUGINS / "blobs.py").read_text())
    return tmp_path


def command(*more: str) -> list[str]:
    words = [
        "-m",
        "uadbench",
        "run",
        "-m",
        "slow",
        "-d",
        "blobs",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--references",
        "none",
    ]
    return [sys.executable, *words, "--plugin", "slow.py", "--plugin", "blobs.py", *more]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(*more), cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_training(folder: Path, process: subprocess.Popen[str], cells: int = 1) -> None:
    """Wait until as many cells have begun, and a little longer."""
    for _ in range(600):
        running = [
            p
            for p in folder.glob("runs/*/*/*/status.json")
            if '"running"' in p.read_text() or '"done"' in p.read_text()
        ]
        if len(running) >= cells:
            time.sleep(1.5)
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    pytest.fail("training did not begin")


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_checkpoints_and_the_same_command_ends_with_the_same_numbers(
    folder: Path, number: signal.Signals
) -> None:
    process = start(folder)
    wait_for_training(folder, process)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 130, err
    assert "The same command goes on from here" in out
    cell = Store(folder / "runs").folders()[0]
    assert cell.status()["state"] == "interrupted"
    assert (cell.checkpoint / "training.pt").is_file()
    assert not (cell.path / "lock").exists()
    code, _, err = finish(start(folder))
    assert code == 0, err
    record = cell.read_json("provenance.json")["fit"]
    assert 0 < record["resumed_at_step"] < 40
    assert finish(start(folder, "-o", "whole"))[0] == 0
    whole = Store(folder / "whole").folders()[0]
    assert whole.result(BRAIN) == cell.result(BRAIN) or repr(whole.result(BRAIN)) == repr(cell.result(BRAIN))
    for path in (whole.path / "maps").iterdir():
        np.testing.assert_array_equal(whole.read_map(path.stem)[0], cell.read_map(path.stem)[0])


def test_kill_9_in_a_grid_loses_only_the_cell_at_work(folder: Path) -> None:
    process = start(folder, "--seed", "0-2", "-p", "pause=0.05")
    wait_for_training(folder, process, cells=2)
    process.kill()
    finish(process)
    states = {f.cell().seed: f.status()["state"] for f in Store(folder / "runs").folders()}
    assert states[0] == "done"
    assert states[1] == "running"  # the process could say nothing any more
    before = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*/seed0*/**/*") if p.is_file()}
    shown = subprocess.run(
        [sys.executable, "-m", "uadbench", "status", "--json"], cwd=folder, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert json.loads(shown.stdout)["cells"][0]["interrupted"] == 1
    code, _, err = finish(start(folder, "--seed", "0-2", "-p", "pause=0.05"))
    assert code == 0, err
    assert err.count("already done") == 1
    assert {f.status()["state"] for f in Store(folder / "runs").folders()} == {"done"}
    assert before == {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*/seed0*/**/*") if p.is_file()}
    assert not list(folder.glob("runs/**/*.part"))


def test_two_processes_share_the_work_and_not_a_cell(folder: Path) -> None:
    first = start(folder, "--seed", "0-1", "-p", "pause=0.05")
    wait_for_training(folder, first)
    second = start(folder, "--seed", "0-1", "-p", "pause=0.05")
    code_2, _, err_2 = finish(second)
    code_1, _, err_1 = finish(first)
    assert code_1 in (0, 1), err_1
    assert "is being worked on by process" in err_2
    assert code_2 == 1
    assert finish(start(folder, "--seed", "0-1", "-p", "pause=0.05"))[0] == 0
    assert {f.status()["state"] for f in Store(folder / "runs").folders()} == {"done"}


def test_a_full_disk_is_told_and_nothing_half_written_is_taken_as_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uadbench import maps
    from uadbench.plan import Request, make_plan
    from uadbench.registry import Registry
    from uadbench.reporter import silent
    from uadbench.runner import run_plan

    write = maps.write_atomic

    def full(path: Path, data: bytes) -> None:
        if path.name == "test_lesion1.npz":
            raise StoreError(
                f"{path} cannot be written: No space left on device; free some space and give the same command again"
            )
        write(path, data)

    plan = make_plan(
        Request(["slow"], "blobs", device="cpu", params=["pause=0", "steps=3"]),
        Registry([folder / "slow.py", folder / "blobs.py"]),
    )
    monkeypatch.setattr(maps, "write_atomic", full)
    outcome = run_plan(plan, Store(folder / "runs"), silent())
    assert "No space left on device" in outcome.cells[0][3]
    cell = Store(folder / "runs").folders()[0]
    assert cell.status()["state"] == "failed"
    assert not cell.done
    monkeypatch.setattr(maps, "write_atomic", write)
    assert run_plan(plan, Store(folder / "runs"), silent()).exit_code == 0
    assert cell.read_json("provenance.json")["fit"]["fitted"] == "in an earlier attempt"
