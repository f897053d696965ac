"""A real Redis in a container of its own, by testcontainers.

Its port changes whenever it is started again; its data stay, for the container is kept until `close`.
"""

import gc
import socket
import threading
import warnings
from collections.abc import Callable

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]
from testcontainers.core.container import DockerContainer

from jobqueue_conformance.redis_servers.base import RedisServer, RedisUnavailable

PORT = 6379
PULL_S = 60
ANSWER_S = 5
REACH_S = 0.5
# Redis rewrites this file when it is configured to keep its data, so that a restart finds the setting.
SETTINGS_PATH = "/data/conformance.conf"
SETTINGS = 'save ""\nappendonly no\nappendfsync always\ndir /data\n'


def why_not(image: str, say: Callable[[str], None]) -> str | None:
    """Why this image can't be run here; None where it can. It is pulled if need be."""
    engine = _engine()
    if engine is None:
        return "Docker doesn't answer"
    try:
        engine.ping()
        engine.images.get(image)
    except ImageNotFound:
        say(f"pulling {image}, for at most {PULL_S} s")
        return _pull(image)
    except (DockerException, OSError) as error:
        return f"Docker doesn't answer: {error}"
    finally:
        engine.close()
    return None


def _engine() -> docker.DockerClient | None:
    try:
        return docker.from_env(timeout=ANSWER_S)
    except DockerException:
        pass
    # The library leaves its socket to the collector, whose warning would be some test's error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return None


def _pull(image: str) -> str | None:
    failures: list[str] = []

    def pull() -> None:
        engine = docker.from_env(timeout=PULL_S)
        try:
            engine.images.pull(image)
        except (DockerException, OSError) as error:
            failures.append(str(error))
        finally:
            engine.close()

    thread = threading.Thread(target=pull, daemon=True)
    thread.start()
    thread.join(PULL_S)
    if thread.is_alive():
        return f"{image} couldn't be pulled within {PULL_S} s"
    return f"{image} can't be pulled: {failures[0]}" if failures else None


class ContainerRedis(RedisServer):
    """One container; `kill` ends what runs in it, and `start` runs it again."""

    def __init__(self, image: str) -> None:
        self._container = (
            DockerContainer(image)
            .with_exposed_ports(PORT)
            .with_command(["redis-server", SETTINGS_PATH, "--protected-mode", "no"])
            .with_copy_into_container(SETTINGS.encode(), SETTINGS_PATH)
        )
        try:
            self._container.start()
        except DockerException as error:
            self._container.stop()
            raise RedisUnavailable(f"{image} can't be started: {error}") from error
        super().__init__(*self._address())
        self.description = f"a container of {image}"
        self._wait_until_it_answers()

    def start(self) -> None:
        """Run it again with the data that it has, and return when it answers."""
        self._container.get_wrapped_container().start()
        self.host, self.port = self._address()
        self._wait_until_it_answers()

    def kill(self) -> None:
        """End what runs in it as a power cut would."""
        container = self._container.get_wrapped_container()
        container.kill()
        container.wait()

    def close(self) -> None:
        """Remove it."""
        self._container.stop()
        self._container.get_docker_client().client.close()

    def keep_data(self) -> None:
        """From now on, and until `empty`, every write survives `kill`."""
        super().keep_data()
        with self.connect() as admin:
            admin.config_rewrite()

    def empty(self, queue: str) -> None:
        """Leave nothing of the last test."""
        super().empty(queue)
        with self.connect() as admin:
            admin.config_rewrite()

    def _address(self) -> tuple[str, int]:
        """Its own, where this machine reaches it; else what the engine publishes, by one more copy of all bytes."""
        container = self._container.get_wrapped_container()
        container.reload()
        for network in container.attrs["NetworkSettings"]["Networks"].values():
            if _reaches(own := network["IPAddress"]):
                return own, PORT
        bindings = container.ports.get(f"{PORT}/tcp") or []
        return self._container.get_container_host_ip(), int(bindings[0]["HostPort"])


def _reaches(host: str) -> bool:
    try:
        socket.create_connection((host, PORT), REACH_S).close()
    except ConnectionRefusedError:
        return True  # the machine answers, and Redis soon will
    except OSError:
        return False
    return True
