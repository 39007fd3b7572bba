"""Prompts and completions as a language model reads them: the tokens of the very engine that serves it.

Training learns from them and evaluation scores them, so that neither can read a text otherwise than serving does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mofang.base.domain.errors import InvalidDataset, PromptTooLong
from mofang.base.engines.base import GenerativeEngine
from mofang.base.engines.template import ChatTemplate
from mofang.make.prepare.dataset import Examples
from mofang.make.prepare.encode import strings
from mofang.make.prepare.passages import MESSAGES


@dataclass(frozen=True, slots=True)
class Passage:
    """The tokens of one row; those from ``start`` on are the completion, of so many bytes (about, if it was cut)."""

    tokens: tuple[int, ...]
    start: int
    completion_bytes: int


class Reader:
    """Reads rows with the tokenizer and the chat template of ``engine``; at most ``most`` tokens of each."""

    def __init__(self, engine: GenerativeEngine, most: int) -> None:
        about = engine.profile
        self._engine, self._most = engine, min(most, about.context_tokens - 1)
        self._template = ChatTemplate(about.chat_template, about.bos, about.eos) if about.chat_template else None
        self._end = tuple(engine.encode(about.eos)) if about.eos else ()

    def passages(self, examples: Examples) -> list[Passage | None]:
        """Return a passage for each row; None for one whose prompt leaves no room for its completion.

        Raises InvalidDataset for conversations, if the model has no chat template.
        """
        schema = examples.schema
        rows = np.asarray(examples.features)
        given, completions = (
            strings(column, rows[:, index], examples.texts) for index, column in enumerate(schema.columns)
        )
        is_chat = schema.columns[0].name == MESSAGES
        if is_chat and self._template is None:
            raise InvalidDataset("the data holds conversations, and the model has no chat template")
        return [self._passage(each, said, is_chat) for each, said in zip(given, completions, strict=True)]

    def _passage(self, given: str, completion: str, is_chat: bool) -> Passage | None:
        try:
            before = self._prompt(given, is_chat)
        except PromptTooLong:
            return None
        if len(before) >= self._most:
            return None
        after = (*self._beginning(completion), *self._end)
        size, room = len(completion.encode()), self._most - len(before)
        read = size if len(after) <= room else size * room // len(after)
        return Passage((*before, *after[:room]), len(before), read)

    def _prompt(self, given: str, is_chat: bool) -> Sequence[int]:
        if not is_chat:
            return self._engine.encode(given, opening=True)
        messages: list[dict[str, Any]] = json.loads(given)
        assert self._template is not None
        return self._engine.encode(self._template.render(messages))

    def _beginning(self, text: str) -> Sequence[int]:
        """Return the tokens of ``text``, or of a beginning of it that the engine takes."""
        while True:
            try:
                return self._engine.encode(text)
            except PromptTooLong:
                text = text[: len(text) // 2]
