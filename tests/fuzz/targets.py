"""What reads bytes that others send, one target each: a function that may refuse them in its own words, and some good
ones to begin from. Whatever else comes out of a target is a defect."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from connections import CALLS, REQUESTS, block, http1, http2
from google.protobuf.message import DecodeError

import ggufs
from mofang.base.domain.errors import MofangError
from mofang.base.domain.inference import Call
from mofang.base.domain.usage import UsageRecord
from mofang.base.engines.gguf import read_gguf
from mofang.base.identity.addresses import check_network, client_address
from mofang.base.identity.deputies import check_word, word
from mofang.base.identity.keys import new_key, parse_key
from mofang.base.placement.frames import FrameError, FrameReader, encode_call, encode_calls
from mofang.base.storage.journal import JournalWriter, read_records, segments
from mofang.base.users.rules import parse_rules
from mofang.make.prepare import arff, csv, idx, jsonl, npy, npz
from mofang.make.prepare.stream import Stream, gather
from mofang.make.recipe import Prepare, parse_recipe
from mofang.sell.meter import codec as usage
from mofang.surface.protocols.bodies import decompress
from mofang.surface.protocols.forms import read_form
from mofang.surface.protocols.grpc.codec import parse_infer as parse_message
from mofang.surface.protocols.grpc.http2.frames import ConnectionFault, StreamFault
from mofang.surface.protocols.grpc.http2.heads import HeadReader
from mofang.surface.protocols.oip.codec import JSON_LENGTH, parse_infer
from mofang.surface.protocols.openai.requests import ChatRequest, parse
from mofang.surface.wire import inference_pb2 as pb


@dataclass(frozen=True)
class Target:
    """``read`` takes bytes as they come, and raises nothing but ``refusals``."""

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]
    refusals: tuple[type[Exception], ...] = (MofangError,)

    def try_one(self, data: bytes) -> None:
        """Read ``data``, or refuse it."""
        try:
            self.read(data)
        except self.refusals as refusal:
            str(refusal)


FOLDER = Path(tempfile.gettempdir())


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Read bytes as the content of a file."""
    path = FOLDER / name

    def read_bytes(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return read_bytes


def _table(read: Callable[[str], Stream]) -> Callable[[Path], object]:
    return lambda path: gather(read(str(path)), Prepare(source=("sklearn:iris",)), FOLDER)


def _oip_binary(data: bytes) -> object:
    """The first two bytes say where the JSON ends."""
    length, body = int.from_bytes(data[:2], "little"), data[2:]
    return parse_infer("digits", "", {JSON_LENGTH: str(length)}, body)


def _message(data: bytes) -> object:
    return parse_message(pb.ModelInferRequest.FromString(data))


def _frames(data: bytes) -> object:
    """In two pieces, as they may arrive."""
    reader = FrameReader(1 << 20)
    half = len(data) // 2
    return [*reader.feed(data[:half]), *reader.feed(data[half:])]


def _heads(data: bytes) -> object:
    """Two blocks on one connection: the second meets the table that the first left behind."""
    reader, half = HeadReader(), len(data) // 2
    return reader.read(data[:half]), reader.read(data[half:]), reader.read(data[half:])


def _journal(path: Path) -> object:
    return [usage.decode(payload) for payload, _ in read_records(path)]


def _idx(data: bytes) -> object:
    """One file of four: images, to which the labels belong."""
    folder = FOLDER / "idx"
    folder.mkdir(exist_ok=True)
    for split in ("train", "t10k"):
        (folder / f"{split}-images-idx3-ubyte").write_bytes(data)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x01\x01")
    return idx.read(str(folder))


def _body(datatype: str, values: object, shape: Sequence[int]) -> bytes:
    return msgspec.json.encode({"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": values}]})


def _with_binary() -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    texts = {"name": "t", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
    head = msgspec.json.encode({"inputs": [tensor, texts], "outputs": [{"name": "y"}]})
    return len(head).to_bytes(2, "little") + head + bytes(8) + b"\1\0\0\0a"


def _messages() -> list[bytes]:
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
    plain = pb.ModelInferRequest(model_name="m", inputs=[tensor | {"contents": {"fp32_contents": [1, 2]}}])
    raw = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[bytes(8)])
    texts = {"name": "t", "datatype": "BYTES", "shape": [1]}
    words = pb.ModelInferRequest(model_name="m", inputs=[texts], raw_input_contents=[b"\1\0\0\0a"])
    return [bytes(each.SerializeToString()) for each in (plain, raw, words)]


