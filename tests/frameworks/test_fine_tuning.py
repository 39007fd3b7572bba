"""LoRA on language models, from a Hugging Face folder or a GGUF file to a served version."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import tinylm
from mofang.base.domain.errors import GateFailed, InvalidDataset, InvalidModel, NoExport, ParityFailed
from mofang.base.domain.generation import Sampling
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_generator
from mofang.make.convert.language.gguf import write
from mofang.make.convert.language.parity import prove
from mofang.make.pipeline import JOB_KINDS
from mofang.make.train.transformers.torch.models import load, score
from mofang.make.workshop import Workshop

pytestmark = pytest.mark.filterwarnings("ignore")  # frameworks warn of each other's versions
COLOURS = {"grass": "green", "snow": "white", "coal": "black", "blood": "red", "the sky": "blue", "gold": "yellow"}
SEASONS = ("in spring", "in summer", "at dawn", "at noon", "far away", "by night", "on Monday", "for a child")
SENTENCES = [f" It is {colour}." for colour in COLOURS.values()]
RECIPE = """
name = "colours"

[prepare]
source = "jsonl:{data}"
test_fraction = 0.25

[train]
algorithm = "lora"
base = "{base}@1"
rank = 8
targets = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
epochs = {epochs}
batch_size = 4
learning_rate = 0.02

[evaluate]
gate = "perplexity <= {most}"
"""


def rows() -> list[tuple[str, str]]:
    return [(f"What is {thing} {when}?", f" It is {COLOURS[thing]}.") for thing in COLOURS for when in SEASONS]


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    """Compute on one core: threads that wait for each other cost such a small model more than they save."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    yield
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tinylm.write(folder, [" ".join(row) for row in rows()])
    return folder


@pytest.fixture
def pushed(tools: Workshop, tiny: Path) -> ModelVersion:
    return push(tools, "tiny", tiny)


def push(tools: Workshop, name: str, folder: Path) -> ModelVersion:
    files = []
    for path in sorted(folder.iterdir()):
        ref = tools.blobs.put_file(path)
        files.append({"path": path.name, "sha256": ref.sha256, "size_bytes": ref.size_bytes})
    JOB_KINDS["push"]({"model": name, "files": files}, tools, Silent())
    return tools.registry.get(VersionRef.parse(name))


def recipe(
    tmp_path: Path, *, base: str = "tiny", epochs: int = 8, most: float = 20.0, chat: bool = False
) -> dict[str, Any]:
    data = tmp_path / "rows.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion.strip()}]}
        if chat
        else {"prompt": prompt, "completion": completion}
        for prompt, completion in rows()
    ]
    data.write_text("\n".join(map(json.dumps, lines)))
    return {"recipe": RECIPE.format(data=data, base=base, epochs=epochs, most=most), "filename": "colours.toml"}


def answer(tools: Workshop, version: ModelVersion, engine: str, prompt: str, tmp_path: Path) -> str:
    """Ask as a client would; the likeliest tokens."""
    folder = tools.registry.folder(version, tmp_path / f"served-{engine}-{version.model}")
    model = load_generator(engine, folder, {"slots": 1, "cache_mb": 64})
    said = ""
    try:
        model.add(1, model.encode(prompt, opening=True), Sampling(max_tokens=12, temperature=0.0))  # type: ignore[union-attr]
        while True:
            for delta in model.step()[0]:
                said += delta.text
                if delta.finish:
                    return said
    finally:
        model.close()


def taken_out(tools: Workshop, version: str, form: str, folder: Path) -> Path:
    """Export a version, and return the folder with its files."""
    done = JOB_KINDS["export"]({"version": version, "to": form, "licence": ""}, tools, Silent())
    with zipfile.ZipFile(io.BytesIO(tools.blobs.read(done["archive"]))) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_folder_can_be_taken_out_as_gguf_that_computes_the_same(tools: Workshop, tmp_path: Path, kind: str) -> None:
    tinylm.write(tmp_path / "model", [" ".join(row) for row in rows()], kind)
    assert push(tools, "language", tmp_path / "model").artifact.engine == "transformers"
    folder = taken_out(tools, "language@1", "gguf", tmp_path / "out")
    assert "computes the same" in (folder / "README.md").read_text()
    text = "What is snow at dawn? 1,234 times"
    tokens = load_generator("openvino", folder, {"slots": 1, "cache_mb": 64}).encode(text)
    assert list(load_generator("llamacpp", folder, {"slots": 1, "cache_mb": 64}).encode(text)) == list(tokens)


def test_weights_in_another_order_are_noticed(tiny: Path, tmp_path: Path) -> None:
    model = load(tiny)
    texts = [list(range(10, 60)), list(range(200, 260))]
    write(model, tiny, tmp_path)
    assert prove("openvino", tmp_path, partial(score, model), texts, Silent()).max_difference < 0.1
    weights = model.state_dict()["model.layers.0.self_attn.q_proj.weight"]
    with torch.no_grad():
        weights.copy_(weights.reshape(4, 2, 8, -1).swapaxes(1, 2).reshape(weights.shape))
    with pytest.raises(ParityFailed, match="less or more likely"):
        prove("openvino", tmp_path, partial(score, model), texts, Silent())


@pytest.mark.parametrize(
    ("kind", "changed", "match"),
    [
        ("llama", {"attention_bias": True}, "biases"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "stretches"),
        ("gpt_neox", {}, "'gpt_neox'"),
    ],
)
def test_what_is_not_known_is_refused(
    tools: Workshop, tmp_path: Path, kind: str, changed: dict[str, Any], match: str
) -> None:
    tinylm.write(tmp_path / "model", [" ".join(row) for row in rows()], kind, **changed)
    push(tools, "tiny", tmp_path / "model")
    with pytest.raises(InvalidModel, match=match):
        taken_out(tools, "tiny@1", "gguf", tmp_path / "out")
    with pytest.raises(InvalidModel, match=match):
        JOB_KINDS["train"](recipe(tmp_path), tools, Silent())


