"""Functions of container images: a real registry, images of other people's tools, AWS's own client in them."""

import base64
import json
import os
import socket
import sys
import urllib.parse

import grpc
import pytest
from harness import BOOTSTRAP, ROLE, ROOT, RUNTIMES, Cluster, active, create, invoke, until, zipped
from registry import INDEX, MANIFEST, Authority, Builder, Registry, TokenServer, htpasswd, layer, run
from test_versions import refused

NAME, PASSWORD = "puller", "hush-3f9a"
INVALID = "InvalidParameterValueException"

APP = """
import os, sys
TAG = "{tag}"
def handler(event, context):
    found = dict(tag=TAG, pid=os.getpid(), cwd=os.getcwd(), uid=os.getuid(), version=context.function_version, argv=sys.argv[1:],
                 env={{k: os.environ.get(k) for k in (event or {{}}).get("env", [])}})
    for path in (event or {{}}).get("write", []):
        try:
            open(path, "w").close()
            found[path] = "written"
        except OSError as error:
            found[path] = os.strerror(error.errno)
    for path in (event or {{}}).get("list", []):
        found[path] = sorted(os.listdir(path)) if os.path.isdir(path) else None
    return found
def other(event, context):
    return ["other", os.getcwd()]
"""

# As AWS's base images have it.
ENTRY = """#!/bin/sh
if [ $# -ne 1 ]; then echo "entrypoint requires the handler name to be the first argument" >&2; exit 142; fi
export _HANDLER="$1"
if [ -z "$AWS_LAMBDA_RUNTIME_API" ]; then echo "no Runtime API" >&2; exit 1; fi
exec /var/runtime/bootstrap
"""
BOOT = '#!/bin/sh\nexec python3 -m awslambdaric "$_HANDLER"\n'


def app(tag):
    return layer({"function/app.py": APP.format(tag=tag)})


