"""What goes into an export beside the model: signature, an example with its answer, code, packages, card, licence."""

from __future__ import annotations

import base64
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mofang.base.domain.tensors import Array, Signature, datatype_of
from mofang.make.export.forms import FORMS, FormName
from mofang.make.export.source import Source, Written

_SNIPPETS = Path(__file__).parent / "snippets"
_PICTURES = "pillow"
_ALWAYS = (1980, 1, 1, 0, 0, 0)  # the same files give the same archive
_LICENCES = ("licen", "copying", "notice")


def add_code(written: Written, folder: Path) -> None:
    """Write the signature, and the code that asks the model."""
    signature = json.dumps(asdict(written.signature), indent=2) + "\n"
    (folder / "signature.json").write_text(signature, "utf-8")
    if not written.loader:
        return
    shutil.copyfile(_SNIPPETS / "predict.py", folder / "predict.py")
    shutil.copyfile(_SNIPPETS / f"{written.loader}.py", folder / "loader.py")
    if _PICTURES in written.packages:
        shutil.copyfile(_SNIPPETS / f"{_PICTURES}.py", folder / "pictures.py")
    packages = ["numpy", *written.packages]
    (folder / "requirements.txt").write_text("".join(f"{_pinned(each)}\n" for each in packages), "utf-8")


def add_example(inputs: Mapping[str, Array], answers: Mapping[str, Array] | None, folder: Path) -> None:
    """Write a request, and what the served model answers to it, if that is known."""
    (folder / "example.json").write_text(json.dumps(request(inputs), indent=2) + "\n", "utf-8")
    if answers is not None:
        outputs = {"outputs": request(answers)["inputs"]}
        (folder / "example.answer.json").write_text(json.dumps(outputs, indent=2) + "\n", "utf-8")


def request(inputs: Mapping[str, Array]) -> dict[str, Any]:
    """Return arrays as a request of the Open Inference Protocol; files become base64, missing numbers null."""
    return {"inputs": [_tensor(name, values) for name, values in inputs.items()]}


def add_card(
    card: str, form: FormName, written: Written, source: Source, parity: str, licence: str, folder: Path
) -> None:
    """Write ``README.md``: the card, how to run what is here, and under which licence it may be used."""
    kept = _copy_licences(source, folder)
    steps = ["pip install -r requirements.txt", "python predict.py example.json"]
    code = "\n".join(["```bash", *steps, "```", ""]) if written.loader else ""
    prepared = (
        "It takes rows as the network sees them: the preparation of the data is inside the graph of `--to onnx`, not"
        " here.\n"
        if written.prepared
        else ""
    )
    said = f"Stated by whoever exported it: {licence}." if licence else "The server knows of none: ask its owner."
    files = f" See {', '.join(f'`{name}`' for name in kept)}." if kept else ""
    about = f"This folder holds {FORMS[form].title}. {parity}\n{prepared}"
    text = f"{card}\n## Use\n\n{about}\n{code}\n## Licence\n\n{said}{files}\n"
    (folder / "README.md").write_text(text, "utf-8")


def archive(folder: Path, path: Path) -> None:
    """Pack ``folder`` into a zip; the same files give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _ALWAYS)
            entry.external_attr = 0o644 << 16
            with file.open("rb") as read, packed.open(entry, "w", force_zip64=True) as write:
                shutil.copyfileobj(read, write, 1 << 20)


def first_rows(signature: Signature, inputs: Mapping[str, Array], rows: int) -> dict[str, Array]:
    """Return the first ``rows`` of ``inputs``, where they are rows."""
    cut = signature.batchable
    return {name: values[:rows] if cut else values for name, values in inputs.items()}


def _tensor(name: str, values: Array) -> dict[str, Any]:
    flat = values.ravel().tolist()
    if values.dtype == object:
        data: list[Any] = [_text(each) for each in flat]
    elif values.dtype.kind == "f":
        data = [each if np.isfinite(each) else None for each in flat]
    else:
        data = flat
    return {"name": name, "datatype": datatype_of(values), "shape": list(values.shape), "data": data}


def _text(value: bytes | str) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")


def _pinned(package: str) -> str:
    name = package.partition("[")[0]
    try:
        return f"{package}=={version(name).partition('+')[0]}"
    except PackageNotFoundError:
        return package


def _copy_licences(source: Source, folder: Path) -> list[str]:
    """Copy what looks like a licence among the pushed files; return the names."""
    found = source.pushed.rglob("*") if source.pushed else ()
    kept = [path for path in found if path.is_file() and path.name.lower().startswith(_LICENCES)]
    for path in kept:
        shutil.copyfile(path, folder / path.name)
    return sorted({path.name for path in kept})
