"""A language model in a GGUF file searched for a variant of fewer bits, through the engine that serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize

from models import SMOLLM2, fetch
from mofang.base.domain.errors import NoVariant
from mofang.base.domain.work import Silent
from mofang.base.engines.gguf import read_gguf
from mofang.make.compress.catalog import make
from mofang.make.compress.language import Read
from mofang.make.compress.step import Lower
from mofang.make.compress.streams import STREAMS, streams
from mofang.make.compress.subject import Means, Subject
from mofang.make.evaluate.language import whole
from servers import Server

pytestmark = pytest.mark.timeout(600)
Mofang = Callable[..., str]
BLOCKS, WORDS = 2, 2_048  # of thirty, and of 49,152: enough to be served, and soon measured
ABOUT = (
    "The capital of France is Paris, and it lies on the river Seine.",
    "The sun rises in the east and sets in the west, every day of the year.",
    "Cats and dogs are animals that people like to have in their homes.",
    "Water is made of hydrogen and oxygen; it freezes when it is cold.",
    "In winter it is often dark before the children come home from school.",
    "A week has seven days, and a year has about fifty-two weeks.",
    "We see with our eyes, hear with our ears and walk on our feet.",
    "The library opens at nine in the morning and closes at six.",
)


def exact(target: Path, wide: str = "F16") -> Path:
    """Write the first blocks and words of SmolLM2 as somebody would push it: matrices in ``wide``, vectors in F32."""
    reader = gguf.GGUFReader(fetch(SMOLLM2))
    writer = gguf.GGUFWriter(target, "llama")
    words = reader.fields["tokenizer.ggml.tokens"].contents()[:WORDS]
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    changed = {
        "llama.block_count": BLOCKS,
        "llama.vocab_size": WORDS,
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": reader.fields["tokenizer.ggml.token_type"].contents()[:WORDS],
        "tokenizer.ggml.merges": [each for each in merges if {*each.split(" "), each.replace(" ", "")} <= {*words}],
    }
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.file_type"):
            kind, value = field.types[0], changed.get(field.name, field.contents())
            writer.add_key_value(field.name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{wide}"])
    for tensor in reader.tensors:
        name = tensor.name.split(".")
        if name[0] == "blk" and int(name[1]) >= BLOCKS:
            continue
        weights = dequantize(tensor.data[:WORDS], tensor.tensor_type)  # no other has as many rows
        kind = gguf.GGMLQuantizationType["F32" if weights.ndim == 1 else wide]
        writer.add_tensor(tensor.name, gguf.quants.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def lowered(folder: Path, steps: Sequence[Lower], tmp_path: Path) -> Path:
    number = iter(range(10))

    def scratch() -> Path:
        (made := tmp_path / f"made-{next(number)}").mkdir()
        return made

    found = make(tuple(steps), Means(Subject(folder, "openvino"), scratch)).folder
    assert found is not None
    return next(found.glob("*.gguf"))


@pytest.fixture(scope="module")
def f16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exact(tmp_path_factory.mktemp("f16") / "small.gguf")


@pytest.mark.parametrize("wide", ["F16", "BF16", "Q8_0"])
def test_matrices_get_the_lower_type_and_the_rest_stays(tmp_path: Path, wide: str) -> None:
    (tmp_path / "original").mkdir()
    original = exact(tmp_path / "original" / "small.gguf", wide)
    made = lowered(original.parent, [Lower("q4_0", "q8_0")], tmp_path)
    before, after = read_gguf(original), read_gguf(made)  # which checks every length and offset
    types = {each.name.removeprefix("blk.1."): each.type for each in after.tensors}
    assert types | {"attn_norm.weight": "F32", "ffn_down.weight": "Q4_0", "token_embd.weight": "Q8_0"} == types
    assert [(each.name, each.shape) for each in after.tensors] == [(each.name, each.shape) for each in before.tensors]
    assert made.stat().st_size < original.stat().st_size
    ours, theirs = gguf.GGUFReader(made), gguf.GGUFReader(original)
    own = {"GGUF.kv_count", "general.file_type"}
    kept = {name: field.contents() for name, field in theirs.fields.items() if name not in own}
    assert {name: field.contents() for name, field in ours.fields.items() if name in kept} == kept
    assert ours.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_0
    for one, other in zip(ours.tensors, theirs.tensors, strict=True):
        weights, rounded = (dequantize(each.data, each.tensor_type) for each in (other, one))
        bits = {"F32": 0.0, "Q8_0": 1 / 127, "Q4_0": 1 / 7}[one.tensor_type.name]
        assert np.abs(weights - rounded).max() <= bits * np.abs(weights).max() + 1e-6


def test_one_width_after_another_loses_twice_and_is_refused(tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    exact(tmp_path / "original" / "small.gguf")
    once = lowered(tmp_path / "original", [Lower("q4_0")], tmp_path)
    with pytest.raises(NoVariant, match="most of its weights are Q4_0: there is nothing to write in q5_0"):
        make((Lower("q5_0"),), Means(Subject(once.parent, "openvino"), lambda: tmp_path / "never"))


def test_a_search_picks_fewer_bits_and_the_variant_is_served(
    mofang: Mofang, server: Server, f16: Path, tmp_path: Path
) -> None:
    mofang("push", "fewer", str(f16), "--engine", "openvino")  # which tells how likely given texts are
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(ABOUT))
    found = json.loads(
        mofang("compress", "fewer@1", "--calibration", str(texts), "--max-drop", "0.5", "--trials", "3", "--json")
    )
    told = {each["told"]: each for each in found["candidates"]}
    assert list(told) == ["gguf q8_0", "gguf q4_0", "gguf q4_0, embedding and output q8_0"]
    for each in told.values():
        quality, latencies = each["comparison"]["quality"], each["comparison"]["latencies"]
        assert quality["metric"] == "perplexity"
        assert quality["value"] > 1
        assert quality["low"] <= quality["value"] / quality["parent"] - 1 <= quality["high"]
        assert [(one["of"], one["batch"]) for one in latencies] == [("first token", 1), ("token", 1), ("token", 4)]
        assert all(one["median_us"] > 0 for one in latencies)
    sizes = {name: each["comparison"]["size_bytes"] for name, each in told.items()}
    assert sizes["gguf q4_0"] < sizes["gguf q4_0, embedding and output q8_0"] < sizes["gguf q8_0"] < f16.stat().st_size
    kept = told["gguf q8_0"]["comparison"]["quality"]
    assert abs(kept["value"] / kept["parent"] - 1) < 0.05
    assert found["picked"].startswith("fewer@1+gguf-q")
    registered = {each["variant"]: each for each in found["registered"]}
    picked = registered[found["picked"].partition("+")[2]]
    assert picked["lineage"]["parent"] == server.client.register.get_version("fewer@1").digest
    assert (
        "perplexity"
        in mofang("variants", "fewer@1", "--html", str(tmp_path / "front.html")) + (tmp_path / "front.html").read_text()
    )
    assert json.loads(mofang("deploy", "fewer", found["picked"], "--json"))["state"] == "done"
    turn = server.client.chat.say("fewer", [{"role": "user", "content": "Hello"}], max_tokens=4)
    assert "".join(turn) == turn.text
    assert turn.output_tokens > 0


def test_where_an_engine_tells_no_probabilities_next_tokens_are_compared(f16: Path, tmp_path: Path) -> None:
    examiner = Read("llamacpp", f16.parent, lambda engine: [whole(engine, text) for text in ABOUT], "auto", Silent())
    same = examiner.judge(f16.parent, Silent())
    assert (same.metric, same.rows, same.drop, same.parity) == ("agreement", 4 * len(ABOUT), 0.0, "equal")
    made = lowered(f16.parent, [Lower("q5_0")], tmp_path)  # which OpenVINO cannot load
    assert examiner.judge(made.parent, Silent()).drop < 0.6
    with streams("llamacpp", f16.parent, examiner.texts) as grounds:
        latencies, memory, parent_memory = grounds.time(made.parent, 0.0, Silent())
    assert [(each.of, each.batch) for each in latencies] == [("first token", 1), ("token", 1), ("token", STREAMS)]
    assert all(each.median_us > 0 for each in latencies)
    assert 0 < memory < 2 * parent_memory


def test_bad_material_is_said_before_anything_is_measured(
    mofang: Mofang, server: Server, f16: Path, tmp_path: Path
) -> None:
    mofang("push", "tight", str(fetch(SMOLLM2)))
    mofang("push", "loose", str(f16))
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(ABOUT))
    (tmp_path / "two.txt").write_text("Only one text.\n\nAnd another.")
    assert "the weights of the file are Q4_1, which was rounded already" in _refused(server, "tight@1", str(texts))
    assert "nobody knows what it is asked: there is no text" in _refused(server, "loose@1")
    assert "has 2 texts of several words" in _refused(server, "loose@1", str(tmp_path / "two.txt"))
    assert "is no text in UTF-8" in _refused(server, "loose@1", str(f16))


def _refused(server: Server, version: str, texts: str = "") -> str:
    command = [str(Path(sys.executable).with_name("mofang")), "compress", version]
    command += ["--calibration", texts] if texts else []
    environ = {**os.environ, "MOFANG_DATA": str(server.data), "NO_COLOR": "1", "COLUMNS": "300"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode
    return done.stdout + done.stderr
