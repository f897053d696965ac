"""A process manager: starts a server again that has exited, and requires an exit status that asks for a restart."""

from collections.abc import Callable

from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.spec.verdicts import require


def still_running(
    started: ServerProcess, start: Callable[[], ServerProcess], requirement: str
) -> ServerProcess:
    """The server where it still runs, or a new run of one that has exited with a status other than 0."""
    if started.running:
        return started
    require(
        started.status != 0,
        requirement,
        expected="a server that goes on, or exits with a status other than 0",
        got=started.explain_exit(),
    )
    return start()
