"""What can be set of each engine when a model is deployed: one table, for checks, engines and documentation. Pure.

An engine that is not here comes from a package; it checks what it is told when it loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mofang.base.domain.errors import InvalidOption

Value = int | str


@dataclass(frozen=True, slots=True)
class Option:
    """One option: a whole number within bounds, or one of a few words."""

    usual: Value
    about: str
    low: int = 0
    high: int = 0
    words: tuple[str, ...] = ()

    def check(self, name: str, value: Value) -> Value:
        """Return ``value`` as this option takes it; raise InvalidOption."""
        if self.words:
            if value not in self.words:
                raise InvalidOption(f"option {name!r} is one of {', '.join(self.words)}, not {value!r}")
            return value
        try:
            number = int(value)
        except ValueError:
            raise InvalidOption(f"option {name!r} is a whole number, not {value!r}") from None
        if not self.low <= number <= self.high:
            raise InvalidOption(f"option {name!r} is {self.low:,} to {self.high:,}, not {number:,}")
        return number


_THREADS = Option(0, "threads that compute; 0: one a core", 0, 256)
_CONTEXT = Option(0, "tokens of prompt and answer together; 0: what the model was trained for", 0, 1 << 24)
_CACHE = Option(1024, "MiB of keys and values, of all streams together", 16, 1 << 22)
OPTIONS: Mapping[str, Mapping[str, Option]] = MappingProxyType(
    {
        "openvino": {
            "threads": _THREADS,
            "slots": Option(16, "streams computed side by side", 1, 1024),
            "cache_mb": _CACHE,
            "context": _CONTEXT,
            "precision": Option("fast", "of sums, and of keys and values that are kept", words=("fast", "full")),
        },
        "llamacpp": {
            "threads": _THREADS,
            "slots": Option(4, "streams computed side by side", 1, 256),
            "cache_mb": _CACHE,
            "context": _CONTEXT,
        },
        "transformers": {
            "threads": _THREADS,
            "slots": Option(16, "streams computed side by side", 1, 1024),
            "cache_mb": _CACHE,
            "context": _CONTEXT,
            "compute": Option(
                "auto",
                "how numbers are kept; auto: float32 on a CPU, else bfloat16",
                words=("auto", "float32", "bfloat16", "float16"),
            ),
            "device": Option("auto", "where it computes; auto: a GPU if there is one", words=("auto", "cpu", "cuda")),
        },
        "whisper": {
            "threads": _THREADS,
            "compute": Option(
                "default", "how numbers are kept", words=("default", "float32", "int8", "int8_float32", "int16")
            ),
            "most_seconds": Option(3600, "seconds of a recording", 1, 86_400),
            "beams": Option(5, "texts that are followed side by side", 1, 16),
        },
        "vllm": {
            "slots": Option(64, "streams computed side by side", 1, 1024),
            "context": _CONTEXT,
            "patience": Option(600, "seconds that it may take to start", 1, 7200),
        },
        "upstream": {"slots": Option(64, "streams asked side by side", 1, 1024)},
        "onnx": {"threads": Option(1, "threads that compute one call", 0, 256)},
        "encoder": {"threads": Option(1, "threads that compute one call", 0, 256)},
    }
)


def checked(engine: str, options: Mapping[str, Value]) -> dict[str, Value]:
    """Return ``options`` as ``engine`` takes them; raise InvalidOption for one it does not know, or that cannot be."""
    known = OPTIONS.get(engine)
    if known is None:
        return dict(options)
    if unknown := sorted(options.keys() - known.keys()):
        raise InvalidOption(f"engine {engine!r} has no option {unknown[0]!r}", hint=f"it knows: {', '.join(known)}")
    return {name: known[name].check(name, value) for name, value in options.items()}


def chosen(engine: str, options: Mapping[str, Value]) -> dict[str, Value]:
    """Return every option of ``engine``: as given, or as usual. Raises InvalidOption."""
    return {name: option.usual for name, option in OPTIONS[engine].items()} | checked(engine, options)
