from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from uadbench.errors import NameClash, PluginError, UnknownName, UsageError
from uadbench.method import Method
from uadbench.registry import Registry
from uadbench.scaffold import new_method

DATASETS = {path.stem for path in (ROOT / "datasets").glob("[a-z]*.py")}
BUILT_IN = {"random", "intensity", "voxel_zscore", "ae", "vae", "feature_knn", "ddpm", "pddpm", "mddpm"}

PLUGIN = '''"""Mine: says one thing."""
from dataclasses import dataclass
from uadbench import Method

@dataclass
class Mine(Method):
    def fit(self, healthy, *, val, run):
        return self
    def score(self, batch):
        return batch.image[:, 0]
'''


def test_built_ins_are_found_by_file_with_their_summaries() -> None:
    entries = Registry().entries("method")
    assert set(entries) == BUILT_IN
    assert all(e.summary.endswith((".", "?")) and 20 < len(e.summary) < 125 for e in entries.values())
    assert set(Registry().entries("dataset")) == DATASETS


def test_every_built_in_defines_one_method_of_its_own() -> None:
    classes = [Registry().method(name) for name in BUILT_IN]
    assert len(set(classes)) == len(BUILT_IN)
    assert all(issubclass(c, Method) for c in classes)


def test_a_typo_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="no method is called 'mdpm'. Did you mean 'mddpm'"):
        Registry().method("mdpm")
    with pytest.raises(UnknownName, match="Did you mean 'mddpm'"):
        Registry().method("MDDPM")
    with pytest.raises(UnknownName, match="Known: atlas, bids, bmad, .*, lgg, .*, nifti, phantom, visa, wmh"):
        Registry().dataset("xyz")


def test_a_file_is_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    registry = Registry([tmp_path / "mine.py"])
    assert registry.entries("method")["mine"].summary == "Mine: says one thing."
    assert registry.method("mine").__name__ == "Mine"
    assert registry.method("mine") is Registry([tmp_path / "mine.py"]).method("mine")


def test_a_folder_of_files_and_packages_is_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(PLUGIN)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "__init__.py").write_text(
        PLUGIN.replace("from dataclasses", "from . import part\nfrom dataclasses")
    )
    (tmp_path / "two" / "part.py").write_text("")
    (tmp_path / "helper.py").write_text("x = 1\n")
    registry = Registry([tmp_path])
    assert {"one", "two"} <= set(registry.entries("method"))
    assert "helper" not in registry.entries("method")
    assert registry.method("two").__name__ == "Mine"


def test_plugins_come_from_the_environment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    monkeypatch.setenv("UADBENCH_PLUGINS", str(tmp_path / "mine.py"))
    assert "mine" in Registry().entries("method")
    # Given twice it is still one plug-in.
    assert "mine" in Registry([tmp_path / "mine.py", tmp_path]).entries("method")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ndef broken(", "left out: SyntaxError in line 2: "),
        ("x = 1", "no class derived from Method or Dataset"),
    ],
)
def test_a_broken_plugin_is_one_warning_and_stops_nothing(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    (tmp_path / "good.py").write_text(PLUGIN)
    warnings: list[str] = []
    registry = Registry([tmp_path / "bad.py", tmp_path / "good.py"], warn=warnings.append)
    assert "good" in registry.entries("method")
    assert "bad" not in registry.entries("method")
    assert set(registry.entries("dataset")) == DATASETS
    assert len(warnings) == 1
    assert words in warnings[0]
    assert "bad.py" in warnings[0]


def test_a_missing_plugin_is_refused_if_it_was_typed_and_a_warning_if_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        Registry(["nowhere.py"])
    monkeypatch.setenv("UADBENCH_PLUGINS", "nowhere.py")
    warnings: list[str] = []
    registry = Registry(warn=warnings.append)
    assert "mddpm" in registry.entries("method")
    assert "phantom" in registry.entries("dataset")
    assert len(warnings) == 1


@pytest.mark.parametrize("line", ["import not_there", "raise SystemExit(3)", "1 / 0"])
def test_a_plugin_that_fails_when_imported_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "fails.py").write_text(f"{line}\n{PLUGIN}")
    with pytest.raises(PluginError, match=r"method 'fails' from the plug-in .*fails.py cannot be loaded"):
        Registry([tmp_path / "fails.py"]).method("fails")


def test_two_methods_in_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(PLUGIN + PLUGIN.replace("Mine", "Other"))
    with pytest.raises(PluginError, match="exactly one method.*found: Mine, Other"):
        Registry([tmp_path / "two.py"]).method("two")


def test_a_clash_is_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "ddpm.py").write_text(PLUGIN)
    with pytest.raises(
        NameClash, match=r"two methods are called 'ddpm': one from uadbench, one from the plug-in .*ddpm.py"
    ):
        Registry([tmp_path / "ddpm.py"]).entries("method")


def test_a_plugin_may_derive_from_a_built_in(tmp_path: Path) -> None:
    text = '"""A."""\nfrom uadbench.methods.ddpm import DDPM\nclass Mine(DDPM):\n    pass\n'
    (tmp_path / "mine.py").write_text(text)
    assert Registry([tmp_path / "mine.py"]).method("mine").__mro__[1].__name__ == "DDPM"


def test_an_installed_plugin_has_its_summary_and_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dist_mine").mkdir()
    (tmp_path / "dist_mine" / "__init__.py").write_text("raise RuntimeError('ran')\n")
    (tmp_path / "dist_mine" / "inner.py").write_text(PLUGIN)
    (tmp_path / "dist_flat.py").write_text(PLUGIN)
    (tmp_path / "mine-1.0.dist-info").mkdir()
    (tmp_path / "mine-1.0.dist-info" / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    (tmp_path / "mine-1.0.dist-info" / "entry_points.txt").write_text(
        "[uadbench.methods]\nmine = dist_mine.inner:Mine\nflat = dist_flat:Mine\ngone = nowhere.at.all:Mine\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entries = Registry().entries("method")
    assert [entries[name].summary for name in ("mine", "flat", "gone")] == ["Mine: says one thing."] * 2 + [""]
    assert entries["mine"].origin == "mine 1.0"
    assert "dist_mine" not in sys.modules
    (tmp_path / "mine.py").write_text(PLUGIN)
    with pytest.raises(NameClash, match=r"one from mine 1.0, one from the plug-in .*mine.py; leave out --plugin"):
        Registry([tmp_path / "mine.py"]).entries("method")


def test_listing_a_plugin_does_not_run_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"raise RuntimeError('ran')\n{PLUGIN}")
    assert "mine" in Registry([tmp_path / "mine.py"]).entries("method")


def test_the_scaffold_keeps_the_contract(tmp_path: Path) -> None:
    files = new_method("my_method", tmp_path, Registry())
    assert 20 <= len([line for line in files[0].read_text().splitlines() if line.strip()]) <= 36
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "my_method")],
        capture_output=True, text=True, cwd=tmp_path / "my_method", check=False,
        env={**__import__("os").environ, "PYTHONPATH": f"{tmp_path / 'my_method'}:{Path(__file__).parent.parent}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["My", "1a", "a-b", "class", "ddpm"])
def test_the_scaffold_refuses_bad_names(tmp_path: Path, name: str) -> None:
    from uadbench.errors import UsageError

    with pytest.raises(UsageError):
        new_method(name, tmp_path, Registry())
