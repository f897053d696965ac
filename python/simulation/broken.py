"""The one error of a world: a law is broken."""

from __future__ import annotations


class Broken(Exception):  # noqa: N818 - named for what happened
    """A law is broken.

    Args:
        law: Its name.
        sentence: What happened instead.
    """

    def __init__(self, law: str, sentence: str) -> None:
        super().__init__(f"{law}: {sentence}")
        self.law = law
