"""Language models from Hugging Face folders to GGUF files, proven twice.

Texts are cut into the same tokens, and every token of them is as likely to the file as it is to the model.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import transformers

from mofang.base.domain.work import Silent
from mofang.make.convert.language.gguf import write
from mofang.make.convert.language.parity import prove, same_tokens
from mofang.make.train.transformers.torch.models import load, score

_ENGINE = "openvino"


def from_folder(source: Path, target: Path) -> str:
    """Write the language model in ``source`` as ``target/model.gguf``; return what was proven, in words.

    Raises InvalidModel for a kind that is not known here, ConversionFailed for such a tokenizer, and ParityFailed.
    """
    model = load(source)
    write(model, source, target)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json"))

    def tokens(text: str, opening: bool) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=opening)
        return found

    rows = same_tokens(_ENGINE, target, tokens)
    proof = prove(_ENGINE, target, partial(score, model), rows, Silent())
    (trial,) = proof.trials
    return (
        f"It reads texts as the served model does, and computes the same: {trial},"
        f" largest difference {proof.max_difference:.1e}; weights in half precision."
    )
