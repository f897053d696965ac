"""The smoke test's sentences: what is wrong with an adapter, for each way to get it wrong."""

import pytest
import redis as redis_py
from jobqueue_conformance.peer import diagnosis
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.process import SetupError
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import Failure, Unsupported

from kit_tests.conftest import PutUnderTest

# A server in a few lines; what is wrong with it is the last of them.
SERVER = """
import json, os, socket, sys, time
queue, listed = os.environ["JOBQUEUE_QUEUE"], os.environ["JOBQUEUE_IN_PROCESS"]
port = int(os.environ["REDIS_URL"].rsplit(":", 1)[1].split("/")[0])
file = None
def ask(*parts):
    global file
    if file is None:
        file = socket.create_connection(("127.0.0.1", port)).makefile("rwb")
    parts = [part.encode() for part in parts]
    file.write(b"*%d\\r\\n" % len(parts) + b"".join(b"$%d\\r\\n%b\\r\\n" % (len(p), p) for p in parts))
    file.flush()
    line = file.readline().decode()
    return file.read(int(line[1:]) + 2)[:-2].decode() if line[0] == "$" and line[1] != "-" else line
def claim(target=listed):
    return ask("BLMOVE", queue, target, "RIGHT", "LEFT", "0")
def answer(message, channel=None, **outcome):
    job = json.loads(message)
    ask("PUBLISH", channel or job["channel"], json.dumps({"id": job["id"], **outcome}))
    ask("LREM", listed, "1", message)
"""
CLIENT = """
import json, os, socket, sys, time
port = int(os.environ["REDIS_URL"].rsplit(":", 1)[1].split("/")[0])
queue = os.environ["JOBQUEUE_QUEUE"]
"""
PUSHES = """
line = json.loads(input())
job = {"method": "echo", "parameters": line["parameters"], "channel": queue + ":r", "id": "1"}
text = json.dumps(job)
near = socket.create_connection(("127.0.0.1", port))
near.sendall(f"*3\\r\\n$5\\r\\nLPUSH\\r\\n${len(queue)}\\r\\n{queue}\\r\\n${len(text)}\\r\\n{text}\\r\\n".encode())
"""


@pytest.mark.parametrize(
    "last_line, sentence",
    [
        ("sys.exit('no REDIS_URL')", "the server exited with 1; its stderr: no REDIS_URL"),
        ("time.sleep(60)", "the server never connected to Redis: it has to use REDIS_URL"),
        ("ask('PING'); time.sleep(60)", "the server never named the queue, .*JOBQUEUE_QUEUE"),
        ("ask('LLEN', queue); time.sleep(60)", "named the queue and never claimed the job"),
        ("claim(); time.sleep(60)", "the server claimed the job and never published a result"),
        ("claim(queue + ':mine'); time.sleep(60)", "moved the job to .*:mine, not to its list"),
        (
            "answer(claim(), error={'code': 'method-not-found', 'message': ''})",
            "no handler is registered for .*'echo'",
        ),
        ("claim(); sys.exit(3)", "the server exited with 3"),
    ],
)
def test_a_server_that_cannot_be_tested(
    put_under_test: PutUnderTest,
    request: pytest.FixtureRequest,
    last_line: str,
    sentence: str,
) -> None:
    """What is wrong with a server's adapter is a set-up error, in one sentence."""
    put_under_test(server_text=SERVER + last_line)
    given = request.getfixturevalue

    def look() -> None:
        given("server")()
        diagnosis.first_result(given("peer"), given("peer").push(), given("keys"), given("redis"))

    with pytest.raises(SetupError, match=sentence):
        look()


def test_an_answer_on_another_channel(
    put_under_test: PutUnderTest,
    request: pytest.FixtureRequest,
    peer: Peer,
    keys: Keys,
    redis: redis_py.Redis,
) -> None:
    """An answer on the wrong channel breaks its requirement, and both channels are named."""
    put_under_test(
        server_text=SERVER + "answer(claim(), channel='nowhere', result=1); time.sleep(60)"
    )
    request.getfixturevalue("server")()

    with pytest.raises(Failure, match="answered on the wrong channel, nowhere") as failed:
        diagnosis.first_result(peer, peer.push(), keys, redis)
    assert failed.value.requirement == "server.publish.channel"


