"""Networks of PyTorch that were trained here, as PyTorch's own files: a program, a script, or bare weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mofang.base.domain.errors import NoExport
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.make.convert.torch import quiet
from mofang.make.export.forms import FormName
from mofang.make.export.source import Source, Written
from mofang.make.prepare.dataset import Schema
from mofang.make.prepare.normalise import Scaling
from mofang.make.train.torch.network import Answers, Net, read_network

_EXAMPLE_ROWS = 2  # one row would be taken for a constant


class Whole(nn.Module):  # type: ignore[misc]
    """A network and the scaling before it: rows float32 [n, features], as the data has them, to what is served."""

    def __init__(self, net: Net, schema: Schema | None) -> None:
        super().__init__()
        self.answers = Answers(net)
        scaling = schema.scaling if schema else None
        self.channels = 1 if scaling is None else max(len(scaling.offset), len(scaling.fill), 1)
        self.fills = bool(scaling and scaling.fill)
        for name, values in _parts(scaling).items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Scale, as the served graph does, and answer."""
        values = features.reshape(features.shape[0], -1, self.channels)
        if self.fills:
            values = torch.where(values.isnan(), self.fill, values)
        found: tuple[Tensor, ...] = self.answers(((values - self.offset) / self.scale).reshape(features.shape[0], -1))
        return found


def program(source: Source, folder: Path) -> Written:
    """Write ``model.pt2``, a program with an open number of rows (torch.export)."""
    module, written = _module(source, "torch")
    with quiet():
        rows = torch.export.Dim("n", min=1)
        made = torch.export.export(module, (_example(module),), dynamic_shapes=({0: rows},))
        torch.export.save(made, str(folder / "model.pt2"))
    return written


def script(source: Source, folder: Path) -> Written:
    """Write ``model.pt``, TorchScript that was traced."""
    module, written = _module(source, "torchscript")
    with quiet(), torch.no_grad():
        torch.jit.save(torch.jit.trace(module, _example(module)), str(folder / "model.pt"))
    return written


def weights(source: Source, folder: Path) -> Written:
    """Write ``model.safetensors`` and ``architecture.json``, from which Mofang's code builds the network again."""
    module, written = _module(source, "safetensors")
    tensors = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(tensors, str(folder / "model.safetensors"))
    plan = msgspec.json.encode(module.answers.net.plan).decode()
    about = {"blueprint": json.loads(plan), "channels": module.channels, "fills": module.fills}
    (folder / "architecture.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    return replace(written, loader="torch/weights", packages=("mofang[torch]",))


def _module(source: Source, form: FormName) -> tuple[Whole, Written]:
    if source.framework != "torch":
        raise _no_network(source, form)
    schema = source.test.schema if source.test else None
    net, prepared = read_network(source.network), bool(schema and (schema.columns or schema.encoded))
    module = Whole(net, None if prepared else schema).eval()
    given = (TensorSpec("features", "FP32", (-1, net.plan.features)),)
    outputs: Sequence[TensorSpec] = source.version.artifact.signature.outputs
    return module, Written("torch/program", Signature(given, tuple(outputs)), ("torch",), prepared=prepared)


def _no_network(source: Source, form: FormName) -> NoExport:
    pushed = f"; it came as {source.was}: `--to original` gives that" if source.was else ""
    return source.refuse(form, f"it was not exported from a network of PyTorch that was trained here{pushed}")


def _example(module: Whole) -> Tensor:
    return torch.zeros(_EXAMPLE_ROWS, module.answers.net.plan.features)


def _parts(scaling: Scaling | None) -> dict[str, tuple[float, ...]]:
    if scaling is None:
        return {"offset": (0.0,), "scale": (1.0,), "fill": (0.0,)}
    return {"offset": scaling.offset, "scale": scaling.scale, "fill": scaling.fill or (0.0,)}
