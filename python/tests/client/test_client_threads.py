"""What a client's threads promise: callbacks hold up no result, and every failure settles the jobs."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from jobqueue import Client, ConnectionLost, NotQueued
from jobqueue.threads import callbacks
from jobqueue.threads.session import Session

from tests.client.test_client import answer, claim
from tests.conftest import DEADLINE_S, until

if TYPE_CHECKING:
    import pytest
    from redis import Redis


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
