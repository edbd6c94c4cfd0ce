"""From a dataset's name and what the user says to the dataset, and its fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uadbench.config import data_folder, project_settings
from uadbench.dataset import Dataset
from uadbench.errors import UsageError
from uadbench.identity import digest, source_hash
from uadbench.joined import Joined, parts_of
from uadbench.params import Resolved, assign, describe, resolve
from uadbench.registry import Registry


def open_dataset(registry: Registry, name: str, texts: Sequence[str]) -> tuple[Dataset, dict[str, Resolved]]:
    """Make a dataset by name, or the lesion set of one with the healthy people of another ("brats21+ixi").

    Args:
        registry: where adapters are found.
        name: of one, or of two joined.
        texts: "key=value"; of two also "name.key=value", and a key without a name goes to both that have it.

    Returns:
        The dataset and its parameters with their origin; those of two are called "name.key".
    """
    parts = parts_of(name)
    classes = {part: registry.dataset(part) for part in parts}
    if len(parts) == 1:
        return resolve_dataset(classes[parts[0]], parts[0], texts)
    refuse_one_root(parts, texts)
    given = assign(texts, {part: [p.name for p in describe(cls)] for part, cls in classes.items()}, "dataset")
    made = {
        part: resolve_dataset(cls, part, [f"{k}={v}" for k, v in given[part].items()]) for part, cls in classes.items()
    }
    lesions, healthy = (dataset for dataset, _ in made.values())
    config = {f"{part}.{key}": value for part, (_, values) in made.items() for key, value in values.items()}
    return Joined(lesions, healthy, (parts[0], parts[1])), config


def refuse_one_root(parts: Sequence[str], texts: Sequence[str]) -> None:
    """Refuse one folder for two datasets.

    Raises:
        UsageError: saying how both are given.
    """
    if len(parts) > 1 and any(text.partition("=")[0].strip() == "root" for text in texts):
        raise UsageError(
            f"two datasets take part, {' and '.join(parts)}: say where each of them lies, with "
            + " ".join(f"-D {part}.root=..." for part in parts)
        )


def resolve_dataset(cls: type[Dataset], name: str, texts: Sequence[str]) -> tuple[Dataset, dict[str, Resolved]]:
    """Make a dataset from "key=value" texts, uadbench.toml and $UADBENCH_DATA."""
    known = [p.name for p in describe(cls)]
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if "root" in known and (folder := data_folder(name)):
        layers.append(("environment", {"root": str(folder)}))
    layers.append(("uadbench.toml", project_settings().get("datasets", {}).get(name, {})))
    layers.append(("command line", assign(texts, {name: known}, "dataset")[name]))
    return resolve(cls, layers, owner=name)


def fingerprint_of(dataset: Dataset) -> str:
    """Return the hash of the data: their content, who plays which role, their groups, and the adapter's code."""
    if isinstance(dataset, Joined):
        return digest([fingerprint_of(dataset.lesions), fingerprint_of(dataset.healthy)])
    members = [[role, s.key, s.id, dict(s.groups)] for role, s in dataset.split(0).items()]  # Of fold 0 for all folds,
    return digest([source_hash(type(dataset), maps=False), dataset.content(), members])  # which stand in one table.


def content_of(dataset: Dataset) -> str:
    """Return the hash of the data without the adapter's code, for evaluations of stored maps.

    Where data are made by the adapter and not read from files, its code is their content.
    """
    if isinstance(dataset, Joined):
        return digest([content_of(dataset.lesions), content_of(dataset.healthy)])
    members = [[role, s.key, s.id, dict(s.groups)] for role, s in dataset.split(0).items()]
    made = not all(s.files for s in dataset.subjects())
    return digest([dataset.content(), members, source_hash(type(dataset), maps=False) if made else ""])
