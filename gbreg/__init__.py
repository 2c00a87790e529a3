# SPDX-License-Identifier: MIT
"""One weighted linear regression per group, for millions of groups.

>>> import pandas as pd, gbreg
>>> df = pd.DataFrame({"g": ["a"] * 3, "x": [0, 1, 2.0], "y": [1, 3, 5.0]})
>>> df.gbreg.fit(by="g", linear=["x"], targets=["y"], backend="numpy").params["y"].loc["a"].tolist()
[1.0, 2.0]
"""

from gbreg import accessor as accessor
from gbreg.backends import Backend
from gbreg.errors import (
    CollinearityError,
    ColumnError,
    DTypeError,
    GbregError,
    GbregWarning,
    GbregWorkerError,
    MissingDataError,
    MissingExtraError,
    SpecError,
    WeightsError,
)
from gbreg.layout import GroupLayout
from gbreg.problem import Flag, Status
from gbreg.regression import fit, group
from gbreg.result import GroupFit
from gbreg.storage import read_parquet

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "CollinearityError",
    "ColumnError",
    "DTypeError",
    "Flag",
    "GbregError",
    "GbregWarning",
    "GbregWorkerError",
    "GroupFit",
    "GroupLayout",
    "MissingDataError",
    "MissingExtraError",
    "SpecError",
    "Status",
    "WeightsError",
    "fit",
    "group",
    "read_parquet",
]
