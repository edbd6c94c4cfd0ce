"""One subject of the phantom, from its recipe to its arrays."""

from __future__ import annotations

import torch

from uadbench.datasets._phantom_anatomy import draw_person
from uadbench.datasets._phantom_contrast import acquire, draw_palette, intensity
from uadbench.datasets._phantom_lesions import paint, plan_lesions
from uadbench.datasets._phantom_recipe import Recipe
from uadbench.datasets._phantom_scan import Scan, scatter
from uadbench.datasets._phantom_template import load_template
from uadbench.datasets._phantom_tissue import tissue_of


@torch.no_grad()
def make_scan(recipe: Recipe) -> Scan:
    """Make a subject. The same recipe gives the same arrays, and the same anatomy in every contrast and size.

    Raises:
        DataError: if the template cannot be read.
    """
    template = load_template()
    person = draw_person(recipe.stream("anatomy"), template, recipe.age)
    plan = None if recipe.kind == "none" else plan_lesions(recipe.stream("lesion"), recipe.kind, person, template)
    tissue = tissue_of(person, template, recipe.size, plan.push if plan else None)
    look = recipe.stream(f"look {recipe.contrast}")
    palette = draw_palette(look, recipe.contrast, recipe.scanner)
    clean = intensity(tissue, palette)
    share = torch.zeros_like(clean)
    if plan:
        clean, share = paint(plan, tissue, clean, recipe.contrast)
    seen = acquire(look, clean, tissue, palette)
    inside = tissue.inside.numpy()
    index = tissue.index.numpy()[inside]
    return scatter(recipe.size, index, seen.numpy()[inside], share.numpy()[inside] > 0.5)
