"""`concurrent.futures.wait`, `as_completed` and callbacks, interrupted at every step.

The standard library does all of them under locks of the futures, and Control-C may leave those locked.
"""

from tests.faults.client.interruptions import require_steps
from tests.faults.worker import Worker

PRELUDE = """
    from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, Future, as_completed, wait

    def elsewhere(call):
        "Do a call in a thread of its own, and return what it returns, or raise where it hangs."
        outcome = Future()
        threading.Thread(target=lambda: outcome.set_result(call()), daemon=True).start()
        return outcome.result(5)

    def require_whole(client, jobs, value):
        "All who wait for the jobs get them, in this thread as in others, and the client goes on."
        assert client.run("echo", value).result(5) == value
        for each in (lambda call: call(), elsewhere):
            assert each(lambda: wait(jobs, 5)) == (set(jobs), set())
            assert each(lambda: set(as_completed(jobs, 5))) == set(jobs)
            assert each(lambda: [job.result(5) for job in jobs]) == [value] * len(jobs)

    WAITS = (
        lambda jobs: wait(jobs),
        lambda jobs: wait(jobs, 5, FIRST_COMPLETED),
        lambda jobs: wait([*jobs, done], 5, FIRST_EXCEPTION),
        lambda jobs: list(as_completed(jobs, 5)),
        lambda jobs: [job.add_done_callback(len_of) for job in jobs],
        lambda jobs: [(job.done(), job.running(), repr(job)) for job in jobs],
    )
    done = Future()
    done.set_result(None)
    len_of = lambda _: None
"""


def test_control_c_while_jobs_are_waited_for(redis_url: str, worker: Worker) -> None:
    """The jobs are settled, the next who waits for them gets them, and no thread is held up."""
    program = """
    client = Client(URL)
    client.run("echo", 0).result(5)
    total = 0
    for call in WAITS:
        step, again = 1, True
        while again:
            jobs = client.run_many([("echo", step)] * 2)
            again = interrupted(step, lambda: call(jobs))
            require_whole(client, jobs, step)
            step += 1
        total += step
    client.close()
    require_no_threads()
    print(total)
    """
    require_steps(PRELUDE + program, redis_url, 150)
    assert worker.claimed


def test_control_c_while_jobs_are_waited_for_that_never_come(
    redis_url: str, worker: Worker
) -> None:
    """`close` settles them, and wakes those who wait, in this thread as in others."""
    program = """
    client = Client(URL)
    client.run("echo", 0).result(5)
    total = 0

    def look(jobs):
        with contextlib.suppress(TimeoutError):
            next(as_completed(jobs, 0))

    for call in (lambda jobs: wait(jobs, 0), look):
        step, again = 1, True
        while again:
            client = Client(URL)
            jobs = client.run_many([("never", step)] * 2)
            again = interrupted(step, lambda: call(jobs))
            waits = Future()
            waiting = threading.Thread(target=lambda: waits.set_result(wait(jobs)), daemon=True)
            waiting.start()
            client.close()
            assert waits.result(5) == (set(jobs), set())
            assert all(isinstance(job.exception(5), ConnectionLost) for job in jobs)
            step += 1
        total += step
    print(total)
    """
    require_steps(PRELUDE + program, redis_url, 50)
    assert worker.claimed


def test_a_signal_handler_that_waits_for_the_same_jobs(redis_url: str, worker: Worker) -> None:
    """A handler may wait for the very jobs that the main thread is about to wait for."""
    program = """
    client = Client(URL)
    client.run("echo", 0).result(5)
    total = 0
    for call in WAITS:
        for inner in WAITS[:4]:
            step, again = 1, True
            while again:
                jobs = client.run_many([("echo", step)] * 2)
                again = act_at(step, lambda: call(jobs), lambda: inner(jobs))
                require_whole(client, jobs, step)
                step += 7
            total += step
    client.close()
    print(total)
    """
    require_steps(PRELUDE + program, redis_url, 150)
    assert worker.claimed
