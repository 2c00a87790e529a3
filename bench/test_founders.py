# SPDX-License-Identifier: MIT
"""The comparison of the founding users: 5 rows a group, 2 predictors, weighted, one target.

Whole calls from frame to result, with errors, rms and mad. `report.py` puts them side by side.
"""

from __future__ import annotations

import numpy as np
import pytest
from workloads import fit, founders, group_rows, lstsq, make


@pytest.mark.parametrize("groups", [1_000, 4_000, 12_000])
@pytest.mark.parametrize("backend", ["numba", "numpy", "loky"])
def test_founders(benchmark, groups, backend):
    which = founders(groups)
    frame = make(which)
    fit(frame, which, backend=backend)  # compiles the kernels and starts the workers
    result = benchmark(fit, frame, which, backend=backend)
    got = result.params["y0"].loc[7].to_numpy()
    np.testing.assert_allclose(got, lstsq(group_rows(frame, which, [7]), which)[0], rtol=1e-9)
    assert result.bse.notna().all().all()
    assert result.mad.notna().all().all()
