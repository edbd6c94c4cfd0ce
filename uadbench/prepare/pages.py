"""The page of all steps and recipes, made from the code: python -m uadbench.prepare.pages docs/recipes.md."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from uadbench.params import describe
from uadbench.prepare.finish import COLUMNS, SHEET, TABLE
from uadbench.prepare.recipes import RECIPES, STEPS, Recipe, as_toml
from uadbench.prepare.steps import Step

EXAMPLE = """\
text = "What it is, in a sentence."

[[step]]
do = "reorient"

[[step]]
do = "skull_strip"

[[step]]
do = "register"
mm = 2.0
how = "bspline"

[[step]]
do = "crop_pad"
size = [96, 112, 96]
centre = "template"
"""

INTRODUCTION = """\
A recipe is an ordered list of steps that `uadbench datasets prepare` applies to every scan:
```
uadbench datasets prepare ixi --source RAW                                # by standard, into prepared/ixi-standard
uadbench datasets prepare ixi --source RAW --recipe mddpm --out PREPARED
uadbench datasets prepare ixi --source RAW --recipe mine.toml --first 3   # a recipe of your own, tried on three scans
```
* **Images** of one scan may lie on different grids until `register` brings them to one. **Masks** (foreground, lesion,
  ignored voxels) go through every step with the image whose grid they have.
* **Modalities** that are not written (`--modality`) are still read where a step goes by them: the T1 for the registration.
* **What was done** stands in `prepared.json` (the recipe) and in `record.json` of each scan (what each step found).
* **The same command again** goes on where it was stopped. A scan is prepared again if its files, the recipe, the template
  or the code of the steps have changed. A folder that holds scans of another recipe, of other modalities or other
  parameters of the data set is refused without `--force`.
* **A scan fails, and the others go on**, where a step cannot work: nothing of the brain is left, a mask is missing, an
  image is constant.
"""

OWN = """\
A file that ends in `.toml`: one `[[step]]` for each step, in order, with `do` and the parameters that are not the default.
Begin with one that is there:
```
uadbench datasets prepare --recipe mddpm --show > mine.toml
```
or with nothing:
```toml
{example}```
The order is yours, and what a step needs must be there: `normalise`, `n4` and what goes by the brain need a foreground, from
a mask file or from `skull_strip`; `crop_to_brain`, `crop_pad` and `slices` need all images on one grid; what goes by the
template needs `register`. A step that misses something says so, and names the step to put before it.
Two prepared sets are joined (`--healthy`) only if recipe and template are the same; the name of the file is no part of it.
"""


def page() -> str:
    """Return the page as Markdown."""
    parts = [
        "# Recipes: every step and what comes with the suite\n",
        "Made from the code by `python -m uadbench.prepare.pages docs/recipes.md`; a test keeps it up to date.\n",
        INTRODUCTION,
        "## Recipes\n",
        "| recipe | registered | steps |\n|---|---|---|",
        *(f"| [{r.name}](#{r.name}) | {_yes(r.registered)} | {_names(r)} |" for r in RECIPES.values()),
        "",
        *(_recipe(recipe) for recipe in RECIPES.values()),
        "## A recipe of your own\n",
        OWN.format(example=EXAMPLE),
        "## Steps\n",
        *(_step(step) for step in STEPS.values()),
        "## The quality table\n",
        f"`{TABLE}` has a line for each scan, the suspicious ones first; `{SHEET}` shows them in the same order. Numbers "
        "that a scan does not have are empty.\n",
        "| column | meaning |\n|---|---|",
        *(f"| `{name}` | {text} |" for name, text in COLUMNS.items()),
        "",
    ]
    return "\n".join(parts)


def _recipe(recipe: Recipe) -> str:
    """Return the text of a recipe and its steps in order, each with the parameters that are not the default."""
    lines = []
    for number, (step, values) in enumerate(zip(recipe.steps, recipe.as_list(), strict=True), 1):
        usual = {p.name: p.default for p in describe(type(step))}
        changed = [
            f"{name} = {as_toml(values[name])}" for name, default in usual.items() if getattr(step, name) != default
        ]
        lines.append(f"{number}. [{step.name}](#{step.name})" + (f": `{', '.join(changed)}`" if changed else ""))
    return "\n".join([f"### {recipe.name}\n", f"{recipe.text}\n", *lines, ""])


def _step(step: type[Step]) -> str:
    """Return what a step does and the table of its parameters."""
    rows = [
        f"| `{p.name}` | `{as_toml(p.default)}` | {p.type} | {p.description} |".replace("\n", " ")
        for p in describe(step)
    ]
    head = ["| parameter | default | type and range | meaning |", "|---|---|---|---|"]
    return "\n".join([f"### {step.name}\n", f"{inspect.getdoc(step)}\n", *head, *rows, ""])


def _names(recipe: Recipe) -> str:
    return ", ".join(step.name for step in recipe.steps)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
