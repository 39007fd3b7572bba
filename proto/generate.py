"""Write ``inference_pb2.py`` from ``inference.proto``: ``python proto/generate.py``.

Two things differ from what protoc writes by itself. The messages live in a descriptor pool of their own, since
tritonclient and kserve register the same names in the default pool and a process may have both. And the module is
ours to import: ``mofang.surface.wire.inference_pb2``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "src/mofang/surface/wire/inference_pb2.py"
MODULE = '''\
# Written by proto/generate.py from proto/inference.proto. Do not edit.
"""The messages of the Open Inference Protocol over gRPC, in a descriptor pool of their own."""

from google.protobuf import descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
DESCRIPTOR = _POOL.AddSerializedFile(
{lines}
)


def _message(name):
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("inference." + name))


{messages}
'''


def render() -> str:
    """Return the module's text."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "inference.binpb"
        arguments = ["protoc", f"-I{HERE}", f"--descriptor_set_out={compiled}", "inference.proto"]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc refused inference.proto")
        (file,) = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    data = file.SerializeToString(deterministic=True)
    lines = "\n".join(f"    {data[at : at + 64]!r}" for at in range(0, len(data), 64))
    messages = "\n".join(f'{message.name} = _message("{message.name}")' for message in file.message_type)
    return MODULE.format(lines=lines, messages=messages)


if __name__ == "__main__":
    TARGET.write_text(render())
    print(f"wrote {TARGET.relative_to(HERE.parent)}")
