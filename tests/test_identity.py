from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from uadbench.errors import DataError
from uadbench.identity import code_of, digest, file_hash, source_files, source_hash
from uadbench.registry import Registry
from uadbench.result import Cell


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert digest(1.0) != digest(1.1)


def test_comments_and_blank_lines_are_no_code() -> None:
    text = 'x = 1  # one\n\n# two\ny = "# not a comment"\n'
    assert code_of(text) == 'x = 1\ny = "# not a comment"'
    assert code_of(text) == code_of('x = 1\ny = "# not a comment"')
    assert code_of("x = 1") != code_of("x = 2")
    assert code_of("def (") == "def ("


def load(path: Path) -> type:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module.Mine  # type: ignore[no-any-return]


def test_editing_a_line_of_a_plugin_changes_its_hash_and_a_comment_does_not(tmp_path: Path) -> None:
    text = "from uadbench import Method\nclass Mine(Method):\n    factor = 1\n"
    hashes = []
    for i, edited in enumerate([text, text + "# said\n", text.replace("factor = 1", "factor = 2")]):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "edited.py").write_text(edited)
        hashes.append(source_hash(load(folder / "edited.py")))
        del sys.modules["edited"]
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_relative_imports_of_a_plugin_count_and_its_place_does_not(tmp_path: Path) -> None:
    hashes = []
    for place, factor in (("a", 1), ("z/deep", 1), ("b", 2)):
        folder = tmp_path / place / "relative_plugin"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(
            "from uadbench import Method\nfrom .parts import factor\nclass Mine(Method):\n    pass\n"
        )
        (folder / "parts.py").write_text("from . import deeper\nfactor = deeper.factor\n")
        (folder / "deeper.py").write_text(f"factor = {factor}\n")
        sys.path.insert(0, str(folder.parent))
        try:
            cls = importlib.import_module("relative_plugin").Mine
            names = {p.name for p in source_files(cls)}
            assert names >= {"__init__.py", "parts.py", "deeper.py"}
            hashes.append(source_hash(cls))
        finally:
            sys.path.remove(str(folder.parent))
            for name in [n for n in sys.modules if n.partition(".")[0] == "relative_plugin"]:
                del sys.modules[name]
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_a_method_depends_on_its_parents_and_on_the_shared_code_it_imports() -> None:
    names = {p.name for p in source_files(Registry().method("mddpm"))}
    assert names >= {
        "mddpm.py",
        "pddpm.py",
        "ddpm.py",
        "diffusion.py",
        "training.py",
        "noise.py",
        "nets.py",
        "volumes.py",
    }
    assert not names & {"ae.py", "features.py", "store.py", "cli.py"}
    assert {p.name for p in source_files(Registry().method("random"))} >= {"random.py", "volumes.py"}


def test_file_hash_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = file_hash(path)
    assert file_hash(path) == first
    path.write_bytes(b"three")
    assert file_hash(path) != first
    with pytest.raises(DataError, match="cannot be read"):
        file_hash(tmp_path / "missing")


def test_every_part_of_a_cell_changes_its_id() -> None:
    base = {
        "method": "m", "params": {"a": 1}, "source": "s", "dataset": "d", "dataset_params": {"b": 2}, "fingerprint": "f",
        "fold": 0, "preparation": {"train_foreground": 0.2}, "seed": 0, "precision": "fp32", "inputs": {},
    }  # fmt: skip
    other = {
        "method": "n", "params": {"a": 2}, "source": "t", "dataset": "e", "dataset_params": {"b": 3}, "fingerprint": "g",
        "fold": 1, "preparation": {"train_foreground": 0.3}, "seed": 1, "precision": "bf16", "inputs": {"w": "h"},
    }  # fmt: skip
    first = Cell(**base)  # type: ignore[arg-type]
    assert first.id == Cell(**base).id  # type: ignore[arg-type]
    for key, value in other.items():
        assert Cell(**{**base, key: value}).id != first.id, key  # type: ignore[arg-type]
