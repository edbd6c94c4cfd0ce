"""Arrays of one cell on disk: anomaly maps and reconstructions, compressed, in half precision."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadbench.errors import MapError, StoreError
from uadbench.files import file_name, write_atomic

if TYPE_CHECKING:
    from uadbench.arrays import FloatArray


class ArrayFolder:
    """A folder of arrays."""

    def __init__(self, path: Path) -> None:
        """Refer to a folder, which need not exist yet."""
        self.path = path

    def write_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Write arrays as a compressed .npz."""
        import numpy as np

        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for key, value in arrays.items():
                member = io.BytesIO()
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
                # A fixed date: the same content gives the same bytes.
                entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                archive.writestr(entry, member.getvalue(), zipfile.ZIP_DEFLATED, 1)
        write_atomic(self.path / name, buffer.getvalue())

    def read_arrays(self, name: str) -> dict[str, Any]:
        """Read an .npz.

        Raises:
            StoreError: if it is missing, truncated or damaged.
        """
        import numpy as np

        path = self.path / name
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except FileNotFoundError:
            raise StoreError(f"{path} does not exist; give the run command again to make it") from None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path} is damaged ({error}); give the run command again") from error

    def map_path(self, key: str) -> Path:
        """Return where the map of subject `key` lies."""
        return self.path / "maps" / f"{file_name(key)}.npz"

    def write_map(self, key: str, anomaly_map: FloatArray, own: Mapping[int, float]) -> None:
        """Store a map (D, H, W) as float16 times a power of two, so that no range of scores is lost.

        `own` holds the scores that the method itself gave to slices, if it gives any.
        """
        import numpy as np

        largest = float(np.abs(anomaly_map).max())
        exponent = 0
        if largest > 0 and not 2.0**-4 <= largest <= 2.0**15:
            exponent = int(np.frexp(largest)[1]) - 15
        half = np.ldexp(anomaly_map, -exponent).astype(np.float16)
        scores = {"own_slice": np.array(list(own), np.int32), "own_score": np.array(list(own.values()), np.float64)}
        self.write_arrays(f"maps/{file_name(key)}.npz", {"map": half, "exponent": np.int32(exponent), **scores})

    def read_map(self, key: str, grid: tuple[int, ...] | None = None) -> tuple[FloatArray, dict[int, float]]:
        """Read a map (D, H, W), float32, and the method's own scores by slice.

        Raises:
            StoreError: if it is missing or damaged, or does not have the shape `grid`.
        """
        import numpy as np

        try:
            arrays = self.read_arrays(f"maps/{file_name(key)}.npz")
        except StoreError as error:
            raise MapError(str(error)) from error
        try:
            anomaly_map = np.ldexp(arrays["map"].astype(np.float32), int(arrays["exponent"]))
            own = dict(zip(arrays["own_slice"].tolist(), arrays["own_score"].tolist(), strict=True))
        except KeyError as error:
            raise MapError(f"{self.map_path(key)} is damaged (no {error}); give the run command again") from error
        if grid is not None and anomaly_map.shape != grid:
            raise StoreError(
                f"{self.map_path(key)} has the shape {anomaly_map.shape} but its subject has {grid}; the data are not "
                "those of the run: restore them, or run again"
            )
        return anomaly_map, own

    def write_reconstruction(self, key: str, reconstruction: FloatArray) -> None:
        """Store a reconstruction (C, D, H, W) as float16; intensities of healthy tissue are about 0 to 1."""
        import numpy as np

        half = np.clip(reconstruction, -6e4, 6e4).astype(np.float16)
        self.write_arrays(f"reconstructions/{file_name(key)}.npz", {"reconstruction": half})

    def read_reconstruction(self, key: str) -> FloatArray | None:
        """Read a reconstruction (C, D, H, W), float32; None if the method has none, or none was kept.

        Raises:
            StoreError: if it is damaged.
        """
        import numpy as np

        name = f"reconstructions/{file_name(key)}.npz"
        if not (self.path / name).is_file():
            return None
        arrays = self.read_arrays(name)
        if "reconstruction" not in arrays:
            raise StoreError(f"{self.path / name} is damaged (no 'reconstruction'); remove it or run the method again")
        return np.asarray(arrays["reconstruction"], np.float32)
