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
    from uadbench.api import create_method, load_dataset, load_leaderboard, run
    from uadbench.contract import check_dataset, check_method
    from uadbench.dataset import Dataset, DatasetCard, Split, Subject, Volume
    from uadbench.method import Batch, Images, Method, Run, require_fitted
    from uadbench.metrics import Case, Metric
    from uadbench.protocol import Protocol
    from uadbench.registry import Registry
    from uadbench.result import Cell, Result
    from uadbench.store import Store
    from uadbench.training import TrainedMethod


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"uadbench.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'uadbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
