"""One cluster of one process for the API tests; the cluster tests start their own."""

import uuid

import pytest

from harness import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("one")).start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def client(cluster):
    return cluster.client()


@pytest.fixture
def name():
    return f"f-{uuid.uuid4().hex[:12]}"
