"""The page of a run, as a person uses it: found, filtered, linked to, read, and hostile text in it."""

import html
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobqueue_conformance.reports import files
from jobqueue_conformance.spec import data
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect

from page_tests import samples
from page_tests.axe import violations
from page_tests.browser import PHONE, WIDE, Visit, visited

ALL = len(data.requirements())
SIZES = pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run in which one test failed."""
    folder = tmp_path_factory.mktemp("run")
    records = [
        samples.failed(),
        samples.passed(1, "server.claim.order"),
        samples.passed(2, "client.push.left"),
    ]
    files.write(folder, samples.summary(records))
    return folder / files.PAGE


@pytest.fixture
def visit(browser: Browser, run: Path) -> Iterator[Visit]:
    """The page, which makes no request but for itself, and writes nothing to the console."""
    with visited(browser, run) as visit:
        yield visit
        assert visit.errors == []
        assert visit.requests == [run.as_uri()]


@pytest.fixture
def page(visit: Visit) -> Page:
    """The page in the browser."""
    return visit.page


def card(page: Page, requirement: str) -> Locator:
    """What the page shows of a requirement."""
    return page.locator(f"[id='{requirement}']")


def box(element: Locator) -> FloatRect:
    """Where an element is drawn."""
    drawn = element.bounding_box()
    assert drawn is not None, "it is drawn"
    return drawn


def shown(page: Page) -> list[str]:
    """The ids of the requirements that are shown."""
    return [each.get_attribute("id") or "" for each in page.locator(".requirement:visible").all()]


def test_a_search_finds_words_of_ids_sentences_and_tests(page: Page) -> None:
    """Every word has to be there, in any order and place."""
    page.get_by_role("searchbox").fill("claimed exact-")
    assert shown(page) == [samples.BROKEN]
    expect(page.locator("#shown")).to_have_text(f"1 of {ALL} requirements")

    page.get_by_role("searchbox").fill("test_number_2")
    assert shown(page) == ["client.push.left"]

    page.get_by_role("searchbox").fill("no such words")
    assert shown(page) == []
    expect(page.get_by_text("No requirement matches.")).to_be_visible()

    page.get_by_role("button", name="Show all").click()
    expect(page.locator("#shown")).to_have_text(f"{ALL} requirements")
    assert len(shown(page)) == ALL


def test_filters_narrow_one_another(page: Page) -> None:
    """Verdicts add up, and are narrowed by class and feature."""
    page.get_by_role("button", name="1 fail").click()
    assert shown(page) == [samples.BROKEN]

    page.get_by_role("button", name="2 pass").click()
    assert set(shown(page)) == {samples.BROKEN, "server.claim.order", "client.push.left"}

    page.get_by_label("Class").select_option("client")
    assert shown(page) == ["client.push.left"]

    page.get_by_label("Feature").select_option("recovery")
    assert shown(page) == []


def test_an_address_opens_what_it_names(browser: Browser, run: Path) -> None:
    """A link from elsewhere leads to the requirement, unfolded, in view and focused."""
    with visited(browser, run, f"#{samples.BROKEN}") as visit:
        there = card(visit.page, samples.BROKEN)

        expect(there).to_have_attribute("open", "")
        expect(there.locator("summary").first).to_be_in_viewport()
        expect(there.locator("summary").first).to_be_focused()
        expect(there.get_by_text("an empty in-process list").first).to_be_visible()


def test_a_link_leads_to_what_a_filter_hides(page: Page) -> None:
    """A link within the page shows its target again; each requirement leads to its sentence in the protocol."""
    page.get_by_role("button", name="2 pass").click()
    expect(card(page, samples.BROKEN)).to_be_hidden()

    page.locator(".failed").get_by_role("link", name=samples.BROKEN).click()
    expect(card(page, samples.BROKEN)).to_be_visible()

    card(page, samples.BROKEN).get_by_role("link", name="in the protocol").click()
    rule = page.locator(f"[id='protocol.{samples.BROKEN}']")
    expect(rule).to_be_in_viewport()
    expect(rule).to_contain_text("MUST")


def test_every_link_has_a_target(page: Page) -> None:
    """No link of the page leads to nothing, and no place has two owners."""
    broken = page.evaluate(
        "[...document.querySelectorAll('a[href]')].map(each => each.getAttribute('href'))"
        ".filter(each => !each.startsWith('#') || !document.getElementById(each.slice(1)))"
    )
    twice = page.evaluate(
        "[...document.querySelectorAll('[id]')].map(each => each.id)"
        ".filter((each, at, all) => all.indexOf(each) !== at)"
    )

    assert broken == []
    assert twice == []


def test_a_failed_test_shows_what_passed_and_where_the_fault_struck(page: Page) -> None:
    """The diagram's last steps are there in words, too: who to whom, what, its fate, and the fault behind it."""
    page.locator(".failed").get_by_role("link", name=samples.BROKEN).click()
    diagram = card(page, samples.BROKEN).get_by_role(
        "group", name="Sequence diagram: server, proxy, Redis, kit"
    )
    steps = diagram.get_by_role("listitem").all_inner_texts()

    assert [" ".join(each.split()) for each in steps[-5:]] == [
        "290.0 server to Redis, command: LREM list -1 [] #1",
        "294.0 Redis to proxy, reply: (integer) 1 #1 lost",
        f"Fault {samples.FAULT}",
        "296.0 proxy to server, cut: (cut by FIN) #1",
        "Verdict of the kit: expected an empty in-process list; got []",
    ]
    lost = box(diagram.locator(".struck .line"))
    lanes = diagram.locator(".parties span").all()
    proxy, redis = box(lanes[2]), box(lanes[3])
    assert lost["x"] == pytest.approx(proxy["x"] + proxy["width"] / 2, abs=1), (
        "it ends at the proxy"
    )
    assert lost["x"] + lost["width"] == pytest.approx(redis["x"] + redis["width"] / 2, abs=1)

    expect(diagram.get_by_text("290.0")).to_be_visible()
    expect(diagram.get_by_text("0.0", exact=True)).to_be_hidden()
    diagram.get_by_text("earlier steps").click()
    expect(diagram.get_by_text("0.0", exact=True)).to_be_visible()