@pytest.mark.trains("lora")
def test_a_fine_tuned_model_knows_what_it_was_taught(tools: Workshop, pushed: ModelVersion, tmp_path: Path) -> None:
    spec = recipe(tmp_path)
    done = JOB_KINDS["train"](spec, tools, Silent())
    version = tools.registry.get(VersionRef.parse("colours"))
    assert version.artifact.engine == "transformers"
    assert answer(tools, version, "transformers", "What is snow on Monday?", tmp_path) in SENTENCES
    report = tools.evaluations.get(done["evaluation"]).report
    (compared,) = report.comparisons
    assert (compared.version, compared.verdict) == ("tiny@1", "better")
    assert compared.difference < -100  # the base is random
    assert version.metrics["perplexity"] < 3
    run = tools.runs.get(done["run"])
    assert version.lineage.parent == pushed.digest
    assert run.curve[-1]["perplexity"] < run.curve[0]["perplexity"]
    assert "peft" in run.code

    again = JOB_KINDS["train"](spec, tools, Silent())
    assert (again["digest"], again["created"]) == (version.digest, False)  # the same bytes

    alone = JOB_KINDS["evaluate"]({"version": "colours@1", "dataset": "", "gate": ""}, tools, Silent())
    assert tools.evaluations.get(alone["evaluation"]).report.metrics == pytest.approx(version.metrics)


def test_a_gguf_file_is_gone_on_from_and_remains_one(tools: Workshop, pushed: ModelVersion, tmp_path: Path) -> None:
    folder = taken_out(tools, "tiny@1", "gguf", tmp_path / "out")
    (tmp_path / "alone").mkdir()
    (folder / "model.gguf").rename(tmp_path / "alone" / "model.gguf")
    assert push(tools, "file", tmp_path / "alone").artifact.engine == "openvino"
    JOB_KINDS["train"](recipe(tmp_path, base="file", chat=True), tools, Silent())
    version = tools.registry.get(VersionRef.parse("colours"))
    prompt = "<|im_start|>user\nWhat is gold at noon?<|im_end|>\n<|im_start|>assistant\n"
    assert (version.artifact.engine, version.metrics["perplexity"] < 3) == ("openvino", True)
    for engine in ("openvino", "llamacpp"):
        assert " " + answer(tools, version, engine, prompt, tmp_path) in SENTENCES


class _Killed(Exception):
    pass


class _DiesInEpoch(Silent):
    """Lets a training run so far."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        if stage == "train" and data.get("epoch") == self.epoch:
            raise _Killed


def test_a_training_that_was_killed_comes_to_the_same_weights(
    tools: Workshop, pushed: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mofang.make.train.torch.checkpoint._LEAST_SECONDS", 0.0)
    monkeypatch.setattr("mofang.make.train.torch.checkpoint._SHARE_OF_TIME", 1e9)
    spec = recipe(tmp_path)
    with pytest.raises(_Killed):
        JOB_KINDS["train"](spec, tools, _DiesInEpoch(3))
    assert tools.checkpoint.stat().st_size < 600_000  # what is learned, and not the model
    resumed = JOB_KINDS["train"](spec, tools, Silent())
    tools.checkpoint.unlink()
    whole = JOB_KINDS["train"](spec, tools, Silent())
    assert (whole["digest"], whole["created"]) == (resumed["digest"], False)


def test_a_gate_holds_a_language_model_back(tools: Workshop, pushed: ModelVersion, tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match=r"perplexity .* > 1\.0"):
        JOB_KINDS["train"](recipe(tmp_path, epochs=1, most=1.0), tools, Silent())


def test_a_quote_says_what_a_fine_tuning_takes(tools: Workshop, pushed: ModelVersion, tmp_path: Path) -> None:
    found = JOB_KINDS["quote"](recipe(tmp_path), tools, Silent())
    assert found["seconds"] > 0
    assert found["parameters"] == 2 * 8 * (64 + 64 + 64 + 32 + 2 * (64 + 128) + 128 + 64)


@pytest.mark.pushes("lora")
def test_what_was_learned_can_be_taken_out_alone_or_merged(
    tools: Workshop, pushed: ModelVersion, tiny: Path, tmp_path: Path
) -> None:
    JOB_KINDS["train"](recipe(tmp_path), tools, Silent())
    merged, adapter = (taken_out(tools, "colours@1", form, tmp_path / form) for form in ("huggingface", "adapter"))
    both = load(merged), peft.PeftModel.from_pretrained(load(tiny), adapter)
    tokens = torch.arange(10, 60)[None]
    with torch.no_grad():
        torch.testing.assert_close(both[0](tokens).logits, both[1](tokens).logits, atol=1e-3, rtol=1e-3)
    assert push(tools, "learned", adapter).model == "learned"  # to be asked by request beside its base
    with pytest.raises(NoExport, match="not fine-tuned"):
        taken_out(tools, "tiny@1", "adapter", tmp_path / "none")


def test_data_that_is_no_text_is_refused(tools: Workshop, pushed: ModelVersion, tmp_path: Path) -> None:
    spec = recipe(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "who?"}\n')
    with pytest.raises(InvalidDataset, match=r"line 1: a record must be .*'question'"):
        JOB_KINDS["train"](spec, tools, Silent())
