"""Loads `model.pt2`, a program of torch.export, or `model.pt`, TorchScript."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers arrays by name with arrays by name."""
    program = folder / "model.pt2"
    module = (
        torch.export.load(str(program)).module() if program.exists() else torch.jit.load(folder / "model.pt").eval()
    )
    names = [each["name"] for each in json.loads((folder / "signature.json").read_text("utf-8"))["outputs"]]

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(values) for values in inputs.values()))
        return {name: each.numpy() for name, each in zip(names, found, strict=True)}

    return answer
