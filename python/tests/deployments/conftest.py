"""The deployments that more than one file of tests uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deployments.nodes import Cluster, Sentinels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deployments.network import Network


@pytest.fixture(scope="module")
def network() -> Network | None:
    """All nodes are on this machine."""
    return None


@pytest.fixture(scope="module")
def cluster(network: Network | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three primaries, each with a replica."""
    with Cluster(tmp_path_factory.mktemp("cluster"), network=network) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def sentinels(
    network: Network | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sentinels]:
    """Three sentinels, a primary and its replica."""
    with Sentinels(tmp_path_factory.mktemp("sentinels"), network=network) as sentinels:
        yield sentinels


@pytest.fixture(params=["cluster", "sentinels"])
def deployment(request: pytest.FixtureRequest) -> Cluster | Sentinels:
    """Each kind."""
    kind: Cluster | Sentinels = request.getfixturevalue(request.param)
    return kind
