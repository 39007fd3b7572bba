"""The same preparation inside the served graph: what clients send becomes what the model was trained on.

Called by the pipeline with the graph of a converter, whose one input takes prepared numbers. Nodes are put before it,
so that training and serving cannot drift apart; the parity proof then compares the whole with numpy's way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from mofang.base.domain.errors import ConversionFailed
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.make.prepare.columns import DATE, Column
from mofang.make.prepare.dataset import Schema
from mofang.make.prepare.feed import spec_of
from mofang.make.prepare.words import FIRST, GRAMS, PADDING, PATTERNS, UNKNOWN, parted

IMAGE = "image"  # the input that takes files
IMAGE_KEY = "mofang.image"  # metadata of a graph: which input takes PNG or JPEG files, decoded by the engine
_OPSET, _IR = 20, 10  # the first with operators for texts
_CONTRIBUTED, _ML = "com.microsoft", "ai.onnx.ml"
_WEEKDAYS = np.array([0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4], np.int64)  # Sakamoto's shifts of the months


def complete(folder: Path, signature: Signature, schema: Schema, *, image: bool) -> Signature:
    """Put the preparation of ``schema`` before ``folder/model.onnx``; return the new signature.

    ``image``: the model takes files, else the numbers of ``signature``, unscaled, or every column of a table. Raises
    ConversionFailed if the data are no images.
    """
    if image and not schema.shape:
        raise ConversionFailed("[convert] input is 'image', but the data are no images", hint="leave it out")
    if not image and schema.scaling is None and not schema.columns:
        return signature
    path = folder / "model.onnx"
    model = onnx.load(path)
    (known,) = signature.inputs
    nodes = Nodes(schema.columns)
    if schema.columns:
        model = _modern(model)
        inputs = _table(schema.columns, {spec.name for spec in signature.outputs}, nodes)
    elif image:
        inputs = (TensorSpec(IMAGE, "BYTES", (-1,)),)
        model.metadata_props.add(key=IMAGE_KEY, value=IMAGE)
        nodes.take(IMAGE, TensorProto.UINT8, schema.shape)
        nodes.value = nodes.add("Cast", [IMAGE], to=TensorProto.FLOAT)
    else:
        inputs = (known,)
        nodes.take(known.name, TensorProto.FLOAT, known.shape[1:])
    _fit_shape(nodes, schema, known.shape[1:], reshape=image)
    _scale(nodes, schema, known.shape[1:])
    _put_before(model, known.name, nodes)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return replace(signature, inputs=inputs)


class Nodes:
    """Inputs, nodes and constants to put before a graph; ``value`` is the tensor they have made so far.

    No name that they give begins like one of ``columns``.
    """

    def __init__(self, columns: Sequence[Column] = ()) -> None:
        self._prefix = "prepare"
        while any(column.name.startswith(self._prefix) for column in columns):
            self._prefix += "_"
        self.inputs: list[Any] = []
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.value = ""

    def take(self, name: str, kind: int, inner: Sequence[int]) -> str:
        """Add an input [n, *inner]; return its name."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["n", *inner]))
        self.value = name
        return name

    def add(self, operator: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        name = f"{self._prefix}/{len(self.nodes)}/{operator}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def constant(self, value: NDArray[Any] | list[str]) -> str:
        """Add a constant; return its name."""
        name = f"{self._prefix}/constant/{len(self.constants)}"
        if isinstance(value, list):
            texts = [text.encode() for text in value]
            self.constants.append(helper.make_tensor(name, TensorProto.STRING, [len(texts)], texts))
        else:
            self.constants.append(numpy_helper.from_array(value, name))
        return name

    def whole(self, *numbers: int) -> str:
        """Add a constant of integers."""
        return self.constant(np.array(numbers, np.int64))


def _modern(model: Any) -> Any:
    """Return the model under an operator set that knows texts."""
    version = next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 0)
    if 0 < version < _OPSET:
        model = version_converter.convert_version(model, _OPSET)
    elif not version:
        model.opset_import.add(domain="", version=_OPSET)
    model.ir_version = max(model.ir_version, _IR)
    for domain, least in ((_CONTRIBUTED, 1), (_ML, 3)):
        found = [opset for opset in model.opset_import if opset.domain == domain]
        if not found:
            model.opset_import.add(domain=domain, version=least)
        elif found[0].version < least:
            found[0].version = least  # trees and scalers gained attributes since, and lost none
    return model


def _fit_shape(nodes: Nodes, schema: Schema, inner: tuple[int, ...], *, reshape: bool) -> None:
    if reshape and inner != schema.shape:
        nodes.value = nodes.add("Reshape", [nodes.value, nodes.whole(-1, *inner)])


