"""A function whose state lives outside: in a real PostgreSQL and a real S3 server, across network namespaces."""

import importlib.metadata
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import pytest
from harness import Cluster, create, invoke, until
from namespaces import inside, linked, run

POSTGRES = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))), None)
JUICEFS = pathlib.Path(sys.executable).parent / "juicefs"
SECRET = "a-secret-of-the-test"

APP = """
import os
import boto3, pg8000.native
database = None
def handler(event, context):
    global database
    if event["do"] == "count":
        # Kept between invocations, as one would.
        if database is None:
            database = pg8000.native.Connection("app", host="192.0.2.2", password=os.environ["SECRET"], database="postgres")
            database.run("CREATE TABLE IF NOT EXISTS hits (who text)")
        database.run("INSERT INTO hits VALUES (:who)", who=event["who"])
        return {"hits": database.run("SELECT count(*) FROM hits")[0][0], "backend": database.run("SELECT pg_backend_pid()")[0][0]}
    s3 = boto3.client("s3", endpoint_url="http://192.0.2.2:9000", aws_access_key_id="admin",
                      aws_secret_access_key=os.environ["SECRET"], region_name="us-east-1")
    if event["do"] == "put":
        s3.put_object(Bucket="state", Key=event["key"], Body=event["body"].encode() * event["times"])
        return None
    return len(s3.get_object(Bucket="state", Key=event["key"])["Body"].read())
"""


def package():
    """The function with its driver, which PyPI has in pure Python."""
    files = {"app.py": APP}
    for name in ("pg8000", "scramp", "asn1crypto", "python-dateutil", "six"):
        installed = importlib.metadata.files(name)
        files.update({str(file): file.read_binary() for file in installed if file.suffix != ".pyc"})
    return files


def listens(port):
    with socket.create_connection(("192.0.2.2", port), timeout=1):
        return True


def postgres(directory):
    """A running server that anybody with the password may use."""
    data = directory / "data"
    directory.chmod(0o755)
    data.mkdir()
    password = directory / "password"
    password.write_text(SECRET)
    run("chown", "-R", "postgres", str(directory))
    as_postgres = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    run(*as_postgres, str(POSTGRES / "initdb"), "-D", str(data), "-U", "app", "--pwfile", str(password), "-A", "scram-sha-256", "-N")
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 192.0.2.0/24 scram-sha-256\n")
    log = open(directory / "log", "wb")
    command = [*as_postgres, str(POSTGRES / "postgres"), "-D", str(data), "-h", "192.0.2.2", "-k", str(data), "-c", "fsync=off"]
    return subprocess.Popen(command, stdout=log, stderr=log)


def s3(directory):
    """A running S3 server with the bucket `state`."""
    environment = {**os.environ, "MINIO_ROOT_USER": "admin", "MINIO_ROOT_PASSWORD": SECRET, "HOME": str(directory)}
    meta = f"sqlite3://{directory}/meta.db"
    subprocess.run([JUICEFS, "format", "--storage", "file", "--bucket", f"{directory}/blocks/", meta, "state"],
                   check=True, capture_output=True, env=environment)
    log = open(directory / "s3.log", "wb")
    command = [JUICEFS, "gateway", "--multi-buckets", "--no-usage-report", "--cache-dir", f"{directory}/cache", meta, "192.0.2.2:9000"]
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    assert POSTGRES and JUICEFS.exists(), "PostgreSQL or the S3 server is not here: make test installs them"
    directory = tmp_path_factory.mktemp("outside")
    servers = []
    # PostgreSQL refuses to be root, and pytest's directories let nobody else in.
    with tempfile.TemporaryDirectory(prefix="hearth-postgres-") as home, linked("out") as (machine, outside):
        try:
            (directory / "s3").mkdir()
            with inside(outside):
                servers.append(postgres(pathlib.Path(home)))
                servers.append(s3(directory / "s3"))
                until(lambda: listens(5432) and listens(9000), "PostgreSQL and S3 listen")
            with inside(machine):
                cluster = Cluster(directory / "cluster", network="egress").start()
                try:
                    client = cluster.client()
                    variables = {"Variables": {"SECRET": SECRET}}
                    create(client, "f", package(), Timeout=30, MemorySize=512, Environment=variables)
                    make_bucket()

                    def call(**event):
                        answer, got = invoke(client, "f", event)
                        assert "FunctionError" not in answer, got
                        return got

                    yield call
                finally:
                    cluster.stop()
        finally:
            for server in servers:
                # The S3 server does not always hear a SIGTERM.
                server.kill()
                server.wait()


def make_bucket():
    import boto3

    s3 = boto3.client("s3", endpoint_url="http://192.0.2.2:9000", aws_access_key_id="admin",
                      aws_secret_access_key=SECRET, region_name="us-east-1")
    until(lambda: s3.create_bucket(Bucket="state"), "the bucket")


def test_a_connection_to_postgresql_is_kept_between_invocations(call):
    first = call(do="count", who="a")
    second = call(do="count", who="b")
    assert (first["hits"], second["hits"]) == (1, 2)
    assert first["backend"] == second["backend"], "the connection outlives the freeze"


def test_objects_are_written_to_s3_and_read_back(call):
    call(do="put", key="dir/x", body="0123456789", times=300_000)
    assert call(do="get", key="dir/x") == 3_000_000
