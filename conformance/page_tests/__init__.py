"""The pages in a real browser; `make test-pages` runs them, and needs Chromium and npm."""
