"""A server's connections: lost, refused, and made again without a restart."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy.proxy import How, Proxy
from jobqueue_conformance.redis_servers.base import RedisServer

HOWS: tuple[How, ...] = ("fin", "rst", "fin")


@pytest.mark.requirement("server.connection.survives")
def test_a_lost_connection_is_made_again(server: StartServer, peer: Peer, proxy: Proxy) -> None:
    """A server whose connections end, three times over, answers the next job in the same process."""
    server()

    for how in HOWS:
        peer.result(peer.push("echo", how), "server.connection.survives")
        proxy.drop(how=how)
    peer.result(peer.push("echo", "behind"), "server.connection.survives")


@pytest.mark.requirement("server.connection.survives")
def test_a_restart_of_redis_is_survived(
    server: StartServer, peer: Peer, redis: Redis, redis_server: RedisServer, proxy: Proxy
) -> None:
    """A server whose Redis is killed and comes back later answers what is pushed then."""
    redis_server.keep_data()
    server()
    peer.result(peer.push("echo", "before"))

    proxy.stop_accepting()
    redis_server.restart()
    redis.connection_pool.disconnect()
    peer.listen_again()
    proxy.accept_again()
    for n in range(2):
        peer.result(peer.push("echo", f"after {n}"), "server.connection.survives")
