"""Each operator makes the edits that its docstring says, and what isn't behaviour is left alone."""

from __future__ import annotations

import ast

import pytest

from mutation.edits import edits


def made(source: str) -> set[tuple[str, str]]:
    """Every operator's name with the whole text that it makes."""
    return {
        (each.operator, each.apply(source.encode()).decode()) for each in edits(source.encode())
    }


def by(operator: str, source: str) -> set[str]:
    """The texts that one operator makes."""
    return {text for name, text in made(source) if name == operator}


@pytest.mark.parametrize(
    "operator, source, expected",
    [
        ("comparison", "x = a < b", {"x = a <= b", "x = a >= b"}),
        ("comparison", "x = a >= b", {"x = a > b", "x = a < b"}),
        ("comparison", "x = a == b", {"x = a != b"}),
        ("comparison", "x = a is  not b", {"x = a is b"}),
        ("comparison", "x = a in b", {"x = a not in b"}),
        ("comparison", "x = (a) not in (b)", {"x = (a) in (b)"}),
        ("comparison", "x = a < b != c", {"x = a <= b != c", "x = a >= b != c", "x = a < b == c"}),
        ("arithmetic", "x = a + b * c", {"x = a - b * c", "x = a + b / c"}),
        ("arithmetic", "a -= b", {"a += b"}),
        ("arithmetic", "x = 'a' + b", set()),
        ("number", "x = 8", {"x = 9", "x = 7"}),
        ("number", "x = 0.5", {"x = 5.0", "x = 0.05"}),
        ("number", "x = 0.0", {"x = 1.0", "x = -1.0"}),
        ("number", "x = True", set()),
        ("string", "x = 'id'", {"x = 'xid'"}),
        ("string", "x = b''", {"x = b'x'"}),
        ("boolean", "x = True", {"x = False"}),
        ("boolean", "x = not a", {"x = a"}),
        ("boolean", "x = b if a.c else d", {"x = b if not (a.c) else d"}),
        ("boolean", "while a or b: c", {"while not (a or b): c"}),
        ("boolean", "x = [a for a in b if a]", {"x = [a for a in b if not (a)]"}),
        ("and_or", "x = a and b and c", {"x = a or b and c", "x = a and b or c"}),
        ("and_or", "x = a or b", {"x = a and b"}),
        ("statement", "f()", {"pass"}),
        ("statement", "del a", {"pass"}),
        ("statement", "a.b = c", {"pass"}),
        ("statement", "a = c", set()),
        (
            "statement",
            "def f():\n  yield a\n  return",
            {"def f():\n  pass\n  return", "def f():\n  yield a\n  pass"},
        ),
        ("statement", "async def f():\n  await a", {"async def f():\n  pass"}),
        ("call", "x = min(a, b)", {"x = a"}),
        ("call", "x = f(a + b)", {"x = (a + b)"}),
        ("call", "f(a)", set()),
        ("call", "x = f(*a)", set()),
        ("arguments", "f(a, b, c)", {"f(b, a, c)", "f(a, c, b)"}),
        ("arguments", "f(a, *b)", set()),
        ("returned", "def f(): return a", {"def f(): return None"}),
        ("returned", "def f(): return None", set()),
        ("loop", "while True:\n  break", {"while True:\n  continue"}),
        ("loop", "while True:\n  continue", {"while True:\n  break"}),
        ("handler", "try: a\nexcept B as c: d", {"try: a\nexcept () as c: d"}),
        ("handler", "try: a\nfinally: b; c", {"try: a\nfinally: pass"}),
    ],
)
def test_an_operator_makes_what_it_says(operator: str, source: str, expected: set[str]) -> None:
    """An operator makes these edits of such a source, and no others."""
    assert by(operator, source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Docstring."""',
        'def f():\n  """Docstring."""',
        "def f(a: 'A') -> 'B': ...",
        "a: Final['B']",
        "if TYPE_CHECKING:\n  from a import b\n  c = 1",
        "@dataclass(frozen=True)\nclass A: ...",
        "log.info('took %d s', a + 1)",
        "log = logging.getLogger('a')",
        "__all__ = ['a']",
        "A = TypeVar('A')",
        "x = f'{a} b'",
    ],
)
def test_what_is_no_behaviour_is_left_alone(source: str) -> None:
    """Docstrings, annotations, decorators, logs and the like have no edits."""
    assert edits(source.encode()) == []


def test_an_errors_code_is_edited_and_its_sentence_is_not() -> None:
    """What a raised error says to people stays; the code that goes over the wire doesn't."""
    texts = by("string", "raise E('no-such-method', 'There is no such method.')")
    assert texts == {"raise E('xno-such-method', 'There is no such method.')"}


def test_bytes_before_an_edit_may_be_any() -> None:
    """An edit stands where it should behind characters of several bytes."""
    assert by("comparison", "x = 'ö…', a == b") == {"x = 'ö…', a != b"}


def test_an_edit_knows_where_it_stands() -> None:
    """It names its function, its line, its statement and the lines before and after."""
    source = b"class A:\n    def b(self):\n        if c:\n            return  d\n"
    edit = next(each for each in edits(source) if each.operator == "returned")
    assert (edit.where, edit.line, edit.statement) == ("A.b", 4, (4, 12))
    assert edit.lines(source) == ("return  d", "return  None")


def test_edits_are_distinct_and_always_the_same() -> None:
    """No two edits of a module give one text, and each changes the program."""
    source = b"def f(a, b):\n  if not a:\n    return g(a < 1, True)\n"
    found = edits(source)
    texts = {each.apply(source) for each in found}
    assert found == edits(source)
    assert len(texts) == len(found) > 5
    assert ast.dump(ast.parse(source)) not in {ast.dump(ast.parse(text)) for text in texts}
