"""What a result is: a cell with an identity, and the numbers that were found for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from uadbench.identity import digest

SCHEMA = 1
"""Version of the files in a cell's folder."""

State = Literal["queued", "running", "done", "failed", "skipped", "interrupted"]


@dataclass(frozen=True)
class Cell:
    """Everything that decides a result, and nothing else. Two cells with one id have the same numbers on one machine.

    Attributes:
        method: name.
        params: every hyper-parameter with its value, also the defaults.
        source: hash of the code that computes the maps.
        inputs: hashes of files that the method reads besides the data, such as weights.
        dataset: name.
        dataset_params: every parameter that is not a location.
        fingerprint: hash of the data's content.
        fold: 0-based.
        protocol: every choice of the protocol.
        seed: of the run.
        precision: of the arithmetic inside networks.
    """

    method: str
    params: Mapping[str, Any]
    source: str
    dataset: str
    dataset_params: Mapping[str, Any]
    fingerprint: str
    fold: int
    protocol: Mapping[str, Any]
    seed: int
    precision: str
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """A hash of all attributes."""
        return digest({"schema": SCHEMA, **asdict(self)})

    @property
    def data_id(self) -> str:
        """What must be equal for two rows to stand in one table: data, fold-independent, and protocol."""
        return digest([self.dataset, self.dataset_params, self.fingerprint, self.protocol])

    @property
    def variant(self) -> str:
        """What is averaged over seeds and folds: the same method with the same code, parameters and precision."""
        return digest([self.method, self.params, self.source, self.inputs, self.precision])

    @property
    def place(self) -> str:
        """Where the cell lies below the root of the store: readable, with a short hash."""
        return f"{self.dataset}/{self.method}/seed{self.seed}-fold{self.fold}-{self.id[:8]}"


@dataclass(frozen=True)
class Value:
    """One metric of one cell.

    Attributes:
        value: NaN where the metric is undefined.
        ci_low: of the subject bootstrap, NaN if there is none.
        ci_high: likewise.
        n: subjects that took part.
        excluded: subjects for which the metric is undefined (an empty reference, say).
    """

    value: float
    ci_low: float
    ci_high: float
    n: int
    excluded: int = 0


@dataclass(frozen=True)
class Result:
    """The evaluation of one cell.

    Attributes:
        protocol: name.
        metrics: by name.
        threshold: the operating point.
        threshold_policy: how it was chosen, such as "healthy_fpr(0.05)".
        labels_used: which lesion labels took part in that choice.
        lesion_outside_foreground: share of the lesion voxels of the test subjects that no metric sees.
        prevalence: share of lesion voxels among those that metrics see, over all lesion test subjects.
    """

    protocol: str
    metrics: Mapping[str, Value]
    threshold: float
    threshold_policy: str
    labels_used: str
    lesion_outside_foreground: float
    prevalence: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; NaN becomes None."""
        return _plain({"schema": SCHEMA, **asdict(self)})  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """Read back what `as_dict` made."""

        def number(value: float | None) -> float:
            return float("nan") if value is None else value

        metrics = {
            name: Value(number(v["value"]), number(v["ci_low"]), number(v["ci_high"]), v["n"], v["excluded"])
            for name, v in data["metrics"].items()
        }
        return cls(
            protocol=data["protocol"],
            metrics=metrics,
            threshold=number(data["threshold"]),
            threshold_policy=data["threshold_policy"],
            labels_used=data["labels_used"],
            lesion_outside_foreground=number(data["lesion_outside_foreground"]),
            prevalence=number(data["prevalence"]),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value != value:
        return None
    return value
