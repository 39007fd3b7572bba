"""The language model that a fine-tuning goes on from: a registered version, laid out to be trained and to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.make.workshop import Workshop

FOLDERS = "transformers"  # the engine of Hugging Face folders
_OF_GGUF = ("openvino", "llamacpp")


@dataclass(frozen=True, slots=True)
class Base:
    """A version, and the folder of its artifact."""

    version: ModelVersion
    folder: Path

    @property
    def engine(self) -> str:
        """What serves it, and what is made of it."""
        return self.version.artifact.engine

    @property
    def scorer(self) -> str:
        """What loads the same artifact and tells how likely a given text is."""
        return FOLDERS if self.engine == FOLDERS else _OF_GGUF[0]


@contextmanager
def base_of(name: str, tools: Workshop) -> Iterator[Base]:
    """Lay out the version ``name`` means. Raises ModelNotFound, VersionNotFound, or InvalidModel."""
    version = tools.registry.get(VersionRef.parse(name))
    engine = version.artifact.engine
    is_gguf = engine in _OF_GGUF and any(entry.path.endswith(".gguf") for entry in version.artifact.files)
    if engine != FOLDERS and not is_gguf:
        raise InvalidModel(
            f"{version} is served by {engine!r}, and cannot be gone on from",
            hint="push a GGUF file, or the Hugging Face folder of a language model",
        )
    with tools.folder() as root:
        yield Base(version, tools.registry.folder(version, root))
