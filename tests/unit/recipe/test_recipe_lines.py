"""Lines of keys in TOML texts."""

from hypothesis import given
from hypothesis import strategies as st

from mofang.make.recipe.lines import locate

WORDS = st.text("abcdef", min_size=1, max_size=4)
VALUES = st.sampled_from(
    ["1", "'text'", "[\n1,\n# [no.section]\n2]", '"""\nx = 1\n[y]\n"""', "{ z = 1 }", "1979-05-27"]
)


@given(st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=4), max_size=5))
def test_every_key_is_found_where_it_was_written(document: dict[str, dict[str, str]]) -> None:
    lines: list[str] = []
    written = {}
    for section, keys in document.items():
        lines.append(f"[{section}]  # x = 1")
        written[section,] = len(lines)
        for key, value in keys.items():
            lines.append("")
            written[section, key] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    found = locate("\n".join(lines))
    assert {path: found[path] for path in written} == written


def test_dotted_and_inline_keys_are_found() -> None:
    found = locate("a.b = 1\n[c.d]\ne.f = 2\ng = {h = {i = 3}}\n[[j]]\nk = 4")
    assert (found["a", "b"], found["c", "d"], found["c", "d", "e", "f"], found["c", "d", "g", "h", "i"]) == (1, 2, 3, 4)
    assert found["j", "k"] == 6
