# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests (harness.py): folders that go away, nodes that are stopped."""
import pytest

import harness


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
