"""The proxy between a program under test and Redis: it records, holds, cuts off, and refuses.

It has one endpoint, a port that never changes, for each name under test, and one thread. The test's thread asks it to
hold an event or to drop a connection, and waits on its notifier; what goes wrong inside fails the test.
"""

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, ParamSpec

from jobqueue_conformance.proxy.connection import Connection
from jobqueue_conformance.proxy.events import CLOSED, CUT, OPENED, Event
from jobqueue_conformance.proxy.waiting import Notifier

Given = ParamSpec("Given")
How = Literal["fin", "rst"]
Matches = Callable[[Event], bool]


class Endpoint:
    """The address at which one name under test finds Redis, and what came through it since the program was started."""

    def __init__(self, who: str, queue: bytes) -> None:
        self.who = who
        # Never listens: it keeps the port while connections to it are refused.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port: int = self._reserved.getsockname()[1]
        self.listener = self.listen()
        self.queue = queue
        self.open = False
        self.hangs_up = False
        self.in_pieces = False
        self.begin()

    @property
    def address(self) -> tuple[str, int]:
        """Its host and its port."""
        return "127.0.0.1", self.port

    @property
    def inactivity(self) -> str:
        """One sentence about a program that runs without doing its work."""
        if not self.connected:
            return f"the {self.who} never connected to Redis: it has to use REDIS_URL"
        queue = self.queue.decode()
        return f"the {self.who} never named the queue, {queue}: it has to use JOBQUEUE_QUEUE"

    def listen(self) -> socket.socket:
        """Have the system queue connections, which are refused before; return what accepts them."""
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=128, reuse_port=True)
        self.listener.settimeout(0)
        return self.listener

    def close(self) -> None:
        """Release the port."""
        self.listener.close()
        self._reserved.close()

    def begin(self) -> None:
        """The program is started, for the first time or again."""
        self.attempted = False
        self.connected = False
        self.named_queue = False
        self.exchanges = 0


class Hold:
    """Stops the first event that matches, until the test has decided what happens to it."""

    def __init__(self, proxy: "Proxy", matches: Matches, who: str | None) -> None:
        self.matches = matches
        self.who = who
        self.event: Event | None = None
        self.connection: Connection | None = None
        self._proxy = proxy

    def wait(self, what: str = "the event to be held") -> Event:
        """Wait until it is there."""
        return self._proxy.notifier.wait(lambda: self.event, what)

    def release(self) -> None:
        """Let it pass; where it hasn't come yet, let it pass when it comes."""
        self._proxy.run(self._release)

    def drop(self, how: How = "fin", *, deliver: bool = False, half_open: bool = False) -> None:
        """End its connection, and wait until Redis knows; see `Connection.drop`."""
        connection = self.connection
        assert connection is not None, "nothing is held"
        self._proxy.forget(self)
        self._proxy.run(connection.drop, reset=how == "rst", deliver=deliver, half_open=half_open)
        if not half_open:
            self._proxy.wait_closed(connection)

    def half_close(self) -> None:
        """Lose its connection by a FIN, and leave it to what is under test to close its own end."""
        connection = self.connection
        assert connection is not None, "nothing is held"
        self._proxy.forget(self)
        self._proxy.run(connection.half_close)

    @property
    def waiting(self) -> bool:
        """Whether what is under test has sent more behind what is held."""
        return self.connection is not None and self.connection.waiting

    @property
    def behind(self) -> bytes:
        """What has been sent behind what is held."""
        return self.connection.behind if self.connection is not None else b""

    def _release(self) -> None:
        self._proxy.holds = [hold for hold in self._proxy.holds if hold is not self]
        if self.connection is not None:
            self.connection.release()


