"""Whether the links of a folder of pages lead somewhere: to a file of it, and in a page to a place that is there."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

TO = {"href", "src", "data", "srcset", "action"}


class _Page(HTMLParser):
    """Notes the places of a page, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Read one tag."""
        for name, value in attrs:
            if name == "id" and value:
                self.places.add(value)
            elif name in TO and value is not None and not value.startswith("data:"):
                self.links.append(value)


def broken(folder: Path) -> Iterator[str]:
    """One sentence for each link that leads nowhere, or out of the folder."""
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            if wrong := _wrong(folder, path, link, pages):
                yield f"{path.relative_to(folder)}: {link} {wrong}"


def _wrong(folder: Path, path: Path, link: str, pages: dict[Path, _Page]) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return "leads out of the site"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file() or not target.is_relative_to(folder.resolve()):
        return "leads to no file of the site"
    if parts.fragment and unquote(parts.fragment) not in pages.get(target, _Page("")).places:
        return "leads to no place of the page"
    return None
