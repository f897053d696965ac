"""Where a client is started: in another locale and time zone, with an empty environment, with few descriptors."""

import pytest

from jobqueue_conformance.peer.calls import guard_ms
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec.verdicts import require

TEXT = "\u00e9\u20ac\u4e2d\U0001f600\u2028"
WITHOUT = (
    'exec env -i PATH="$PATH" REDIS_URL="$REDIS_URL" JOBQUEUE_QUEUE="$JOBQUEUE_QUEUE" "$@"',
    'ulimit -n 64; exec "$@"',
)
# By the words that start it; a time zone is given by its offset, for not every machine knows their names.
PLACES = {
    "locale": ("env", "LC_ALL=C"),
    "east": ("env", "TZ=EAST-5:45"),
    "west": ("env", "TZ=WEST3:30"),
    "environment": ("sh", "-c", WITHOUT[0], "sh"),
    "descriptors": ("sh", "-c", WITHOUT[1], "sh"),
}


@pytest.mark.parametrize(
    "through", [pytest.param(words, id=name) for name, words in PLACES.items()]
)
@pytest.mark.requirement(
    "client.job.parameters", "client.settle.value", "client.settle.error", "client.timeout.settles"
)
@pytest.mark.dimensions(
    answer="error", environment=("locale", "time zone", "empty", "few descriptors")
)
def test_a_client_is_the_same_everywhere(
    client: StartClient, peer: Peer, notifier: Notifier, through: tuple[str, ...]
) -> None:
    """Wherever it is started, a client passes every character on, and times a job out when it has to."""
    driver = client(through=through)

    seq = driver.submit("echo", TEXT, timeout_ms=guard_ms())
    notifier.happens(lambda: peer.waiting() or driver.outcomes(seq), notifier.deadline_s)
    require(
        not driver.outcomes(seq),
        "client.timeout.local",
        expected="a job that waits",
        got=driver.outcomes(seq),
    )
    job = peer.claim()
    require(job.parameters == TEXT, "client.job.parameters", expected=TEXT, got=job.message)
    peer.answer(job, result=TEXT)
    outcome = driver.outcome(seq)
    require(outcome.value == TEXT, "client.settle.value", expected=TEXT, got=outcome)

    seq = driver.submit("echo", "fails", timeout_ms=guard_ms())
    peer.answer(peer.claim(), error={"code": "a.b", "message": TEXT})
    outcome = driver.outcome(seq)
    require(outcome.message == TEXT, "client.settle.error", expected=TEXT, got=outcome)

    seq = driver.submit("echo", "times out", timeout_ms=100)
    notifier.happens(lambda: driver.outcomes(seq), notifier.deadline_s)
    require(
        [each.kind for each in driver.outcomes(seq)] == ["timeout"],
        "client.timeout.settles",
        expected="a timeout after 100 ms",
        got=driver.outcomes(seq),
    )