class Proxy:
    """All endpoints, all connections, and everything that passed."""

    def __init__(self, notifier: Notifier, redis_address: Callable[[], tuple[str, int]]) -> None:
        """Serve at once; `redis_address` is called for each connection."""
        self.notifier = notifier
        self.events: list[Event] = []
        self.endpoints: dict[str, Endpoint] = {}
        self.connections: list[Connection] = []
        self.holds: list[Hold] = []
        self.selector: selectors.BaseSelector = selectors.DefaultSelector()
        self._redis_address = redis_address
        self.opened = 0
        self._tasks: deque[Callable[[], None]] = deque()
        self._wake_near, self._wake_far = socket.socketpair()
        self._wake_near.settimeout(0)
        self.selector.register(self._wake_near, selectors.EVENT_READ, self._run_tasks)
        self._running = True
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()

    # For the test's thread.

    def endpoint(self, who: str, queue: str) -> Endpoint:
        """The endpoint of this name, made on first use."""
        if who not in self.endpoints:
            endpoint = self.endpoints[who] = Endpoint(who, queue.encode())
            self.run(self._listen, endpoint)
        return self.endpoints[who]

    def hold(self, matches: Matches, who: str | None = None) -> Hold:
        """Stop the first event from now on that matches, of this name or of any."""
        hold = Hold(self, matches, who)
        self.run(self.holds.append, hold)
        return hold

    def forget(self, hold: Hold) -> None:
        """Remove the hold."""
        self.run(lambda: self.holds.remove(hold) if hold in self.holds else None)

    def drop(
        self,
        who: str | None = None,
        how: How = "fin",
        *,
        number: int | None = None,
        half_open: bool = False,
    ) -> None:
        """End all connections, of this name or of any, or the one with this number, and wait until Redis knows."""
        ended = [
            each
            for each in self.connections
            if who in {None, each.who} and number in {None, each.number}
        ]
        for connection in ended:
            self.run(connection.drop, reset=how == "rst", deliver=False, half_open=half_open)
        if not half_open:
            for connection in ended:
                self.wait_closed(connection)

    def hang_up(self, who: str | None = None) -> None:
        """Let Redis notice which connections are dead."""
        ended = [each for each in self.connections if who in {None, each.who} and each.dead]
        for connection in ended:
            self.run(connection.hang_up)
            self.wait_closed(connection)

    def mute(self, who: str) -> None:
        """Return nothing more on the connections that this name has now: they stay open, and are silent."""
        for connection in self.connections:
            if connection.who == who:
                self.run(connection.mute)

    def return_in_pieces(self, who: str, *, over: bool = False) -> None:
        """Return everything to this name in many pieces, also on later connections, until that is over."""
        self.endpoints[who].in_pieces = not over
        for connection in self.connections:
            if connection.who == who:
                self.run(connection.return_in_pieces, over=over)

    def stop_accepting(self, who: str | None = None) -> None:
        """Accept no connections: a program that connects waits until they are accepted again."""
        for endpoint in self._endpoints(who):
            if endpoint.open:
                endpoint.open = False
                self.run(self.selector.unregister, endpoint.listener)

    def refuse(self, who: str | None = None) -> None:
        """Have the system refuse connections, until they are accepted again: the port isn't open."""
        self.stop_accepting(who)
        for endpoint in self._endpoints(who):
            self.run(endpoint.listener.close)

    def hang_up_at_once(self, who: str, *, over: bool = False) -> None:
        """End each connection as soon as it is made, as a proxy without a Redis does, until that is over."""
        for endpoint in self._endpoints(who):
            endpoint.hangs_up = not over

    def accept_again(self, who: str | None = None) -> None:
        """Accept connections again."""
        for endpoint in self._endpoints(who):
            if not endpoint.open:
                self.run(self._listen, endpoint)

    def wait_closed(self, connection: Connection) -> None:
        """Wait until both ends of the connection are closed."""
        self.notifier.wait(
            lambda: connection not in self.connections, "Redis to close a connection"
        )

    def wait_all_closed(self, who: str) -> None:
        """Wait until no connection of this name is left, on either side."""
        self.notifier.wait(
            lambda: not self.connected(who),
            f"Redis to close every connection of the {who}",
        )

    def in_flight(self, who: str) -> list[Event]:
        """The commands of this name that Redis hasn't answered, or whose reply is held."""
        found = [each.in_flight for each in self.connections if each.who == who and not each.dead]
        return [each for each in found if each is not None]

    def connected(self, who: str) -> bool:
        """Whether this name has a connection."""
        return any(each.who == who for each in self.connections)

    def open_connections(self, who: str) -> int:
        """How many connections this name has that it hasn't closed."""
        return sum(each.who == who and not each.dead for each in self.connections)

    def has_half_open_claim(self, who: str) -> bool:
        """Whether Redis has yet to answer a connection that is dead."""
        return any(each.who == who and each.dead and each.in_flight for each in self.connections)

    def under_way(self, text: str) -> bool:
        """Whether something that carries this text is between what is under test and Redis."""
        return any(
            event is not None and event.carries(text)
            for each in list(self.connections)
            for event in (each.in_flight, each.held_command, each.held_reply)
        )

    def wait_pushed(self, job_id: str) -> None:
        """Wait until a client has the reply to the push of a job; the job may be claimed before that."""
        self.notifier.wait(lambda: not self.under_way(job_id), "the reply to the push")

    def note(self, who: str, kind: str, text: str) -> None:
        """Write something into the transcript that didn't pass the proxy."""
        self.events.append(Event(time.monotonic(), who, 0, kind, text.encode()))

    def run(
        self, task: Callable[Given, object], *args: Given.args, **keywords: Given.kwargs
    ) -> None:
        """Run a function in the proxy's thread, and wait until it has returned."""
        self.notifier.check()
        done = threading.Event()

        def run_task() -> None:
            try:
                task(*args, **keywords)
            finally:
                done.set()

        self._tasks.append(run_task)
        self._wake_far.send(b"!")
        done.wait(self.notifier.deadline_s)
        self.notifier.check()

    def close(self) -> None:
        """End everything; Redis loses all connections."""
        self._running = False
        with suppress(OSError):  # the thread may have ended already
            self._wake_far.send(b"!")
        self._thread.join(self.notifier.deadline_s)
        self._wake_far.close()

    # For the connections, in the proxy's thread.

    def passes(self, event: Event, connection: Connection) -> bool:
        """Record the event; false holds it."""
        event.at_s = time.monotonic()
        self.events.append(event)
        endpoint = self.endpoints[event.who]
        endpoint.named_queue = endpoint.named_queue or endpoint.queue in event.frame
        held = False
        for hold in self.holds:
            if hold.event is None and hold.who in {None, event.who} and hold.matches(event):
                hold.connection = connection
                hold.event = event
                event.fate = "held"
                held = True
        self.notifier.notify()
        return not held

    def answered(self, event: Event) -> None:
        """Count the exchange, where it was about the queue and its lists; busy servers, too, keep up their lease."""
        endpoint = self.endpoints[event.who]
        kept_up = (endpoint.queue + b":lease:", endpoint.queue + b":processors")
        if event.carries(endpoint.queue) and not any(map(event.carries, kept_up)):
            endpoint.exchanges += 1

    def cut(self, connection: Connection, how: str) -> None:
        """Record that the kit ends a connection."""
        self._record(CUT, connection.who, connection.number, how)

    def closed(self, connection: Connection) -> None:
        """Forget a connection whose sides are both closed."""
        self.connections = [each for each in self.connections if each is not connection]
        self._record(CLOSED, connection.who, connection.number)

    # The thread.

    def _serve(self) -> None:
        try:
            while self._running:
                for key, events in self.selector.select():
                    key.data(events)
        except BaseException as error:
            self.notifier.fail_with(error)
        finally:
            for key in list(self.selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
            for endpoint in self.endpoints.values():
                endpoint.close()
            self.selector.close()

    def _run_tasks(self, _events: int) -> None:
        self._wake_near.recv(4096)
        while self._tasks:
            self._tasks.popleft()()

    def _listen(self, endpoint: Endpoint) -> None:
        endpoint.open = True
        if endpoint.listener.fileno() < 0:  # connections were refused
            endpoint.listen()
        self.selector.register(
            endpoint.listener, selectors.EVENT_READ, lambda _events: self._accept(endpoint)
        )

    def _accept(self, endpoint: Endpoint) -> None:
        near, _ = endpoint.listener.accept()
        endpoint.attempted = True
        if endpoint.hangs_up:
            self.opened += 1
            self._record(OPENED, endpoint.who, self.opened)
            near.close()
            return
        try:
            far = socket.create_connection(self._redis_address(), timeout=5)
        except OSError:
            near.close()  # Redis is down: the program under test sees a lost connection
            self.notifier.notify()
            return
        self.opened += 1
        endpoint.connected = True
        connection = Connection(self, endpoint.who, self.opened, near, far)
        connection.return_in_pieces(over=not endpoint.in_pieces)
        self.connections = [*self.connections, connection]
        self._record(OPENED, endpoint.who, self.opened)

    def _record(self, kind: str, who: str, number: int, text: str = "") -> None:
        self.events.append(Event(time.monotonic(), who, number, kind, text.encode()))
        self.notifier.notify()

    def _endpoints(self, who: str | None) -> list[Endpoint]:
        return [endpoint for endpoint in self.endpoints.values() if who in {None, endpoint.who}]
