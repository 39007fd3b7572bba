"""Forms with files in them: the body of a ``multipart/form-data`` request as fields and files, within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from mofang.base.domain.errors import InvalidParameter, InvalidRequest

_MOST_PARTS = 64
_MOST_FIELD_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Form:
    """Fields by their name, each with all its values, and the files."""

    fields: Mapping[str, list[str]]
    files: Mapping[str, bytes]

    def file(self, name: str) -> bytes:
        """Return a file; raise InvalidParameter if it is missing."""
        if name not in self.files:
            raise InvalidParameter.of(name, "this file is missing")
        return self.files[name]


def read_form(headers: Mapping[str, str], body: bytes) -> Form:
    """Read a form. Raises InvalidRequest, or InvalidParameter for a field that is too long."""
    kind, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidRequest("the body is no form", hint="send multipart/form-data, as clients of the OpenAI API do")
    parts = _Parts()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.header_name,
                "on_header_value": parts.header_value,
                "on_header_end": parts.header_end,
                "on_part_data": parts.data,
                "on_end": parts.end,
            },
        )
        parser.write(body)
        parser.finalize()
        if not parts.ended:
            raise InvalidRequest("the form ends in the middle of a part")
        return parts.form()
    except FormParserError as error:
        raise InvalidRequest(f"the form cannot be read: {str(error)[:200]}") from error


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: list[bytes] = field(default_factory=list)


class _Parts:
    """What the parser tells, in its order."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._name = b""
        self._value = b""
        self.ended = False

    def begin(self) -> None:
        if len(self._parts) >= _MOST_PARTS:
            raise InvalidRequest(f"the form has more than {_MOST_PARTS} parts")
        self._parts.append(_Part())

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._parts[-1].headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].content.append(data[start:end])

    def end(self) -> None:
        self.ended = True

    def form(self) -> Form:
        fields: dict[str, list[str]] = {}
        files: dict[str, bytes] = {}
        for part in self._parts:
            _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
            name = options.get(b"name", b"").decode("utf-8", "replace")
            content = b"".join(part.content)
            if b"filename" in options:
                files[name] = content
            elif len(content) > _MOST_FIELD_BYTES:
                raise InvalidParameter.of(name[:64], f"it has over {_MOST_FIELD_BYTES:,} bytes")
            else:
                fields.setdefault(name, []).append(content.decode("utf-8", "replace"))
        return Form(fields, files)
