"""Encoders from Hugging Face folders to ONNX: what they say of each token, an embedding of the whole, or classes.

No code that lies in the folder is run, nothing is fetched, and weights are read from safetensors alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from mofang.base.domain.errors import EngineLoadFailed, InvalidModel
from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.attempt import Attempt, onnx_or_native
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.parity import Trial
from mofang.make.convert.torch import export

_SAFE: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_GENERATIVE = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "ForSpeechSeq2Seq")
_LENGTHS, _ROWS = (5, 12), (1, 2, 3)
_BESIDE = ("config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
"""What the engine of encoders reads beside the graph and the tokenizer."""


def open_folder(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open a folder that ``save_pretrained`` wrote, and write ONNX with its tokenizer beside it.

    Inputs ``input_ids`` and ``attention_mask`` INT64 [n, length]. Outputs ``probabilities`` FP32 [n, classes] of a
    classifier; else ``last_hidden_state`` FP32 [n, length, width] and ``sentence_embedding`` FP32 [n, width], the
    mean over the tokens of the mask, of length one. With a tokenizer that can be read, the version takes texts instead
    (engine ``encoder``).
    """
    transformers.utils.logging.set_verbosity_error()
    try:
        config = transformers.AutoConfig.from_pretrained(path, **_SAFE)
        kind = str((config.architectures or [""])[0])
        if kind.endswith(_GENERATIVE):
            raise InvalidModel(
                f"the folder holds a {kind}, which generates", hint="convert it to GGUF, and push the .gguf file"
            )
        is_classifier = kind.endswith("ForSequenceClassification")
        auto = transformers.AutoModelForSequenceClassification if is_classifier else transformers.AutoModel
        model = auto.from_pretrained(path, use_safetensors=True, dtype=torch.float32, **_SAFE).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidModel(
            f"transformers {transformers.__version__} cannot read the folder: {first[:300]}",
            hint="push the folder that `save_pretrained` wrote, with safetensors",
        ) from error
    module = (_Classifier if is_classifier else _Encoder)(model)
    outputs = ["probabilities"] if is_classifier else ["last_hidden_state", "sentence_embedding"]

    def write(folder: Path) -> None:
        rows, length = torch.export.Dim("n", min=1), torch.export.Dim("length", min=2, max=_longest(config))
        example = {name: torch.from_numpy(each) for name, each in _question(2, _LENGTHS[0], config).items()}
        export(module, example, outputs, folder / "model.onnx", {name: {0: rows, 1: length} for name in example})
        if (path / "tokenizer.json").is_file():
            shutil.copyfile(path / "tokenizer.json", folder / "tokenizer.json")

    def source(asked: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            found = module(**{name: torch.from_numpy(each) for name, each in asked.items()})
        return dict(zip(outputs, (each.numpy() for each in found), strict=True))

    trials = [
        Trial(f"with a batch of {rows} and {length} tokens", _question(rows, length, config))
        for rows in _ROWS
        for length in _LENGTHS
    ]
    labels = tuple(str(config.id2label[each]) for each in range(config.num_labels)) if is_classifier else ()
    packages = ("transformers", "torch", "onnxscript")
    made = onnx_or_native(Attempt(write, source, trials, None, packages, labels), target, progress)
    return made if is_classifier else _with_its_tokenizer(made, path, target)


def _with_its_tokenizer(made: Made, path: Path, target: Path) -> Made:
    """Let texts be asked where the folder has a tokenizer; its files say how vectors are pooled."""
    beside = [name for name in _BESIDE if (path / name).is_file()]
    for name in beside:
        (target / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path / name, target / name)
    try:
        load_engine("encoder", target).close()
    except EngineLoadFailed:  # no tokenizer, or one that cannot be read: token ids are asked then
        for name in beside:
            (target / name).unlink()
            if name != (target / name).name:
                (target / name).parent.rmdir()
        return made
    return replace(made, engine="encoder")


class _Encoder(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        return hidden, torch.nn.functional.normalize(mean, dim=1)


class _Classifier(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.softmax(self.model(input_ids=input_ids, attention_mask=attention_mask).logits, dim=-1),)


def _longest(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", 512))


def _question(rows: int, length: int, config: Any) -> dict[str, Array]:
    """Make up token ids and a mask that leaves out the end of some rows."""
    random = np.random.default_rng(rows * 100 + length)
    mask = np.ones((rows, length), np.int64)
    for row in range(1, rows):
        mask[row, length - row :] = 0
    return {"input_ids": random.integers(0, config.vocab_size, (rows, length)), "attention_mask": mask}
