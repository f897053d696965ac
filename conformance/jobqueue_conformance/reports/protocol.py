"""The protocol's text as HTML: each requirement and each section with an anchor, each diagram drawn.

`spec/protocol.md` is the only source. Its anchors begin with a prefix where the page has other places of these names.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from jobqueue_conformance.reports import diagram
from jobqueue_conformance.reports.templates import environment, highlighted
from jobqueue_conformance.spec import data

SECTION = re.compile(r"(\d[\d.]*?)\.? ")
REQUIREMENT = re.compile(r"\*\*\[([a-z.-]+)\]\*\*")
KEYWORD = re.compile(r"\b(MUST NOT|MUST|SHOULD NOT|SHOULD|MAY)\b")
TABLE = '<div class="wide" tabindex="0" role="group" aria-label="Table"><table>'
DIAGRAMS: dict[str, Callable[[str], dict[str, Any]]] = {
    "mermaid": diagram.of_states,
    "transcript": diagram.of_transcript,
}


@dataclass(frozen=True)
class Heading:
    """A section of the text, and where it is."""

    level: int
    title: str
    anchor: str


@dataclass(frozen=True)
class Protocol:
    """The text in HTML, and its sections."""

    title: str
    html: Markup
    headings: tuple[Heading, ...]


def rendered(
    prefix: str = "", *, embedded: bool = False, behind: Callable[[str], str] = lambda _id: ""
) -> Protocol:
    """The whole text.

    Args:
        prefix: what anchors begin with.
        embedded: whether the text is part of another page: without its title, its headings below those of the
            page, and its links to other files mere text.
        behind: the HTML that follows a requirement, by its id.
    """
    tokens = MarkdownIt("commonmark").enable("table").parse(_text())
    tokens = [
        each for each in tokens if each.type != "html_block"
    ]  # marks for the extracting script
    headings = _mark_headings(tokens, prefix)
    _mark_requirements(tokens, prefix, behind)
    if embedded:
        tokens = tokens[3:]  # the title
        _embed(tokens)
    html = "".join(_block(each) for each in _parts(tokens))
    first, *others = headings
    return Protocol(first.title, Markup(html), tuple(others))  # noqa: S704 - the spec's own words


def page(behind: Mapping[str, Any], home: str) -> str:
    """The text as a page of its own.

    Args:
        behind: what stands behind each requirement, by its id.
        home: the address of the site's first page.
    """
    template = environment().get_template("behind.html.j2")
    untested = {each.id: each.untested for each in data.requirements().values()}

    def shown(requirement: str) -> str:
        macro = template.module.behind  # type: ignore[attr-defined] # a macro of the template
        return str(macro(behind[requirement], untested[requirement]))

    protocol = rendered(behind=shown)
    return environment().get_template("protocol.html.j2").render(protocol=protocol, home=home)


def section_anchor(section: str) -> str:
    """The anchor of a section, by its number and title."""
    found = SECTION.match(section)
    return f"section-{found[1] if found else '0'}"


def _text() -> str:
    return (data.folder("spec") / "protocol.md").read_text("utf-8")


def _mark_headings(tokens: Sequence[Token], prefix: str) -> list[Heading]:
    found = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            anchor = prefix + section_anchor(inline.content)
            opening.attrSet("id", anchor)
            title = inline.content.replace("`", "")
            found.append(Heading(int(opening.tag[1:]), title, anchor))
    return found


def _mark_requirements(tokens: Sequence[Token], prefix: str, behind: Callable[[str], str]) -> None:
    for number, inline in enumerate(tokens):
        named = REQUIREMENT.match(inline.content) if inline.type == "inline" else None
        if named is None or inline.children is None:
            continue
        opening, closing = tokens[number - 1], tokens[number + 1]
        opening.tag = closing.tag = "div"
        opening.attrs = {"id": prefix + named[1], "class": "rule"}
        # The first three are the bold id in brackets.
        sentence = [each for child in inline.children[4:] for each in _emphasised(child)]
        link = f'<a class="id" href="#{named[1]}">{named[1]}</a> '
        inline.children = [_raw(link), *_without_why(sentence), _raw(behind(named[1]))]


def _emphasised(child: Token) -> list[Token]:
    """The keyword of a requirement stands out."""
    if child.type != "text":
        return [child]
    parts = KEYWORD.split(child.content)
    return [
        _raw(f"<strong>{part}</strong>") if KEYWORD.fullmatch(part) else _words(part)
        for part in parts
        if part
    ]


def _without_why(children: Sequence[Token]) -> list[Token]:
    """The reason is a paragraph of its own."""
    for number, child in enumerate(children):
        if child.type == "text" and child.content.lstrip().startswith("Why:"):
            child.content = child.content.lstrip()
            before = [
                each
                for each in children[:number]
                if each.type != "softbreak" or each is not children[number - 1]
            ]
            return [*before, _raw('<div class="why">'), *children[number:], _raw("</div>")]
    return list(children)


def _raw(html: str) -> Token:
    return Token("html_inline", "", 0, content=html)


def _words(text: str) -> Token:
    return Token("text", "", 0, content=text)


def _embed(tokens: Sequence[Token]) -> None:
    for token in tokens:
        if token.type.startswith("heading_"):
            token.tag = f"h{int(token.tag[1:]) + 1}"
        if token.children:
            token.children = [each for each in token.children if not each.type.startswith("link_")]


def _parts(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens, each fence by itself."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.type == "fence":
            parts += [[token], []]
        else:
            parts[-1].append(token)
    return parts


def _block(tokens: list[Token]) -> str:
    if len(tokens) == 1 and tokens[0].type == "fence":
        return _fence(tokens[0].info.partition(" ")[0], tokens[0].content)
    markdown = MarkdownIt("commonmark").enable("table")
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    return html.replace("<table>", TABLE).replace("</table>", "</table></div>")


def _fence(language: str, content: str) -> str:
    if language in DIAGRAMS:
        template = environment().get_template("diagram.html.j2")
        return str(template.module.diagram(DIAGRAMS[language](content)))  # type: ignore[attr-defined] # a macro of the template
    shown = highlighted(content, "json") if language == "json" else escape(content)
    return f'<pre class="wide" tabindex="0"><code>{shown}</code></pre>\n'