class Place:
    """Registries, images and a cluster that knows them."""

    def __init__(self, directory):
        self.dir = directory
        self.open = Registry(directory / "open")
        self.basic = Registry(directory / "basic", htpasswd(directory, NAME, PASSWORD), f"{NAME}:{PASSWORD}")
        self.tokens = TokenServer(directory, NAME, PASSWORD)
        self.token = Registry(directory / "token", self.tokens.auth(), f"{NAME}:{PASSWORD}")
        # Gateways may ask this one; workers have no password for it.
        self.closed = Registry(directory / "closed", htpasswd(directory, NAME, PASSWORD), f"{NAME}:{PASSWORD}")
        # Gateways know the CAs of the first two of these, workers that of the first.
        self.authorities = [Authority(directory / f"{whose}-ca") for whose in ("secure", "strange", "unknown")]
        self.secure, self.strange, self.unknown = [
            Registry(directory / by.certificate.stem.removesuffix("-ca"), tls=by) for by in self.authorities]
        self.builder = Builder(directory)
        self.build_base()
        self.cluster = Cluster(directory / "cluster", extra=["--options", str(self.options())]).start()
        self.client = self.cluster.client()

    def build_base(self):
        """Debian's Python and the client that AWS publishes, installed by pip."""
        root = RUNTIMES / "python3.11" / "root"
        run("tar", "-C", root, "--exclude=./var/runtime", "-cf", self.dir / "base.tar", ".")
        site = self.dir / "client/usr/local/lib/python3.11/dist-packages"
        run(ROOT / ".venv/bin/pip", "install", "-q", "--disable-pip-version-check", "--target", site, "awslambdaric==4.2.2")
        run("tar", "-C", self.dir / "client", "-cf", self.dir / "client.tar", ".")
        python = layer({"usr/bin/python3": ("link", "python3.11")})
        self.builder.build("base", self.dir / "base.tar", self.dir / "client.tar", python, env=["LANG=C.UTF-8", "FROM_IMAGE=yes"])
        self.builder.build("python", app("one"), base="base", entrypoint=["python3", "-m", "awslambdaric"],
                           cmd=["app.handler"], workdir="/function")

    def options(self):
        hosts = [r.host for r in (self.open, self.basic, self.token, self.closed)]
        tables = ""
        for role, with_password, known in (("gateway", hosts[1:], 2), ("worker", hosts[1:3], 1)):
            ca = self.dir / f"{role}-ca.pem"
            ca.write_text("".join(authority.certificate.read_text() for authority in self.authorities[:known]))
            secret = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
            file = self.dir / f"{role}.json"
            file.write_text(json.dumps({"auths": {host: {"auth": secret} for host in with_password}}))
            plain = json.dumps([*hosts, self.tokens.host, "127.0.0.1:1"])
            tables += f'[{role}.registries]\nplain_http = {plain}\ncredentials = "{file}"\nca = "{ca}"\ntimeout = "5s"\n'
        file = self.dir / "options.toml"
        file.write_text(tables + '[worker.oci.runc]\nprogram = "/usr/sbin/runc"\n')
        return file

    def push(self, tag, name, registry=None):
        return self.builder.push(registry or self.open, tag, name)

    def create(self, name, uri, wait=True, **members):
        answer = self.client.create_function(FunctionName=name, PackageType="Image", Role=ROLE, Code={"ImageUri": uri},
                                             MemorySize=256, Timeout=20, **members)
        if wait:
            active(self.client, name)
        return answer

    def refusal(self, uri):
        return refused(self.create, name="never", uri=uri, wait=False)

    def failure(self, name, uri):
        """Reason code and text of a function that cannot be made."""
        self.create(name, uri, wait=False)

        def failed():
            document = self.client.get_function_configuration(FunctionName=name)
            assert document["State"] != "Active", document
            return document["State"] == "Failed" and document

        document = until(failed, f"{name} failed")
        return document["StateReasonCode"], document["StateReason"]

    def stop(self):
        self.cluster.stop()
        self.tokens.stop()
        for registry in (self.open, self.basic, self.token, self.closed, self.secure, self.strange, self.unknown):
            registry.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("images"))
    yield place
    place.stop()


