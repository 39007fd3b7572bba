"""Tells what format a pushed model is of, by what is in its files and never by what they are called.

Called by the push job on a folder of strangers' bytes: it unpickles nothing, extracts nothing, follows no link, and
reads a bounded piece of each file. Whether the file is whole is for the module that opens it to say.
"""

from __future__ import annotations

import bz2
import json
import lzma
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from mofang.base.domain.errors import UnknownFormat
from mofang.base.engines.adapters import FILES
from mofang.make.convert import protobuf
from mofang.make.convert.formats import FORMATS, FormatName, accepted
from mofang.make.convert.zips import names_in

_HEAD_BYTES = 1 << 16
_CONFIG_BYTES = 1 << 20
_MOST_FILES = 10_000
_WEIGHTS_OF_FACES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")


@dataclass(frozen=True, slots=True)
class Recognised:
    """A format, and the path of what is of it: a file, or a folder."""

    format: FormatName
    path: Path
    ignored: tuple[str, ...] = ()  # other files that were pushed along, and are of no format
    inside: str = ""  # the format of the folder around it, if that is a wrapper

    @property
    def title(self) -> str:
        """What people call the format."""
        return FORMATS[self.format].title


def recognise(folder: Path) -> Recognised:
    """Return what was pushed into ``folder``; raise UnknownFormat, which says what was found and what is accepted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if not files or len(files) > _MOST_FILES:
        raise UnknownFormat(f"{len(files)} files were pushed, 1 to {_MOST_FILES:,} can be", hint="push one model")
    inside = ""
    for root in dict.fromkeys(path.parent for path in sorted(files, key=lambda path: len(path.parts))):
        found = _format_of_folder(root)
        if found == "mlflow":
            inside, folder = found, root
        elif found:
            return Recognised(found, root, inside=inside)
    return replace(_one_of(folder, [path for path in files if path.is_relative_to(folder)]), inside=inside)


def _one_of(folder: Path, files: list[Path]) -> Recognised:
    """Return the one file among ``files`` that is a model."""
    names = {path: path.relative_to(folder).as_posix() for path in files}
    known = {path: found for path in files if (found := format_of(path))}
    if "onnx" in known.values():  # whatever else is there may be its external data
        known = {path: found for path, found in known.items() if found == "onnx"}
    if len(known) > 1:
        told = ", ".join(f"{names[path]!r} is {FORMATS[found].title}" for path, found in known.items())
        raise UnknownFormat(f"several models were pushed: {told}", hint="push one model at a time")
    if not known:
        raise UnknownFormat(_unknown(files, names), hint=f"accepted are: {accepted()}")
    ((path, found),) = known.items()
    return Recognised(found, path, tuple(names[each] for each in files if each != path))


def _unknown(files: list[Path], names: Mapping[Path, str]) -> str:
    first, more = files[0], len(files) - 1
    others = f", nor are the {more} other files" if more > 1 else ", nor is the other file" if more else ""
    return f"{names[first]!r} is no model: {_looks_like(first)}{others}"


# --- files --------------------------------------------------------------------------------------------------------


def format_of(path: Path) -> FormatName | None:
    """Return the format the file at ``path`` is of, None if it is of none."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for begin, told in _BY_FIRST_BYTES.items():
        if head.startswith(begin):
            return told(path, head) if callable(told) else told
    for told_by in (_text_or_weights, _vowpal_wabbit, _protobuf):
        if found := told_by(path, head):
            return found
    return None


def _zip(path: Path, head: bytes) -> FormatName | None:
    names = names_in(path)
    inner = {name.partition("/")[2] for name in names}  # torch puts everything into one folder of any name
    if "schema.json" in names:
        return "skops"
    if {"config.json", "model.weights.h5"} <= names:
        return "keras"
    if names & {"serialized_exported_program.json", "archive_format"} or "archive_format" in inner:
        return "torch.export"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    return "torch.state" if "data.pkl" in inner else None


def _pickle(path: Path, head: bytes) -> FormatName | None:
    """Protocols 2 to 5: PROTO, its number, then a frame or an opcode that begins a value."""
    return "pickle" if len(head) > 2 and 2 <= head[1] <= 5 and head[2:3] in b"\x95}](cBXKGJMN\x8c\x80\x8f" else None


def _compressed(open_stream: Callable[[], object]) -> Callable[[Path, bytes], FormatName | None]:
    """Joblib compresses whole pickles: look at the first bytes inside, and at no more."""

    def told(path: Path, head: bytes) -> FormatName | None:
        try:
            begin = open_stream().decompress(head, 64)  # type: ignore[attr-defined]
        except (zlib.error, lzma.LZMAError, OSError, EOFError):
            return None
        return _pickle(path, begin) if begin.startswith(b"\x80") else None

    return told


