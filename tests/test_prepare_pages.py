"""The page of all steps and recipes follows the code, and what it shows works."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from conftest import ROOT

from uadbench.prepare.pages import page
from uadbench.prepare.recipes import RECIPES, STEPS, get_recipe

TEXT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.partition(f"\n### {title}\n")[2].partition("\n#")[0]


def test_the_page_is_up_to_date() -> None:
    assert page() == TEXT, "run: python -m uadbench.prepare.pages docs/recipes.md"


def test_every_step_and_parameter_is_on_the_page() -> None:
    for name, step in STEPS.items():
        assert re.findall(r"^\| `(\w+)` \|", section(name), re.MULTILINE) == [f.name for f in fields(step)]
    assert "| `shrink` | `4` | integer in [1, 8] | the field is estimated on a grid coarser by this factor |" in TEXT


def test_the_listed_steps_are_the_recipe(tmp_path: Path) -> None:
    """Written back as a file, the list of a recipe gives the same steps."""
    for name, recipe in RECIPES.items():
        lines = []
        for word, values in re.findall(r"^\d+\. \[(\w+)\]\(#\w+\)(?:: `(.+)`)?$", section(name), re.MULTILINE):
            lines += ["[[step]]", f'do = "{word}"', *re.split(r", (?=\w+ = )", values)]
        (tmp_path / "again.toml").write_text("\n".join(lines))
        assert get_recipe(str(tmp_path / "again.toml")).steps == recipe.steps


def test_the_recipe_that_is_shown_can_be_used(tmp_path: Path) -> None:
    shown = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(shown) == 1
    (tmp_path / "mine.toml").write_text(shown[0])
    recipe = get_recipe(str(tmp_path / "mine.toml"))
    assert [step.name for step in recipe.steps] == ["reorient", "skull_strip", "register", "crop_pad"]
    assert recipe.registered
