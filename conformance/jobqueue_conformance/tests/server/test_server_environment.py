"""The environment that a process manager gives a server: another locale and time zone, no input, few descriptors."""

import pytest

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.vectors import vectors

FAR_AWAY = {"LC_ALL": "C", "LANG": "C", "LANGUAGE": "C", "TZ": "Pacific/Apia"}
TEXTS = ["é", "Ω→ß", "日本語", "\U0001f600", "\u2028", "\x7f\x80"]
LOSSES = 3


@pytest.mark.requirement("server.result.value", "server.result.id", "server.publish.channel")
@pytest.mark.dimensions(environment=("locale", "time zone"))
def test_text_comes_back_whatever_the_locale(server: StartServer, peer: Peer) -> None:
    """Where the locale knows ASCII alone, values, ids and channels beyond it come back as they went in."""
    server(environment=FAR_AWAY)
    values = [*TEXTS, *(vector["value"] for vector in vectors("values"))]

    jobs = [peer.push("echo", value) for value in values]
    jobs += [peer.push("echo", text, id=f"id {text}") for text in TEXTS]
    jobs += [peer.push("echo", text, channel=f"{peer.channel}:{text}") for text in TEXTS]
    failed = peer.push("fail", {"message": "".join(TEXTS)})

    for job in jobs:
        peer.result(job, "server.publish.once")
    peer.wait_settled(failed, *jobs)


@pytest.mark.requirement("server.connection.survives", "server.publish.once")
@pytest.mark.dimensions(
    occasion="reconnect",
    connection=("all", "cut"),
    environment=("few descriptors", "no input"),
    repetition="faults",
)
def test_few_descriptors_and_no_input_are_enough(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """A server that has 256 descriptors, and whose input is closed, answers, and connects again."""
    server(bounded=True)

    for n in range(LOSSES):
        peer.wait_settled(peer.push("echo", n))
        proxy.drop("server")
    peer.result(peer.push("echo", "behind"), "server.connection.survives")
