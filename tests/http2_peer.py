"""A client that speaks HTTP/2 frame by frame, so that it can speak it badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from fake_lane import KEY, FakeLane
from mofang.surface.protocols.grpc.http2 import frames as http2
from mofang.surface.protocols.grpc.http2.house import Limits
from mofang.surface.protocols.grpc.server import GrpcServer, serve
from mofang.surface.wire import inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
ROW = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}
DIGITS = bytes(pb.ModelInferRequest(model_name="digits", inputs=[ROW]).SerializeToString())
END = http2.END_STREAM
WHOLE = http2.END_HEADERS


def framed(message: bytes, compressed: int = 0) -> bytes:
    return bytes((compressed,)) + len(message).to_bytes(4, "big") + message


@dataclass
class Answer:
    """What came on one stream."""

    heads: list[dict[str, str]] = field(default_factory=list)
    data: bytes = b""
    pieces: list[int] = field(default_factory=list)
    reset: int | None = None
    ended: bool = False

    @property
    def end(self) -> dict[str, str]:
        return self.heads[-1]


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder, self.decoder = Encoder(), Decoder()
        self.answers: dict[int, Answer] = {}
        self.gone: list[tuple[int, int]] = []  # the last stream and the code of each GOAWAY
        self.pings: list[bytes] = []
        self.closed = False

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def greet(self, **settings: int) -> None:
        self.send(http2.PREFACE, http2.settings({getattr(http2, name): value for name, value in settings.items()}))

    def block(self, path: str = INFER, key: str = KEY, **fields: str) -> bytes:
        found = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "h", "te": "trailers"}
        found |= {"content-type": "application/grpc"} | ({"authorization": key} if key else {})
        found |= {name.replace("_", "-"): value for name, value in fields.items()}
        return self.encoder.encode(sorted(found.items(), key=lambda pair: not pair[0].startswith(":")))

    def head(self, number: int, path: str = INFER, flags: int = WHOLE, **fields: str) -> bytes:
        return http2.frame(http2.HEADERS, flags, number, self.block(path, **fields))

    def call(self, number: int, message: bytes = DIGITS, path: str = INFER, **fields: str) -> bytes:
        data, most = framed(message), http2.FIRST_FRAME_BYTES
        pieces = [data[at : at + most] for at in range(0, len(data), most)]
        frames = [http2.frame(http2.DATA, 0, number, piece) for piece in pieces[:-1]]
        return b"".join([self.head(number, path, **fields), *frames, http2.frame(http2.DATA, END, number, pieces[-1])])

    async def frame(self) -> bool:
        """Take in one frame; False if the connection has ended."""
        try:
            length, flags, number = http2.HEAD.unpack(await self.reader.readexactly(9))
            payload = await self.reader.readexactly(length >> 8)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed = True
            return False
        answer = self.answers.setdefault(number, Answer())
        match length & 255:
            case http2.HEADERS:
                answer.heads.append(dict(self.decoder.decode(payload)))
            case http2.DATA:
                answer.data += payload
                answer.pieces.append(len(payload))
            case http2.RST_STREAM:
                answer.reset = int.from_bytes(payload, "big")
            case http2.GOAWAY:
                self.gone.append((int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")))
            case http2.PING:
                self.pings.append(payload)
        if length & 255 in (http2.HEADERS, http2.DATA) and flags & END:
            answer.ended = True
        return True

    async def answer(self, number: int) -> Answer:
        """Return what comes on a stream until it ends."""
        while not (number in self.answers and (self.answers[number].ended or self.answers[number].reset is not None)):
            assert await self.frame(), f"gone: {self.gone}"
        return self.answers[number]

    async def end(self) -> int:
        """Return the code of the last GOAWAY, once the connection has ended."""
        while await self.frame():
            pass
        return self.gone[-1][1]


@asynccontextmanager
async def serving(limits: Limits) -> AsyncIterator[tuple[FakeLane, GrpcServer, Callable[[], Awaitable[Peer]]]]:
    lane = FakeLane()
    server = await serve(lane, "127.0.0.1:0", limits=limits)
    peers: list[Peer] = []

    async def connect() -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", server.port)))
        return peers[-1]

    try:
        yield lane, server, connect
    finally:
        for peer in peers:
            peer.writer.close()
        await server.stop(0)


def run(test: Callable[..., Awaitable[None]], **limits: float) -> None:
    """Run ``test`` with a lane, a server with these limits, and a function that connects to it."""

    async def bounded() -> None:
        async with asyncio.timeout(60), serving(Limits(**limits)) as made:  # type: ignore[arg-type]
            await test(*made)

    asyncio.run(bounded())
