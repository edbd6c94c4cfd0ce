"""From DICOM files to volumes: which slices belong together, in which order, and where they lie in space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uadbench.arrays import FloatArray
from uadbench.errors import DataError, UsageError
from uadbench.reading import LARGEST, Scan

TAGS = (
    "SeriesInstanceUID", "PatientID", "StudyDate", "SeriesDescription", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "Rows", "Columns", "NumberOfFrames", "Modality", "Manufacturer", "ManufacturerModelName", "PatientAge",
    "PatientSex",
)  # fmt: skip
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")

NO_IMAGES = frozenset({"SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "REG", "SR", "PR", "KO"})
"""What the tag Modality says of masks, plans and reports."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM counts millimetres to the left and to the back, NIfTI to the right and to the front."""

EVEN = 0.05
"""Share of the distance between slices by which a single one may differ."""


@dataclass(frozen=True)
class Series:
    """The slices of one series, in the order of their files.

    Attributes:
        uid: SeriesInstanceUID.
        headers: of every slice, without its pixels, by file.
    """

    uid: str
    headers: Mapping[Path, Any]

    @property
    def first(self) -> Any:
        """The header of the first file."""
        return next(iter(self.headers.values()))

    @property
    def words(self) -> str:
        """Date and description, by which a series is chosen: "20200131 AX FLAIR"."""
        return f"{self.text('StudyDate')} {self.text('SeriesDescription')}".strip()

    def text(self, tag: str) -> str:
        """Return the text of a tag of the first file; "" if it is not there."""
        return str(getattr(self.first, tag, "") or "").strip()


