"""Turns speech into text: Whisper in CTranslate2's format, by faster-whisper. Loaded through the catalog.

The artifact is what ``ct2-transformers-converter`` leaves: ``model.bin``, ``config.json``, ``tokenizer.json`` and a
vocabulary. Recordings are hostile until shown otherwise: they are decoded here, in the worker, within a bound of time,
and a WAV file is held to the length it claims.
"""

from __future__ import annotations

import io
import math
import os
import threading
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import av
import faster_whisper
import msgspec
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import EngineFailed, EngineLoadFailed, InvalidParameter, TensorData
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.engines.base import Options
from mofang.base.engines.options import chosen as options_of

RATE = 16_000  # samples a second, of all Whisper models
_FILES = ("model.bin", "config.json", "tokenizer.json")
_SIGNATURE = Signature(
    (TensorSpec("audio", "BYTES", (-1,)), TensorSpec("wish", "BYTES", (-1,))),
    (
        TensorSpec("text", "BYTES", (-1,)),
        TensorSpec("language", "BYTES", (-1,)),
        TensorSpec("segments", "BYTES", (-1,)),
        TensorSpec("seconds", "FP32", (-1,)),
        TensorSpec("audio_seconds", "INT64", (-1,)),
    ),
    independent_rows=False,
)

Floats = NDArray[np.float32]


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """How a recording is to be read: input ``wish``, as JSON."""

    language: Annotated[str, msgspec.Meta(max_length=16)] = ""  # empty: found out
    prompt: Annotated[str, msgspec.Meta(max_length=4096)] = ""  # text that went before
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None  # None: rises as long as the text looks wrong
    words: bool = False  # times of words too
    translate: bool = False  # into English


class WhisperEngine:
    """``audio [n] BYTES`` (recordings in any usual format) and ``wish [n] BYTES`` (JSON, see :class:`Wish`).

    They become ``text``, ``language``, ``segments`` (JSON: start, end, text, ...), ``seconds`` of each recording, and
    ``audio_seconds``, what is metered: whole seconds, rounded up. Options: see :mod:`.options`.
    """

    signature = _SIGNATURE

    def __init__(self, folder: Path, options: Options) -> None:
        """Load the model. Raises EngineLoadFailed or InvalidOption."""
        chosen = options_of("whisper", options)
        for name in _FILES:  # a model without its tokenizer would be looked for on the internet
            if not (folder / name).is_file():
                raise EngineLoadFailed(f"{name!r} is missing: it is no Whisper model of CTranslate2")
        self._most_seconds, self._beams = int(chosen["most_seconds"]), int(chosen["beams"])
        try:
            self._model = faster_whisper.WhisperModel(
                str(folder), device="cpu", compute_type=str(chosen["compute"]), local_files_only=True,
                cpu_threads=int(chosen["threads"]) or len(os.sched_getaffinity(0)),
            )  # fmt: skip
        except Exception as error:  # the library raises RuntimeError and ValueError for everything
            raise EngineLoadFailed(f"CTranslate2 cannot load the model: {str(error)[:300]}") from error
        self._stopping = threading.Event()

    def example(self) -> Mapping[str, Array]:
        """Return a second of silence; see :class:`Exemplary`."""
        with io.BytesIO() as file:
            with wave.open(file, "wb") as written:
                written.setparams((1, 2, RATE, 0, "NONE", ""))
                written.writeframes(bytes(2 * RATE))
            return {"audio": _texts([file.getvalue()]), "wish": _texts([b'{"temperature": 0}'])}

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return what was said. Raises TensorData for what is no recording, InvalidParameter for a wrong wish."""
        self._stopping.clear()
        rows = [
            self._read(bytes(audio), bytes(wish), index)
            for index, (audio, wish) in enumerate(zip(inputs["audio"], inputs["wish"], strict=True))
        ]
        seconds = np.array([row.seconds for row in rows], np.float32)
        return {
            "text": _texts([row.text for row in rows]),
            "language": _texts([row.language for row in rows]),
            "segments": _texts([row.segments for row in rows]),
            "seconds": seconds,
            "audio_seconds": np.array([math.ceil(row.seconds) for row in rows], np.int64),
        }

    def interrupt(self) -> None:
        """See :class:`Interruptible`: the segment that is computed is the last."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of the model."""
        del self._model

    def _read(self, audio: bytes, wish: bytes, index: int) -> _Row:
        asked = _wish(wish)
        samples = self._decode(audio, f"recording {index}")
        try:
            segments, about = self._model.transcribe(
                samples, beam_size=self._beams, language=asked.language or None, initial_prompt=asked.prompt or None,
                task="translate" if asked.translate else "transcribe", word_timestamps=asked.words,
                **({} if asked.temperature is None else {"temperature": asked.temperature}),
            )  # fmt: skip
            told = [_segment(each) for each in self._heard(segments)]
        except ValueError as error:  # of the library: a language that the model does not know
            raise InvalidParameter.of("language", str(error)[:300]) from error
        except RuntimeError as error:
            raise EngineFailed(f"CTranslate2 cannot compute: {str(error)[:300]}") from error
        text = "".join(each["text"] for each in told).strip()
        return _Row(text.encode(), about.language.encode(), msgspec.json.encode(told), len(samples) / RATE)

    def _heard(self, segments: Iterator[Any]) -> Iterator[Any]:
        for segment in segments:
            if self._stopping.is_set():
                raise EngineFailed("nobody waits for the text any more")
            yield segment

    def _decode(self, audio: bytes, where: str) -> Floats:
        """Return the samples of a recording, one channel of :data:`RATE`."""
        if audio[:4] == b"RIFF":
            _check_wav(audio, where)
        most = self._most_seconds * RATE
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        parts: list[Floats] = []
        size = 0
        try:
            with av.open(io.BytesIO(audio), mode="r", metadata_errors="ignore") as container:
                if not container.streams.audio:
                    raise TensorData(f"{where} has no sound")
                for frame in _frames(container):
                    for part in resampler.resample(frame):
                        parts.append(part.to_ndarray().reshape(-1))
                        size += parts[-1].size
                    if size > most:
                        raise TensorData(f"{where} is longer than {self._most_seconds:,} s", hint="send it in parts")
        except (av.FFmpegError, ValueError, OSError, IndexError) as error:
            raise TensorData(
                f"{where} is no recording, or is damaged", hint="send the bytes of a WAV, MP3, FLAC, OGG or M4A file"
            ) from error
        if not size:
            raise TensorData(f"{where} is empty")
        samples = np.concatenate(parts).astype(np.float32, copy=False)
        if not np.isfinite(samples).all():
            raise TensorData(f"{where} has samples that are no numbers")
        return samples


