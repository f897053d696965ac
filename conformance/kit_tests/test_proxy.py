"""The proxy: it sees every frame, lets one command through at a time, and holds, cuts and delivers on request."""

import socket
from collections.abc import Callable

import pytest
import redis as redis_py
from jobqueue_conformance.proxy.events import COMMAND, MESSAGE, REPLY, Event
from jobqueue_conformance.proxy.proxy import Endpoint, How, Proxy
from jobqueue_conformance.proxy.waiting import Hung, Notifier
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys

from kit_tests.line import Line

Connect = Callable[[int], Line]


@pytest.fixture
def endpoint(proxy: Proxy, keys: Keys) -> Endpoint:
    """Where a server would enter."""
    return proxy.endpoint("server", keys.queue)


def named(kind: str, name: str) -> Callable[[Event], bool]:
    """Matches a kind of event of one command."""
    return lambda event: event.kind == kind and event.arguments[:1] == (name.encode(),)


def commands(proxy: Proxy) -> list[bytes]:
    """The names of the commands that arrived."""
    return [each.arguments[0] for each in proxy.events if each.kind == COMMAND]


def test_a_pipeline_passes_one_command_at_a_time(
    proxy: Proxy, endpoint: Endpoint, connect: Connect
) -> None:
    """Of three commands in one packet, those behind the held one are still in the proxy's hands."""
    line = connect(endpoint.port)
    hold = proxy.hold(named(COMMAND, "INCR"))
    line.send("SET number 1", "INCR number", "GET number")

    hold.wait()
    seen = commands(proxy)
    waiting = hold.waiting
    hold.release()

    assert seen == [b"SET", b"INCR"]
    assert waiting
    assert [line.read(), line.read(), line.read()] == [b"OK", 2, b"2"]


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("deliver", [False, True], ids=["discarded", "delivered"])
def test_a_drop_decides_about_what_was_under_way(
    proxy: Proxy,
    endpoint: Endpoint,
    connect: Connect,
    redis: redis_py.Redis,
    how: How,
    *,
    deliver: bool,
) -> None:
    """What is held, and what waits behind it, reaches Redis or is lost; when the drop returns, Redis knows."""
    line = connect(endpoint.port)
    hold = proxy.hold(named(COMMAND, "INCR"))
    line.send("SET number 1", "INCR number", "INCR number")
    hold.wait()

    hold.drop(how, deliver=deliver)

    assert redis.get("number") == (b"3" if deliver else b"1")
    line.read()
    if how == "rst":
        with pytest.raises(ConnectionResetError):
            line.read()
    else:
        assert line.read() is EOFError


def test_a_held_reply_has_happened(
    proxy: Proxy, endpoint: Endpoint, connect: Connect, redis: redis_py.Redis
) -> None:
    """A command whose reply is held was executed, and what is behind it waits."""
    line = connect(endpoint.port)
    hold = proxy.hold(named(REPLY, "SET"))
    line.send("SET number 1", "INCR number")

    event = hold.wait()
    meanwhile = redis.get("number")
    hold.release()

    assert event.frame == b"+OK\r\n"
    assert meanwhile == b"1"
    assert [line.read(), line.read()] == [b"OK", 2]


def test_what_is_behind_a_held_reply_comes_in_one_piece_with_it(
    proxy: Proxy, endpoint: Endpoint, connect: Connect, redis: redis_py.Redis
) -> None:
    """A message that Redis sends while a reply is held is in the same packet as the reply."""
    line = connect(endpoint.port)
    line.send("HELLO 3", "SUBSCRIBE channel")
    line.read(), line.read()
    hold = proxy.hold(named(REPLY, "SET"))
    line.send("SET number 1")
    hold.wait()
    redis.publish("channel", "message")
    redis.ping()  # until this is answered, the message was sent

    hold.release()

    assert line.socket.recv(65536) == (
        b"+OK\r\n>3\r\n$7\r\nmessage\r\n$7\r\nchannel\r\n$7\r\nmessage\r\n"
    )


def test_a_reply_comes_in_many_pieces(
    proxy: Proxy, endpoint: Endpoint, connect: Connect, redis: redis_py.Redis
) -> None:
    """Until that is over, each piece follows when the one before was read."""
    redis.set("text", "x" * 1000)
    line = connect(endpoint.port)
    line.ask("PING")

    proxy.return_in_pieces("server")
    line.send("GET text")
    pieces: list[bytes] = []
    while not b"".join(pieces).endswith(b"x\r\n"):
        pieces.append(line.socket.recv(65536))
    proxy.return_in_pieces("server", over=True)
    line.send("GET text")
    whole = line.socket.recv(65536)

    assert b"".join(pieces) == whole
    assert len(pieces) > 20


def test_a_dead_process_leaves_the_decision_to_the_test(
    proxy: Proxy, endpoint: Endpoint, connect: Connect, redis: redis_py.Redis
) -> None:
    """Where the sender is gone, what is held waits until the test says whether it was sent."""
    line = connect(endpoint.port)
    hold = proxy.hold(named(COMMAND, "SET"))
    line.send("SET number 1", "INCR number")
    hold.wait()

    line.close()
    hold.drop(deliver=True)

    assert redis.get("number") == b"2"


def test_what_answers_a_dead_process_is_no_reply_to_what_was_held(
    proxy: Proxy, endpoint: Endpoint, connect: Connect, notifier: Notifier
) -> None:
    """A process gives up while the reply to its SUBSCRIBE is held; the answer to its PING behind it is told apart."""
    line = connect(endpoint.port)
    hold = proxy.hold(named(REPLY, "SUBSCRIBE"))
    line.send("SUBSCRIBE channel", "PING", "PING again")
    hold.wait()

    line.close()
    notifier.wait(lambda: hold.connection and hold.connection.dead, "the proxy to see the end")
    hold.release()
    proxy.wait_all_closed("server")

    notifier.check()
    answered = [each.arguments for each in proxy.events if each.kind in {REPLY, MESSAGE}]
    assert answered == [(b"SUBSCRIBE", b"channel")]


