"""Builds the network that `architecture.json` names, by Mofang's own code, and loads `model.safetensors` into it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file

from mofang.make.export.torch import Whole
from mofang.make.train.torch.network import Blueprint, Net


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers arrays by name with arrays by name."""
    about = json.loads((folder / "architecture.json").read_text("utf-8"))
    module, weights = (
        Whole(Net(msgspec.convert(about["blueprint"], Blueprint)), None),
        load_file(folder / "model.safetensors"),
    )
    module.channels, module.fills = about["channels"], about["fills"]
    for name in ("offset", "scale", "fill"):
        setattr(module, name, torch.empty_like(weights[name]))
    module.load_state_dict(weights)
    module.eval()
    names = [each["name"] for each in json.loads((folder / "signature.json").read_text("utf-8"))["outputs"]]

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(values) for values in inputs.values()))
        return {name: each.numpy() for name, each in zip(names, found, strict=True)}

    return answer
