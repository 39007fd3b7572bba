"""The description of inference: complete, and whole in itself. That servers hold to it, acceptance tests find out."""

from __future__ import annotations

import json
import re

from mofang.base.domain.tensors import DATATYPES
from mofang.surface.protocols.description import describe_inference
from paths import paths_in_code


def test_every_path_that_the_code_takes_apart_is_described() -> None:
    described = {re.sub(r"{\w+}", "M", path).replace("/versions/M", "") for path in describe_inference()["paths"]}
    assert described == paths_in_code()


def test_whatever_it_refers_to_is_in_it() -> None:
    document = describe_inference()
    found = set(re.findall(r'"#/components/(\w+)/([^"]+)"', json.dumps(document)))
    assert len(found) > 80
    assert [name for kind, name in found if name not in document["components"][kind]] == []
    ids = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(set(ids)) == len(ids) == len(document["paths"])


def test_it_says_what_requests_are_read_by() -> None:
    schemas = describe_inference()["components"]["schemas"]
    assert schemas["InputTensor"]["properties"]["datatype"]["enum"] == [*DATATYPES]
    assert schemas["ChatRequest"]["properties"]["temperature"]["anyOf"][0] == {
        "type": "number", "minimum": 0, "maximum": 2,
    }  # fmt: skip
    assert schemas["ChatRequest"]["additionalProperties"] is False
    assert [name for name in schemas if not re.fullmatch(r"[A-Z]\w+", name)] == []