def test_a_ghost_goes_on_claiming(
    proxy: Proxy, endpoint: Endpoint, connect: Connect, redis: redis_py.Redis, notifier: Notifier
) -> None:
    """Redis serves a claim of a connection that is dead without its knowledge, once."""
    line = connect(endpoint.port)
    line.send("BLMOVE from to RIGHT LEFT 5")
    notifier.wait(lambda: redis.info("clients")["blocked_clients"], "a claim that blocks")
    proxy.drop("server", half_open=True)

    redis.lpush("from", "one")
    redis.lpush("from", "two")

    assert redis.lrange("to", 0, -1) == [b"one"]
    assert redis.lrange("from", 0, -1) == [b"two"]
    assert line.read() is EOFError


def test_a_transaction_is_known_at_its_end(
    proxy: Proxy, endpoint: Endpoint, connect: Connect
) -> None:
    """EXEC knows what it executes, and what was queued is marked so."""
    line = connect(endpoint.port)
    line.send("MULTI", "SET number 1", "EXEC", "GET number")
    replies = [line.read() for _ in range(4)]

    executed = next(each for each in proxy.events if each.arguments[:1] == (b"EXEC",))

    assert replies == [b"OK", b"QUEUED", [b"OK"], b"1"]
    assert [each.arguments[0] for each in executed.transaction] == [b"SET"]
    assert executed.carries("number")
    assert [each.queued for each in proxy.events if each.arguments[:1] == (b"SET",)] == [True, True]


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_pass_beside_replies(
    proxy: Proxy, endpoint: Endpoint, connect: Connect, redis: redis_py.Redis, protocol: int
) -> None:
    """Messages are distinguished from replies, in both protocols, also while a command waits for its reply."""
    line = connect(endpoint.port)
    if protocol == 3:
        line.ask("HELLO 3")
    line.send("SUBSCRIBE one two")
    line.read()
    line.read()
    if protocol == 3:
        line.send("BLPOP list 5")

    redis.publish("one", "hello")
    heard = line.read()

    assert list(heard) == [b"message", b"one", b"hello"]  # type: ignore[call-overload]
    kinds = [each.kind for each in proxy.events if each.carries("hello")]
    assert kinds == [MESSAGE]
    if protocol == 3:
        redis.lpush("list", "entry")
        assert line.read() == [b"list", b"entry"]
    assert line.ask("UNSUBSCRIBE one") is not None


def test_a_closed_endpoint_keeps_everybody_waiting(
    proxy: Proxy, endpoint: Endpoint, connect: Connect
) -> None:
    """Who connects at an closed endpoint is let in when it opens, at the same address."""
    proxy.stop_accepting()
    line = connect(endpoint.port)
    line.send("PING")
    line.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        line.read()

    proxy.accept_again()
    line.socket.settimeout(5)

    assert line.read() == b"PONG"


def test_a_refusing_endpoint_keeps_its_port(
    proxy: Proxy, endpoint: Endpoint, connect: Connect
) -> None:
    """Connections are refused while nobody listens, those that waited are reset, and the same port accepts again."""
    proxy.stop_accepting()
    waiting = connect(endpoint.port)
    proxy.refuse()

    with pytest.raises(ConnectionResetError):
        waiting.socket.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(endpoint.port)

    proxy.accept_again()
    assert connect(endpoint.port).ask("PING") == b"PONG"


def test_the_address_outlives_redis(
    endpoint: Endpoint, connect: Connect, redis_server: RedisServer
) -> None:
    """When Redis dies its connections end, and the same address leads to its next life, and its data."""
    redis_server.keep_data()
    line = connect(endpoint.port)
    line.ask("SET number 1")

    redis_server.restart()
    ended = line.read()

    assert ended is EOFError
    assert connect(endpoint.port).ask("GET number") == b"1"


def test_a_megabyte_passes(endpoint: Endpoint, connect: Connect) -> None:
    """Payloads larger than any socket's buffer arrive whole."""
    line = connect(endpoint.port)
    text = "x" * (4 << 20)

    assert line.ask(f"SET text {text}") == b"OK"
    assert line.ask("GET text") == text.encode()


def test_a_fault_inside_fails_the_test(
    proxy: Proxy, endpoint: Endpoint, connect: Connect, notifier: Notifier
) -> None:
    """What goes wrong in the proxy's thread is raised where the test waits."""

    def broken(_event: Event) -> bool:
        raise ZeroDivisionError

    proxy.hold(broken)
    connect(endpoint.port).send("PING")

    with pytest.raises(RuntimeError, match="the kit itself failed: ZeroDivisionError"):
        notifier.wait(lambda: None, "a fault")
    notifier.clear_failure()


def test_what_is_no_protocol_fails_the_test(endpoint: Endpoint, notifier: Notifier) -> None:
    """Bytes that are not valid RESP are a fault of what is under test, and are shown."""
    with socket.create_connection(("127.0.0.1", endpoint.port)) as line:
        line.sendall(b"*x\r\n")
        with pytest.raises(RuntimeError, match=r"expected a length in"):
            notifier.wait(lambda: None, "a fault")
    notifier.clear_failure()


def test_a_hang_says_what_was_waited_for(proxy: Proxy, notifier: Notifier) -> None:
    """A deadline's message completes the sentence that the wait began."""
    notifier.deadline_s = 0.05

    with pytest.raises(Hung, match=r"waited 0\.05 s for the event to be held"):
        proxy.hold(named(COMMAND, "PING")).wait()
