"""What a result is: a cell with an identity, and the numbers that were found for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from uadbench.identity import digest

SCHEMA = 2
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
        preparation: what the method sees, the first half of a protocol. Its other half is applied to stored maps.
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
    preparation: Mapping[str, Any]
    seed: int
    precision: str
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """A hash of all attributes."""
        return digest({"schema": SCHEMA, **asdict(self)})

    @property
    def data_id(self) -> str:
        """What must be equal for two rows to stand in one table, besides the protocol: the data and their preparation."""
        return digest([self.dataset, self.dataset_params, self.fingerprint, self.preparation])

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
    """The evaluation of one cell under one protocol.

    Attributes:
        protocol: every choice of it.
        metrics: by name.
        threshold: the operating point.
        thresholds: the thresholds of all rules that the protocol names, by the rule in words.
        labels_used: which lesion labels took part in the choice of the operating point: "none", "val" or "test".
        lesion_outside: share of the lesion voxels of the test subjects that no metric sees, or that the chain sets to 0.
        prevalence: share of lesion voxels among those that metrics see, over all lesion test subjects.
        pooled: how pooled rank metrics were computed: "path", and the bounds of the average precision.
        code: hash of the code that evaluated.
    """

    protocol: Mapping[str, Any]
    metrics: Mapping[str, Value]
    threshold: float
    thresholds: Mapping[str, float]
    labels_used: str
    lesion_outside: float
    prevalence: float
    pooled: Mapping[str, Any]
    code: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; NaN becomes None, infinity a word."""
        return _plain({"schema": SCHEMA, **asdict(self)})  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """Read back what `as_dict` made."""
        metrics = {
            name: Value(_number(v["value"]), _number(v["ci_low"]), _number(v["ci_high"]), v["n"], v["excluded"])
            for name, v in data["metrics"].items()
        }
        return cls(
            protocol=data["protocol"],
            metrics=metrics,
            threshold=_number(data["threshold"]),
            thresholds={k: _number(v) for k, v in data["thresholds"].items()},
            labels_used=data["labels_used"],
            lesion_outside=_number(data["lesion_outside"]),
            prevalence=_number(data["prevalence"]),
            pooled=data["pooled"],
            code=data["code"],
        )


def _number(value: float | str | None) -> float:
    return float("nan") if value is None else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, float) and abs(value) == float("inf"):
        return str(value)  # JSON has no infinity.
    return value
