"""Where the template lies."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from uadbench.errors import DataError

_NAME = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_MAPS = ("t1", "gm", "wm")


def template_files() -> tuple[Path, ...]:
    """Return the three files of the template.

    Raises:
        DataError: if nilearn is not installed or its wheel no longer carries them.
    """
    spec = importlib.util.find_spec("nilearn")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise DataError("phantom is made from the template in nilearn's wheel; install it: pip install nilearn")
    paths = tuple(Path(places[0]) / "datasets" / "data" / _NAME.format(name) for name in _MAPS)
    if missing := [path.name for path in paths if not path.is_file()]:
        raise DataError(
            f"{paths[0].parent} lacks {', '.join(missing)}; install a nilearn that carries them (0.10.3 to 0.13)"
        )
    return paths
