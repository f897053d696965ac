"""Makes the environment of each contender, once: a virtual one by uv, or `npm ci` for Node.js.

An environment bears the list of what was asked for, and is made again where that has changed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from contender import NODE

if TYPE_CHECKING:
    from contender import Contender

LONGEST_S = 300


class EnvironmentFailed(Exception):
    """A contender can't be measured here; the message says why."""


def make(contender: Contender) -> None:
    """Make what is missing.

    Raises:
        EnvironmentFailed: It can't be had.
    """
    if contender.node:
        _node()
    elif contender.requirements:
        _virtual(contender)


def version(contender: Contender) -> str:
    """The version that it names itself.

    Raises:
        EnvironmentFailed: It doesn't start.
    """
    answer: str = json.loads(_run(contender.command("version")))["version"]
    return answer


def _virtual(contender: Contender) -> None:
    folder = contender.python.parent.parent
    asked = folder / "requirements.txt"
    wanted = "\n".join(contender.requirements)
    if asked.is_file() and asked.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    uv = _uv()
    _run([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)])
    install = [uv, "pip", "install", "--quiet", "--python", str(contender.python)]
    _run([*install, *contender.requirements])
    asked.write_text(wanted)


def _node() -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        raise EnvironmentFailed("node and npm are not on PATH")
    folder = NODE.parent
    installed, locked = folder / "node_modules/.package-lock.json", folder / "package-lock.json"
    if not (installed.is_file() and installed.stat().st_mtime >= locked.stat().st_mtime):
        _run(["npm", "ci", "--no-audit", "--no-fund", "--prefix", str(folder)])


def _uv() -> str:
    found = shutil.which("uv")
    if found is None:
        try:
            from uv import find_uv_bin  # noqa: PLC0415 - only where a peer is measured
        except ModuleNotFoundError:
            raise EnvironmentFailed("uv is not installed: pip install --group bench") from None
        found = find_uv_bin()
    return found


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFailed(str(error)) from error
    if done.returncode:
        raise EnvironmentFailed(_reason(done.stderr) or f"{command[0]} failed without a word")
    return done.stdout


def _reason(said: str) -> str:
    """The line that says why: npm explains itself at length after it, the others before it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    of_npm = [line for line in lines if line.startswith("npm error") and "code" not in line]
    return (of_npm[:1] or lines[-1:] or [""])[0]
