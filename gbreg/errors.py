# SPDX-License-Identifier: MIT
"""Everything gbreg raises or warns with.

Each error also inherits from the built-in a caller would expect, takes one
message, and survives pickling, so it crosses process boundaries unchanged.
"""

from __future__ import annotations

import inspect
import warnings


class GbregError(Exception):
    """Base class of every error raised by gbreg."""


class SpecError(GbregError, ValueError):
    """The call asks for something undefined or contradictory."""


class ColumnError(GbregError, KeyError):
    """A label is not a column of the frame."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class DTypeError(GbregError, TypeError):
    """A column's dtype cannot be fitted."""


class MissingDataError(GbregError, ValueError):
    """``missing="raise"`` met missing or infinite values."""


class WeightsError(GbregError, ValueError):
    """Weights are negative, missing or infinite, or no counts where counts are meant."""


class CollinearityError(GbregError, ValueError):
    """``on_collinear="raise"`` met a rank-deficient group."""


class MissingExtraError(GbregError, ImportError):
    """An optional dependency is needed; the message has its ``pip install`` line."""


class GbregWorkerError(GbregError, RuntimeError):
    """A worker process died or could not be fed; names the group range."""


class GbregWarning(UserWarning):
    """What could not be fitted, or predicted, counted by reason; and keys or Series that lack something."""


def warn(message: str) -> None:
    """Warn at the line of the caller: the nearest one outside gbreg, and outside pandas (``df.pipe``)."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and _package(frame.f_globals) in ("gbreg", "pandas"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, GbregWarning, stacklevel=level)


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__")).partition(".")[0]
