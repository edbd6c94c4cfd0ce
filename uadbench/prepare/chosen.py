"""Which scans of a dataset are prepared, and what the dataset says that decides what is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from uadbench.errors import DataError, unknown_name
from uadbench.prepare.scans import CaseLike
from uadbench.prepare.strip import SkullStrip
from uadbench.prepare.work import Task


def choose(dataset: Any, task: Task, note: Callable[[str], None]) -> tuple[dict[str, CaseLike], Task]:
    """Return the scans that have a modality that is wanted, by key, and the task with what the dataset says.

    Args:
        dataset: an adapter of volumes (see `uadbench.datasets._volumes`).
        task: what to do; modalities in the user's words.
        note: told how many scans are left out.

    Raises:
        UsageError: for a modality that no scan has.
        DataError: if there is nothing to prepare.
    """
    listed = dataset.listed
    known = list(dict.fromkeys(word for case in listed.values() for word in case.images))
    if not known:
        raise DataError(f"{task.name}: there is no image in {dataset.root}; give the folder of the data with --source")
    wanted = _own_words(dataset, task.wanted, known)
    usual = [word for word in dataset.channel_names() if word in known]
    words = wanted or list(dict.fromkeys([*usual, *known]))
    if dataset.channel_names() != (words[0],):
        dataset = replace(dataset, modality=words[0])
    cases = _with_foreground(dataset, dataset.having(words), task.name)
    without = sum(not set(words) & set(case.images) for case in listed.values())
    if without:
        note(f"{without} of {len(listed)} scans have no {' or '.join(words)} and are left out")
    skull_free = bool(dataset.skull_free)
    return cases, replace(
        task,
        wanted=tuple(wanted),
        baked={name: getattr(dataset, name) for name in sorted(dataset.baked)},
        foreground=dataset.foreground,
        skull_free=skull_free,
        stripped=skull_free or any(isinstance(step, SkullStrip) for step in task.recipe.steps),
        of=len(cases) + without,
    )


def _own_words(dataset: Any, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return modalities as the dataset calls them, whatever their case, such as t1 for T1w in a BIDS tree.

    Raises:
        UsageError: for a modality that no scan has.
    """
    by_letters = {word.lower(): word for word in known}
    out = []
    for given in wanted:
        (word,) = replace(dataset, modality=given).channel_names()
        found = word if word in known else by_letters.get(word.lower())
        if found is None:
            raise unknown_name("modality", given, known)
        out.append(found)
    return list(dict.fromkeys(out))


def _with_foreground(dataset: Any, cases: dict[str, CaseLike], name: str) -> dict[str, CaseLike]:
    """Return the cases with the mask files that the parameter `foreground` lets be used."""
    if dataset.foreground in ("nonzero", "none"):
        # Replaced in the adapter's own dataclass, of which the protocol knows the attributes only.
        changed: dict[str, Any] = dict(cases)
        return {key: replace(case, foreground=None) for key, case in changed.items()}
    if dataset.foreground == "file" and (bare := [key for key, case in cases.items() if case.foreground is None]):
        raise DataError(
            f"{name}: {len(bare)} of {len(cases)} scans have no foreground mask, the first is {bare[0]}; add them, or "
            "leave out -D foreground=file"
        )
    return cases
