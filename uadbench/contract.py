"""The contract, executable: what every method and every dataset must do. Built-ins and plug-ins pass the same checks.

from uadbench import check_method
check_method(MyMethod(steps=20))        # raises ContractBroken with the name of the check
"""

from __future__ import annotations

from collections.abc import Iterator

from uadbench.checks import Check, run_checks
from uadbench.dataset import Dataset
from uadbench.dataset_checks import DATASET_CHECKS, DatasetTrial
from uadbench.errors import ContractBroken
from uadbench.method import Method
from uadbench.method_checks import METHOD_CHECKS, MethodTrial


def check_method(method: Method) -> None:
    """Run all checks on a method with quick parameters.

    Raises:
        ContractBroken: at the first check that fails.
    """
    _raise_first(type(method).__name__, method_checks(method))


def check_dataset(dataset: Dataset) -> None:
    """Run all checks on a dataset.

    Raises:
        ContractBroken: at the first check that fails.
    """
    _raise_first(type(dataset).__name__, dataset_checks(dataset))


def method_checks(method: Method) -> Iterator[Check]:
    """Yield the outcome of every check of the method contract."""
    trial = MethodTrial(method)
    try:
        yield from run_checks(METHOD_CHECKS, trial)
    finally:
        trial.close()


def dataset_checks(dataset: Dataset) -> Iterator[Check]:
    """Yield the outcome of every check of the dataset contract."""
    yield from run_checks(DATASET_CHECKS, DatasetTrial(dataset))


def _raise_first(name: str, checks: Iterator[Check]) -> None:
    for check in checks:
        if check.outcome == "broken":
            raise ContractBroken(f"{name} breaks the contract, {check.name}: {check.reason}")