def load_pydicom() -> Any:
    """Import pydicom.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise UsageError("dicom needs pydicom; install it with: pip install 'uadbench[dicom]'") from None
    return pydicom


def find_series(folder: Path, owner: str) -> list[Series]:
    """Return the series of images below a folder, in the order of their first files. Reads no pixels.

    Files of other kinds are passed over, DICOM files of masks, reports and pictures without a place in space too.

    Raises:
        DataError: for a DICOM file that cannot be read or holds several frames.
    """
    pydicom = load_pydicom()
    found: dict[str, dict[Path, Any]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
        except pydicom.errors.InvalidDicomError as error:
            if path.suffix.lower() in (".dcm", ".ima"):
                raise DataError(f"{owner}: {path} is no DICOM file ({error}); restore it or take it out") from error
            continue
        except Exception as error:
            raise DataError(f"{owner}: {path} cannot be read ({error}); it may be cut short: restore it") from error
        if getattr(header, "Modality", "") in NO_IMAGES:
            continue
        if int(getattr(header, "NumberOfFrames", 1) or 1) > 1:
            raise DataError(
                f"{owner}: {path} holds several slices in one file; convert it to NIfTI, with dcm2niix for instance, and "
                "use the dataset nifti"
            )
        if all(getattr(header, tag, None) is not None for tag in GEOMETRY):
            found.setdefault(str(getattr(header, "SeriesInstanceUID", "")), {})[path] = header
    return [Series(uid, headers) for uid, headers in found.items()]


def read_series(series: Series, owner: str) -> Scan:
    """Read a series as a volume in RAS, with slopes and intercepts applied.

    Raises:
        DataError: if the slices do not lie evenly on one grid, one is missing, or a file cannot be read.
    """
    import nibabel

    order, affine, distance = arrange(series, owner)
    planes = [_pixels(path, owner) for path in order]
    data = np.stack(planes).transpose(2, 1, 0)
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(data, affine))
    # With a tilted gantry the step from slice to slice is longer than their distance.
    steps = (*np.linalg.norm(affine[:3, :2], axis=0), distance)
    axis = nibabel.io_orientation(affine)[:, 0].astype(int)
    x, y, z = (float(steps[int(np.flatnonzero(axis == k)[0])]) for k in range(3))
    canonical = np.asarray(image.dataobj, np.float32).transpose(2, 1, 0)
    return Scan(np.ascontiguousarray(canonical), np.asarray(image.affine, np.float64), (z, y, x), order[0].parent)


def arrange(series: Series, owner: str) -> tuple[list[Path], FloatArray, float]:
    """Return the files from the first to the last slice, the affine in RAS, and millimetres from plane to plane.

    The affine is 4x4, from voxel indices (column, row, slice) to millimetres (DICOM standard, part 3, C.7.6.2.1.1).

    Raises:
        DataError: if sizes or orientations differ, two slices lie at one place, or the distances are uneven.
    """
    paths, headers = list(series.headers), list(series.headers.values())
    what = f"{owner}: the series {series.words or series.uid!r} in {paths[0].parent}"
    first = headers[0]
    for path, header in series.headers.items():
        for tag in ("Rows", "Columns", "ImageOrientationPatient", "PixelSpacing"):
            a, b = np.asarray(getattr(first, tag), float), np.asarray(getattr(header, tag), float)
            if a.shape != b.shape or not np.allclose(a, b, atol=1e-3):
                raise DataError(
                    f"{what} differs in {tag} between {paths[0].name} ({_short(a)}) and {path.name} ({_short(b)}); it holds "
                    "more than one scan: separate them, or choose another series with -D series=..."
                )
    if len(paths) < 2:
        raise DataError(
            f"{what} has one slice; a volume needs at least two, and single pictures are for the dataset images"
        )
    if int(first.Rows) * int(first.Columns) * len(paths) > LARGEST:
        raise DataError(f"{what} claims to hold {first.Columns} x {first.Rows} x {len(paths)} voxels; restore it")
    along_row, along_column = np.asarray(first.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = (float(v) for v in first.PixelSpacing)
    normal = np.cross(along_row, along_column)
    positions = np.array([np.asarray(h.ImagePositionPatient, float) for h in headers])
    height = positions @ normal
    order = np.argsort(height, kind="stable")
    _check_even(height[order], [paths[i].name for i in order], what)
    step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
    straight = positions[order[0]] + np.arange(len(order))[:, None] * step
    distance = float(step @ normal)
    if float(np.abs(straight - positions[order]).max()) > max(0.1, EVEN * distance):
        raise DataError(f"{what} has slices that do not lie on one line; it holds more than one scan: separate them")
    affine = np.eye(4)
    affine[:3] = np.column_stack([along_row * between_columns, along_column * between_rows, step, positions[order[0]]])
    return [paths[i] for i in order], LPS_TO_RAS @ affine, distance


def _check_even(height: FloatArray, names: Sequence[str], what: str) -> None:
    """Raise DataError if slices, sorted, are not at even distances."""
    gaps = np.diff(height)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    k = int(np.argmin(gaps))
    if gaps[k] < 1e-3:
        raise DataError(
            f"{what} has two slices at one place, {names[k]} and {names[k + 1]}; a copy, or several echoes or times in one "
            "series: separate them or take one out"
        )
    k = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[k] - usual) > max(EVEN * usual, 0.01):
        raise DataError(
            f"{what} has {gaps[k]:.4g} mm between {names[k]} and {names[k + 1]} but {usual:.4g} mm elsewhere; a slice is "
            "missing or one too many: restore the series"
        )


def _pixels(path: Path, owner: str) -> FloatArray:
    """Return one slice, float32 (rows, columns), in the units that slope and intercept give."""
    pydicom = load_pydicom()
    try:
        file = pydicom.dcmread(path)
        _check_grey(str(file.PhotometricInterpretation), f"{owner}: {path}")
        values = np.asarray(file.pixel_array, np.float64)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{owner}: the pixels of {path} cannot be read ({error}); restore the file, or if it is compressed install what "
            "decodes it: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        ) from error
    if values.ndim != 2:
        raise DataError(f"{owner}: {path} has {values.ndim} axes {values.shape}; slices in grey are expected")
    slope, intercept = getattr(file, "RescaleSlope", None), getattr(file, "RescaleIntercept", None)
    values = values * float(1.0 if slope is None else slope) + float(intercept or 0.0)
    return values.astype(np.float32)


def _check_grey(kind: str, what: str) -> None:
    """Raise DataError unless large values are bright. `kind` is the tag PhotometricInterpretation."""
    if kind == "MONOCHROME1":
        # By the standard (part 3, C.7.6.3.1.2) this inverts what is shown, not what values mean. Hounsfield units stay what
        # they are; but where values have no unit, what is bright for a reader would be dark for a method.
        raise DataError(
            f"{what} is stored as MONOCHROME1, in which small values are shown white; convert the series to MONOCHROME2: "
            "invert its values, or, if they have a unit such as Hounsfield, change the tag alone"
        )
    if kind != "MONOCHROME2":
        raise DataError(
            f"{what} is stored as {kind}; slices in grey (MONOCHROME2) are expected: choose another series with "
            "-D series=..., or export it in grey"
        )


def _short(values: Iterable[float]) -> str:
    return ", ".join(f"{v:g}" for v in np.atleast_1d(np.asarray(values)))
