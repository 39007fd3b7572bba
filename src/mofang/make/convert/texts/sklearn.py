"""Pipelines of scikit-learn that begin by counting words: texts in, classes or a number out.

Called by ``convert/sklearn.py``. skl2onnx splits words and makes letters small in ways of its own, which differ for
anything but ASCII; the trials hold texts that show it, and what differs is served by scikit-learn itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mofang.base.domain.errors import ConversionFailed
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.make.convert.graph import name_value, sort_opsets, take_rows
from mofang.make.convert.parity import Trial

TEXT = "text"
_ROWS, _WORDS = 256, 12
_WORD = r"(?u)\b\w\w+\b"  # scikit-learn's own, the only one whose meaning is known here
_SPLIT = r"[\p{L}\p{N}_]{2,}"  # the same, in the words of the graph's expressions
_STRANGE = ("", " ", "a b c", "It's Jim's, isn't it?", "ÉLAN Élan élan naïve", "tab\tand\nline", "snow_fall 2020 ½",
            "数字 文字", "end.", "x" * 300)  # fmt: skip


def reads_texts(model: Any) -> bool:
    """Tell whether ``model`` is a fitted pipeline whose first step counts the words of texts."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import Pipeline

    return isinstance(model, Pipeline) and isinstance(model[0], CountVectorizer) and hasattr(model[0], "vocabulary_")


def signature(outputs: tuple[TensorSpec, ...]) -> Signature:
    """Return the signature: one text a row, ``text`` BYTES [n]."""
    return Signature((TensorSpec(TEXT, "BYTES", (-1,)),), outputs)


def strings(inputs: Mapping[str, Array]) -> list[str]:
    """Return the texts as the pipeline takes them."""
    return [text.decode("utf-8", "replace") for text in inputs[TEXT].tolist()]


def trials(pipeline: Any) -> list[Trial]:
    """Return texts to try: of words the pipeline knows, in any case, between words and signs that it does not."""
    texts = sentences(sorted(map(str, pipeline[0].vocabulary_)), _ROWS, np.random.default_rng(0))
    return [
        Trial("in batches of 1", {TEXT: texts[:64]}, batch=1),
        Trial("in batches of 256", {TEXT: texts}, batch=256),
    ]


def sentences(known: Sequence[str], rows: int, random: np.random.Generator) -> Array:
    """Return ``rows`` texts of known words in any case, between words and signs nobody knows, and some strange ones."""
    made = []
    for _ in range(rows):
        words = [known[index] for index in random.integers(0, len(known), random.integers(1, _WORDS))]
        shown = [random.choice([word, word, word.upper(), word.title(), f"{word},", f"({word})"]) for word in words]
        made.append(random.choice([" ", "  ", "\n"]).join([*shown, "unseen"][: len(shown) + random.integers(0, 2)]))
    return np.array([text.encode() for text in (*_STRANGE, *made)], np.object_)


def write(pipeline: Any, signature: Signature, folder: Path) -> None:
    """Write ``folder/model.onnx``; raise ConversionFailed if a step has no ONNX form."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.preprocessing import StandardScaler

    options: dict[Any, Any] = {StandardScaler: {"div": "div"}, **splitting(pipeline[0])}
    if hasattr(pipeline, "classes_"):
        options[id(pipeline)] = {"zipmap": False}
    try:
        model = convert_sklearn(pipeline, "mofang", [(TEXT, StringTensorType([None, 1]))], options=options)
    except Exception as error:  # converters raise whatever they like of what they do not know
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConversionFailed(f"the pipeline cannot be converted to ONNX: {first}") from error
    if not hasattr(pipeline, "classes_"):
        name_value(model.graph)
    take_rows(model.graph, [TEXT], signature.inputs)
    sort_opsets(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def splitting(counter: Any) -> dict[int, dict[str, str]]:
    """Return the converter's options for how ``counter`` splits words; raise ConversionFailed if it cannot be said."""
    if counter.analyzer != "word":
        return {}
    if counter.token_pattern != _WORD:
        raise ConversionFailed(f"words are split by {counter.token_pattern!r}, which the graph reads otherwise")
    return {id(counter): {"tokenexp": _SPLIT}}
