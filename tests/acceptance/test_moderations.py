"""A classifier of images behind ``/v1/moderations``."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from onnx import helper, numpy_helper
from PIL import Image

from graphs import model, save, value
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


def picture(light: int) -> dict[str, object]:
    file = io.BytesIO()
    Image.new("RGB", (30, 20), (light,) * 3).save(file, "PNG")
    return image(file.getvalue())


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
        for asked, why in (([picture(1), image(b"no")], "no PNG or JPEG"), ("a text", "looks at images")):
            refused = judge(asked)
            assert refused.status_code == 400
            assert why in refused.json()["error"]["message"]