def test_an_image_with_awss_client_is_run_and_shown_as_aws_shows_it(place, name):
    uri = place.push("python", "fn/python:one")
    made = place.create(name, uri, Environment={"Variables": {"MINE": "user"}})
    digest = place.open.manifest("fn/python:one")[1]
    assert (made["State"], made["PackageType"], made["CodeSize"]) == ("Pending", "Image", 0)
    assert made["CodeSha256"] == digest.removeprefix("sha256:")
    assert not made.keys() & {"Runtime", "Handler", "Layers", "ImageConfigResponse", "RuntimeVersionConfig"}
    shown = place.client.get_function(FunctionName=name)
    assert shown["Code"] == {"RepositoryType": "ECR", "ImageUri": uri,
                             "ResolvedImageUri": f"{place.open.host}/fn/python@{digest}"}
    asked = ["AWS_LAMBDA_FUNCTION_NAME", "FROM_IMAGE", "MINE", "_HANDLER", "AWS_LAMBDA_RUNTIME_API"]
    answer, got = invoke(place.client, name, {"env": asked, "write": ["/function/new", "/etc/new", "/tmp/new"]}, LogType="Tail")
    assert "FunctionError" not in answer, got
    assert got["env"] == {"AWS_LAMBDA_FUNCTION_NAME": name, "FROM_IMAGE": "yes", "MINE": "user", "_HANDLER": None,
                          "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}
    assert (got["tag"], got["cwd"], got["uid"], got["version"]) == ("one", "/function", 993, "$LATEST")
    read_only = "Read-only file system"
    assert (got["/function/new"], got["/etc/new"], got["/tmp/new"]) == (read_only, read_only, "written")
    assert f"REPORT RequestId: {answer['ResponseMetadata']['RequestId']}" in answer["Log"]


def test_an_entry_point_as_awss_base_images_have_it_and_what_overrides_it(place, name):
    files = {"lambda-entrypoint.sh": ENTRY, "var/runtime/bootstrap": BOOT, "var/task": None}
    place.builder.build("aws-like", layer(files), app("aws"), base="base", entrypoint=["/lambda-entrypoint.sh"],
                        cmd=["app.handler"], workdir="/function")
    place.create(name, place.push("aws-like", "fn/aws:1"))
    assert invoke(place.client, name, {"env": ["_HANDLER"]})[1]["env"] == {"_HANDLER": "app.handler"}

    def update(config):
        answer = place.client.update_function_configuration(FunctionName=name, ImageConfig=config)
        active(place.client, name)
        return answer.get("ImageConfigResponse")

    config = {"Command": ["function.app.other"], "WorkingDirectory": "/"}
    assert update(config) == {"ImageConfig": config}
    assert invoke(place.client, name)[1] == ["other", "/"]
    config = {"EntryPoint": ["python3", "-m", "awslambdaric"], "Command": ["app.handler"]}
    assert update(config) == {"ImageConfig": config}
    got = invoke(place.client, name, {"env": ["_HANDLER"]})[1]
    assert (got["env"], got["argv"][-1:], got["cwd"]) == ({"_HANDLER": None}, ["app.handler"], "/function")
    assert update({}) is None
    assert invoke(place.client, name)[1]["tag"] == "aws"


def test_an_image_of_one_static_program_needs_nothing_else(place, name):
    place.builder.build("static", layer({"bootstrap": BOOTSTRAP.read_bytes()}), entrypoint=["/bootstrap"])
    place.create(name, place.push("static", "fn/static:1"))
    assert invoke(place.client, name, {"n": 1})[1]["event"] == {"n": 1}


def test_a_function_stays_with_the_image_it_was_given_until_it_is_updated(place, name):
    place.builder.build("first", app("first"), base="python")
    place.builder.build("second", app("second"), base="python")
    uri = place.push("first", "fn/moving:1")
    place.create(name, uri, Publish=True)
    place.push("second", "fn/moving:1")
    place.client.update_function_configuration(FunctionName=name, Timeout=19)
    active(place.client, name)
    assert invoke(place.client, name)[1]["tag"] == "first", "the tag leads elsewhere, the function does not"
    dry = place.client.update_function_code(FunctionName=name, ImageUri=uri, DryRun=True)
    updated = place.client.update_function_code(FunctionName=name, ImageUri=uri)
    digest = place.open.manifest("fn/moving:1")[1].removeprefix("sha256:")
    assert dry["CodeSha256"] == updated["CodeSha256"] == digest
    active(place.client, name)
    assert invoke(place.client, name)[1]["tag"] == "second"
    assert invoke(place.client, name, Qualifier="1")[1]["tag"] == "first"
    assert place.client.get_function(FunctionName=name, Qualifier="1")["Code"]["ResolvedImageUri"] != \
        place.client.get_function(FunctionName=name)["Code"]["ResolvedImageUri"]
    published = place.client.publish_version(FunctionName=name, CodeSha256=digest)
    assert published["CodeSha256"] == digest


def test_what_later_layers_take_away_is_gone(place, name):
    below = layer({"data/kept": "1", "data/gone": "1", "data/dir/in": "1", "whole/a": "1", "whole/b": "1", "was/file": "1"})
    middle = layer({"data/.wh.gone": "", "data/.wh.dir": "", "whole/.wh..wh..opq": "", "whole/new": "2", ".wh.was": ""})
    above = layer({"data/dir/again": "3", "link": ("link", "/data")})
    place.builder.build("white", below, middle, above, base="python")
    place.create(name, place.push("white", "fn/white:1"))
    got = invoke(place.client, name, {"list": ["/data", "/data/dir", "/whole", "/was", "/link"]})[1]
    assert got["/data"] == got["/link"] == ["dir", "kept"]
    assert (got["/data/dir"], got["/whole"], got["/was"]) == (["again"], ["new"], None)


def test_layers_are_fetched_once_and_are_on_disk_once_for_all_functions(place, name):
    place.builder.build("left", app("left"), base="python")
    place.builder.build("right", app("right"), base="python")
    uris = [place.push(tag, f"fn/{tag}:1") for tag in ("left", "right")]
    for at, uri in enumerate(uris):
        place.create(f"{name}-{at}", uri)
        assert invoke(place.client, f"{name}-{at}")[1]["tag"] == ("left", "right")[at]
    base = place.open.manifest("fn/left:1")[0]["layers"][0]["digest"]
    assert place.open.fetches(base) == 1, "by whichever function was first"
    (code,) = (place.cluster.data_dir / "data").glob("worker-*/code")
    roots = [path / "root" for path in code.glob("image-*")]
    pythons = {os.stat(root / "usr/bin/python3.11").st_ino for root in roots if (root / "usr/bin/python3.11").exists()}
    assert len(roots) >= 2 and len(pythons) == 1


@pytest.mark.parametrize("which", ["basic", "token"])
def test_a_registry_that_wants_a_password_gets_it(place, name, which):
    registry = getattr(place, which)
    place.builder.build("secret", layer({"bootstrap": BOOTSTRAP.read_bytes()}), cmd=["/bootstrap"])
    place.create(name, place.push("secret", "private/fn:1", registry))
    assert invoke(place.client, name, {"n": 2})[1]["event"] == {"n": 2}
    secret = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
    for text in (PASSWORD, secret):
        assert text not in place.cluster.output(), "no log shows it"


def test_over_tls_a_registry_must_show_a_certificate_of_a_known_ca(place, name):
    place.builder.build("tls", layer({"bootstrap": BOOTSTRAP.read_bytes(), "t": "1"}), cmd=["/bootstrap"])
    place.create(name, place.push("tls", "private/fn:1", place.secure))
    assert invoke(place.client, name, {"n": 5})[1]["event"] == {"n": 5}
    # A CA that the gateway knows and the worker does not: found when it is pulled.
    place.builder.build("tls-2", layer({"bootstrap": BOOTSTRAP.read_bytes(), "t": "2"}), cmd=["/bootstrap"])
    code, text = place.failure(f"{name}-2", place.push("tls-2", "private/fn:1", place.strange))
    assert code == "InternalError" and "invalid peer certificate: UnknownIssuer" in text and "registries.ca" in text, text
    # One that nobody knows: found when it is resolved.
    status, code, text = place.refusal(place.push("tls", "private/fn:1", place.unknown))
    assert (status, code) == (400, INVALID) and "UnknownIssuer" in text and "registries.ca" in text, text


def test_an_oci_runtime_runs_an_image_where_the_tag_asks_for_it(place, name):
    uri = place.push("python", "fn/runc:1")
    place.create(name, uri, Tags={"hearth:sandbox": "runc"})
    answer, got = invoke(place.client, name, {"env": ["FROM_IMAGE"], "write": ["/function/new", "/etc/new", "/tmp/new"]})
    assert "FunctionError" not in answer, got
    assert got["pid"] == 1, "the native driver has an init before it"
    assert (got["tag"], got["cwd"], got["uid"], got["env"]) == ("one", "/function", 993, {"FROM_IMAGE": "yes"})
    assert (got["/function/new"], got["/etc/new"], got["/tmp/new"]) == ("Read-only file system",) * 2 + ("written",)
    place.create(f"{name}-2", uri, Tags={"hearth:sandbox": "runc"}, ImageConfig={"EntryPoint": ["/nowhere"]})
    assert invoke(place.client, f"{name}-2")[1]["errorType"] == "Runtime.InvalidEntrypoint"


def test_images_are_made_and_updated_over_grpc(place, name):
    sys.path.insert(0, str(ROOT / "proto/proto"))
    messages, services = grpc.protos_and_services("hearth/v1/functions.proto")
    env = place.cluster.env()
    keys = f"{env['AWS_ACCESS_KEY_ID']}:{env['AWS_SECRET_ACCESS_KEY']}"
    auth = [("authorization", "Basic " + base64.b64encode(keys.encode()).decode())]
    stub = services.FunctionsStub(grpc.insecure_channel(urllib.parse.urlparse(env["AWS_ENDPOINT_URL"]).netloc))
    call = lambda what, **members: getattr(stub, what)(
        getattr(messages, what + "Request")(name=name, **members), metadata=auth, timeout=30)
    place.builder.build("remote", app("remote"), base="python")
    uri, other = place.push("python", "fn/grpc:1"), place.push("remote", "fn/grpc:2")
    config = messages.ImageConfig(command=["app.other"], working_directory="/function")
    made = call("CreateFunction", role=ROLE, image_uri=uri, image_config=config, memory_mib=256, timeout_s=20)
    assert (made.package_type, made.runtime, made.image_config) == ("Image", "", config)
    active(place.client, name)
    assert invoke(place.client, name)[1] == ["other", "/function"]
    shown = call("GetFunction")
    assert (shown.image_uri, shown.resolved_image_uri) == (uri, f"{place.open.host}/fn/grpc@{place.open.manifest('fn/grpc:1')[1]}")
    call("UpdateFunctionConfiguration", image_config=messages.ImageConfig())
    active(place.client, name)
    call("UpdateFunctionCode", image_uri=other)
    active(place.client, name)
    assert invoke(place.client, name)[1]["tag"] == "remote"
    with pytest.raises(grpc.RpcError) as error:
        call("UpdateFunctionCode", zip_file=zipped({"app.py": "x"}))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "Please provide ImageUri" in error.value.details()


def test_what_cannot_be_resolved_is_refused_when_the_function_is_made(place):
    host = place.open.host
    place.builder.build("small", layer({"bootstrap": BOOTSTRAP.read_bytes()}), entrypoint=["/bootstrap"])
    place.builder.build("arm", layer({"x": "1"}), architecture="arm64", entrypoint=["/x"])
    place.push("small", "bad/small:1")
    missing = f"{host}/bad/none:1"
    assert place.refusal(missing) == (400, INVALID, f"Source image {missing} does not exist. Provide a valid source image.")
    assert place.refusal(f"{host}/bad/small:2")[2].endswith("does not exist. Provide a valid source image.")
    status, code, text = place.refusal("python:3.11")
    assert (status, code) == (400, INVALID) and text.startswith("Source image python:3.11 is not valid. Provide a valid")
    status, code, text = place.refusal("127.0.0.1:1/fn:1")
    assert (status, code) == (400, INVALID) and "127.0.0.1:1 cannot be asked for images: Connection refused" in text
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        unknown = f"127.0.0.1:{other.getsockname()[1]}/fn:1"
        assert "cannot be asked for images" in place.refusal(unknown)[2], "over TLS, as plain HTTP is not allowed"
    unsupported = "The image manifest, config or layer media type for the source image {} is not supported."
    arm = place.push("arm", "bad/arm:1")
    manifest, digest = place.open.manifest("bad/small:1")
    descriptor = {"mediaType": MANIFEST, "digest": digest, "size": place.open.blob(digest).stat().st_size}
    other = {**descriptor, "platform": {"os": "linux", "architecture": "arm64"}}
    index = place.open.put_manifest("bad/small:arm", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [other]}, INDEX)
    zstd = {**manifest, "mediaType": MANIFEST}
    zstd["layers"] = [{**manifest["layers"][0], "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"}]
    zstd = place.open.put_manifest("bad/small:zstd", zstd, MANIFEST)
    for uri, detail in ((arm, "only for linux/arm64"), (index, "only for linux/arm64"), (zstd, "tar+zstd")):
        status, code, text = place.refusal(uri)
        assert (status, code) == (400, INVALID) and text.startswith(unsupported.format(uri)) and detail in text
    lying = place.push("small", "lying/small:1")
    file = place.open.blob(digest)
    whole = file.read_bytes()
    try:
        file.write_bytes(whole.replace(b'"schemaVersion":2', b'"schemaVersion": 2'))
        assert "with other content than its digest says" in place.refusal(lying)[2]
        file.write_bytes(b"{")
        assert place.refusal(lying)[:2] == (400, INVALID)
    finally:
        file.write_bytes(whole)


