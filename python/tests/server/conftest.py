"""Servers as programs, for the tests that kill them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    Program = subprocess.Popen[str]

PROGRAM = Path(__file__).with_name("serving.py")


@pytest.fixture
def start(kind: str, redis_url: str, redis: Redis) -> Iterator[Callable[..., Program]]:  # noqa: ARG001 - emptied
    """Starts servers as programs, and kills what is left of them."""
    programs: list[Program] = []

    def run(name: str = "program", lease_seconds: float | None = None) -> Program:
        lease = [] if lease_seconds is None else [str(lease_seconds)]
        command = [sys.executable, str(PROGRAM), redis_url, kind, name, *lease]
        programs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return programs[-1]

    yield run
    for program in programs:
        program.kill()
        program.communicate()