def _scale(nodes: Nodes, schema: Schema, inner: tuple[int, ...]) -> None:
    """Fill in, subtract and divide, by constants in a shape that meets rows of shape ``inner``."""
    scaling = schema.scaling
    if scaling is None:
        return
    if scaling.fill:
        missing = nodes.add("IsNaN", [nodes.value])
        nodes.value = nodes.add("Where", [missing, nodes.constant(_meeting(scaling.fill, schema, inner)), nodes.value])
    if not scaling.is_identity:
        for operator, numbers in (("Sub", scaling.offset), ("Div", scaling.scale)):
            nodes.value = nodes.add(operator, [nodes.value, nodes.constant(_meeting(numbers, schema, inner))])


def _meeting(numbers: tuple[float, ...], schema: Schema, inner: tuple[int, ...]) -> NDArray[np.float32]:
    value = np.array(numbers, np.float32)
    if len(value) == 1 or (inner == schema.shape and len(inner) == 3):  # the last axis is the channel
        return value
    shape = schema.shape or (schema.features,)
    channels = shape if len(shape) != 2 else (*shape, 1)
    return np.broadcast_to(value, channels).reshape(inner).copy()


def _put_before(model: Any, name: str, nodes: Nodes) -> None:
    """Let whoever reads input ``name`` of the graph read ``nodes.value`` instead, and the graph take their inputs."""
    graph = model.graph
    taken = {given.name for given in nodes.inputs} - {name}
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        for names in (node.input, node.output):
            for position, read in enumerate(names):
                if read in taken and read not in outputs:
                    names[position] = f"model/{read}"  # a column is called as something inside the model
        for position, read in enumerate(node.input):
            if read == name:
                node.input[position] = nodes.value
    for constant in graph.initializer:
        if constant.name in taken:
            constant.name = f"model/{constant.name}"
    kept = list(graph.node)
    del graph.node[:], graph.input[:], graph.value_info[:]
    graph.node.extend([*nodes.nodes, *kept])
    graph.initializer.extend(nodes.constants)
    graph.input.extend(nodes.inputs)


# --- tables -------------------------------------------------------------------------------------------------------


def _table(columns: Sequence[Column], outputs: set[str], nodes: Nodes) -> tuple[TensorSpec, ...]:
    """Take every column as an input [n], and join what a model sees of them: [n, width of all]."""
    specs, parts = [], []
    for column in columns:
        spec = spec_of(column, outputs)
        kind = TensorProto.FLOAT if spec.datatype == "FP32" else TensorProto.STRING
        parts.append(_column(column, nodes.take(spec.name, kind, ()), nodes))
        specs.append(spec)
    nodes.value = nodes.add("Concat", parts, axis=1) if len(parts) > 1 else parts[0]
    return tuple(specs)


def _column(column: Column, given: str, nodes: Nodes) -> str:
    match column.encoding:
        case "one_hot":
            return _one_hot(column, given, nodes)
        case "mean":
            keys = [column.values[position] for position in column.shown]
            if not keys:
                return _nothing(given, [column.unseen], nodes)
            found = nodes.add(
                "LabelEncoder", [given], _ML, keys_strings=keys, values_floats=list(column.weights),
                default_float=column.unseen,
            )  # fmt: skip
            return nodes.add("Unsqueeze", [found, nodes.whole(1)])
        case "words" | "characters":
            return _counts(column, given, nodes)
        case "tokens":
            return _ids(column, given, nodes)
        case _:
            return _date(given, nodes) if column.kind == "date" else nodes.add("Unsqueeze", [given, nodes.whole(1)])


def _one_hot(column: Column, given: str, nodes: Nodes) -> str:
    keys = [column.values[position] for position in column.shown]
    if not keys:
        return _nothing(given, [], nodes)
    found = nodes.add(
        "LabelEncoder", [given], _ML, keys_strings=keys, values_int64s=list(range(len(keys))), default_int64=-1
    )
    equal = nodes.add("Equal", [nodes.add("Unsqueeze", [found, nodes.whole(1)]), nodes.whole(*range(len(keys)))])
    return nodes.add("Cast", [equal], to=TensorProto.FLOAT)


def _nothing(given: str, numbers: list[float], nodes: Nodes) -> str:
    """Return ``numbers`` for every row: of a category without a value among the training rows."""
    rows = nodes.add("Concat", [nodes.add("Shape", [given]), nodes.whole(len(numbers))], axis=0)
    return nodes.add("Expand", [nodes.constant(np.array([numbers], np.float32)), rows])


