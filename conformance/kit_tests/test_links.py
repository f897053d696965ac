"""The links of a site: what leads nowhere is found, and nothing else."""

from pathlib import Path

import pytest
from jobqueue_conformance.reports import links


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two pages and a picture."""
    folder = tmp_path / "site"
    (folder / "runs").mkdir(parents=True)
    (folder / "a b.svg").write_text("<svg/>")
    (tmp_path / "outside.html").write_text("<p id='x'>")
    (folder / "runs" / "index.html").write_text("<p id='place.of.it'>")
    return folder


@pytest.mark.parametrize(
    "link, wrong",
    [
        ("runs/index.html", None),
        ("runs/index.html#place.of.it", None),
        ("runs/index.html#place%2Eof.it", None),
        ("#here", None),
        ("a%20b.svg", None),
        ("data:,", None),
        ("runs/index.html#nowhere", "leads to no place of the page"),
        ("#nowhere", "leads to no place of the page"),
        ("nowhere.html", "leads to no file of the site"),
        ("runs", "leads to no file of the site"),
        ("../outside.html", "leads to no file of the site"),
        ("https://example.org/", "leads out of the site"),
        ("//example.org/x.js", "leads out of the site"),
    ],
)
@pytest.mark.parametrize("attribute", ["href", "src"])
def test_a_link_that_leads_nowhere_is_found(
    site: Path, attribute: str, link: str, wrong: str | None
) -> None:
    """A file that isn't there, a place that isn't in it, a folder, and whatever isn't part of the site."""
    (site / "index.html").write_text(f'<p id="here"><x {attribute}="{link}">', "utf-8")

    assert [*links.broken(site)] == ([f"index.html: {link} {wrong}"] if wrong else [])
