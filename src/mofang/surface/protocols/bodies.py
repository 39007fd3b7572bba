"""Compressed request bodies, decompressed within bounds: a small body cannot become a large one by surprise."""

from __future__ import annotations

import zlib

from mofang.base.domain.errors import InvalidRequest, RequestTooLarge

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's wbits for the three wrappings
_MEMBERS = 16  # a gzip body may have several; each costs a copy of what follows it


def decompress(encoding: str, body: bytes, most: int, *, ratio: int = 100, free: int = 1 << 20) -> bytes:
    """Return ``body`` without its ``content-encoding``; raise InvalidRequest or RequestTooLarge.

    It may become ``most`` bytes, but no more than ``ratio`` times what it is, or ``free`` bytes if that is more.
    """
    bound = min(most, max(free, ratio * len(body)))
    match encoding.strip().lower():
        case "identity" | "":
            return body
        case "gzip" | "x-gzip":
            return _inflate(body, _GZIP, bound)
        case "deflate":
            return _inflate(body, _ZLIB if _has_zlib_header(body) else _RAW, bound)
        case other:
            raise InvalidRequest(f"content-encoding {other[:40]!r} is not known", hint="use gzip, deflate or none")


def _inflate(body: bytes, wbits: int, bound: int) -> bytes:
    parts: list[bytes] = []
    left, rest = bound, body
    try:
        for _ in range(_MEMBERS):
            inflater = zlib.decompressobj(wbits)
            parts.append(inflater.decompress(rest, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise RequestTooLarge(
                    f"the body is over {bound} bytes when decompressed", hint="send it in parts, or not compressed"
                )
            if not inflater.eof:
                raise InvalidRequest("the compressed body is cut off")
            if inflater.unused_data and wbits != _GZIP:
                raise InvalidRequest("bytes follow the compressed body")
            rest = inflater.unused_data
            if not rest:
                return b"".join(parts)
    except zlib.error as error:
        raise InvalidRequest(f"the body cannot be decompressed: {error}") from None
    raise InvalidRequest(f"the compressed body has more than {_MEMBERS} members")


def _has_zlib_header(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
