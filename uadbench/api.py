"""The same as the command line, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadbench.benchmark import defaults
from uadbench.dataset import Dataset
from uadbench.errors import UADBenchError
from uadbench.method import Method
from uadbench.opening import open_dataset
from uadbench.params import as_text, choose_preset, resolve
from uadbench.plan import Request, make_plan
from uadbench.registry import Registry
from uadbench.reporter import Reporter, silent
from uadbench.runner import run_plan
from uadbench.store import Store

if TYPE_CHECKING:
    import pandas as pd


def create_method(name: str, *, preset: str = "paper", plugins: Sequence[str | Path] = (), **params: Any) -> Method:
    """Return an unfitted method by name, with validated parameters.

    Raises:
        UsageError: for an unknown name, preset or parameter, or a value out of range.
    """
    cls = Registry(plugins).method(name)
    return resolve(
        cls, [(f"preset {preset}", choose_preset(name, cls.presets, preset)), ("argument", params)], owner=name
    )[0]


def load_dataset(name: str, *, plugins: Sequence[str | Path] = (), **params: Any) -> Dataset:
    """Return a dataset by name, with validated parameters.

    Raises:
        UsageError: for an unknown name or parameter.
    """
    return open_dataset(Registry(plugins), name, [f"{k}={as_text(v)}" for k, v in params.items()])[0]


def run(
    method: str | Sequence[str],
    *,
    dataset: str = "phantom",
    out: str | Path = "runs",
    plugins: Sequence[str | Path] = (),
    reporter: Reporter | None = None,
    **request: Any,
) -> pd.DataFrame:
    """Run methods and return the leaderboard of these cells, as `uadbench run` does.

    Args:
        method: one or several names.
        dataset: name.
        out: folder of the store.
        plugins: local plug-ins.
        reporter: told what happens; by default nothing is printed.
        **request: other attributes of `uadbench.plan.Request`, such as seeds=(0, 1), preset="paper",
            params={"steps": 10} or data={"root": "/data"}.

    Raises:
        UADBenchError: naming the cells that failed; what is finished is in the store.
    """
    from uadbench.export import wide
    from uadbench.leaderboard import make_boards
    from uadbench.rows import read_cells

    methods = [method] if isinstance(method, str) else list(method)
    for name in ("params", "data"):
        if isinstance(given := request.get(name), Mapping):
            request[name] = [f"{key}={as_text(value)}" for key, value in given.items()]
    if isinstance(request.get("seeds"), int):
        request["seeds"] = (request["seeds"],)
    references = request.pop("references", tuple(defaults()["references"]))
    plan = make_plan(Request(methods=methods, dataset=dataset, references=references, **request), Registry(plugins))
    outcome = run_plan(plan, Store(Path(out)), reporter or silent())
    failed = [
        f"{p.name}, seed {p.seed}: {reason}"
        for p, _, state, reason in outcome.cells
        if state in ("failed", "interrupted")
    ]
    if failed:
        raise UADBenchError("; ".join(failed))
    cells, _ = read_cells(folder for _, folder, _, _ in outcome.cells if folder)
    return wide(make_boards(cells))


def load_leaderboard(out: str | Path = "runs", *, where: str = "") -> pd.DataFrame:
    """Return the table of all results in a store, one row for each method x dataset x protocol."""
    from uadbench.export import wide
    from uadbench.leaderboard import make_boards
    from uadbench.rows import read_cells

    return wide(make_boards(read_cells(Store(Path(out)).folders())[0], where=where))
