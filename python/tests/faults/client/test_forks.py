"""Forks of a process with a client: the child starts a new session, and says what it can't do with what it inherits."""

import pytest
from redis import Redis

from tests.faults.program import run_program
from tests.faults.worker import Worker

PRELUDE = """
import asyncio, faulthandler, os, sys, threading, traceback, warnings
from concurrent.futures import as_completed, wait
from jobqueue import Client, ConnectionLost, aio

warnings.simplefilter("ignore", DeprecationWarning)  # forks with threads are tested here

def fork(child):
    "Call a function in a child, and require that it returns there."
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(10, exit=True)
        try:
            child()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"the child ended with {status}"

"""


def fork_program(source: str, url: str) -> None:
    """Run a program that forks, and require that neither process says anything."""
    lines = "".join(f"{line[4:] or chr(10)}" for line in source.splitlines(keepends=True))
    assert run_program(PRELUDE + lines, url) == ""


def test_a_child_that_cancels_the_parents_job_keeps_its_own(redis_url: str, worker: Worker) -> None:
    """client.job.id: what the child does with the parent's job is neither process's own matter."""
    program = """
    client = Client(sys.argv[1])
    parents = client.run("never")

    def child():
        mine = client.run("echo", "the child's")
        parents.cancel()
        assert mine.result(5) == "the child's"

    fork(child)
    assert not parents.done()
    assert client.run("echo", "the parent's").result(5) == "the parent's"
    client.close()
    """
    fork_program(program, redis_url)
    assert len({job["channel"] for job in worker.claimed}) == 2


def test_an_inherited_job_says_that_its_result_arrives_elsewhere(
    redis_url: str, worker: Worker
) -> None:
    """A child can't receive what the parent waits for, so every way to wait ends at once."""
    program = """
    client = Client(sys.argv[1])

    def lost(job):
        assert isinstance(job.exception(), ConnectionLost) and "process" in str(job.exception())

    def by_result(job):
        try:
            job.result()
        except ConnectionLost:
            lost(job)
        else:
            raise AssertionError("expected no result")

    def by_wait(job):
        assert wait([job]).done == {job}
        lost(job)

    def by_completion(job):
        assert list(as_completed([job])) == [job]

    def by_callback(job):
        called = []
        job.add_done_callback(called.append)
        assert called == [job]

    for way in (lost, by_result, by_wait, by_completion, by_callback):
        job = client.run("never", timeout=60)
        fork(lambda: way(job))
        assert not job.done()
    client.close()
    """
    fork_program(program, redis_url)
    assert worker.claimed


def test_an_outcome_is_inherited(redis_url: str, worker: Worker) -> None:
    """What was settled before the fork is the child's as well."""
    program = """
    client = Client(sys.argv[1])
    done, cancelled = client.run("echo", 1), client.run("never")
    done.result(), cancelled.cancel()

    def child():
        assert done.result() == 1
        assert cancelled.cancelled()

    fork(child)
    client.close()
    """
    fork_program(program, redis_url)
    assert worker.claimed


def test_a_fork_while_another_thread_cancels(redis_url: str, worker: Worker) -> None:
    """A callback of one job is under way in the parent; the child cancels and runs its own."""
    program = """
    client = Client(sys.argv[1])
    entered, leave = threading.Event(), threading.Event()
    job = client.run("never")
    job.add_done_callback(lambda _: (entered.set(), leave.wait()))
    thread = threading.Thread(target=job.cancel)
    thread.start()
    entered.wait()

    def child():
        mine = client.run("never")
        assert mine.cancel()
        assert client.run("echo", 1).result(5) == 1

    fork(child)
    leave.set()
    thread.join()
    client.close()
    """
    fork_program(program, redis_url)
    assert worker.claimed


@pytest.mark.parametrize(
    "source",
    [
        "sys.argv[1]",
        "Redis.from_url(sys.argv[1], retry=None, socket_timeout=5)",
        "Redis(connection_pool=BlockingConnectionPool.from_url(sys.argv[1], retry=None, socket_timeout=5))",
    ],
    ids=["url", "redis", "blocking"],
)
def test_a_fork_while_another_thread_connects(redis_url: str, worker: Worker, source: str) -> None:
    """redis-py holds its pool's lock then, and the child inherits it locked."""
    program = f"""
    from redis import BlockingConnectionPool, ConnectionPool, Redis

    parent, entered, leave = os.getpid(), threading.Event(), threading.Event()

    def held_up(make):
        def make_connection(pool):
            if os.getpid() == parent:
                entered.set()
                leave.wait()
            return make(pool)
        return make_connection

    for pool in ConnectionPool, BlockingConnectionPool:
        pool.make_connection = held_up(pool.make_connection)
    client = Client({source})
    parents = client.run("echo", 1)
    entered.wait()

    def child():
        assert client.run("echo", 2).result(5) == 2
        client.close()

    fork(child)
    leave.set()
    assert parents.result(5) == 1
    client.close()
    """
    fork_program(program, redis_url)
    assert len(worker.claimed) == 2


