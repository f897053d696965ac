"""The pages' templates: HTML in which every value is text, whoever wrote it.

Programs under test choose names, messages and bytes. Whatever they choose is escaped, and a character that would be
invisible, act on a terminal, or turn the direction of others is shown as an escape. Nothing here is fetched from
anywhere: the style and the script stand in each page, and the page allows only these two.
"""

import base64
import hashlib
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

HERE = Path(__file__).parent
LONGEST = 20_000  # characters of one value; the kit itself shortens what it quotes
INVISIBLE = re.compile(r"[^\n\t\x20-\x7e]")
CODE = re.compile(r"`([^`]+)`")
NOT_IN_AN_ANCHOR = re.compile(r"[^A-Za-z0-9_.]+")


def write(file: Path, page: str) -> None:
    """Write a page, in ASCII alone: a browser decodes it faster, and decodes all of it before it paints."""
    file.write_text(page, "ascii", "xmlcharrefreplace")


@cache
def environment() -> jinja2.Environment:
    """The templates of this folder."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "python": partial(highlighted, language="python"),
        "code": code,
        "anchor": anchor,
        "seconds": seconds,
    }
    style, script = _read("page.css"), _read("page.js")
    made.globals |= {"style": style, "script": script, "policy": _policy(script)}
    return made


def visible(value: Any) -> Any:
    """Text of which every character can be seen, in its order, and which ends; any other value is left as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if len(value) > LONGEST:
        value = f"{value[:LONGEST]}… {len(value) - LONGEST} more characters"
    return INVISIBLE.sub(lambda found: _shown(found[0]), value)


def code(text: str) -> Markup:
    """A sentence of the protocol, its back-quoted words as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(visible(text)))))  # noqa: S704 - escaped


def highlighted(text: str, language: str) -> Markup:
    """Code with its tokens marked."""
    html = highlight(str(visible(text)), get_lexer_by_name(language), HtmlFormatter(nowrap=True))
    return Markup(html)  # noqa: S704 - Pygments escapes it


def anchor(test: str) -> str:
    """What a test is called in an address: its name without what addresses have to escape, and a mark of all of it."""
    name = NOT_IN_AN_ANCHOR.sub("-", test.rpartition("/")[2]).strip("-")
    return f"test-{name[:80]}-{hashlib.sha256(test.encode(errors='replace')).hexdigest()[:6]}"


def seconds(duration_ms: float) -> str:
    """A duration for people."""
    if duration_ms < 1000:
        return f"{duration_ms:.0f} ms"
    if duration_ms < 120_000:
        return f"{duration_ms / 1000:.1f} s"
    return f"{duration_ms / 60_000:.0f} min"


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _read(name: str) -> Markup:
    return Markup((HERE / name).read_text("ascii"))  # noqa: S704 - a file of the kit


def _policy(script: str) -> str:
    """Forbid every request, and every script but the page's own."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
