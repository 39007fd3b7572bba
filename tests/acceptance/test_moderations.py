"""A classifier of images behind ``/v1/moderations``."""

from __future__ import annotations

import base64
import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from onnx import helper, numpy_helper
from PIL import Image

from graphs import model, save, value
from hostile_questions import soon
from mofang.surface.sdk.register import Wishes
from servers import Server


def brightness(folder: Path) -> Path:
    """``probabilities`` of dark and bright for ``image`` [n, 8, 8, 3], a file; return the graph."""
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=1),
        helper.make_node("ReduceMean", ["x", "axes"], ["light"], keepdims=0),
        helper.make_node("Div", ["light", "most"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Unsqueeze", ["dark", "last"], ["d"]),
        helper.make_node("Unsqueeze", ["bright", "last"], ["b"]),
        helper.make_node("Concat", ["d", "b"], ["probabilities"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array([1], np.int64), "last"),
        numpy_helper.from_array(np.array(255, np.float32), "most"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    graph = model(nodes, [value("image", ("n", 8, 8, 3), 2)], [value("probabilities", ("n", 2))], constants)
    graph.metadata_props.add(key="mofang.image", value="image")
    return save(graph, folder) / "model.onnx"


def encoded(light: int = 128) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (30, 20), (light,) * 3).save(file, "PNG")
    return file.getvalue()


def huge() -> bytes:
    """A small file that claims to unpack to 100 million pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    return encoded()[:8] + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + encoded()[33:]


def picture(light: int) -> dict[str, object]:
    return image(encoded(light))


def image(file: bytes) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(file).decode()}}


def test_images_are_judged_and_what_is_none_is_refused(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server()
    pushed = server.client.register.push("light", brightness(tmp_path), wishes=Wishes(labels=("none", "bright")))
    version = server.client.jobs.wait(pushed.id).result["version"]
    server.client.deploy.roll_out("light", f"light@{version}")
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.key}"}, timeout=30) as client:

        def judge(asked: object) -> httpx.Response:
            return client.post("/v1/moderations", json={"model": "light", "input": asked})

        judged = judge([picture(250), picture(5)])
        assert judged.status_code == 200, judged.text
        assert [each["flagged"] for each in judged.json()["results"]] == [True, False]
        for asked, why in (
            ([picture(1), image(b"no")], "no PNG or JPEG"),
            ([image(b"RIFF" + bytes(40))], "no PNG or JPEG"),
            ([image(encoded()[:-40])], "is damaged"),
            ([image(huge())], "are the limit"),
            ("a text", "looks at images"),
        ):
            began = time.monotonic()
            refused = judge(asked)
            assert time.monotonic() - began < soon(), why
            assert refused.status_code == 400
            assert why in refused.json()["error"]["message"]
        assert judge([picture(250)]).status_code == 200
