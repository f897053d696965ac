"""How a test starts a program under test: what it can ask for, and what it gets."""

from collections.abc import Mapping
from typing import Protocol

from jobqueue_conformance.programs.client import ClientProcess
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.spec.keys import PROCESSOR

# Runs a command with few descriptors and without an input.
BOUNDED = ("sh", "-c", 'ulimit -n 256; exec "$@" <&-', "sh")
BLOCK_MS = 1000  # a whole second, for servers that can only pass whole seconds to Redis
LEASES = 3  # how many T a lease lasts in tests of takeover, the fewest that the protocol allows
AMPLE_LEASES = (
    60  # and in all others, so that no command is held for longer, however slow the machine is
)
GRACE_MS = 3_600_000  # how long an empty list stays registered
SILENCE_MS = 4000  # how long a Redis that doesn't answer counts as alive, if configurable


class StartServer(Protocol):
    """Starts a server and waits until it has named the queue."""

    def __call__(
        self,
        processor: str = PROCESSOR,
        *,
        of: str = "server",
        in_process: str | None = None,
        concurrency: int = 1,
        block_ms: int = BLOCK_MS,
        channel_prefix: str = "",
        max_attempts: int = 3,
        keep_max_ms: int | None = None,
        lease_ms: int | None = None,
        keep_lease: bool = False,
        user: str | None = None,
        password: str = "",
        database: str | None = None,
        wait: bool = True,
        environment: Mapping[str, str] | None = None,
        bounded: bool = False,
        direct: bool = False,
    ) -> ServerProcess:
        """Start it with the settings of this test.

        Args:
            processor: its name.
            of: which implementation's it is: of the one whose "server" is under test, or whose "client" is.
            in_process: the whole key of its list, or "" for the server's default name.
            concurrency: how many handlers may run at once.
            block_ms: T.
            channel_prefix: what channels have to begin with.
            max_attempts: the limit of the feature `attempts`.
            keep_max_ms: the limit of the feature `kept-results`, or None for the one that it has by itself.
            lease_ms: L and C of the feature `takeover`; 0 starts it without; where None, three T if one of the test's
                requirements is about takeover, and else 60 T.
            keep_lease: leave a lease that an earlier life of this name had, for which this one then has to wait.
            user: the user that it logs in as.
            password: its password.
            database: the last part of the URL, or None for the number that the suite uses itself.
            wait: until it has named the queue.
            environment: variables besides those of the contract.
            bounded: with few descriptors, and its input closed.
            direct: without the proxy, which takes longer than Redis for each of many thousand jobs; nobody knows
                when it is ready.
        """


class StartClient(Protocol):
    """Starts a client's driver."""

    def __call__(
        self,
        *,
        of: str = "client",
        user: str | None = None,
        password: str = "",
        database: str | None = None,
        through: tuple[str, ...] = (),
        direct: bool = False,
    ) -> ClientProcess:
        """The driver is ready for `submit`.

        Args:
            of: which implementation's it is: of the one whose "client" is under test, or whose "server" is.
            user: the user that it logs in as.
            password: its password.
            database: the last part of its URL.
            through: the words of a command that starts it, as `env LC_ALL=C`.
            direct: without the proxy, which takes longer than Redis for each of many thousand jobs.
        """
