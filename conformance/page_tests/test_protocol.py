"""The protocol's page: every requirement has an address, and unfolds to what stands behind it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from jobqueue_conformance.reports import protocol
from jobqueue_conformance.spec import data
from playwright.sync_api import Browser, Page, expect
from proof import evidence, matrix
from proof.session import SuiteTest

from page_tests import samples
from page_tests.axe import violations
from page_tests.browser import PHONE, WIDE, visited


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, with one test and all mutants, vectors and lines."""
    test = SuiteTest("test_x.py::test_bytes", (samples.BROKEN,), "Bytes count.", "test_x.py", ())
    behind = evidence.gathered([test], matrix.read())
    path = tmp_path_factory.mktemp("site") / "protocol.html"
    path.write_text(protocol.page(behind, home="index.html"), "utf-8")
    return path


@pytest.fixture
def page(browser: Browser, text: Path) -> Iterator[Page]:
    """The page, which makes no other request."""
    with visited(browser, text, f"#{samples.BROKEN}") as visit:
        yield visit.page
        assert visit.errors == []
        assert [each.partition("#")[0] for each in visit.requests] == [text.as_uri()]


def test_every_requirement_has_its_address(page: Page) -> None:
    """The sentence of each stands where its id leads, word for word."""
    shown = page.evaluate(
        "ids => ids.map(id => document.getElementById(id).textContent.replace(/\\s+/g, ' '))",
        [*data.requirements()],
    )

    for requirement, words in zip(data.requirements().values(), shown, strict=True):
        assert words.startswith(f"{requirement.id} {requirement.text.replace('`', '')}")


def test_a_requirement_unfolds_to_what_stands_behind_it(page: Page) -> None:
    """Its test, a mutant with its bug, and a line of the reference."""
    rule = page.locator(f"[id='{samples.BROKEN}']")
    expect(rule).to_be_in_viewport()
    rule.locator("summary").click()

    expect(rule.get_by_text("test_x.py::test_bytes")).to_be_visible()
    mutant = next(each for each in matrix.read() if each.requirement == samples.BROKEN)
    expect(rule.get_by_text(mutant.label, exact=True)).to_be_visible()
    expect(rule.get_by_text("python/jobqueue/").first).to_be_visible()


def test_its_diagrams_are_drawn(page: Page) -> None:
    """The state diagram has a lane for each state, the transcript one for each party; neither is left as source."""
    states = page.get_by_role("group", name="Sequence diagram: (start), Acquiring, Recovering")
    expect(states.get_by_role("listitem").first).to_have_text(
        "(start) to Acquiring, transition: connected"
    )
    expect(
        page.get_by_role("group", name="Sequence diagram: client, pusher, server, Redis")
    ).to_be_visible()
    assert "stateDiagram" not in page.content()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_by_everybody(
    browser: Browser, text: Path, size: tuple[int, int], scheme: str
) -> None:
    """No violation of WCAG 2.2 AA that axe-core finds, and no page that is wider than the window."""
    with visited(browser, text, size=size, color_scheme=scheme) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        # All of them would keep axe busy for minutes, with more of the same.
        assert violations(visit.page, f"[id='{samples.BROKEN}'] details") == []
