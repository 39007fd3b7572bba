"""The house holds: layers, frameworks in modules named after them, a light import, a map that is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "mofang"
HEAVY = {
    "onnx": {"onnx"},
    "onnxruntime": {"onnx"},
    "sklearn": {"sklearn"},
    "skl2onnx": {"sklearn"},
    "skops": {"sklearn"},
    "catboost": {"catboost"},
    "keras": {"keras"},
    "transformers": {"transformers"},
    "gguf": {"gguf", "ggufadapter"},
    "vowpalwabbit": {"vowpalwabbit"},
    "xgboost": {"xgboost"},
    "lightgbm": {"lightgbm"},
    "onnxmltools": {"xgboost", "lightgbm"},
    "PIL": {"pillow"},
    "pyarrow": {"pyarrow"},
    "grpc": {"grpc"},
    "openvino": {"openvino"},
    "openvino_genai": {"openvino"},
    "xllamacpp": {"llamacpp"},
    "tokenizers": {"encoder", "transformers"},
    "peft": {"transformers"},
    "faster_whisper": {"whisper"},
    "av": {"whisper"},
    "torch": {"torch"},
    "onnxscript": {"torch"},
    "safetensors": {"torch"},
    "torch_pruning": {"torch"},
    "optuna": {"optuna"},
    "tensorflow": {"tensorflow"},
    "mindspore": {"mindspore"},
    "ray": {"ray"},
}
"""Framework -> the module (or package) names that may import it."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("mofang", include_external_packages=True, cache_dir=None)


def test_imports_point_up_the_house() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("framework", HEAVY)
def test_a_heavy_framework_is_imported_only_where_its_name_says_so(graph: grimp.ImportGraph, framework: str) -> None:
    if framework not in graph.modules:
        return
    for importer in graph.find_modules_that_directly_import(framework):
        assert HEAVY[framework] & set(importer.split(".")), f"{importer} imports {framework}"


def test_only_stores_and_storage_know_sql(graph: grimp.ImportGraph) -> None:
    for importer in graph.find_modules_that_directly_import("sqlalchemy"):
        assert importer.endswith(".store") or importer.startswith("mofang.base.storage."), importer


def loaded_by(*modules: str) -> set[str]:
    """Return what a new process has loaded after importing ``modules``."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_the_package_is_light() -> None:
    loaded = loaded_by("mofang")
    assert len(loaded) < 150
    assert not loaded & {"torch", "sklearn", "onnxruntime", "onnx", "ray", "fastapi", "grpc", "sqlalchemy", "numpy"}


def test_gateways_and_workers_are_light() -> None:
    loaded = loaded_by("mofang.surface.server.gateway", "mofang.surface.server.worker")
    assert not loaded & {"torch", "sklearn", "onnx", "scipy", "fastapi", "pydantic", "grpc", "sqlalchemy", "alembic"}


def test_every_module_says_what_it_is_for() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert not text or text.startswith(('"""', "# Written by")), f"{path} has no docstring"


def test_modules_and_functions_can_be_read() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.name != "errors.py" and not path.name.endswith("_pb2.py"):  # generated; a table of one class per code
            assert path.read_text().count("\n") <= 420, f"{path} is too long to be one thing"


def test_the_map_in_the_documentation_is_the_folder_list() -> None:
    page = (ROOT / "docs" / "concepts" / "architecture.md").read_text()
    block = re.search(r"```text\nsrc/mofang/\n(.*?)```", page, re.DOTALL)
    assert block is not None
    mapped, wing = set(), ""
    for line in block[1].splitlines():
        if found := re.match(r"( +)([a-z]+)/ ", line):
            indent, name = len(found[1]), found[2]
            wing = name if indent == 2 else wing
            mapped.add(name if indent == 2 else f"{wing}/{name}")
    folders = {
        str(path.relative_to(SOURCE))
        for path in [*SOURCE.glob("*"), *SOURCE.glob("*/*")]
        if path.is_dir() and path.name != "__pycache__" and (path / "__init__.py").exists()
    }
    assert mapped == folders
