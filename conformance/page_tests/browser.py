"""Debian's Chromium, driven by Playwright: a page of which every request and every error is noted."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

WIDE, PHONE = (1280, 800), (390, 844)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Visit:
    """A page that is open, and what it did besides being shown."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def launched() -> Iterator[Browser]:
    """The browser; an error that says what to install where there is none."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise RuntimeError("the tests of the pages need Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        # Without its sandbox, which needs rights that a container doesn't have; it sees only our own files.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visited(
    browser: Browser,
    file: Path,
    fragment: str = "",
    *,
    size: tuple[int, int] = WIDE,
    **options: Any,
) -> Iterator[Visit]:
    """The page, opened at its fragment."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    visit = Visit(context.new_page())
    visit.page.set_default_timeout(10_000)
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.on("console", lambda said: visit.errors.append(said.text))
    visit.page.on("request", lambda request: visit.requests.append(request.url))
    visit.page.goto(f"{file.as_uri()}{fragment}")
    yield visit
    context.close()
