"""From the words of the command line to requests, one for each dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadbench.config import FILE, setting
from uadbench.errors import UsageError

if TYPE_CHECKING:
    from uadbench.plan import Request
    from uadbench.registry import Registry


def share_data(requests: list[Request], registry: Registry) -> list[Request]:
    """Give every dataset of the command the parameters that are meant for it: "key=value" or "dataset.key=value".

    Raises:
        BadParameter: for a parameter that none of the datasets has.
    """
    from dataclasses import fields, replace

    from uadbench.joined import parts_of
    from uadbench.opening import refuse_one_root
    from uadbench.params import assign

    owners = {n: [f.name for f in fields(registry.dataset(n))] for r in requests for n in parts_of(r.dataset)}
    given = assign(requests[0].data, owners, "dataset")
    out = []
    for request in requests:
        parts = parts_of(request.dataset)
        refuse_one_root(parts, request.data)
        own = [(f"{n}." if len(parts) > 1 else "", key, value) for n in parts for key, value in given[n].items()]
        out.append(replace(request, data=[f"{prefix}{key}={value}" for prefix, key, value in own]))
    return out


def build_requests(
    *, methods: Sequence[str], datasets: Sequence[str], healthy: str | None, suite: str | None, seed: str | None,
    fold: int | None, params: Sequence[str], data: Sequence[str], preset: str | None, protocol: str | None,
    device: str | None, precision: str | None, references: str | None,
) -> list[Request]:  # fmt: skip
    """Return one request for each dataset. Command line > environment > uadbench.toml > suite > defaults.

    Raises:
        UsageError: if no method is named, or something cannot be read.
    """
    from uadbench.benchmark import defaults, load_suite, suites
    from uadbench.joined import joined_name
    from uadbench.plan import Request

    base = defaults()
    base["datasets"] = [base.pop("dataset")]
    if suite:
        if suite.endswith(".toml") and not Path(suite).is_file():
            raise UsageError(f"--suite {suite}: there is no such file; built-in suites: {', '.join(suites())}")
        base |= load_suite(suite).values

    def find(name: str, given: Any) -> tuple[Any, str]:
        return setting("run", name, given, env=f"UADBENCH_{name.upper()}", default=base.get(name))

    def choose(name: str, given: Any) -> Any:
        return find(name, given)[0]

    chosen = list(methods) or base.get("methods", [])
    if not chosen:
        raise UsageError("no method is named: give --method mddpm, or --suite quickstart; see: uadbench methods list")
    named = references if references is not None else base["references"]
    extra = [r for r in (names_of([named]) if isinstance(named, str) else named) if r != "none"]
    well = healthy or base.get("healthy")
    chosen_preset = str(choose("preset", preset))
    seed_text, source = find("seed", seed)
    names = {"command line": "--seed", "environment": "UADBENCH_SEED", FILE: f"{FILE}: [run] seed"}
    seeds = parse_seeds(str(seed_text), names.get(source, f"suite {suite}: seed"))
    return [
        Request(
            methods=list(dict.fromkeys(chosen)),
            dataset=name,
            references=extra,
            seeds=seeds,
            fold=int(fold if fold is not None else base.get("fold", 0)),
            preset=chosen_preset,
            params=[*base.get("params", []), *params],
            data=[*base.get("data", []), *data],
            protocol=str(choose("protocol", protocol)),
            device=str(choose("device", device) or "auto"),
            precision=str(choose("precision", precision) or "auto"),
        )
        for name in (joined_name(n, well) for n in list(dict.fromkeys(datasets)) or base["datasets"])
    ]


def parse_seeds(text: str, source: str = "--seed") -> list[int]:
    """Return the seeds of "0", "0-2" or "0,5,7"; `source` is where they were given, for messages.

    Raises:
        UsageError: for anything else.
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            low, dash, high = part.strip().partition("-")
            seeds += range(int(low), int(high if dash else low) + 1)
    except ValueError:
        raise UsageError(f"{source} {text!r} is not of the form 0, 0-2 or 0,5,7") from None
    if not seeds:
        raise UsageError(f"{source} {text!r} names no seed; write the smaller number first, such as 0-2")
    return list(dict.fromkeys(seeds))


def modalities_of(text: str) -> list[str]:
    """Return the modalities that a text names, joined with + or separated by commas."""
    return [word.strip() for word in text.replace("+", ",").split(",") if word.strip()]


def names_of(given: Sequence[str] | None) -> list[str]:
    """Return the names of texts that hold several each, separated by commas."""
    return [name.strip() for text in given or () for name in text.split(",") if name.strip()]
