"""Imports point one way, and only the command line prints."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = [*sorted(p for top in ("pipeline", "models") for p in (ROOT / top).rglob("*.py")), ROOT / "cli.py"]

# Each layer may import its own and those before it. A stage may import neither another stage nor a command.
LAYERS = [
    ["models"],
    ["pipeline.errors", "pipeline.types"],
    [
        "pipeline.names",
        "pipeline.workspace",
        "pipeline.runtime",
        "pipeline.progress",
        "pipeline.console",
        "pipeline.options",
        "pipeline.help",
    ],
    ["pipeline.media", "pipeline.provenance"],
    ["pipeline.faces"],
    ["pipeline.training", "pipeline.converting"],
    ["pipeline.extract", "pipeline.train", "pipeline.convert", "pipeline.commands"],
    ["cli"],
]
STAGES = LAYERS[-2]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def home(module: str) -> tuple[int, str]:
    for level, names in enumerate(LAYERS):
        for name in names:
            if module == name or module.startswith(f"{name}."):
                return level, name
    raise AssertionError(f"{module} has no place in LAYERS: say where it belongs")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if node.module == "models" else node.module for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    module = name_of(path)
    if module == "pipeline":
        assert imports_of(path) == set()
        return
    level, own = home(module)
    for imported in imports_of(path):
        if imported == "pipeline":  # for its version
            continue
        if imported.split(".")[0] not in ("pipeline", "models", "cli", "demo", "tests"):
            continue
        other_level, other = home(imported)
        assert other_level <= level, f"{module} imports {imported} from above"
        assert other == own or own not in STAGES or other not in STAGES, f"{module} imports another stage: {imported}"


def test_models_stand_alone() -> None:
    allowed = {"models", "torch", "safetensors", "onnxruntime", "numpy", *sys.stdlib_module_names}
    for path in (ROOT / "models").glob("*.py"):
        assert {name.split(".")[0] for name in imports_of(path)} <= allowed, path.name
    assert not imports_of(ROOT / "models" / "__init__.py"), "pipeline.errors imports it, and must not load torch"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "cli.py"], ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
