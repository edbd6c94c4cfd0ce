"""uadbench: which unsupervised anomaly detection method for medical images really is better?

    import uadbench as ub

    board = ub.run("mddpm", dataset="phantom", preset="quick")   # the same cells as the command line makes
    board = ub.load_leaderboard("runs")                               # a pandas table

Names are loaded on first use, so that `import uadbench` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Batch": "method", "Images": "method", "Method": "method", "Run": "method", "require_fitted": "method",
    "Dataset": "dataset", "DatasetCard": "dataset", "Split": "dataset", "Subject": "dataset", "Volume": "dataset",
    "TrainedMethod": "training",
    "Metric": "metrics", "Case": "metrics",
    "Protocol": "protocol", "Result": "result", "Cell": "result",
    "Registry": "registry", "Store": "store",
    "check_method": "contract", "check_dataset": "contract",
    "run": "api", "load_leaderboard": "api", "create_method": "api", "load_dataset": "api",
}  # fmt: skip

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from uadbench.api import create_method as create_method
    from uadbench.api import load_dataset as load_dataset
    from uadbench.api import load_leaderboard as load_leaderboard
    from uadbench.api import run as run
    from uadbench.contract import check_dataset as check_dataset
    from uadbench.contract import check_method as check_method
    from uadbench.dataset import Dataset as Dataset
    from uadbench.dataset import DatasetCard as DatasetCard
    from uadbench.dataset import Split as Split
    from uadbench.dataset import Subject as Subject
    from uadbench.dataset import Volume as Volume
    from uadbench.method import Batch as Batch
    from uadbench.method import Images as Images
    from uadbench.method import Method as Method
    from uadbench.method import Run as Run
    from uadbench.method import require_fitted as require_fitted
    from uadbench.metrics import Case as Case
    from uadbench.metrics import Metric as Metric
    from uadbench.protocol import Protocol as Protocol
    from uadbench.registry import Registry as Registry
    from uadbench.result import Cell as Cell
    from uadbench.result import Result as Result
    from uadbench.store import Store as Store
    from uadbench.training import TrainedMethod as TrainedMethod


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"uadbench.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'uadbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
