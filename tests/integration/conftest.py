# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests (harness.py): folders that go away, nodes that are stopped."""
import pytest

import harness
from cluster_nodes import Cluster, Etcd


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: compares how clients share the machine; nothing runs beside it (tools/run-tests)")


@pytest.fixture(scope="session")
def janitor():
    keeper = harness.Janitor()
    yield keeper
    keeper.close()


@pytest.fixture
def place(janitor):
    """Two folders and the processes of one test."""
    here = harness.Place(janitor)
    yield here
    here.close()


@pytest.fixture
def make_node(place):
    """make_node(*options, dram=..., name=...): a node that is not started yet."""

    def make(*options, **settings):
        return harness.Node(place, *options, **settings)

    return make


@pytest.fixture
def node(make_node):
    """A node that serves."""
    return make_node().start()


@pytest.fixture
def make_cluster(place):
    """make_cluster(count, *options): nodes n0, n1, ... that serve, with an etcd of their own (cluster_nodes.py)."""
    made = []

    def make(count, *more):
        made.append(Cluster(place, Etcd(place).start(), count, *more))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def three(make_cluster):
    return make_cluster(3)
