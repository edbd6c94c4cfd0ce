from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uadbench.arrays import FloatArray
from uadbench.errors import StoreError, UsageError
from uadbench.files import file_name, write_atomic
from uadbench.lock import held, hold
from uadbench.result import Cell, Result, Value
from uadbench.store import CellFolder, Store

NAN = float("nan")
INF = float("inf")


def cell(seed: int = 0) -> Cell:
    return Cell("m", {"a": 1}, "s", "d", {}, "f", 0, {"name": "p"}, seed, "fp32")


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(StoreError, match=r"No space left on device; free some space and give the same command again"):
        write_atomic(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (2, 5, 4), elements=st.floats(-1.0, 1.0, width=32)), st.integers(-60, 60))
def test_maps_keep_their_order_and_three_digits(
    tmp_path_factory: pytest.TempPathFactory, values: FloatArray, power: int
) -> None:
    folder = CellFolder(tmp_path_factory.mktemp("cell"))
    values = np.ldexp(values, power).astype(np.float32)
    folder.write_map("x", values, {3: 0.25})
    back, own = folder.read_map("x")
    assert own == {3: 0.25}
    assert back.dtype == np.float32
    largest = float(np.abs(values).max())
    np.testing.assert_allclose(back, values, rtol=1e-3, atol=largest * 2**-20)
    order = np.argsort(values.ravel(), kind="stable")
    assert (np.diff(back.ravel()[order]) >= 0).all()


def test_a_truncated_map_is_never_read(tmp_path: Path) -> None:
    folder = CellFolder(tmp_path)
    folder.write_map("x", np.random.default_rng(0).random((4, 8, 8)), {})
    path = folder.map_path("x")
    whole = path.read_bytes()
    for cut in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(StoreError, match="damaged"):
            folder.read_map("x")
    changed = bytearray(whole)
    changed[len(whole) // 3] ^= 0xFF
    path.write_bytes(bytes(changed))
    with pytest.raises(StoreError, match="damaged"):
        folder.read_map("x")
    with pytest.raises(StoreError, match="does not exist"):
        folder.read_map("y")


def test_names_of_files_are_safe_and_different() -> None:
    keys = ["IXI001-T1", "a/b", "a b", "a_b", "ü", "..", ".", "a:b", "con/../x"]
    names = [file_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert names[0] == "IXI001-T1"
    assert all(n.isascii() and "/" not in n and not n.startswith(".") for n in names)


def test_a_cell_is_done_only_when_all_of_it_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.folder(cell())
    folder.create(cell(), {})
    assert folder.cell() == cell()
    assert not folder.done
    folder.set_status("done")
    assert not folder.done
    values = {"auprc": Value(0.5, 0.4, NAN, 3)}
    result = Result({"name": "p"}, values, INF, {"conformal(0.05)": INF}, "none", NAN, 0.01, {"ap_low": 0.4}, "code")
    place = folder.evaluation("p")
    folder.write_table(str(place / "subjects.csv"), [{"subject": "a", "auprc": 0.5, "dice": NAN}])
    folder.write_table(str(place / "lesions.csv"), [])
    folder.write_json("provenance.json", {})
    folder.write_json(str(place / "metrics.json"), result.as_dict())
    assert not folder.done
    folder.write_arrays(str(place / "bootstrap.npz"), {})
    assert folder.done
    assert folder.evaluations() == [place]
    assert repr(folder.result(place)) == repr(result)
    assert (folder.path / place / "subjects.csv").read_text() == "subject,auprc,dice\na,0.5,\n"
    (folder.path / place / "metrics.json").write_text('{"cut')
    with pytest.raises(StoreError, match="damaged"):
        folder.result(place)


def test_status_counts_attempts_and_survives_damage(tmp_path: Path) -> None:
    folder = CellFolder(tmp_path)
    assert folder.status() == {}
    folder.set_status("running")
    folder.set_status("interrupted", reason="asked")
    folder.set_status("running")
    assert folder.status()["attempts"] == 2
    (tmp_path / "status.json").write_text("")
    assert folder.status() == {}


def test_cells_are_found_by_place_and_id_and_removed_without_a_trace(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in (0, 1):
        store.folder(cell(seed)).create(cell(seed), {})
    assert len(store.folders()) == 2
    assert store.find(cell(0).place)[0].cell() == cell(0)
    assert store.find(cell(1).id[:6])[0].cell() == cell(1)
    assert [f.cell() for f in store.find(store.find(cell(1).place)[0].path.name[:9])] == [cell(1)]
    assert store.find("nothing") == []
    for folder in store.folders():
        folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_another_cell_at_the_same_place_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.folder(cell())
    folder.create(cell(), {})
    data = json.loads((folder.path / "cell.json").read_text())
    (folder.path / "cell.json").write_text(json.dumps({**data, "source": "other"}))
    with pytest.raises(UsageError, match="holds another cell"):
        store.folder(cell())


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    folder = CellFolder(tmp_path / "c")
    (folder.path / "maps").mkdir(parents=True)
    leftover = folder.path / "maps" / ".x.npz.123.part"
    leftover.write_bytes(b"half")
    with folder.locked():
        assert not leftover.exists()


def test_a_lock_keeps_others_out_and_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path):
        assert held(path)
        with pytest.raises(StoreError, match="being worked on by process"), hold(path):
            pass
    assert not path.exists()
    with hold(path):
        pass


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        f"import os, pathlib\nfrom uadbench.lock import _acquire\n_acquire(pathlib.Path({str(path)!r}))\nos._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parent.parent)
    assert path.exists()
    assert not held(path)
    with hold(path):
        assert held(path)
    with subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parent.parent) as ended:
        deadline = time.monotonic() + 20
        while not (path.exists() and not held(path)) and time.monotonic() < deadline:
            time.sleep(0.01)
        # It has ended, and nobody has asked for its exit status yet.
        assert ended.returncode is None
        assert path.exists()
        assert not held(path)
    path.write_text("damaged")
    os.utime(path, (0, 0))
    with hold(path):
        pass
