"""What axe-core says of a page."""

from pathlib import Path

from playwright.sync_api import Page

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def violations(page: Page, unfolded: str = "details") -> list[str]:
    """Where WCAG 2.2 AA doesn't hold, as far as a program can tell, with these elements unfolded."""
    page.evaluate(
        "unfolded => document.querySelectorAll(unfolded).forEach(each => each.open = true)",
        unfolded,
    )
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    assert len(found["passes"]) > 10, "it looked at the page"
    return [
        f"{each['id']}: {each['help']}: {node['html'][:160]}"
        for each in found["violations"]
        for node in each["nodes"][:3]
    ]
