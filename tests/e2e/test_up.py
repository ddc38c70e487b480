"""What `hearth` says on the command line when something is not as it must be."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

import pytest
from harness import HEARTH, RUNTIMES, Cluster, create, invoke, until


def hearth(*words, timeout=60, **kwargs):
    return subprocess.run([str(HEARTH), *map(str, words)], capture_output=True, text=True, timeout=timeout, **kwargs)


def refused(done, *texts):
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(("hearth: ", "error: ")) or "error:" in done.stderr, done.stderr
    for text in texts:
        assert text in done.stderr, done.stderr
    assert "panicked" not in done.stderr


def test_help_teaches():
    text = hearth("--help").stdout
    for word in ("up", "controller", "worker", "gateway", "runtime", "status"):
        assert word in text
    assert "127.0.0.1:9100" in hearth("up", "--help").stdout


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(hearth("up", "--data-dir", tmp_path, "--listen", f"127.0.0.1:{port}"), f"127.0.0.1:{port}", "in use")


def test_two_controllers_are_refused(tmp_path):
    refused(hearth("up", "--data-dir", tmp_path, "--listen", "127.0.0.1:0", "--controllers", "2"), "1, 3 or 5")


def test_auth_any_is_for_loopback_only(tmp_path):
    refused(hearth("up", "--data-dir", tmp_path, "--listen", "0.0.0.0:0", "--auth", "any"), "loopback")


def test_an_unknown_key_in_a_config_file_is_refused(tmp_path):
    for role in ("controller", "worker", "gateway"):
        sample = hearth(role, "--sample")
        assert sample.returncode == 0 and "#" in sample.stdout
        file = tmp_path / f"{role}.toml"
        file.write_text("colour = 'blue'\n")
        refused(hearth(role, "--config", file), "colour")


def test_a_missing_config_file_is_named(tmp_path):
    refused(hearth("worker", "--config", tmp_path / "none.toml"), "none.toml")


def test_without_root_it_says_what_is_needed():
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        binary = pathlib.Path(directory) / "hearth"
        shutil.copy(HEARTH, binary)
        binary.chmod(0o755)
        done = subprocess.run(
            ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", str(binary), "up", "--data-dir",
             f"{directory}/d", "--listen", "127.0.0.1:0", "--runtimes-dir", str(RUNTIMES)],
            capture_output=True, text=True, timeout=60,
        )
    refused(done, "root")


def test_the_data_dir_of_another_cluster_is_refused(tmp_path):
    for one in ("a", "b"):
        cluster = Cluster(tmp_path / one).start()
        cluster.stop()
    data = tmp_path / "a" / "data"
    controller = next(p for p in data.iterdir() if p.is_dir() and p.name.startswith("controller"))
    shutil.rmtree(controller)
    shutil.copytree(tmp_path / "b" / "data" / controller.name, controller)
    done = hearth("up", "--data-dir", data, "--listen", "127.0.0.1:0", "--runtimes-dir", RUNTIMES)
    refused(done, "belongs to cluster")


def test_a_data_dir_is_used_by_one_cluster_at_a_time(tmp_path):
    cluster = Cluster(tmp_path).start()
    try:
        refused(hearth("up", "--data-dir", tmp_path / "data", "--listen", "127.0.0.1:0", "--runtimes-dir", RUNTIMES), "in use")
    finally:
        cluster.stop()


def test_auth_any_takes_every_credential_and_twelve_digits_are_the_account(tmp_path):
    import boto3

    cluster = Cluster(tmp_path, extra=["--auth", "any"]).start()
    try:
        def client(key):
            return boto3.client("lambda", endpoint_url=cluster.info["endpoint"], region_name="us-east-1",
                                aws_access_key_id=key, aws_secret_access_key="anything")

        mine, theirs = client("111122223333"), client("test")
        made = create(mine, "f", {"app.py": "def handler(e, c):\n    return c.invoked_function_arn\n"})
        assert ":111122223333:" in made["FunctionArn"]
        assert invoke(mine, "f", 1)[1] == made["FunctionArn"]
        assert theirs.list_functions()["Functions"] == []
        with pytest.raises(theirs.exceptions.ResourceNotFoundException):
            theirs.invoke(FunctionName="f")
    finally:
        cluster.stop()


def test_a_single_process_comes_back_with_its_functions(tmp_path):
    cluster = Cluster(tmp_path).start()
    assert len({node["pid"] for node in cluster.info["nodes"]}) == 1
    create(cluster.client(), "f", {"app.py": "def handler(e, c):\n    return e\n"})
    cluster.kill_everything()
    cluster.start()
    try:
        assert invoke(cluster.client(), "f", 3)[1] == 3
        status = hearth("status", "--data-dir", tmp_path / "data")
        assert status.returncode == 0 and "worker" in status.stdout, status
    finally:
        cluster.stop()


def test_a_runtime_that_is_not_there_is_told(tmp_path):
    done = hearth("runtime", "install", "cobol85", "--runtimes-dir", tmp_path)
    refused(done, "cobol85", "python3.11")
    assert "python3.11" in hearth("runtime", "list", "--runtimes-dir", RUNTIMES).stdout


def test_a_cluster_without_the_runtime_says_what_to_do(tmp_path):
    empty = tmp_path / "runtimes"
    empty.mkdir()
    cluster = Cluster(tmp_path / "c", extra=["--runtimes-dir", str(empty)])
    command = cluster.command
    cluster.command = lambda: [w for i, w in enumerate(command()) if not (
        w == "--runtimes-dir" and command()[i + 1] == str(RUNTIMES)) and w != str(RUNTIMES)]
    cluster.start()
    try:
        client = cluster.client()
        create(client, "f", {"app.py": "x"}, wait=False)
        failed = until(lambda: (d := client.get_function_configuration(FunctionName="f"))["State"] == "Failed" and d, "Failed")
        assert "hearth runtime install python3.11" in failed["StateReason"], failed
    finally:
        cluster.stop()


class WithoutCgroups(Cluster):
    """`hearth up` in a mount namespace without any cgroup mount; the host's own mounts stay as they are."""

    def command(self):
        hide = ("awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts | tac | while read -r m; do umount \"$m\" || exit 9; done; "
                "! grep -qE ' cgroup2? ' /proc/mounts && exec \"$@\"")
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", hide, "sh", *super().command()]


def test_a_host_without_cgroups_is_told_in_one_line_unless_allowed(tmp_path):
    refusing = WithoutCgroups(tmp_path / "refused")
    done = subprocess.run(refusing.command(), capture_output=True, text=True, timeout=60)
    refused(done, "cgroup")
    told = [line for line in done.stderr.splitlines() if line.startswith(("hearth: ", "error: "))]
    assert len(told) == 1 and "--allow-no-cgroups" in told[0], done.stderr

    allowed = WithoutCgroups(tmp_path / "allowed", extra=["--allow-no-cgroups"]).start()
    try:
        create(allowed.client(), "f", {"app.py": "def handler(e, c):\n    return e\n"})
        assert invoke(allowed.client(), "f", 7)[1] == 7
        assert "WITHOUT memory, process and CPU limits" in allowed.output()
    finally:
        allowed.stop()
