# SPDX-License-Identifier: Apache-2.0
"""The layer rule of docs/architecture.md, checked with ast: imports go strictly downward, effects stay at
the edge.

Imports under `if TYPE_CHECKING:` count as types, not as a dependency at run time, but must still go
downward or sideways within the same package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Top row first. Packages on one row do not import each other.
ROWS: list[set[str]] = [
    {"__main__"},
    {"cli", "demo"},
    {"daemon", "api"},
    {"adapters"},
    {"round"},
    {"data", "train", "privacy", "secagg", "ota", "attest", "schedule"},
    {"model", "wire"},
    {"config", "native"},
    {"ports"},
    {"types", "errors"},
]
RANK = {name: len(ROWS) - i for i, row in enumerate(ROWS) for name in row}
EFFECTS = {"socket", "ssl", "http", "time", "random", "secrets", "subprocess", "sqlite3"}
EFFECTFUL = {"adapters", "api", "daemon", "cli", "demo", "__main__"}
SERVER_MAY = {"types", "errors", "ports", "config", "wire", "model", "native", "ota", "secagg"}
# Same row, but a deliberate order inside it: types.py and errors.py are leaves.
LEAVES = {"types", "errors"}


def modules(package: str) -> list[Path]:
    """Python files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def imports(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import; relative ones are resolved against `module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")[: -node.level]
                base = ".".join([*parts, base] if base else parts)
            yield node.lineno, base
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def dotted(path: Path) -> str:
    """Return the module name of a file."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts)


def part(name: str) -> str | None:
    """Return the layer that a dotted name belongs to, or None outside edgefl."""
    bits = name.split(".")
    if bits[0] != "edgefl" or len(bits) < 2:
        return None
    return bits[1] if bits[1] in RANK else None


def layer_faults(source: str, module: str) -> list[str]:
    """Return one line for each import that goes up or sideways, or each effect outside the edge."""
    own = part(module)
    if own is None:
        return []
    tree = ast.parse(source)
    faults = []
    for line, name in imports(tree, module):
        target = part(name)
        if target and target != own and RANK[target] >= RANK[own]:
            faults.append(f"{module}:{line} imports {name}: {own} may only import layers below it")
        if name.split(".")[0] == "server_min":
            faults.append(f"{module}:{line} imports server_min")
        if name.split(".")[0] == "cffi" and own != "native":
            faults.append(f"{module}:{line} imports cffi outside native")
        if name.split(".")[0] in EFFECTS and own not in EFFECTFUL:
            faults.append(f"{module}:{line} imports {name}: effects belong to {sorted(EFFECTFUL)}")
    if own not in EFFECTFUL:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
                faults.append(f"{module}:{node.lineno} calls open(): effects belong to {sorted(EFFECTFUL)}")
    return faults


@pytest.mark.parametrize("path", modules("edgefl"), ids=dotted)
def test_edgefl_module_imports_downward_only(path: Path) -> None:
    """No import of an edgefl module goes up or sideways."""
    assert layer_faults(path.read_text(), dotted(path)) == []


@pytest.mark.parametrize("path", modules("server_min"), ids=dotted)
def test_server_imports_only_what_it_may(path: Path) -> None:
    """server_min sees the shared lower layers and the HTTP adapter, nothing of the device."""
    for line, name in imports(ast.parse(path.read_text()), dotted(path)):
        bits = name.split(".")
        if bits[0] != "edgefl" or len(bits) < 2:
            continue
        ok = bits[1] in SERVER_MAY or bits[1:3] == ["adapters", "http"] or name in ("edgefl.adapters",)
        assert ok or bits[1] == "__version__", f"{dotted(path)}:{line} imports {name}"


def test_upward_import_is_noticed() -> None:
    """The check itself works: a planted upward import, effect and open() are all found."""
    bad = "import ssl\nfrom edgefl.daemon import supervisor\nopen('x')\nimport cffi\nimport server_min\n"
    faults = layer_faults(bad, "edgefl.wire.planted")
    assert len(faults) >= 5


SUPERVISOR_SIDE = [
    "edgefl.daemon.supervisor",
    "edgefl.secagg.oneshot",
    "edgefl.round.machine",
    "edgefl.adapters.http",
]


@pytest.mark.parametrize("module", SUPERVISOR_SIDE)
def test_supervisor_side_does_not_import_numpy(module: str) -> None:
    """Importing the supervisor's modules brings in neither numpy nor the TLS certificate library."""
    import subprocess
    import sys

    code = (
        f"import sys, {module}; print([m for m in ('numpy', 'cryptography', 'tflite') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.strip() == "[]"


def test_worker_does_not_import_network_modules() -> None:
    """The worker's own imports hold no socket, ssl, asyncio or sqlite3."""
    import subprocess
    import sys

    code = (
        "import sys, edgefl.daemon.worker; "
        "print([m for m in ('ssl', 'asyncio', 'sqlite3', 'socket', 'h2') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.strip() == "[]"
