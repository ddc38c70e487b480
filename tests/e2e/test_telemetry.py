"""What a cluster says of itself: metrics, health, traces, and functions that wait for something."""

import shutil

from harness import RUNTIMES, Cluster, active, create, invoke, until


def test_a_runtime_installed_later_is_noticed(tmp_path):
    mine = tmp_path / "runtimes"
    mine.mkdir()
    cluster = Cluster(tmp_path / "c")
    command = cluster.command
    cluster.command = lambda: [str(mine) if word == str(RUNTIMES) else word for word in command()]
    cluster.start()
    try:
        client = cluster.client()
        create(client, "f", {"app.py": "def handler(e, c):\n    return e\n"}, wait=False)

        def failed():
            document = client.get_function_configuration(FunctionName="f")
            return document["State"] == "Failed" and document

        document = until(failed, "failed")
        assert document["StateReasonCode"] == "InvalidRuntime"
        shutil.copytree(RUNTIMES / "python3.11", mine / ".copy", symlinks=True)
        (mine / ".copy").rename(mine / "python3.11")
        until(lambda: "runtimes changed" in cluster.output(), "the worker tells")
        client.update_function_configuration(FunctionName="f", Timeout=5)
        until(lambda: client.get_function_configuration(FunctionName="f")["LastUpdateStatus"] == "Successful", "updated")
        active(client, "f")
        assert invoke(client, "f", 3)[1] == 3
    finally:
        cluster.stop()
