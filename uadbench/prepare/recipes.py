"""Recipes: ordered lists of steps with parameters, as data. Some come with the suite; a TOML file is another one.

text = "what it is"
[[step]]
do = "reorient"
to = "RAS"
[[step]]
do = "register"
mm = 1.0
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from uadbench.errors import BadParameter, UsageError, suggest, unknown_name
from uadbench.identity import digest
from uadbench.params import resolve
from uadbench.prepare.grids import CropPad, CropToBrain, Downsample, Reorient, Resample, Slices
from uadbench.prepare.register import Register
from uadbench.prepare.steps import N4, CurvatureFlow, Normalise, Step
from uadbench.prepare.strip import SkullStrip

STEPS: dict[str, type[Step]] = {
    cls.name: cls
    for cls in (Reorient, Resample, SkullStrip, Register, N4, CropToBrain, CropPad, CurvatureFlow, Normalise, Downsample,
                Slices)
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """An ordered list of steps.

    Attributes:
        name: "mddpm", or the stem of a file.
        text: what it is, in sentences.
        steps: in order.
    """

    name: str
    text: str
    steps: tuple[Step, ...]

    @property
    def registered(self) -> bool:
        """Whether voxel k is the same place in every scan: registered, and not cut to each scan's own brain since."""
        out = False
        for step in self.steps:
            if isinstance(step, Register):
                out = True
            elif isinstance(step, CropToBrain):
                out &= step.around == "template"
            elif isinstance(step, CropPad):
                out &= step.centre != "brain"
        return out

    def as_list(self) -> list[dict[str, Any]]:
        """Return the steps as plain values."""
        return [
            {"do": step.name, **{f.name: _plain(getattr(step, f.name)) for f in fields(step)}} for step in self.steps
        ]

    def hash(self) -> str:
        """Return what identifies the steps, their parameters and the content of their templates; not the name or text.

        Raises:
            UsageError: if something that a step needs is not there.
        """
        # Where a template lies is no part of it, what it holds is.
        steps = [{k: v for k, v in step.items() if k != "template"} for step in self.as_list()]
        return digest([steps, [step.inputs() for step in self.steps]])

    def with_template(self, template: str) -> Recipe:
        """Return the recipe with another template.

        Raises:
            UsageError: if it registers to none.
        """
        if not any(isinstance(step, Register) for step in self.steps):
            raise UsageError(
                f"the recipe {self.name} registers to no template; leave out --template, or take another recipe"
            )
        steps = (replace(s, template=template) if isinstance(s, Register) else s for s in self.steps)
        return replace(self, steps=tuple(steps))

    def as_toml(self) -> str:
        """Return the recipe as the text of a file that is read as the same recipe."""
        lines = [f"text = {as_toml(self.text)}"]
        for step in self.as_list():
            lines += ["", "[[step]]", *(f"{key} = {as_toml(value)}" for key, value in step.items())]
        return "\n".join(lines) + "\n"


