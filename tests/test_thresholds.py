from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uadbench.arrays import FloatArray
from uadbench.errors import UsageError
from uadbench.protocol import Threshold
from uadbench.thresholds import choose, healthy_fpr

scores = hnp.arrays(np.float64, st.integers(1, 80), elements=st.integers(-20, 20).map(float))


@settings(max_examples=200, deadline=None)
@given(scores, st.floats(0.0, 0.99))
def test_the_promised_rate_is_kept_and_no_lower_threshold_keeps_it(values: FloatArray, rate: float) -> None:
    threshold = healthy_fpr(values, rate)
    assert np.mean(values > threshold) <= rate + 1e-12
    lower = values[values < threshold]
    if len(lower):
        assert np.mean(values > lower.max()) > rate


def test_by_hand() -> None:
    assert healthy_fpr(np.arange(100.0), 0.05) == 94.0
    assert healthy_fpr(np.array([1.0, 1.0, 1.0, 5.0]), 0.2) == 5.0
    assert healthy_fpr(np.array([1.0, 1.0, 1.0, 5.0]), 0.25) == 1.0


def test_subjects_are_taken_together() -> None:
    parts = [np.arange(50.0), np.arange(50.0, 100.0)]
    assert choose(Threshold("healthy_fpr", 0.05), parts) == healthy_fpr(np.arange(100.0), 0.05)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        healthy_fpr(np.empty(0), 0.05)
    with pytest.raises(ValueError, match="rate"):
        healthy_fpr(np.ones(3), 1.0)
    with pytest.raises(UsageError, match="no threshold policy"):
        choose(Threshold("oracle", 0.1), [np.ones(3)])  # type: ignore[arg-type]
