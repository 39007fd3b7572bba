"""What a fine-tuning learned, without the model it learned it on."""

from __future__ import annotations

from pathlib import Path

from mofang.make.export.source import Source, Written
from mofang.make.train.transformers.torch.peft import unpack

_AS_LEARNED = "It is what training learned, byte for byte; merged into its base it makes the served model."


def adapter(source: Source, folder: Path) -> Written:
    """Write the adapter as PEFT loads it beside its base model."""
    if source.framework != "transformers":
        raise source.refuse("adapter", "it was not fine-tuned here")
    unpack(source.network, folder)
    return Written("", source.version.artifact.signature, ("peft", "transformers"), runs=False, proof=_AS_LEARNED)