def test_of_an_index_the_image_for_this_platform_is_taken(place, name):
    place.builder.build("indexed", layer({"bootstrap": BOOTSTRAP.read_bytes(), "i": "1"}), entrypoint=["/bootstrap"])
    place.push("indexed", "fn/index:amd64")
    digest = place.open.manifest("fn/index:amd64")[1]
    size = place.open.blob(digest).stat().st_size
    images = [{"mediaType": MANIFEST, "digest": digest, "size": size, "platform": {"os": "linux", "architecture": arch}}
              for arch in ("arm64", "amd64")]
    uri = place.open.put_manifest("fn/index:all", {"schemaVersion": 2, "mediaType": INDEX, "manifests": images}, INDEX)
    made = place.create(name, uri)
    assert made["CodeSha256"] == digest.removeprefix("sha256:"), "the image, not the index"
    assert invoke(place.client, name, {"n": 3})[1]["event"] == {"n": 3}


def test_who_may_not_pull_is_told_so(place, name):
    place.builder.build("guarded", layer({"bootstrap": BOOTSTRAP.read_bytes()}), entrypoint=["/bootstrap"])
    uri = place.push("guarded", "private/fn:1", place.closed)
    code, text = place.failure(name, uri)
    assert code == "ImageAccessDenied" and "registries.credentials" in text
    status, code, text = refused(invoke, client=place.client, name=name)
    assert (status, code) == (409, "ResourceConflictException")
    file = place.dir / "gateway.json"
    whole = file.read_text()
    try:
        # Read at each pull: no restart.
        file.write_text("{}")
        status, code, text = place.refusal(uri)
        assert (status, code) == (403, "AccessDeniedException")
        assert text.startswith("Lambda does not have permission to access the ECR image. Check the ECR permissions.")
    finally:
        file.write_text(whole)


