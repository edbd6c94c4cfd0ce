"""Runs the command line in processes of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from conftest import PLUGINS, ROOT

HEAVY = ("torch", "numpy", "pandas", "sklearn", "diffusers", "timm", "nibabel", "matplotlib", "scipy")


def uadbench(*words: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with the plug-ins of the tests."""
    return subprocess.run(
        [sys.executable, "-m", "uadbench", *map(str, words)],
        capture_output=True, text=True, cwd=cwd, timeout=250, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "UADBENCH_PLUGINS": str(PLUGINS), "OMP_NUM_THREADS": "2", **env},
    )  # fmt: skip


def imported_by(*words: str, cwd: Path, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    """Return which heavy packages a command imports."""
    code = (
        f"import sys\nsys.argv = ['uadbench', *{list(words)!r}]\nfrom uadbench.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write('IMPORTED ' + ' '.join(m for m in {heavy!r} if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done.stderr.rpartition("IMPORTED ")[2].split()


def uadbench_here(*words: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Do the same inside this process, which is quicker by the seconds that imports take."""
    from uadbench.cli import main

    out, err = io.StringIO(), io.StringIO()
    given = {"UADBENCH_PLUGINS": str(PLUGINS), "COLUMNS": "200", **env}
    before, argv, home = {k: os.environ.get(k) for k in given}, sys.argv, Path.cwd()
    code = 0
    try:
        os.environ.update(given)
        os.chdir(cwd)
        sys.argv = ["uadbench", *map(str, words)]
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
    finally:
        os.chdir(home)
        sys.argv = argv
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
