"""Wheel, sdist and checkout hold the same modules, and never a top-level methods or datasets."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import PLUGINS, ROOT

FOLDERS = ("methods", "datasets", "benchmarks")


def run(*words: str | Path, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, cwd=cwd, check=False, timeout=280,
        env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "UADBENCH_PLUGINS")} | env,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def expected_files() -> set[str]:
    """What a wheel must hold, from the folders of the checkout."""
    files = {
        p.relative_to(ROOT) for p in (ROOT / "uadbench").rglob("*.py") if p.parts[len(ROOT.parts) + 1] not in FOLDERS
    }
    names = {str(p) for p in files} | {"uadbench/py.typed"}
    for folder in FOLDERS:
        names |= {
            f"uadbench/{p.relative_to(ROOT)}"
            for p in (ROOT / folder).rglob("*")
            if p.suffix in (".py", ".toml", ".csv", ".txt")
        }
    return names


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and a wheel that was built from it, made from a clean copy of the tracked files."""
    work = tmp_path_factory.mktemp("build")
    names = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    run("tar", "-cf", work / "copy.tar", "--no-recursion", *names, cwd=ROOT)
    (work / "copy").mkdir()
    run("tar", "-xf", work / "copy.tar", cwd=work / "copy")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", work / "dist", work / "copy", cwd=work)
    return work / "dist"


def test_the_wheel_holds_every_module_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        inside = {n for n in wheel.namelist() if ".dist-info/" not in n}
        metadata = wheel.read(next(n for n in wheel.namelist() if n.endswith("METADATA"))).decode()
    assert inside == expected_files()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.10" in metadata
    assert "Requires-Dist: torch>=2.4" in metadata


def test_the_sdist_holds_the_sources(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {n.partition("/")[2] for n in sdist.getnames()}
    for folder in FOLDERS:
        assert {
            f"{folder}/{p.name}" for p in (ROOT / folder).iterdir() if p.suffix in (".py", ".toml", ".csv")
        } <= names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert not any(n.endswith(".pyc") for n in names)


@pytest.fixture(scope="module")
def fresh(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel installed. The libraries it needs are those of this environment."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).stdout.strip())
    # Only directories of packages, no .pth files: an editable install of this checkout must not be seen.
    here = [p for p in sys.path if p.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(here) + "\n")
    # Python 3.11 and older put an old setuptools there, which would win over this environment's.
    run(python, "-m", "pip", "uninstall", "-q", "-y", "setuptools", cwd=folder)
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", next(built.glob("*.whl")), cwd=folder)
    return python


def test_an_installed_wheel_works_and_finds_everything(fresh: Path, tmp_path: Path) -> None:
    code = (
        "import uadbench, importlib.util as u; print(uadbench.__file__);"
        "from uadbench.registry import Registry; r = Registry();"
        "print(*r.entries('method'), *r.entries('dataset'));"
        "from uadbench.benchmark import defaults, published, suites;"
        "print(defaults()['dataset'], len(published('mddpm')), *suites());"
        "print(u.find_spec('methods'), u.find_spec('benchmarks'))"
    )
    lines = run(fresh, "-c", code, cwd=tmp_path).stdout.splitlines()
    assert "site-packages" in lines[0]
    assert not lines[0].startswith(str(ROOT))
    there = [sorted(p.stem for p in (ROOT / f).glob("[a-z]*.py")) for f in ("methods", "datasets")]
    assert lines[1].split() == [*there[0], *there[1]]
    assert lines[2] == "phantom 12 brain-t2 quickstart"
    assert lines[3] == "None None"


def test_a_plugin_of_another_distribution_is_found_checked_and_ranked(fresh: Path, tmp_path: Path) -> None:
    run(fresh, "-m", "uadbench", "methods", "new", "my_method", cwd=tmp_path)
    run(fresh, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "./my_method", cwd=tmp_path)
    assert "(uadbench-my-method 0.1.0)" in run(fresh, "-m", "uadbench", "methods", "list", cwd=tmp_path).stdout
    run(fresh, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "my_method", cwd=tmp_path)
    words = ("run", "-m", "my_method", "-d", "blobs", "--plugin", PLUGINS / "blobs.py", "--device", "cpu")
    done = run(fresh, "-m", "uadbench", *words, cwd=tmp_path)
    assert "my_method" in done.stdout
    run(fresh, "-m", "uadbench", "leaderboard", "--export", "board.csv", cwd=tmp_path)
    table = (tmp_path / "board.csv").read_text().splitlines()
    assert any(line.split(",")[1] == "my_method" and line.split(",")[0].isdigit() for line in table[1:])
    clash = tmp_path / "my_method.py"
    clash.write_text((tmp_path / "my_method" / "my_method.py").read_text())
    done = run(fresh, "-m", "uadbench", "methods", "list", "--plugin", clash, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "one from uadbench-my-method 0.1.0, one from the plug-in" in done.stderr


def test_a_plain_checkout_works_from_its_root() -> None:
    done = run(sys.executable, "-m", "uadbench", "methods", "list", cwd=ROOT)
    assert "mddpm" in done.stdout
    assert "pytest" in run(sys.executable, "-m", "pytest", "--version", cwd=ROOT).stdout


@pytest.mark.parametrize("installed", [True, False])
def test_the_name_datasets_is_hugging_faces(tmp_path: Path, installed: bool) -> None:
    code = "import importlib.util as u; s = u.find_spec('datasets'); print(s.origin if s else None)"
    env = {}
    if installed:  # A stand-in for Hugging Face's package.
        (tmp_path / "datasets").mkdir()
        (tmp_path / "datasets" / "__init__.py").write_text("")
        env = {"PYTHONPATH": str(tmp_path)}
    found = run(sys.executable, "-c", code, cwd=ROOT, **env).stdout.strip()
    # Without an __init__.py our folder can never win over an installed package of that name.
    assert found == (str(tmp_path / "datasets" / "__init__.py") if installed else "None")
    console = run(sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", "-c", code, cwd=ROOT).stdout.strip()
    assert console == "None"


def test_the_folders_have_no_init_file_and_the_links_are_there() -> None:
    for name in FOLDERS:
        assert not (ROOT / name / "__init__.py").exists()
        link = ROOT / "uadbench" / name
        assert link.is_symlink()
        assert link.resolve() == ROOT / name
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_links_that_git_checked_out_as_text_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uadbench import registry

    (tmp_path / "methods").write_text("../methods")
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    assert "git config core.symlinks true" in str(registry.check_catalogue())
    (tmp_path / "methods").unlink()
    assert "install uadbench again" in str(registry.check_catalogue())


def test_the_version_is_the_same_everywhere() -> None:
    import uadbench

    assert f'version = "{uadbench.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {uadbench.__version__}" in (ROOT / "CHANGELOG.md").read_text()