def layers_of(place, name, n=-1):
    return place.open.blob(place.open.manifest(name)[0]["layers"][n]["digest"])


def test_an_image_that_breaks_later_fails_the_function_with_awss_reason(place, name):
    for tag in ("deleted", "lying", "torn"):
        place.builder.build(tag, layer({"bootstrap": BOOTSTRAP.read_bytes(), tag: tag}), entrypoint=["/bootstrap"])
    deleted, lying = place.push("deleted", "late/deleted:1"), place.push("lying", "late/lying:1")
    layers_of(place, "late/deleted:1").unlink()
    code, text = place.failure(f"{name}-1", deleted)
    assert code == "ImageDeleted" and "does not exist in" in text
    file = layers_of(place, "late/lying:1")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    code, text = place.failure(f"{name}-2", lying)
    assert code == "InvalidImage" and "other content than its digest says" in text
    # A layer that is what the manifest says and no archive.
    place.push("torn", "late/torn:1")
    manifest = place.open.manifest("late/torn:1")[0]
    config = manifest["config"]
    manifest["mediaType"] = MANIFEST
    manifest["layers"] = [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **{k: config[k] for k in ("digest", "size")}}]
    torn = place.open.put_manifest("late/torn:2", manifest, MANIFEST)
    code, text = place.failure(f"{name}-3", torn)
    assert code == "InvalidImage" and "cannot be read as an archive" in text


