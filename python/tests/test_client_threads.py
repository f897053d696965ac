"""What a client promises whatever an application does: interrupts, callbacks, forks, lost threads."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import warnings
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, ConnectionLost, Job, NotQueued
from jobqueue.threads import callbacks
from jobqueue.threads.session import Session

from tests.conftest import DEADLINE_S, until
from tests.test_client import answer, claim

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis


class Interrupt(BaseException):
    """A Control-C of the tests' own."""


def interrupted_at(step: int, call: Callable[[], object]) -> bool:
    """Call, and raise at the nth line or return of the library's or the standard library's code.

    Returns:
        Whether the call had so many steps.
    """
    left = [step]

    def trace(_frame: Any, event: str, _argument: Any) -> Any:
        if event in {"line", "return"}:
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(before)
                raise Interrupt
        return trace

    before = sys.gettrace()  # coverage's, if that is measured
    sys.settrace(trace)
    try:
        call()
    except (Interrupt, RuntimeError):  # a `with` block of the standard library may make it of it
        return True
    finally:
        sys.settrace(before)
    return left[0] <= 0


def test_an_interrupt_at_any_step_leaves_the_client_whole(client: Client, redis: Redis) -> None:
    """client.lost.resubscribes: whatever step of `run` and `result` it hits, the next job works."""
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            if job := redis.brpop(["job-queue"], timeout=0.1):
                answer(redis, json.loads(job[1]))

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        step = 1
        while interrupted_at(step, lambda: client.run("echo", {"a": 1}).result(DEADLINE_S)):
            assert client.run("echo").result(DEADLINE_S) is None
            step += 1
        (session,) = client._sessions.values()
        until(lambda: len(session._calls) == 0, "no job to be left registered")
        until(lambda: not session._stuck, "no job to be left unsettled")
        assert step > 50
    finally:
        stop.set()
        server.join(DEADLINE_S)


def test_a_job_that_somebody_holds_stops_nobody_else(client: Client, redis: Redis) -> None:
    """client.settle.once: it is settled as soon as it is let go, and the others meanwhile."""
    held, other = client.run("echo"), client.run("echo")
    pushed = [claim(redis), claim(redis)]
    with held._condition:
        for job in pushed:
            answer(redis, job, result=7)
        assert other.result(DEADLINE_S) == 7
        assert held._state == "PENDING"
    assert held.result(DEADLINE_S) == 7


def test_a_callback_that_blocks_delays_no_result(client: Client, redis: Redis) -> None:
    """client.settle.result: callbacks run in a thread of their own, in the order of the results."""
    gate = threading.Event()
    order: list[int] = []
    jobs = client.run_many([("echo", number) for number in range(3)])

    def wait_and_note(number: int, _: object) -> None:
        gate.wait(DEADLINE_S)
        order.append(number)

    for number, job in enumerate(jobs):
        job.add_done_callback(partial(wait_and_note, number))
    for _ in jobs:
        answer(redis, claim(redis))
    assert [job.result(DEADLINE_S) for job in jobs] == [None] * 3
    assert order == []
    gate.set()
    client.close()
    assert order == [0, 1, 2]


def test_callbacks_that_cant_be_called_are_told(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind a callback that blocks, a bounded number waits; the log says which are not called."""
    monkeypatch.setattr(callbacks, "LIMIT", 1)
    entered, gate = threading.Event(), threading.Event()
    called: list[int] = []

    def block(_: object) -> None:
        entered.set()
        gate.wait(DEADLINE_S)

    for callback in (block, lambda _: called.append(1), lambda _: called.append(2)):
        job = client.run("echo")
        job.add_done_callback(callback)
        answer(redis, claim(redis))
        job.result(DEADLINE_S)
        assert entered.wait(DEADLINE_S)
    until(lambda: "dropped" in caplog.text, "the log to tell it")
    gate.set()
    client.close()
    assert called == [1]


def test_a_job_keeps_no_cycle(client: Client, redis: Redis) -> None:
    """What a caller holds is freed as soon as it is out of sight, also after an error."""
    redis.set("job-queue", "no list")

    class Local:
        """Something of the caller's."""

    def fail() -> weakref.ref[Local]:
        local = Local()
        with pytest.raises(NotQueued):
            client.run("echo").result(DEADLINE_S)
        return weakref.ref(local)

    gc.disable()
    try:
        reference = fail()
        until(lambda: reference() is None, "the caller's local variable to be freed")
    finally:
        gc.enable()


def test_where_no_thread_can_be_started_the_call_says_so(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """client.settle.unconnected: and the next call works."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        job = client.run("echo")
    assert isinstance(job.exception(DEADLINE_S), NotQueued)
    assert "can't start new thread" in str(job.exception())

    again = client.run("echo")
    answer(redis, claim(redis), result=1)
    assert again.result(DEADLINE_S) == 1
    assert again.id != job.id


def test_an_exception_that_nobody_expected_settles_everything(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """client.lost.settles: with a message, in the log too, and the next call works."""
    jobs = [client.run("echo"), client.run("echo", timeout=DEADLINE_S)]
    claim(redis)
    claim(redis)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "_take_inbox", lambda *_: 1 / 0)
        jobs.append(client.run("echo"))
        for job in jobs:
            error = job.exception(DEADLINE_S)
            assert isinstance(error, ConnectionLost | NotQueued)
            assert "ZeroDivisionError" in str(error)
    assert "Traceback" in caplog.text

    again = client.run("echo")
    answer(redis, claim(redis), result=1)
    assert again.result(DEADLINE_S) == 1
    assert again.channel != jobs[0].channel


def test_a_client_that_is_dropped_ends(redis_url: str, redis: Redis) -> None:
    """Its thread and its connection end, and a ResourceWarning says what to do."""
    threads, connections = threading.active_count(), len(redis.client_list())
    client = Client(redis_url)
    client.run("echo")
    job = claim(redis)

    with pytest.warns(ResourceWarning, match="close"):
        del client
    assert threading.active_count() > threads, "its last job is under way"
    answer(redis, job, result=1)

    until(lambda: threading.active_count() == threads, "its threads to end")
    until(lambda: len(redis.client_list()) == connections, "its connection to end")


def test_what_a_child_inherits_says_what_it_cant_do(client: Client, redis: Redis) -> None:
    """client.job.id: a job of the parent is settled in the child, and ids go on."""
    inherited = client.run("echo")
    claim(redis)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, our point
        child = os.fork()
    if not child:
        status = 1
        try:
            assert isinstance(inherited.exception(), ConnectionLost)
            assert not inherited.cancel()
            own: Job = client.run("echo")
            assert own.id != inherited.id
            own.cancel()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert not inherited.done()
