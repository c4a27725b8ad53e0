"""The rules of the house: who imports whom, and what stays out of which process."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.application import use_cases
from importlinter.configuration import configure

ROOT = Path(__file__).resolve().parents[1]

NETWORKS = ("torch", "torchvision", "timm", "openvino")
ENGINE_ROOM = tuple(
    f"pychip_live.{name}"
    for name in ("cli", "engine", "cluster", "embed", "readers", "store", "sources")
)

PURE = {
    "__future__", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib",
    "itertools", "json", "math", "numpy", "pychip_live", "pydantic", "typing",
}  # fmt: skip
"""What core may import: no file, clock, thread, process, socket or random source among it."""

LOAD_ALL = """
import importlib, pkgutil, sys

def fail(name):
    raise ImportError(f"{name} cannot be imported")

package = importlib.import_module(sys.argv[1])
names = [package.__name__]
for module in pkgutil.walk_packages(getattr(package, "__path__", []), names[0] + ".", fail):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        names.append(module.name)
for name in sys.argv[2:]:
    if name in sys.modules:
        sys.exit(f"{name} was loaded by one of {names}")
print(len(names))
"""


def load_all(package: str, forbidden: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Import a package with all its modules in a fresh interpreter; fail if one is loaded."""
    return subprocess.run(
        [sys.executable, "-c", LOAD_ALL, package, *forbidden],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_contracts_of_the_project_file(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    kept = use_cases.lint_imports(
        config_filename=str(ROOT / "pyproject.toml"), cache_dir=None, no_logo=True
    )
    out = capsys.readouterr().out
    assert kept, out
    assert "3 kept, 0 broken" in out


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("pychip_live.core", NETWORKS),
        ("pychip_live.errors", NETWORKS),
        ("pychip_live.messages", NETWORKS),
        ("pychip_live.store", NETWORKS),
        ("pychip_live.sources", NETWORKS),
        ("pychip_live.readers", NETWORKS),
        ("pychip_live.simulate", NETWORKS),
        ("bokeh_app", NETWORKS + ENGINE_ROOM),
    ],
)
def test_fresh_process_never_loads(package: str, forbidden: tuple[str, ...]) -> None:
    done = load_all(package, forbidden)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1


@pytest.mark.parametrize(
    ("package", "forbidden", "says"),
    [
        ("pychip_live.core", ("numpy",), "numpy was loaded"),
        ("pychip_live.nonsense", (), "No module named"),
    ],
)
def test_the_proof_can_fail(package: str, forbidden: tuple[str, ...], says: str) -> None:
    done = load_all(package, forbidden)
    assert done.returncode != 0
    assert says in done.stderr


def imported(source: str) -> set[str]:
    """First names of all modules a source file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_core_is_pure() -> None:
    files = sorted((ROOT / "pychip_live" / "core").rglob("*.py"))
    assert len(files) >= 10
    for file in files:
        source = file.read_text(encoding="utf-8")
        assert imported(source) <= PURE, file
        assert "open(" not in source, file
        assert ".now(" not in source, file


@pytest.mark.parametrize("package", ["pychip_live", "bokeh_app"])
def test_no_module_without_a_meaning(package: str) -> None:
    names = {file.stem for file in (ROOT / package).rglob("*.py")}
    assert names
    assert not names & {"utils", "util", "common", "helpers", "misc"}
