# SPDX-License-Identifier: MIT
"""The workloads under pytest-benchmark; toy sizes with ``--benchmark-disable``.

Guards the whole call from frame to result: many small groups (W1, W2), few large ones (W3, W5),
keys that must be hashed (W4, W5), many targets (W6).
"""

from __future__ import annotations

import numpy as np
import pytest
from workloads import WORKLOADS, fit, group_rows, lstsq, make

TOY = 1e-6


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("mad", [False, True], ids=["plain", "mad"])
def test_workload(benchmark, name, mad):
    which = WORKLOADS[name].scaled(TOY if benchmark.disabled else 1)
    frame = make(which)
    fit(frame, which, mad=mad)  # compiles the kernels
    result = benchmark(fit, frame, which, mad=mad)
    first = result.params.index[0]
    want = lstsq(group_rows(frame, which, first if isinstance(first, tuple) else [first]), which)
    np.testing.assert_allclose(result.params.iloc[0], want.ravel(), rtol=1e-9)
    assert len(result) == which.groups
    assert result.bse.notna().all().all()
    assert not mad or result.mad.notna().all().all()