class _Row(msgspec.Struct):
    text: bytes
    language: bytes
    segments: bytes
    seconds: float


def _frames(container: Any) -> Iterator[Any]:
    """Yield the frames of a recording, without the times they claim, and None to have the rest."""
    for frame in container.decode(audio=0):
        frame.pts = None
        yield frame
    yield None


def _check_wav(audio: bytes, where: str) -> None:
    """Raise TensorData if a WAV file claims more samples than it has: what plays it would guess."""
    offset = 12
    while offset + 8 <= len(audio):
        name, size = audio[offset : offset + 4], int.from_bytes(audio[offset + 4 : offset + 8], "little")
        there = len(audio) - offset - 8
        if size > there:
            raise TensorData(f"{where} claims {size:,} bytes of {name!r} and has {there:,}", hint="send the whole file")
        if name == b"data":
            return
        offset += 8 + size + size % 2
    raise TensorData(f"{where} is a WAV file without samples", hint="send the whole file")


def _wish(text: bytes) -> Wish:
    try:
        return msgspec.json.decode(text, type=Wish)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter.of("wish", str(error)[:300]) from None


def _segment(segment: Any) -> dict[str, Any]:
    told = {
        "id": segment.id,
        "seek": segment.seek,
        "start": round(float(segment.start), 3),
        "end": round(float(segment.end), 3),
        "text": segment.text,
        "tokens": segment.tokens,
        "temperature": segment.temperature,
        "avg_logprob": float(segment.avg_logprob),
        "compression_ratio": float(segment.compression_ratio),
        "no_speech_prob": float(segment.no_speech_prob),
    }
    if segment.words is not None:
        told["words"] = [
            {"word": word.word.strip(), "start": round(float(word.start), 3), "end": round(float(word.end), 3)}
            for word in segment.words
        ]
    return told


def _texts(values: list[bytes]) -> Array:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array
