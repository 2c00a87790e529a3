# SPDX-License-Identifier: MIT
"""The rules of the package that no linter knows."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import gbreg
from gbreg._cache import SOURCES

PACKAGE = Path(gbreg.__file__).parent
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}
BACKENDS = [name for name in TREES if name.startswith("backends/")]
LOSS_KERNELS = ["loss_kernels.py", "reweight_kernels.py", "quantile_kernels.py"]
KERNELS = [
    *("row_kernels.py", "kernels.py", "median_kernels.py", "sum_kernels.py", "fast_kernels.py"),
    *("extended_kernels.py", "block_kernels.py"),
    *LOSS_KERNELS,
]
NUMERICS = [
    *(
        "statistics.py",
        "inference.py",
        "influence.py",
        "quadratic.py",
        "activeset.py",
        "augmented.py",
        "doubledouble.py",
    ),
    *("minimum.py", "minimizers.py", "vertices.py", "problem.py", "estimates.py", "ragged.py"),
    *KERNELS,
    *BACKENDS,
]
HEAVY = ["numba", "scipy", "joblib", "pyarrow", "tqdm", "formulaic"]


def imports(tree: ast.AST) -> set[str]:
    """Dotted names a file imports, at the top or anywhere: ``from a.b import c`` is a.b.c."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


IMPORTS = {name: imports(tree) for name, tree in TREES.items()}


def importers(package: str) -> set[str]:
    return {
        name
        for name, found in IMPORTS.items()
        if any(f"{dotted}.".startswith(f"{package}.") for dotted in found)
    }


def nodes(names: list[str], kind: type[ast.AST]) -> list[tuple[str, ast.AST]]:
    return [(name, node) for name in names for node in ast.walk(TREES[name]) if isinstance(node, kind)]


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_import_only_their_decorator_and_array_types(name):
    allowed = {
        "__future__.annotations",
        "math",
        "numpy",
        "typing",
        *("gbreg._jit", "gbreg._lanes"),
        *(f"gbreg.problem.{name}" for name in ("FloatArray", "IntArray", "BoolArray")),
    }
    if name not in ("kernels.py", "row_kernels.py", "median_kernels.py"):
        allowed |= {"gbreg.kernels", "gbreg.median_kernels"}
    if name in ("fast_kernels.py", "block_kernels.py"):
        allowed.add("gbreg.sum_kernels")
    if name == "block_kernels.py":
        allowed.add("gbreg.extended_kernels")
    if name in LOSS_KERNELS[1:]:
        allowed.add("gbreg.loss_kernels")
    assert {got for got in imports(TREES[name]) if not {got, got.rpartition(".")[0]} & allowed} == set()


def test_the_kept_code_is_of_all_kernels():
    assert set(SOURCES) == {"_jit.py", "_lanes.py", "problem.py", *KERNELS}


def test_numba_is_imported_in_few_files_and_pandas_stays_out_of_the_numerics():
    assert importers("numba") == {"_jit.py", "_lanes.py", "_cache.py"}
    assert importers("pandas") & {*NUMERICS, "_jit.py", "_lanes.py"} == set()
    assert importers("pandas") >= {"regression.py", "result.py"}  # the search does find it


def test_dependencies_point_one_way():
    assert importers("gbreg.accessor") == {"__init__.py"}
    assert importers("gbreg.kernels") | importers("gbreg.median_kernels") <= {*BACKENDS, *KERNELS}
    assert importers("gbreg.extended_kernels") <= {*BACKENDS, "block_kernels.py"}
    assert importers("gbreg.fast_kernels") <= set(BACKENDS)
    assert importers("gbreg.sum_kernels") <= {*BACKENDS, "fast_kernels.py", "block_kernels.py"}
    assert importers("gbreg.loss_kernels") <= {*BACKENDS, *LOSS_KERNELS}
    assert importers("gbreg.reweight_kernels") | importers("gbreg.quantile_kernels") <= set(BACKENDS)
    frames = ("regression", "result", "layout", "keys", "numbering", "columns", "rows", "accessor", "spec")
    for name in NUMERICS:
        assert not [frame for frame in frames if name in importers(f"gbreg.{frame}")], name


def test_no_option_that_breaks_arithmetic_or_threads():
    for name, node in nodes(list(TREES), ast.keyword):
        if node.arg in ("fastmath", "parallel"):
            assert isinstance(node.value, ast.Constant), name
            assert node.value.value is False, f"{node.arg} in {name}"


def test_no_linear_algebra_library_in_the_numbers():
    for name, node in nodes(list(TREES), ast.Attribute):
        assert node.attr != "linalg", f"{name}:{node.lineno}"
        if name in NUMERICS:  # these may call BLAS
            assert node.attr not in {"dot", "matmul", "vdot", "inner", "einsum", "tensordot"}, (
                f"{name}:{node.lineno}"
            )
    for name, node in nodes(NUMERICS, ast.BinOp):
        assert not isinstance(node.op, ast.MatMult), f"{name}:{node.lineno}"
    assert {name for name, tree in TREES.items() for dotted in imports(tree) if "linalg" in dotted} == set()


def test_nothing_prints():
    for name, node in nodes(list(TREES), ast.Call):
        assert getattr(node.func, "id", "") not in ("print", "breakpoint"), f"{name}:{node.lineno}"


def test_public_signatures_name_every_argument():
    public = {name: getattr(gbreg, name) for name in gbreg.__all__}
    public["df.gbreg"] = gbreg.accessor.GbregAccessor
    seen = 0
    for name, thing in public.items():
        methods = vars(thing) if inspect.isclass(thing) else {"": thing}
        for method, function in methods.items():
            function = getattr(function, "__func__", function)
            if method.startswith("_") or not inspect.isfunction(function):
                continue
            seen += 1
            kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
            assert inspect.Parameter.VAR_KEYWORD not in kinds, f"{name}.{method}"
    assert seen > 20


@pytest.mark.parametrize("name", TREES)
def test_files_are_licensed_and_short(name):
    lines = (PACKAGE / name).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# SPDX-License-Identifier: MIT"
    assert len(lines) <= {"extended_kernels.py": 790, "fast_kernels.py": 620}.get(name, 400)


def test_import_loads_no_heavy_package_that_pandas_does_not():
    code = (
        "import sys, pandas; before = set(sys.modules); import gbreg; "
        f"print([name for name in {HEAVY} if name in sys.modules and name not in before])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"
