"""Which bytes each token of a vocabulary stands for, so that decoding is a look-up. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"  # how SentencePiece writes a space


def token_bytes(words: Mapping[str, int], added: Mapping[int, str], *, byte_level: bool) -> list[bytes]:
    """Return the bytes of every token of ``words`` (text as the vocabulary writes it, and its number).

    ``added`` says what tokens stand for that are no part of words, by number: nothing for those that only structure a
    conversation. ``byte_level``: the vocabulary writes each byte as one character, as GPT-2 does; else as SentencePiece
    does.
    """
    found = [b""] * (max([*words.values(), *added], default=-1) + 1)
    alphabet = _alphabet() if byte_level else {}
    for word, number in words.items():
        if byte_level:
            found[number] = b"".join(alphabet.get(each) or each.encode() for each in word)
        elif single := _BYTE.fullmatch(word):
            found[number] = bytes([int(single[1], 16)])
        else:
            found[number] = word.replace(_SPACE, " ").encode()
    for number, text in added.items():
        found[number] = text.encode()
    return found


def _alphabet() -> dict[str, bytes]:
    """Return the byte of each character: printable ones stand for themselves, the others follow from 256."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): bytes([byte]) for byte in plain} | {
        chr(256 + place): bytes([byte]) for place, byte in enumerate(others)
    }
