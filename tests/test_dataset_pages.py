"""The list of data sets and the pages made from their cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import imported_by, uadbench
from conftest import ROOT

from uadbench.dataset_pages import lines, pages
from uadbench.registry import Registry


def test_the_pages_are_up_to_date() -> None:
    folder = ROOT / "docs" / "datasets"
    made = pages(Registry())
    assert {path.name for path in folder.glob("*.md")} == set(made)
    for name, text in made.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"python -m uadbench.dataset_pages {folder}"


def test_angle_brackets_are_shown_as_they_are_typed() -> None:
    by_name = pages(Registry())
    assert "`<category>/train/good`" in by_name["mvtec.md"]
    assert "image:&lt;modality> for each" in by_name["nifti.md"]


def test_every_page_says_what_a_reader_must_know() -> None:
    for name, text in pages(Registry()).items():
        if name != "README.md":
            for word in ("title", "licence", "cite", "masks", "## Parameters", "uadbench run"):
                assert word in text, (name, word)
    index = pages(Registry())["README.md"]
    assert all(f"[{line.name}]({line.name}.md)" in index for line in lines(Registry()))


def test_the_list_says_where_data_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UADBENCH_DATA", str(tmp_path))
    by_name = {line.name: line for line in lines(Registry())}
    assert not by_name["lgg"].here
    assert "Kaggle" in by_name["lgg"].where
    assert by_name["phantom"].here
    assert by_name["phantom"].where == "comes with uadbench"
    (tmp_path / "lgg").mkdir()
    found = next(line for line in lines(Registry()) if line.name == "lgg")
    assert (found.here, found.where) == (True, str(tmp_path / "lgg"))
    assert (found.subjects, found.dimensions, found.masks) == (110, "3-D", "voxels")


def test_a_plug_in_that_cannot_be_loaded_is_listed_with_the_reason(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from uadbench import Dataset\n\nclass Bad(Dataset):\n    pass\n\nraise RuntimeError('no disk')\n")
    found = next(line for line in lines(Registry([bad])) if line.name == "bad")
    assert "cannot be loaded" in found.where
    assert "no disk" in found.where


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    table = uadbench("datasets", "list", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    for word in ("lgg", "110", "CC BY-NC-SA", "comes with uadbench", "datasets show NAME"):
        assert word in table.stdout
    rows = json.loads(uadbench("datasets", "list", "--json", cwd=tmp_path).stdout)
    assert {"name", "licence", "where", "here", "masks"} <= rows[0].keys()


def test_the_list_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("torch", "nibabel", "pandas", "sklearn", "scipy", "PIL", "timm", "diffusers", "SimpleITK", "pydicom")
    assert imported_by("datasets", "list", cwd=tmp_path, heavy=heavy) == []