def _worker_frames() -> list[bytes]:
    calls = [
        Call("r", "t", {"x": np.ones((rows, 2), np.float32), "t": np.array([b"a"] * rows, np.object_)}, rows, 1e9)
        for rows in (1, 2)
    ]
    return [b"".join(encode_call(1, calls[0])), b"".join(encode_calls([*enumerate(calls)]))]


def _segment() -> bytes:
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    writer = JournalWriter(folder, "g")
    record = UsageRecord("r", 1, "t", "p", "k", "e", 1, 1, "sha256:ab", "ok", {"requests": 1})
    for _ in range(2):
        writer.append(usage.encode(record))
    writer.flush()
    writer.close()
    [path] = segments(folder)
    content = path.read_bytes()
    shutil.rmtree(folder)
    return content


def _saved(save: Callable[..., None], *arrays: np.ndarray[Any, Any], **named: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


_RECIPE = b'name = "a"\n[prepare]\nsource = "sklearn:iris"\n[train]\nalgorithm = "logistic_regression"\n'
_FORM = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nw\r\n--b\r\ncontent-disposition: form-data; ' + (
    b'name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--b--\r\n'
)
_CHAT = b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"n":1,"stop":["a"]}'
_ARFF = b"@relation r\n@attribute a numeric\n@attribute y {p,q}\n@data\n1,p\n"
_LABELS = np.array([1, 2])
_IMAGES = b"\0\0\x08\x03\0\0\0\x01\0\0\0\x02\0\0\0\x02\1\2\3\4"

TARGETS: dict[str, Target] = {
    "http1": Target(http1, REQUESTS),
    "http2": Target(http2, CALLS),
    "hpack": Target(_heads, [block() * 2], (StreamFault, ConnectionFault)),
    "oip-json": Target(
        lambda data: parse_infer("m", "", {}, data),
        [
            _body("FP32", [[1, 2]], [1, 2]),
            _body("INT64", [1], [1]),
            _body("BYTES", ["a"], [1]),
            _body("BOOL", [True], [1]),
        ],
    ),
    "oip-binary": Target(_oip_binary, [_with_binary()]),
    "grpc-message": Target(_message, _messages(), (MofangError, DecodeError)),
    "gzip": Target(
        lambda data: decompress("gzip", data, 1 << 20, ratio=100, free=1 << 16), [gzip.compress(b"abc", mtime=0)]
    ),
    "multipart": Target(lambda data: read_form({"content-type": "multipart/form-data; boundary=b"}, data), [_FORM]),
    "chat": Target(lambda data: parse(data, ChatRequest), [_CHAT]),
    "worker-frames": Target(_frames, _worker_frames(), (FrameError,)),
    "journal": Target(_file("segment", _journal), [_segment()]),
    "gguf": Target(_file("model.gguf", read_gguf), [ggufs.gguf()]),
    "keys": Target(lambda data: parse_key(data.decode("latin-1")), [new_key().text.encode()]),
    "deputies": Target(
        lambda data: check_word(data.decode("latin-1"), bytes(32), {}, 0), [word(bytes(32), "A1b2C3d4E5", 9).encode()]
    ),
    "proxies": Target(
        lambda data: client_address("127.0.0.1", data.decode("latin-1"), ["127.0.0.0/8", "::1/128"]),
        [b"10.0.0.1, 127.0.0.1", b"[::1], ::ffff:127.0.0.1, fe80::1%eth0"],
    ),
    "networks": Target(lambda data: check_network(data.decode("latin-1")), [b"10.0.0.0/8", b"::1/128"]),
    "roles": Target(
        lambda data: parse_rules(data.decode("latin-1")),
        [b"groups=ml-admins -> admin; groups=acme-* -> developer@tenant:acme"],
    ),
    "recipe": Target(lambda data: parse_recipe(data.decode("utf-8", "replace"), "r.toml"), [_RECIPE]),
    "csv": Target(_file("a.csv", _table(csv.read)), [b"a,b,y\n1,x,2\n3,z,4\n", b'a,y\n"1,2",3\n']),
    "jsonl": Target(_file("a.jsonl", _table(jsonl.read)), [b'{"a":1,"y":2}\n{"a":null,"y":3}\n']),
    "arff": Target(
        _file("a.arff", _table(arff.read)), [b"@relation r\n@attribute a numeric\n@attribute y {p,q}\n@data\n1,p\n"]
    ),
    "idx": Target(_idx, [_IMAGES]),
    "npz": Target(
        _file("a.npz", lambda path: npz.read(str(path))), [_saved(np.savez, x=np.ones((2, 2), np.float32), y=_LABELS)]
    ),
    "npy": Target(_file("a.npy", _table(npy.read)), [_saved(np.save, np.ones((2, 3)))]),
}
