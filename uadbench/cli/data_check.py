"""`uadbench datasets check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadbench.cli.catalogue import name_or_file, report_checks
from uadbench.cli.console import TerminalReporter
from uadbench.cli.run import Plugins
from uadbench.config import check_names


def check_data(
    name: Annotated[str, typer.Argument(help="Name of a dataset, or the file of a plug-in.")],
    data: Annotated[list[str] | None, typer.Option("--data", "-D", help="key=value; repeatable.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the data lie.")] = None,
    every: Annotated[bool, typer.Option("--every-subject", help="Also read every subject of the split.")] = False,
    plugin: Plugins = None,
) -> None:
    """Run the contract on a dataset; with --every-subject read all of it, as a run does before training."""
    from uadbench.bank import Bank
    from uadbench.contract import dataset_checks
    from uadbench.opening import resolve_dataset
    from uadbench.protocol import Intensity

    name, registry = name_or_file("dataset", name, plugin)
    check_names("datasets", registry.entries("dataset"))
    texts = [*(data or []), *([f"root={root}"] if root else [])]
    dataset, _ = resolve_dataset(registry.dataset(name), name, texts)
    if every:
        split = dataset.split(0)
        with TerminalReporter().bar("subjects", len(list(split.items()))) as advance:
            Bank(dataset, name, Intensity()).check(split, each_subject=lambda: advance(1))
    report_checks(name, dataset_checks(dataset))
