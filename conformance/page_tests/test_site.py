"""The site of many runs, as a maintainer uses it: from a red cell to the command that repeats it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from jobqueue_conformance.reports import site
from jobqueue_conformance.spec.verdicts import Record
from playwright.sync_api import Browser, Page, expect

from page_tests import samples
from page_tests.axe import violations
from page_tests.browser import PHONE, WIDE, visited

ORDER = "server.claim.order"


@pytest.fixture(scope="module")
def first_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first page of a site: two implementations on two servers, a pair, and an older set without the failure."""
    good = samples.passed(1, ORDER)
    reports = [
        samples.summary([good, samples.passed(2, samples.BROKEN)], name=name, redis=redis)
        for name in ("one", "two")
        for redis in ("valkey 9.1.2", "redis 7.0.15")
    ]
    before = site.merged(reports)
    reports[0] = samples.summary([good, samples.failed()], name="one")
    reports.append(samples.summary([good], name="one", client="two"))
    index = site.merged(reports, before)
    return site.write(tmp_path_factory.mktemp("site"), reports, index)


@pytest.fixture
def page(browser: Browser, first_page: Path) -> Iterator[Page]:
    """The first page, which only loads what it leads to."""
    with visited(browser, first_page) as visit:
        yield visit.page
        assert visit.errors == []
        assert all(each.startswith("file:") for each in visit.requests)


def test_from_a_red_cell_to_the_command_it_is_two_clicks(page: Page) -> None:
    """The cell leads to the requirement, where the failed test is unfolded; its button copies the command."""
    page.locator(f"[id='{samples.BROKEN}']").get_by_role("link", name="fail: one").click()
    there = page.locator(f"[id='{samples.BROKEN}']")
    expect(there.get_by_text(str(samples.failed().replay))).to_be_in_viewport()

    there.get_by_role("button", name="Copy the command").first.click()

    expect(there.get_by_role("button", name="Copy the command").first).to_have_text("Copied")


def test_a_matrix_has_a_cell_for_each_run(page: Page) -> None:
    """Implementations by Redis, servers by clients; the headline leads to the run, and the run leads back."""
    table = page.get_by_role("table", name="Implementations by Redis server")
    assert table.get_by_role("rowheader").all_inner_texts() == ["one", "two"]
    columns = table.get_by_role("columnheader").all_inner_texts()
    assert columns[1:] == ["redis 7.0.15 (embedded)", "valkey 9.1.2 (embedded)"]
    expect(table.get_by_role("link", name="1 of 3 fail")).to_have_count(1)
    expect(table.get_by_role("link", name="2 of 2")).to_have_count(3)
    pairs = page.get_by_role("table", name="Servers by clients")
    expect(pairs.get_by_role("link")).to_have_count(1)

    table.get_by_role("link", name="1 of 3 fail").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("one")
    page.get_by_role("link", name="All implementations").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("JobQueue conformance")


def test_what_became_red_is_named_first(page: Page) -> None:
    """The older set passed: the first thing that the page says is what doesn't any more."""
    newly = page.get_by_role("region", name="Newly red since")

    expect(newly.get_by_role("listitem")).to_have_count(1)
    expect(newly).to_contain_text("was pass, is fail")
    newly.get_by_role("link", name=samples.BROKEN).click()
    expect(page.locator(f"[id='{samples.BROKEN}'] > summary")).to_be_focused()


def test_rows_are_searched_and_narrowed_to_the_red_ones(page: Page) -> None:
    """Only rows with a red cell, only rows with the words."""
    page.get_by_label("only red").check()
    assert [each.get_attribute("id") for each in page.locator(".row:visible").all()] == [
        samples.BROKEN
    ]

    page.get_by_label("only red").uncheck()
    page.get_by_role("searchbox").fill("claim order pushed")
    assert [each.get_attribute("id") for each in page.locator(".row:visible").all()] == [ORDER]


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_by_everybody(
    browser: Browser, first_page: Path, size: tuple[int, int], scheme: str
) -> None:
    """No violation of WCAG 2.2 AA that axe-core finds, and no page that is wider than the window."""
    with visited(browser, first_page, size=size, color_scheme=scheme) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert violations(visit.page) == []


def test_hostile_names_stay_text(browser: Browser, tmp_path: Path) -> None:
    """A name with markup is shown as it is, and is no part of a path."""
    report = samples.summary(
        [Record("tests/test_x.py::test", (ORDER,), "pass")], name=samples.HOSTILE[:200]
    )

    page = site.write(tmp_path, [report], site.merged([report]))

    with visited(browser, page) as visit:
        expect(visit.page.get_by_role("table", name="Implementations")).to_contain_text(
            "</script><script>"
        )
        assert visit.page.evaluate("document.scripts.length") == 1
        visit.page.get_by_role("link", name="1 of 1").first.click()
        expect(visit.page.get_by_role("link", name="All implementations")).to_be_visible()
        assert visit.errors == []