def test_connecting_imports_nothing(redis_url: str, worker: Worker) -> None:
    """A child inherits the lock of a module that another thread of its parent was importing."""
    program = """
    client = Client(sys.argv[1])
    before = set(sys.modules)
    assert client.run("echo", 1).result(5) == 1
    client.close()
    assert set(sys.modules) == before
    """
    fork_program(program, redis_url)
    assert worker.claimed


def test_forks_while_threads_push(redis_url: str, worker: Worker) -> None:
    """Whatever the parent's threads are doing at the moment of the fork, the child isn't held up."""
    program = """
    client = Client(sys.argv[1])
    stopped = threading.Event()
    pushed = threading.Event()
    jobs = []

    def push():
        while not stopped.is_set():
            jobs.append(client.run("echo", 1))
            pushed.set()
            jobs[-1].result(5)

    threads = [threading.Thread(target=push) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert pushed.wait(5)

    def child():
        assert client.run("echo", 2).result(5) == 2
        jobs[-1].exception(5)
        client.close()

    for _ in range(15):
        fork(child)
    stopped.set()
    for thread in threads:
        thread.join()
    client.close()
    """
    fork_program(program, redis_url)
    assert len({job["channel"] for job in worker.claimed}) == 16


@pytest.mark.parametrize("end", ["client.close()", "sys.exit()", "del globals()['client']"])
def test_what_a_child_ends_is_its_own(redis_url: str, worker: Worker, end: str) -> None:
    """A child that closes, exits or drops the client cuts nothing off from the parent."""
    program = f"""
    client = Client(sys.argv[1])
    parents = client.run("never")
    client.run("echo", 1).result(5)
    pid = os.fork()
    if pid == 0:
        {end}
        sys.exit()
    assert os.waitpid(pid, 0)[1] == 0
    assert client.run("echo", 2).result(5) == 2
    assert not parents.done()
    client.close()
    """
    fork_program(program, redis_url)
    assert worker.claimed


def test_what_a_child_pushes_last_is_queued(redis_url: str, redis: Redis) -> None:
    """A child that ends by itself pushes what it has submitted, once, and nothing of the parent's."""
    program = """
    client = Client(sys.argv[1])
    client.run("parent's")
    pid = os.fork()
    if pid == 0:
        client.run("child's")
        sys.exit()
    assert os.waitpid(pid, 0)[1] == 0
    client.close()
    """
    fork_program(program, redis_url)
    assert redis.llen("job-queue") == 2


def test_a_fork_inside_a_loop(redis_url: str, worker: Worker) -> None:
    """A child of an asyncio program uses the client in a loop of its own, and the parent goes on."""
    program = """
    client = aio.Client(sys.argv[1])

    async def in_the_child(parents):
        mine = await client.run("echo", "the child's")
        parents.cancel()
        assert await asyncio.wait_for(mine, 5) == "the child's"
        await client.close()

    async def main():
        parents = await client.run("never")
        fork(lambda: asyncio.run(in_the_child(parents)))
        job = await client.run("echo", "the parent's")
        assert await asyncio.wait_for(job, 5) == "the parent's"
        assert not parents.done()
        await client.close()

    asyncio.run(main())
    """
    fork_program(program, redis_url)
    assert len({job["channel"] for job in worker.claimed}) == 2


def test_an_inherited_job_awaited_in_the_childs_loop(redis_url: str, worker: Worker) -> None:
    """It belongs to the parent's loop, so awaiting it raises instead of waiting forever."""
    program = """
    client = aio.Client(sys.argv[1])

    async def in_the_child(parents):
        try:
            await parents
        except (RuntimeError, ConnectionLost):
            return
        raise AssertionError("expected no result")

    async def main():
        parents = await client.run("never")
        fork(lambda: asyncio.run(in_the_child(parents)))
        assert not parents.done()
        await client.close()

    asyncio.run(main())
    """
    fork_program(program, redis_url)
    assert isinstance(worker, Worker)
