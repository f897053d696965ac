"""One browser for all tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from page_tests.browser import launched


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with launched() as browser:
        yield browser