def get_recipe(name: str) -> Recipe:
    """Return a recipe by its name, or from a .toml file.

    Raises:
        UsageError: for an unknown name, step or parameter, with the nearest one.
    """
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        problem = unknown_name("recipe", name, RECIPES)
        raise UsageError(f"{problem} A recipe of your own is a file that ends in .toml.")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the recipe {path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the recipe {path} is not valid TOML: {error}") from error
    return from_content(path.stem, content, str(path))


def from_content(name: str, content: Mapping[str, Any], source: str) -> Recipe:
    """Return the recipe that the content of a TOML file describes.

    Raises:
        UsageError: for what nobody would read, and for steps and parameters that do not exist.
    """
    for key in content:
        if key not in ("text", "step"):
            raise UsageError(
                f"{source}: nothing is called {key!r} here.{suggest(key, ('text', 'step'))} Known: text, [[step]]."
            )
    text, listed = content.get("text", ""), content.get("step", [])
    if not isinstance(text, str):
        raise UsageError(f"{source}: text must be text in quotes; got {text!r}")
    if not isinstance(listed, list) or not all(isinstance(step, dict) for step in listed):
        raise UsageError(f"{source}: steps are written as [[step]], each with a line do = ...")
    if not listed:
        raise UsageError(f'{source}: a recipe needs at least one step: [[step]] and a line do = "..."; {_known()}')
    steps = [_step(step, f"{source}, step {number}") for number, step in enumerate(listed, 1)]
    for number, step in enumerate(steps, 1):
        if step.by_template and not any(isinstance(earlier, Register) for earlier in steps[: number - 1]):
            raise UsageError(
                f"{source}, step {number}: {step.name} goes by the template; put the step register before it"
            )
    return Recipe(name, text, tuple(steps))


def _step(given: Mapping[str, Any], source: str) -> Step:
    word = given.get("do")
    if not isinstance(word, str):
        raise UsageError(f'{source}: a line do = "..." is missing; {_known()}')
    if word not in STEPS:
        raise UsageError(f"{source}: no step is called {word!r}.{suggest(word, STEPS)} Steps: {', '.join(STEPS)}.")
    values = {key: value for key, value in given.items() if key != "do"}
    try:
        return resolve(STEPS[word], [("the recipe", values)], owner=word)[0]
    except BadParameter as error:
        raise UsageError(f"{source}: {error}") from error


def _known() -> str:
    return f"steps: {', '.join(STEPS)}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def as_toml(value: Any) -> str:
    """Return a plain value as it is written in a recipe's file."""
    # JSON's texts, numbers, lists and truth values are TOML's.
    return json.dumps(value, ensure_ascii=False)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "standard",
            "Brains on one grid of 2 mm (88 x 104 x 88), affine to ICBM152, bias field taken out, intensities as they are "
            "(a protocol normalises them).",
            (
                Reorient(),
                SkullStrip(),
                Register(),
                N4(),
                CropPad((176, 208, 176), centre="template"),
                Downsample(2),
            ),
        ),
        Recipe(
            "mddpm",
            "As described with pDDPM and mDDPM (arXiv 2303.03758, 2305.19867): 1 mm, skull stripped, affine to a template, "
            "192 x 192 x 160, bias field, curvature flow, percentiles 1 to 99 of the brain to 0 to 1, half resolution, 15 "
            "axial slices left out at either end: 96 x 96 x 50. Mended against the released scripts (mddpm-legacy): the T1 "
            "is registered to the T1 template and the other modalities follow it; masks by nearest neighbour; one "
            "interpolation for resampling and registration; N4 inside the mask for every data set; the box is the "
            "template's, the same for everyone, and complete; no B-spline overshoot. The paper's template is SRI24: give "
            "its file with --template; ICBM152 is taken otherwise.",
            (
                Reorient(),
                SkullStrip(),
                Register(how="bspline"),
                CropPad((192, 192, 160), centre="template"),
                N4(iterations=(200, 200, 200, 200), tolerance=5e-4),
                CurvatureFlow(),
                Normalise(clip_high=True),
                Downsample(2),
                Slices(15, 15),
            ),
        ),
        Recipe(
            "mddpm-legacy",
            "As the scripts and the loader released with pDDPM and mDDPM, with their defects, for comparison only: "
            "(1) masks and lesions are moved with linear interpolation and all above 0 is kept, which makes lesions larger; "
            "(2) whatever the modality, the template is a T1 (ICBM152 here, SRI24 there; --template); "
            "(3) images are interpolated three times; "
            "(4) each scan is cut to its own brain, without the last plane along each axis, so that voxel k is not the same "
            "place in everyone; "
            "(5) the last B-spline overshoots and is not clipped, so that values leave 0 to 1 and the background is not 0. "
            "Not as released: masks that are given are used where HD-BET ran; N4 works inside the mask, where it was "
            "weighted by the smoothed mask (and ran without one for BraTS).",
            (
                Resample(1.0, "bspline"),
                Reorient("LPS"),
                SkullStrip(by="t2"),
                Register(by="t2", masks="linear"),
                CropToBrain("brain", last_plane=False),
                N4(iterations=(200, 200, 200, 200), tolerance=5e-4),
                CurvatureFlow(),
                CropPad((192, 192, 100), centre="grid"),
                Normalise(clip_high=True),
                Resample(2.0, "bspline", clip=False),
            ),
        ),
        Recipe(
            "convert",
            "Axes to RAS and nothing else: for data that are prepared already and lie in another layout.",
            (Reorient(),),
        ),
    )
}
"""The recipes that come with the suite."""