_inflated = _compressed(lambda: zlib.decompressobj(zlib.MAX_WBITS | 32))
_BY_FIRST_BYTES: Mapping[bytes, FormatName | Callable[[Path, bytes], FormatName | None]] = MappingProxyType(
    {
        b"GGUF": "gguf",
        b"CBM1": "catboost",
        b"\x89HDF\r\n\x1a\n": "keras.h5",
        b"tree\nversion=": "lightgbm",
        b"tree\r\nversion=": "lightgbm",
        b"PK\x03\x04": _zip,
        b"\x80": _pickle,
        b"\x78": _inflated,
        b"\x1f\x8b": _inflated,
        b"BZh": _compressed(bz2.BZ2Decompressor),
        b"\xfd7zXZ\x00": _compressed(lzma.LZMADecompressor),
        b"\x5d\x00\x00": _compressed(lzma.LZMADecompressor),
    }
)

_XGBOOST = re.compile(rb'\s*\{\s*"(learner|version|Config)"\s*:|\{L\0{7}\x07(learner|version)|\{[iU]\x07learner')


def _text_or_weights(path: Path, head: bytes) -> FormatName | None:
    if _XGBOOST.match(head):
        return "xgboost"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= path.stat().st_size - 8 and _names_tensors(path, head, length):
        return "safetensors"
    return None


def _names_tensors(path: Path, head: bytes, length: int) -> bool:
    if length > len(head) - 8:  # too long to be read here: it begins as such a header does
        return bool(re.match(rb'\{\s*"[^"\\]{1,500}"\s*:\s*\{', head[8:]))
    try:
        header = json.loads(head[8 : 8 + length])
    except ValueError:
        return False
    return isinstance(header, dict) and all(isinstance(entry, dict) for entry in header.values())


def _vowpal_wabbit(path: Path, head: bytes) -> FormatName | None:
    length = int.from_bytes(head[:4], "little")
    version = head[4 : 4 + length]
    fits = 4 <= length <= 24 and re.fullmatch(rb"\d{1,3}\.\d{1,3}\.\d{1,3}[\w.-]*\0", version)
    return "vowpalwabbit" if fits else None


def _protobuf(path: Path, head: bytes) -> FormatName | None:
    """ONNX and MindIR are messages of nearly one shape; the version of one is a number, of the other a text."""
    outer = protobuf.fields(path)
    if (7, protobuf.BYTES) not in outer.found:
        return None
    if (1, protobuf.VARINT) in outer.found or (outer.whole and (8, protobuf.BYTES) in outer.found):
        return "onnx"  # also one that was cut inside its graph: what opens it will say so
    return "mindir" if outer.whole and (1, protobuf.BYTES) in outer.found else None


# --- folders ------------------------------------------------------------------------------------------------------


def _format_of_folder(folder: Path) -> FormatName | None:
    """A folder is told by what is in the files that its format prescribes, which do have fixed names."""
    if re.search(rb"^flavors:\s*$", _begin(folder / "MLmodel"), re.MULTILINE):
        return "mlflow"
    graph = folder / "saved_model.pb"
    if graph.is_file() and (2, protobuf.BYTES) in protobuf.fields(graph).found:
        return "savedmodel"
    if (folder / FILES[1]).is_file() and b'"peft_type"' in _begin(folder / FILES[0]):
        return "lora"
    try:
        config = json.loads(_begin(folder / "config.json") or b"null")
    except ValueError:
        return None
    weights = any(_WEIGHTS_OF_FACES.fullmatch(path.name) for path in folder.iterdir())
    return "huggingface" if isinstance(config, dict) and "model_type" in config and weights else None


def _begin(path: Path) -> bytes:
    if not path.is_file() or path.is_symlink():
        return b""
    with path.open("rb") as file:
        return file.read(_CONFIG_BYTES)


# --- refusals -----------------------------------------------------------------------------------------------------

_LOOKS: tuple[tuple[bytes, str], ...] = (
    (b"PK", "it is a zip of other things"),
    (b"\x1f\x8b", "it is gzip of other things"),
    (b"\x7fELF", "it is a program"),
    (b"%PDF", "it is a PDF"),
    (b"\x89PNG", "it is a picture"),
    (b"\xff\xd8\xff", "it is a picture"),
    (b"\x93NUMPY", "it is a NumPy array, data and no model"),
    (b"binf", "it is of XGBoost's old binary format: save it again as JSON or UBJSON"),
)


def _looks_like(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        return "it is empty"
    for begin, said in _LOOKS:
        if head.startswith(begin):
            return said
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"it is text that begins {head[:40].decode('ascii').splitlines()[0]!r}"
    return f"its first bytes are {head[:8].hex(' ')}"