def test_the_command_is_copied(browser: Browser, run: Path) -> None:
    """The button puts the command that repeats the test on the clipboard."""
    with visited(
        browser, run, f"#{samples.BROKEN}", permissions=["clipboard-read", "clipboard-write"]
    ) as visit:
        button = (
            card(visit.page, samples.BROKEN).get_by_role("button", name="Copy the command").first
        )
        button.click()

        expect(button).to_have_text("Copied")
        copied = visit.page.evaluate("navigator.clipboard.readText()")
    assert copied == samples.failed().replay


def test_the_keyboard_reaches_everything(page: Page) -> None:
    """By Tab, Enter and Space alone: from the address bar to the failed requirement, a filter, and a test's details."""
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(".failed a")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("claim order")
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="1 fail")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="2 pass")).to_have_attribute("aria-pressed", "true")
    assert shown(page) == ["server.claim.order"]

    summary = card(page, "server.claim.order").locator("> summary")
    for _ in range(10):
        page.keyboard.press("Tab")
        if summary.evaluate("each => each === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(card(page, "server.claim.order")).to_have_attribute("open", "")
    outline = summary.evaluate("each => getComputedStyle(each).outlineStyle")
    assert outline == "solid", "the focus is seen"


@SIZES
def test_nothing_is_cut(browser: Browser, run: Path, size: tuple[int, int]) -> None:
    """The page with everything unfolded is no wider than the window, and no text runs out of its box."""
    with visited(browser, run, size=size) as visit:
        visit.page.evaluate(
            "document.querySelectorAll('details').forEach(each => each.open = true)"
        )
        wider = visit.page.evaluate(
            "[...document.querySelectorAll('body *')]"
            ".filter(each => each.getBoundingClientRect().right > innerWidth + 1 && !each.closest('.wide, .sr, .skip'))"
            ".map(each => each.outerHTML.slice(0, 120))"
        )
        assert wider == []
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= size[0]


@SIZES
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(
    browser: Browser, run: Path, size: tuple[int, int], scheme: str
) -> None:
    """With everything unfolded, WCAG 2.2 AA holds as far as a program can tell."""
    with visited(browser, run, size=size, color_scheme=scheme) as visit:
        assert violations(visit.page) == []


def test_hostile_text_stays_text(browser: Browser, tmp_path: Path) -> None:
    """Markup, control characters and a megabyte in names, messages and bytes are shown, and do nothing."""
    record = samples.failed(
        test=f"tests/test_x.py::test[{samples.HOSTILE[:400]}]", said=samples.HOSTILE
    )
    files.write(tmp_path, samples.summary([record], name=samples.HOSTILE[:200]))
    written = (tmp_path / files.PAGE).read_text("ascii")

    with visited(browser, tmp_path / files.PAGE, f"#{samples.BROKEN}") as visit:
        assert "owned" not in visit.page.title().partition("·")[0]
        assert visit.page.evaluate("document.scripts.length") == 1
        assert visit.page.evaluate("document.images.length") == 0
        got = card(visit.page, samples.BROKEN).locator(".wrong dd")
        expect(got).to_contain_text("<script>document.title='owned'</script>")
        expect(got).to_contain_text(r"\u202egnp.exe\u2066 \x1b[31mred\x1b[0m \x00 \ud800 ")
        expect(visit.page.locator("h1")).to_contain_text("</script><script>")
        assert visit.errors == []
        assert len(visit.requests) == 1
    characters = {*written, *html.unescape(written)}
    assert not characters & set("\u202e\u2066\x1b\x00"), "no such character is in the file"
    assert len(written) < 3 << 20
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["version"] == 2


def test_it_prints_what_failed(browser: Browser, run: Path, tmp_path: Path) -> None:
    """On paper the failed requirement is unfolded, and what only a screen can use is gone."""
    with visited(browser, run) as visit:
        visit.page.emulate_media(media="print")
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")

        expect(card(visit.page, samples.BROKEN).locator(".diagram")).to_be_visible()
        expect(visit.page.get_by_role("searchbox")).to_be_hidden()
        visit.page.pdf(path=tmp_path / "run.pdf")
        assert (tmp_path / "run.pdf").read_bytes().startswith(b"%PDF")


def test_it_is_complete_without_its_script(browser: Browser, run: Path) -> None:
    """Where scripts are off, everything can still be unfolded and read."""
    with visited(browser, run, java_script_enabled=False) as visit:
        card(visit.page, samples.BROKEN).locator("> summary").click()

        expect(card(visit.page, samples.BROKEN).get_by_text(samples.FAULT).first).to_be_visible()
