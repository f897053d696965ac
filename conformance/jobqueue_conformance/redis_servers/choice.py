"""Which Redis a run is on: what `--redis` comes to on this machine, opened."""

import shutil
import subprocess
from collections.abc import Callable

from jobqueue_conformance.redis_servers.base import RedisServer, RedisUnavailable
from jobqueue_conformance.redis_servers.external import ExternalRedis
from jobqueue_conformance.redis_servers.local import LocalRedis, embedded


def choose(wanted: str, image: str, say: Callable[[str], None]) -> str:
    """What `--redis` comes to on this machine: a URL, `container`, or the path of a program.

    Raises:
        RedisUnavailable: what was asked for isn't there.
    """
    if "://" in wanted:
        open_server(wanted, image)  # refused here rather than in the first test
        return wanted
    if wanted == "embedded":
        return embedded()
    if wanted not in {"auto", "container"}:
        found = shutil.which(wanted)
        if found is None:
            raise RedisUnavailable(f"--redis={wanted} is not a program that can be started")
        return found
    from jobqueue_conformance.redis_servers import container  # noqa: PLC0415 - slow to import

    reason = container.why_not(image, say)
    if reason is None:
        return "container"
    if wanted == "container":
        raise RedisUnavailable(f"no container can be started: {reason}")
    say(f"no container: {reason}")
    return program()


def program() -> str:
    """The path of a server that can be started here, without a container."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or embedded()


def open_server(chosen: str, image: str) -> RedisServer:
    """Start what `choose` has chosen."""
    if "://" in chosen:
        return ExternalRedis(chosen)
    if chosen == "container":
        from jobqueue_conformance.redis_servers import container  # noqa: PLC0415 - slow to import

        return container.ContainerRedis(image)
    return LocalRedis(chosen)


def describe(chosen: str, image: str) -> str:
    """What `choose` has chosen, for a reader."""
    if "://" in chosen:
        server = open_server(chosen, image)
        return f"{server.description}, {server.version}"
    if chosen == "container":
        return f"a container of {image}"
    said = subprocess.run([chosen, "--version"], capture_output=True, text=True, check=False)
    version = next((word[2:] for word in said.stdout.split() if word.startswith("v=")), "?")
    return f"{chosen}, version {version}"
