"""Chat templates: what makers write, and what attackers do (A37)."""

from __future__ import annotations

import resource
import time

import pytest

from mofang.base.domain.errors import ConversationRefused, EngineLoadFailed
from mofang.base.engines.template import ChatTemplate

HELLO = [{"role": "user", "content": "hello"}]
CHATML = (
    "{%- for message in messages %}\n{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def test_a_conversation_is_written_as_its_makers_do() -> None:
    written = ChatTemplate(CHATML).render([{"role": "system", "content": "Be brief."}, *HELLO])
    assert written == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_tools_tokens_and_the_words_of_templates_are_there() -> None:
    source = (
        "{{ bos_token }}{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}"
        "{% generation %}{{ messages[0].content }}{% endgeneration %}"
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{% endfor %}{{ eos_token }}"
        "{{ messages[0].content.replace('h', 'j') | replace('e', 'a') }}"
        "{{ ['a', 'b'] | join('-') }}{{ '+'.join(['c', 'd']) }}"
    )
    template = ChatTemplate(source, bos="<s>", eos="</s>")
    assert template.knows_tools
    assert template.render(HELLO, [{"name": "f"}]) == '<s>[\n  {\n    "name": "f"\n  }\n]hello</s>jalloa-bc+d'


def test_a_template_may_refuse_a_conversation() -> None:
    with pytest.raises(ConversationRefused, match="roles must alternate"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}").render(HELLO)


HOSTILE = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ messages.append(1) }}",
    "{{ (messages | map(attribute='__class__') | list)[0].__name__ }}{{ lipsum() }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}aaaaaaaaaaaaaaaa{% endfor %}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{{ 'a' * 10 ** 9 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ '%999999999d' % 1 }}",
    "{{ 'a'.center(10 ** 9) }}",
    "{{ 'a' | center(10 ** 9) }}",
    "{{ '{:999999999}'.format(1) }}",
    "{{ ('x' * 99999).join(('a' * 99999) | list) }}",
    "{{ ('a' * 99999) | list | join('x' * 99999) }}",
    "{{ 'aaaa' | replace('a', 'b' * 99999) | replace('b', 'c' * 99999) }}",
    "{{ range(10 ** 9) | list }}",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_hostile_templates_are_refused_in_time_and_memory(source: str) -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    with pytest.raises((ConversationRefused, EngineLoadFailed)):
        ChatTemplate(source).render(HELLO)
    assert time.thread_time() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


@pytest.mark.parametrize("source", ["{% for %}", "{{", "x" * (300 << 10), "{% if " + "(" * 5000])
def test_what_is_no_template_is_not_loaded(source: str) -> None:
    with pytest.raises(EngineLoadFailed):
        ChatTemplate(source)
