"""What the catalogue says about data sets: the table of `uadbench datasets list` and one page each.

python -m uadbench.dataset_pages docs/datasets writes the pages.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uadbench.config import data_folder, project_settings
from uadbench.dataset import Dataset
from uadbench.errors import PluginError
from uadbench.params import Parameter, as_text, describe
from uadbench.registry import Registry

WITH = "comes with uadbench"


@dataclass(frozen=True)
class Line:
    """One line of the list.

    Attributes:
        name: as typed.
        summary: the first line of the adapter's docstring.
        origin: where the adapter comes from, in words.
        title: of the data.
        modality: what it holds, separated by spaces.
        dimensions: 2-D or 3-D.
        masks: voxels, images, none or as given.
        subjects: published number, None if it is not known or the data are one's own.
        licence: of the data.
        where: the folder on this machine, how to get the data, or that they come along.
        here: whether the data are on this machine.
    """

    name: str
    summary: str
    origin: str
    title: str = ""
    modality: str = ""
    dimensions: str = ""
    masks: str = ""
    subjects: int | None = None
    licence: str = ""
    where: str = ""
    here: bool = False


def lines(registry: Registry) -> list[Line]:
    """Return one line for each dataset; one that cannot be loaded says why."""
    out = []
    for name, entry in registry.entries("dataset").items():
        try:
            cls = registry.dataset(name)
        except PluginError as error:
            out.append(Line(name, entry.summary, entry.origin, where=str(error)))
            continue
        card = cls.card
        folder = located(name, cls)
        has_root = "root" in {p.name for p in describe(cls)}
        get = card.access or card.url
        where = str(folder) if folder else (get if has_root else WITH)
        out.append(
            Line(
                name, entry.summary, entry.origin, card.title, " ".join(card.modality), card.dimensions, card.masks,
                card.expected.get("subjects") or next(iter(card.expected.values()), None), card.licence, where,
                folder is not None or not has_root,
            )
        )  # fmt: skip
    return out


def located(name: str, cls: type[Dataset]) -> Path | None:
    """Return the folder (or file) of a dataset on this machine, if a setting names one that is there."""
    settings = project_settings().get("datasets", {}).get(name, {})
    given = settings.get("root") or data_folder(name)
    if given is None or "root" not in {p.name for p in describe(cls)}:
        return None
    path = Path(given).expanduser()
    return path if path.exists() else None


def described(cls: type[Dataset]) -> list[str]:
    """Return what the docstrings of an adapter say below their summary, such as where files lie."""
    module = inspect.getdoc(sys.modules[cls.__module__]) or ""
    texts = (module.partition("\n")[2].strip(), (inspect.getdoc(cls) or "").strip())
    return [text for text in texts if text]


def page(name: str, cls: type[Dataset], summary: str) -> str:
    """Return the page of one dataset as Markdown, made from its card, its docstrings and its parameters."""
    card = cls.card
    texts = described(cls)
    facts: Mapping[str, Any] = {
        "title": card.title,
        "modality": ", ".join(card.modality),
        "dimensions": card.dimensions,
        "masks": card.masks,
        "healthy images": card.healthy,
        "published counts": ", ".join(f"{v} {k}" for k, v in card.expected.items()),
        "licence": card.licence,
        "access": card.access,
        "described at": card.url,
        "cite": card.reference,
        "note": card.note,
    }
    parts = [
        f"# {name}\n",
        f"{summary}\n",
        "| | |\n|---|---|\n" + "\n".join(f"| {k} | {v} |" for k, v in facts.items() if v) + "\n",
        *(_escaped(text) + "\n" for text in texts),
        "## Parameters\n",
        "Given as `-D name=value`.\n",
        "| name | default | meaning |",
        "|---|---|---|",
        *(f"| `{p.name}` | {_shown(p)} | {p.description}: {p.type} |" for p in describe(cls)),
        "",
        "## Commands\n",
        "```",
        *_commands(name, cls),
        "```\n",
    ]
    return "\n".join(parts)


def _escaped(text: str) -> str:
    """Return Markdown in which < begins no HTML. Code is shown as it is written."""
    parts = re.split(r"(```.*?```|`[^`]*`)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def _commands(name: str, cls: type[Dataset]) -> list[str]:
    root = f" --root /data/{name}" if "root" in {p.name for p in describe(cls)} else ""
    pair = {"lesions": (name, "ixi"), "healthy": ("mslub", name)}.get(getattr(cls, "holds", ""))
    check = f"uadbench datasets check {name}{root}"
    if pair:
        roots = " ".join(f"-D {n}.root=/data/{n}" for n in pair)
        return [check, f"uadbench run --method mddpm --dataset {pair[0]} --healthy {pair[1]} {roots}"]
    protocol = " --protocol image-v1" if cls.card.masks == "images" else ""
    return [check, f"uadbench run --method feature_knn --dataset {name}{root}{protocol}"]


def _shown(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    return str(value).lower() if value is None or isinstance(value, bool) else as_text(value) or "empty"


def pages(registry: Registry) -> dict[str, str]:
    """Return all pages of the built-in data sets by file name, and an index."""
    built_in = {n: e for n, e in registry.entries("dataset").items() if e.origin == "uadbench"}
    out = {f"{name}.md": page(name, registry.dataset(name), entry.summary) for name, entry in built_in.items()}
    rows = [
        f"| [{x.name}]({x.name}.md) | {x.modality} | {x.dimensions} | {x.masks} | {x.subjects or ''} | {x.licence} |"
        for x in lines(registry)
        if x.name in built_in
    ]
    head = "| name | modality | | masks | subjects | licence |\n|---|---|---|---|---|---|"
    text = (
        "Made from the adapters by `python -m uadbench.dataset_pages docs/datasets`; a test keeps the pages up to date."
    )
    return {"README.md": "\n".join(["# Data sets\n", f"{text}\n", head, *rows, ""]), **out}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for file_name, content in pages(Registry()).items():
        (target / file_name).write_text(content, encoding="utf-8")
