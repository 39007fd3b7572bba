"""LoRA on a language model, by PEFT: its weights stay, and two small matrices are learned beside each chosen layer.

Called by the pipeline with passages in the tokens of the engine that serves the model. The loop, its checkpoints and
its random numbers are those of every network: a run that was killed comes to the same weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor, nn
from torch.nn import functional

from mofang.base.domain.errors import InvalidDataset
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples
from mofang.make.prepare.tokens import Passage
from mofang.make.recipe import Lora, Train
from mofang.make.train.model import TrainedModel, curve_report
from mofang.make.train.torch.loop import Point, fit
from mofang.make.train.transformers.torch.models import load, score

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_UNSEEN = -100  # a target that is not learned
_MEASURED_AT_ONCE = 8
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # of every file in an archive, so that equal adapters are equal bytes


class Tuner:
    """Goes on from the language model in ``folder``; ``read`` turns examples into passages."""

    def __init__(
        self, folder: Path, read: Callable[[Examples], Sequence[Passage | None]], checkpoint: Path | None = None
    ) -> None:
        """Load the model. Raises InvalidModel."""
        self._model = load(folder).to("cuda" if torch.cuda.is_available() else "cpu")
        self._read, self._checkpoint = read, checkpoint

    def train(self, spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
        """Learn the completions of ``examples``; the model is an adapter as bytes, see :func:`unpack`.

        The same arguments make the same bytes on one machine. Raises InvalidDataset if too few rows can be learned,
        TrainingFailed if the loss runs away.
        """
        assert isinstance(spec, Lora)
        known, checked = self._split(spec, examples, progress)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(spec.seed)
        model = peft.get_peft_model(self._model, _settings(spec))
        try:
            net = _Tuned(model)
            curve = fit(
                net,
                known,
                spec,
                loss=lambda net, rows, target: net(rows, target)[0],
                measure=lambda net: _measure(net, checked),
                watch=lambda epochs, point: _tell(progress, spec, len(known), epochs, point),
                checkpoint=self._checkpoint,
            )
            adapter = _pack(model)
        finally:
            self._model = model.unload()
        return TrainedModel(adapter, tuple(curve), curve[-1]["seconds"], adapter)

    def parameters(self, spec: Lora) -> int:
        """Return how many numbers are learned."""
        wide = [m for name, m in self._model.named_modules() if name.rpartition(".")[2] in spec.targets]
        return sum(spec.rank * (layer.in_features + layer.out_features) for layer in wide)

    def score(self, model: Any, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return what ``model`` itself says, see :class:`Scoring`."""
        return score(model, rows)

    def merged(self, adapter: bytes) -> Any:
        """Return the model with what ``adapter`` learned added to its weights; it cannot be trained afterwards."""
        with TemporaryDirectory() as folder:
            unpack(adapter, Path(folder))
            model = peft.PeftModel.from_pretrained(self._model, folder).merge_and_unload()
        return model.cpu().eval()

    def _split(self, spec: Lora, examples: Examples, progress: Progress) -> tuple[_Passages, _Passages]:
        aside = examples.aside(spec.validation_fraction, spec.seed)
        read = self._read(examples)
        parts: tuple[list[Passage], list[Passage]] = [], []
        for each, is_aside in zip(read, aside.tolist(), strict=True):
            if each is not None and len(each.tokens) > max(each.start, 1):
                parts[is_aside].append(each)
        left_out = len(read) - sum(map(len, parts))
        if left_out:
            progress.report("train", 0.0, f"left out {left_out:,} rows: no room for a completion", dropped=left_out)
        if not all(parts):
            raise InvalidDataset("training needs two rows or more whose completions can be read")
        return _Passages(parts[0]), _Passages(parts[1])


def unpack(adapter: bytes, folder: Path) -> None:
    """Write an adapter in the form of PEFT into ``folder``."""
    with zipfile.ZipFile(io.BytesIO(adapter)) as archive:
        for name in (CONFIG, WEIGHTS):
            (folder / name).write_bytes(archive.read(name))


def _settings(spec: Lora) -> Any:
    return peft.LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets),
        task_type="CAUSAL_LM",
        bias="none",
        base_model_name_or_path=spec.base,
    )


def _pack(model: Any) -> bytes:
    """Return the adapter's two files in an archive."""
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        told = json.loads((Path(folder) / CONFIG).read_text("utf-8"))
        told["target_modules"] = sorted(told["target_modules"])  # a set, which is in no order
        files = {CONFIG: json.dumps(told, indent=2, sort_keys=True).encode()}
        files[WEIGHTS] = (Path(folder) / WEIGHTS).read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _FIRST_DAY), data)
    return packed.getvalue()


class _Tuned(nn.Module):
    """A model with an adapter, whose state is the adapter's alone: the rest never changes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        causal = model.get_base_model()
        self._decoder, self._head = [causal.get_decoder()], [causal.get_output_embeddings()]  # not modules of this one

    def forward(self, rows: Tensor, target: Tensor) -> tuple[Tensor, int]:
        """Return the mean of -ln p over the tokens of ``target`` [b, l] that are learned, and how many they are."""
        hidden = self._decoder[0](input_ids=rows).last_hidden_state[:, :-1]
        wanted = target[:, 1:]
        learned = wanted != _UNSEEN
        found = self._head[0](hidden[learned])
        return functional.cross_entropy(found.float(), wanted[learned]), int(learned.sum())

    def state_dict(self, *arguments: Any, **named: Any) -> Any:
        """Return what is learned."""
        learned = {name for name, value in self.named_parameters() if value.requires_grad}
        return {name: value for name, value in super().state_dict(*arguments, **named).items() if name in learned}

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        """Take back what :meth:`state_dict` gave."""
        return super().load_state_dict(state, strict=False, assign=assign)


class _Passages:
    """Passages in memory, padded to the longest of a batch."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages

    def __len__(self) -> int:
        return len(self._passages)

    def take(self, index: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        """See ``Batches``: tokens int64 [b, l], and the same where they are learned, else -100."""
        chosen = [self._passages[each] for each in index.tolist()]
        shape = len(chosen), max(len(each.tokens) for each in chosen)
        rows, target = np.zeros(shape, np.int64), np.full(shape, _UNSEEN, np.int64)
        for row, each in enumerate(chosen):
            rows[row, : len(each.tokens)] = each.tokens
            first = max(each.start, 1)
            target[row, first : len(each.tokens)] = each.tokens[first:]
        return torch.from_numpy(rows), torch.from_numpy(target)

    def fingerprint(self) -> str:
        """See ``Batches``."""
        digest = hashlib.blake2b(digest_size=16)
        for each in self._passages:
            digest.update(np.array([each.start, len(each.tokens), *each.tokens], np.int64).tobytes())
        return digest.hexdigest()


def _measure(net: nn.Module, checked: _Passages) -> Point:
    device = next(net.parameters()).device
    total, count = 0.0, 0
    for index in torch.arange(len(checked)).split(_MEASURED_AT_ONCE):
        rows, target = checked.take(index, None)
        mean, tokens = net(rows.to(device), target.to(device))
        total, count = total + float(mean) * tokens, count + tokens
    loss = total / count
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def _tell(progress: Progress, spec: Lora, rows: int, epochs: float, point: Point) -> None:
    if "epoch" in point:
        curve_report(progress, int(epochs), spec.epochs, point, rows=int(epochs) * rows)
        return
    message = f"epoch {int(epochs) + 1} of {spec.epochs}: loss {point['loss']:.4f}"
    progress.report("train", epochs / spec.epochs, message, rows=int(epochs * rows), **point)
