"""The main job with all its defaults. Minutes; not run by CI."""

from __future__ import annotations

from pathlib import Path

import pytest

import uadbench as ub


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mddpm_beats_chance_and_brightness_on_the_phantom(tmp_path: Path) -> None:
    table = ub.run("mddpm", out=tmp_path).set_index("method")
    assert list(table.index)[0] == "mddpm"
    for reference in ("random", "intensity"):
        assert table.loc["mddpm", "auprc_ci_low"] > table.loc[reference, "auprc_ci_high"]
