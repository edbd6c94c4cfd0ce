from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = ROOT / "tests" / "plugins"


@pytest.fixture(autouse=True)
def no_network_at_all() -> Iterator[None]:
    """Every test fails that opens a connection."""
    from uadbench.guard import no_network

    with no_network():
        yield


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's settings is seen or changed. The cache is shared by all tests of a session."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    for name in [n for n in os.environ if n.startswith("UADBENCH_") and n != "UADBENCH_TEST_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UADBENCH_CACHE", str(cache))


@pytest.fixture
def fresh_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, for tests that change data behind an adapter's back."""
    monkeypatch.setenv("UADBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def real_data() -> Path:
    """The folder with real images; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("UADBENCH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real images in {folder} (set UADBENCH_TEST_DATA)")
    return folder