def _date(given: str, nodes: Nodes) -> str:
    """Return year, month, day, weekday and hour [n, 5]; NaN for what is no date."""
    valid = nodes.add("RegexFullMatch", [given], pattern=r"\s*" + DATE + r"\s*")
    safe = nodes.add("Where", [valid, given, nodes.constant(["0001-01-01"])])
    with_hour = nodes.add("StringConcat", [safe, nodes.constant([" 00"])])  # a date alone begins at midnight
    groups = nodes.add("Tokenizer", [with_hour], _CONTRIBUTED, tokenexp=r"\d+", mincharnum=1, pad_value="0", mark=0)
    first = nodes.add("Slice", [groups, nodes.whole(0), nodes.whole(4), nodes.whole(1)])
    numbers = nodes.add("Cast", [first], to=TensorProto.INT64)
    year, month, day, hour = (nodes.add("Gather", [numbers, nodes.whole(part)], axis=1) for part in range(4))
    begun = nodes.add("Cast", [nodes.add("Less", [month, nodes.whole(3)])], to=TensorProto.INT64)
    counted = nodes.add("Sub", [year, begun])  # years end in February, so that the leap day is the last
    total = nodes.add("Add", [counted, day])
    for years, operator in ((4, "Add"), (100, "Sub"), (400, "Add")):
        total = nodes.add(operator, [total, nodes.add("Div", [counted, nodes.whole(years)])])
    shift = nodes.add("Gather", [nodes.constant(_WEEKDAYS), nodes.add("Sub", [month, nodes.whole(1)])])
    monday = nodes.add("Add", [nodes.add("Add", [total, shift]), nodes.whole(6)])  # the sum counts from Sunday
    weekday = nodes.add("Mod", [monday, nodes.whole(7)])
    parts = nodes.add("Concat", [year, month, day, weekday, hour], axis=1)
    valid_rows = nodes.add("Unsqueeze", [valid, nodes.whole(1)])
    nan = nodes.constant(np.array(np.nan, np.float32))
    return nodes.add("Where", [valid_rows, nodes.add("Cast", [parts], to=TensorProto.FLOAT), nan])


def _words(given: str, how: str, nodes: Nodes) -> str:
    """Return the words of each text [n, most + 1]; the last column and the ends of shorter texts are empty."""
    small = nodes.add("StringNormalizer", [given], case_change_action="LOWER", is_case_sensitive=0, locale="C")
    words = nodes.add("Tokenizer", [small], _CONTRIBUTED, tokenexp=PATTERNS[how], mincharnum=1, pad_value="", mark=0)
    rows = nodes.add("Concat", [nodes.add("Shape", [given]), nodes.whole(1)], axis=0)
    return nodes.add("Concat", [words, nodes.add("Expand", [nodes.constant([""]), rows])], axis=1)


def _counts(column: Column, given: str, nodes: Nodes) -> str:
    how = column.encoding
    if not column.values:
        return _nothing(given, [], nodes)
    shortest, longest = GRAMS[how]
    grams = [parted(text, how) for text in column.values]
    order = sorted(range(len(grams)), key=lambda position: len(grams[position]))  # the shortest first
    starts = [sum(len(gram) for gram in grams if len(gram) < size) for size in range(1, longest + 1)]
    counts = nodes.add(
        "TfIdfVectorizer", [_words(given, how, nodes)], mode="TF", min_gram_length=shortest, max_gram_length=longest,
        max_skip_count=0, ngram_counts=starts, ngram_indexes=order,
        pool_strings=[word for position in order for word in grams[position]],
    )  # fmt: skip
    one, least = nodes.constant(np.array(1, np.float32)), nodes.constant(np.array(1e-12, np.float32))
    weighted = nodes.add(
        "Mul",
        [nodes.add("Log", [nodes.add("Add", [counts, one])]), nodes.constant(np.array(column.weights, np.float32))],
    )
    squares = nodes.add("ReduceSum", [nodes.add("Mul", [weighted, weighted]), nodes.whole(1)], keepdims=1)
    return nodes.add("Div", [weighted, nodes.add("Max", [nodes.add("Sqrt", [squares]), least])])


def _ids(column: Column, given: str, nodes: Nodes) -> str:
    known = {word: FIRST + position for position, word in enumerate(column.values)}
    known[""] = PADDING
    found = nodes.add(
        "LabelEncoder", [_words(given, "tokens", nodes)], _ML, keys_strings=list(known),
        values_int64s=list(known.values()), default_int64=UNKNOWN,
    )  # fmt: skip
    rows = nodes.add("Concat", [nodes.add("Shape", [given]), nodes.whole(column.length)], axis=0)
    padding = nodes.add("Expand", [nodes.whole(PADDING), rows])
    padded = nodes.add("Concat", [found, padding], axis=1)
    cut = nodes.add("Slice", [padded, nodes.whole(0), nodes.whole(column.length), nodes.whole(1)])
    return nodes.add("Cast", [cut], to=TensorProto.FLOAT)