def test_an_answer_without_the_id(
    put_under_test: PutUnderTest,
    request: pytest.FixtureRequest,
    peer: Peer,
    keys: Keys,
    redis: redis_py.Redis,
) -> None:
    """An answer of another form breaks a requirement, so that a manifest can list it as known."""
    bare = "job = json.loads(claim()); ask('PUBLISH', job['channel'], '[1]'); time.sleep(60)"
    put_under_test(server_text=SERVER + bare)
    request.getfixturevalue("server")()

    with pytest.raises(Failure, match=r"a message without it: b'\[1\]'") as failed:
        diagnosis.first_result(peer, peer.push(), keys, redis)
    assert failed.value.requirement == "server.result.id"


def test_a_wrapper_that_does_not_pass_on_signals(
    put_under_test: PutUnderTest, request: pytest.FixtureRequest, proxy: Proxy, notifier: Notifier
) -> None:
    """Where SIGTERM ends only a wrapper, the diagnosis says that the wrapper must exec the server."""
    wrapped = SERVER + "ask('LLEN', queue); claim()"
    run = "import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', sys.argv[1]])"
    put_under_test(
        server_text=f"import sys; sys.argv[1:] = [{wrapped!r}]\nexec({run!r})",
    )
    process = request.getfixturevalue("server")()

    with pytest.raises(
        SetupError,
        match=r"your command is a wrapper that doesn't pass on signals: .* exec the server",
    ):
        diagnosis.check_signals_arrive(process, proxy, notifier)


def test_a_server_that_cannot_run_here(
    put_under_test: PutUnderTest, request: pytest.FixtureRequest
) -> None:
    """Exit status 69 is unsupported, with the reason that the server gave."""
    put_under_test(server_text=SERVER + "print('no node', file=sys.stderr); sys.exit(69)")

    with pytest.raises(Unsupported, match="no node"):
        request.getfixturevalue("server")()


@pytest.mark.parametrize(
    "program, sentence",
    [
        ("sys.exit('no REDIS_URL')", "the client exited with 1; its stderr: no REDIS_URL"),
        ("time.sleep(60)", "the client never connected to Redis: it has to use REDIS_URL"),
        (
            PUSHES + "print(json.dumps({'seq': 1, 'result': 1})); sys.stdin.read()",
            "wrote the outcome only when its input ended: it has to flush after each line",
        ),
        (
            PUSHES + "print(json.dumps({'seq': 99, 'result': 1}), flush=True); time.sleep(60)",
            "answered with seq 99, not with 1",
        ),
        (PUSHES + "print('hello', flush=True); time.sleep(60)", "a line that is not an outcome"),
        (
            PUSHES + "print(json.dumps({'seq': 1, 'result': 1}), flush=True); time.sleep(60)",
            "doesn't exit when its input ends",
        ),
        (
            PUSHES
            + "print(json.dumps({'seq': 1, 'result': 1}), flush=True); sys.stdin.read(); sys.exit(4)",
            "when its input ended, the client exited with 4",
        ),
    ],
)
def test_a_client_that_cannot_be_tested(
    put_under_test: PutUnderTest,
    request: pytest.FixtureRequest,
    peer: Peer,
    program: str,
    sentence: str,
) -> None:
    """What is wrong with a client's adapter is a set-up error, in one sentence."""
    put_under_test(client_text=CLIENT + program)
    driver = request.getfixturevalue("client")()

    def look() -> None:
        seq = driver.submit("echo", 1)
        peer.answer(diagnosis.first_job(peer), result=1)
        diagnosis.first_outcome(driver, seq)
        diagnosis.check_ends_with_input(driver)

    with pytest.raises(SetupError, match=sentence):
        look()


@pytest.mark.parametrize("hangs", ["time.sleep(60)", "sys.stdin.read()"])
def test_a_client_that_settles_nothing(
    put_under_test: PutUnderTest, request: pytest.FixtureRequest, peer: Peer, hangs: str
) -> None:
    """A client that waits forever, or ends with its input, breaks a requirement: flushing wouldn't help it."""
    put_under_test(client_text=CLIENT + PUSHES + hangs)
    driver = request.getfixturevalue("client")()
    seq = driver.submit("echo", 1)
    peer.answer(diagnosis.first_job(peer), result=1)

    with pytest.raises(Failure, match="nothing of that within 2 s, and none when") as failed:
        diagnosis.first_outcome(driver, seq)
    assert failed.value.requirement == "client.settle.result"
