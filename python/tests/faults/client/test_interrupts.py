"""Control-C and signal handlers at every step of a call: the client stays whole."""

from tests.faults.client.interruptions import require_steps
from tests.faults.worker import Worker


def test_control_c_in_run(redis_url: str, worker: Worker) -> None:
    """A job that `run` hasn't returned is registered no more, and the next one works."""
    program = """
    client = Client(URL)
    client.run("echo", 0).result(5)
    total, returned = 0, []
    for call in (
        lambda: returned.append(client.run("never")),
        lambda: returned.append(client.run("never", timeout=60)),
        lambda: returned.extend(client.run_many([("never", n) for n in range(3)])),
    ):
        step = 1
        while interrupted(step, call):
            assert client.run("echo", step).result(5) == step
            step += 1
        total += step
    for job in returned:
        job.cancel()
    del job
    returned.clear()
    client.run("echo", 0).result(5)
    require_nothing_registered()
    client.close()
    print(total)
    """
    require_steps(program, redis_url, 50)
    assert worker.claimed


def test_control_c_in_result(redis_url: str, worker: Worker) -> None:
    """The wait ends and nothing else: results go on arriving, and the job is let go."""
    program = """
    client = Client(URL)
    client.run("echo", 0).result(5)
    total = 0
    for call in (
        lambda: client.run("echo", 1).result(timeout=5),
        lambda: client.run("echo", 1, timeout=5).exception(),
        lambda: [job.result() for job in client.run_many([("echo", n) for n in range(3)])],
    ):
        step = 1
        while interrupted(step, call):
            assert client.run("echo", step).result(5) == step
            step += 1
        total += step
    require_nothing_registered()
    client.close()
    print(total)
    """
    require_steps(program, redis_url, 150)
    assert worker.claimed


def test_control_c_in_a_result_that_can_be_waited_for_again(redis_url: str, worker: Worker) -> None:
    """A job whose wait was interrupted is as good as before, wherever that happened."""
    program = """
    client = Client(URL)
    step = 1
    while True:
        job = client.run("echo", step)
        again = interrupted(step, job.result)
        assert job.result(5) == step
        if not again:
            break
        step += 1
    client.close()
    print(step)
    """
    require_steps(program, redis_url, 20)
    assert worker.claimed


def test_control_c_in_the_first_job(redis_url: str, worker: Worker) -> None:
    """Whatever a client starts with its first job, it starts whole with the next one."""
    program = """
    step, again = 1, True
    while again:
        client = Client(URL)
        again = interrupted(step, lambda: client.run("never"))
        assert client.run("echo", step).result(5) == step
        client.close()
        require_no_threads()
        step += 1
    del client
    require_nothing_registered()
    print(step)
    """
    require_steps(program, redis_url, 50)
    assert worker.claimed


def test_control_c_in_close(redis_url: str, worker: Worker) -> None:
    """An interrupted `close` can be done again; it settles what is left and leaves no thread."""
    program = """
    step, again = 1, True
    while again:
        client = Client(URL)
        job = client.run("never")
        client.run("echo", step).result(5)
        again = interrupted(step, client.close)
        client.close()
        assert isinstance(job.exception(5), ConnectionLost)
        require_no_threads()
        step += 1
    print(step)
    """
    require_steps(program, redis_url, 20)
    assert worker.claimed


def test_control_c_in_cancel(redis_url: str, worker: Worker) -> None:
    """An interrupted `cancel` can be done again: then nothing of the job is left."""
    program = """
    client = Client(URL)
    client.run("echo", 0).result(5)
    step, again = 1, True
    while again:
        job = client.run("never")
        again = interrupted(step, job.cancel)
        assert job.cancel()
        del job
        assert client.run("echo", step).result(5) == step
        step += 1
    require_nothing_registered()
    client.close()
    print(step)
    """
    require_steps(program, redis_url, 10)
    assert worker.claimed


def test_control_c_in_a_loop(redis_url: str, worker: Worker) -> None:
    """`asyncio.run` ends by it, and with it what the client had there; the next loop works."""
    program = """
    logging.disable()  # of tasks that Control-C has ended
    warnings.simplefilter("ignore", RuntimeWarning)  # of coroutines that it has kept from starting
    client = aio.Client(URL)

    async def ask(value):
        return await asyncio.wait_for(await client.run("echo", value), 5)

    async def both(value):
        await client.run("never")
        return await ask(value)

    def run(value):
        try:
            asyncio.run(both(value))
        except RuntimeError as error:  # asyncio's, where a task is interrupted as the main one has ended
            assert "stopped before" in str(error)

    step = 1
    while interrupted(step, lambda: run(step), ours=True):
        assert asyncio.run(ask(step)) == step
        step += 4  # of some hundred steps, most of them in the event loop
    require_nothing_registered()
    print(step)
    """
    require_steps(program, redis_url, 100)
    assert worker.claimed


CALLS = """
    CALLS = (
        lambda: client.run("echo", 1, timeout=5).result(),
        lambda: [job.exception(5) for job in client.run_many([("echo", 1), ("echo", 2)])],
        lambda: client.run("never").cancel(),
    )
    total = 0
"""


def test_a_signal_handler_that_runs_a_job(redis_url: str, worker: Worker) -> None:
    """A handler may run a job and wait for it, whatever the main thread is doing with the client."""
    program = """
    client = Client(URL)
    client.run("echo", 0).result(5)

    def handler():
        assert client.run("echo", "handler").result(5) == "handler"

    for call in CALLS:
        step = 1
        while act_at(step, call, handler):
            step += 1
        total += step
    client.close()
    print(total)
    """
    require_steps(CALLS + program, redis_url, 100)
    assert worker.claimed


def test_a_signal_handler_that_cancels(redis_url: str, worker: Worker) -> None:
    """A handler may cancel jobs, whatever the main thread is doing with the client."""
    program = """
    client = Client(URL)
    client.run("echo", 0).result(5)
    jobs = []

    for call in CALLS:
        step, again = 1, True
        while again:
            jobs.append(client.run("never"))
            again = act_at(step, call, lambda: jobs.pop().cancel())
            step += 1
        total += step
        assert len(jobs) == 1, "the one that was not interrupted"
        jobs.clear()
    client.close()
    print(total)
    """
    require_steps(CALLS + program, redis_url, 100)
    assert worker.claimed


def test_a_signal_handler_that_closes(redis_url: str, worker: Worker) -> None:
    """A handler may close the client: the call ends by an error or its result, and waits no more."""
    program = """
    for call in CALLS:
        def closed_meanwhile():
            with contextlib.suppress(ValueError, ConnectionLost, NotQueued):
                call()

        step, again = 1, True
        while again:
            client = Client(URL)
            client.run("echo", 0).result(5)
            again = act_at(step, closed_meanwhile, lambda: client.close())
            client.close()
            step += 1
        total += step
    print(total)
    """
    require_steps(CALLS + program, redis_url, 100)
    assert worker.claimed