def test_an_update_that_fails_leaves_what_was_there_serving(place, name):
    place.builder.build("good", layer({"bootstrap": BOOTSTRAP.read_bytes(), "g": "1"}), entrypoint=["/bootstrap"])
    place.builder.build("gone", layer({"bootstrap": BOOTSTRAP.read_bytes(), "g": "2"}), entrypoint=["/bootstrap"])
    place.create(name, place.push("good", "fn/update:1"))
    uri = place.push("gone", "fn/update:2")
    layers_of(place, "fn/update:2").unlink()
    place.client.update_function_code(FunctionName=name, ImageUri=uri)

    def failed():
        document = place.client.get_function_configuration(FunctionName=name)
        return document["LastUpdateStatus"] == "Failed" and document

    document = until(failed, "the update failed")
    assert (document["State"], document["LastUpdateStatusReasonCode"]) == ("Active", "ImageDeleted")
    assert invoke(place.client, name, {"n": 4})[1]["event"] == {"n": 4}


def test_what_does_not_go_with_an_image_is_refused_in_awss_words(place, name):
    place.builder.build("plain", layer({"bootstrap": BOOTSTRAP.read_bytes()}), entrypoint=["/bootstrap"])
    uri = place.push("plain", "fn/plain:1")
    never = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
    for members in ({"Runtime": "python3.11"}, {"Handler": "a.b"}, {"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:x:1"]}):
        assert refused(place.create, name=name, uri=uri, wait=False, **members) == (400, INVALID, never)
    client, image = place.client, {"FunctionName": name, "PackageType": "Image", "Role": ROLE}
    source = "Please provide a source for function code."
    assert refused(client.create_function, **image, Code={}) == (400, INVALID, source)
    place.create(name, uri)
    assert refused(client.update_function_configuration, FunctionName=name, Runtime="python3.11") == (400, INVALID, never)
    archive = zipped({"app.py": "x = 1"})
    assert refused(client.update_function_code, FunctionName=name, ZipFile=archive) == (
        400, INVALID, "Please provide ImageUri when updating a function with packageType Image.")
    zip_name = f"{name}-zip"
    create(client, zip_name, {"app.py": "def handler(e, c): return 1"})
    assert refused(client.update_function_code, FunctionName=zip_name, ImageUri=uri) == (
        400, INVALID, "Please don't provide ImageUri when updating a function with packageType Zip.")
    assert refused(client.update_function_configuration, FunctionName=zip_name, ImageConfig={"Command": ["x"]})[:2] == (400, INVALID)
    assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] < 10_000_000, "images are their registry's to store"


def test_a_program_or_directory_that_is_not_there_is_the_functions_fault(place, name):
    place.builder.build("lost", layer({"bootstrap": BOOTSTRAP.read_bytes(), "usr/bin/there": "#!/none"}), entrypoint=["/bootstrap"])
    uri = place.push("lost", "fn/lost:1")
    for at, (config, kind, text) in enumerate([
        ({"EntryPoint": ["/nowhere"]}, "Runtime.InvalidEntrypoint", "fork/exec /nowhere: no such file or directory"),
        ({"EntryPoint": ["nowhere"]}, "Runtime.InvalidEntrypoint", 'exec: "nowhere": executable file not found in $PATH'),
        ({"WorkingDirectory": "/nowhere"}, "Runtime.InvalidWorkingDir", "chdir /nowhere: no such file or directory"),
    ]):
        place.create(f"{name}-{at}", uri, ImageConfig=config)
        answer, got = invoke(place.client, f"{name}-{at}")
        assert (answer["FunctionError"], got["errorType"]) == ("Unhandled", kind)
        assert got["errorMessage"].endswith(f"Error: {text}")
