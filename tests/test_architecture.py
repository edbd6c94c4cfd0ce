"""Who may import whom, read from the source, so that imports inside functions count too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import ROOT

NOUNS = {"errors", "arrays", "config", "identity", "method", "dataset", "protocol", "protocols", "result", "params",
         "findings", "split_checks"}  # fmt: skip
VERBS = {
    "ahead", "metrics", "statistics", "preparation", "filters", "pool", "spool", "volumes", "thresholds", "postprocess",
    "bank", "checked", "evaluation", "nets", "noise", "features", "diffusion", "training", "weights", "guard", "lock",
    "files", "store", "maps", "file_checks", "volume_checks", "registration_checks", "table_checks", "data_checks",
    "slice_cache", "prepare", "gzipped", "reading", "prepared", "joined", "results", "provenance",
}  # fmt: skip
CATALOGUE = {
    "registry", "checks", "method_checks", "dataset_checks", "contract", "scaffold", "benchmark", "groups", "rows",
    "leaderboard", "export", "compare", "definitions", "dataset_pages",
}  # fmt: skip
RUNNING = {
    "plan", "opening", "sheet", "reporter", "runner", "phases", "replay", "api", "multiverse", "multiverse_picture",
    "multiverse_ranks", "multiverse_scores", "multiverse_views",
}  # fmt: skip
PACKAGES = ("metrics", "statistics", "prepare", "cli")
LAYERS = [NOUNS, VERBS, CATALOGUE, RUNNING, {"cli"}]

MAY = {
    "methods": {"arrays", "errors", "method", "protocol", "nets", "noise", "features", "diffusion", "training"},
    "datasets": {"arrays", "errors", "method", "dataset", "config", "identity", "reading", "prepared"},
}
"""What the catalogue's files may import of the core, besides each other."""

LAZY = {("method", "weights")}
"""Imports that point down the page: saving needs torch, which the noun must not import, so it does inside a function."""


def imports(path: Path) -> set[str]:
    """Return the modules of uadbench that a file imports, as 'part' or 'methods.name'."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
            if node.module in (
                "uadbench",
                "uadbench.cli",
                "uadbench.metrics",
                "uadbench.statistics",
                "uadbench.prepare",
            ):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("uadbench."):
                parts = name.split(".")[1:]
                found.add(".".join(parts[:2]) if parts[0] in ("methods", "datasets") else parts[0])
    return found


def core_files() -> list[tuple[str, Path]]:
    files = [(p.stem, p) for p in (ROOT / "uadbench").glob("*.py") if not p.stem.startswith("__")]
    files += [(name, p) for name in PACKAGES for p in (ROOT / "uadbench" / name).glob("*.py")]
    return sorted(files)


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def test_every_module_has_a_place() -> None:
    known = set().union(*LAYERS)
    assert {name for name, _ in core_files()} == known


@pytest.mark.parametrize(("name", "path"), core_files(), ids=lambda v: v if isinstance(v, str) else v.name)
def test_imports_point_up_the_page(name: str, path: Path) -> None:
    for imported in imports(path):
        if imported.startswith(("methods", "datasets")):
            pytest.fail(f"{path.relative_to(ROOT)} imports uadbench.{imported}; only the registry may, by name")
        if imported in set().union(*LAYERS) and (name, imported) not in LAZY:
            assert layer(imported) <= layer(name), f"{path.relative_to(ROOT)} imports uadbench.{imported}"


@pytest.mark.parametrize("folder", ["methods", "datasets"])
def test_the_catalogue_imports_what_it_may(folder: str) -> None:
    for path in sorted((ROOT / folder).glob("*.py")):
        others = [i for i in imports(path) if i.startswith(folder) and not i.partition(".")[2].startswith("_")]
        assert len(others) <= 1, f"{path.name} imports {others}; one other at most, to derive from it"
        for imported in imports(path):
            if not imported.startswith(f"{folder}."):
                assert imported in MAY[folder], f"{folder}/{path.name} imports uadbench.{imported}"


def test_no_file_is_too_long() -> None:
    files = [
        p for part in ("uadbench", "methods", "datasets") for p in (ROOT / part).rglob("*.py") if not p.is_symlink()
    ]
    long = {str(p.relative_to(ROOT)): n for p in files if (n := len(p.read_text().splitlines())) > 330}
    assert not long


def test_adding_a_method_is_one_file() -> None:
    for path in (ROOT / "methods").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 180, path.name
