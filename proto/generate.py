"""Write ``surface/wire/*_pb2.py`` from the ``.proto`` files beside this: ``python proto/generate.py``.

Two things differ from what protoc writes by itself. The messages of each file live in a descriptor pool of their own,
since tritonclient, kserve and grpcio-reflection register the same names in the default pool and a process may have
both. And the modules are ours to import: ``mofang.surface.wire.inference_pb2``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
WIRE = HERE.parent / "src/mofang/surface/wire"
ABOUT = {
    "health": "The messages of gRPC's health service",
    "inference": "The messages of the Open Inference Protocol over gRPC",
    "reflection": "The messages of gRPC's server reflection",
}
MODULE = '''\
# Written by proto/generate.py from proto/{name}.proto. Do not edit.
"""{about}, in a descriptor pool of their own."""

from google.protobuf import descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
DESCRIPTOR = _POOL.AddSerializedFile(
{lines}
)


def _message(name):
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("{package}." + name))


{messages}
'''


def render(name: str) -> str:
    """Return the text of the module of ``name.proto``."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "compiled.binpb"
        arguments = ["protoc", f"-I{HERE}", f"--descriptor_set_out={compiled}", f"{name}.proto"]
        if protoc.main(arguments) != 0:
            raise SystemExit(f"protoc refused {name}.proto")
        (file,) = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    data = file.SerializeToString(deterministic=True)
    lines = "\n".join(f"    {data[at : at + 64]!r}" for at in range(0, len(data), 64))
    messages = "\n".join(f'{message.name} = _message("{message.name}")' for message in file.message_type)
    return MODULE.format(name=name, about=ABOUT[name], package=file.package, lines=lines, messages=messages)


def pages() -> dict[Path, str]:
    """Return the text of every generated module, by its path."""
    return {WIRE / f"{name}_pb2.py": render(name) for name in ABOUT}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(f"wrote {path.relative_to(HERE.parent)}")
