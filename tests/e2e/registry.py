"""Debian's docker-registry on loopback, images built by umoci and pushed by skopeo: nothing of it is ours."""

import base64
import crypt
import http.server
import io
import json
import pathlib
import re
import subprocess
import tarfile
import threading
import time
import urllib.parse
import urllib.request
import uuid

from harness import until

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=120, **more)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


class Registry:
    """One `docker-registry`. `auth` is its table of that name, as YAML in one line; `tls` signs its certificate."""

    def __init__(self, directory, auth="{}", credentials=None, tls=None):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True)
        self.credentials = credentials
        tls = f", tls: {{certificate: {self.dir}/tls.pem, key: {tls.sign(self.dir / 'tls')}}}" if tls else ""
        (self.dir / "registry.yml").write_text(
            "version: 0.1\nlog: {level: info}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.dir}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '127.0.0.1:0'{tls}}}\nauth: {auth}\n")
        self.log = open(self.dir / "log", "wb")
        self.process = subprocess.Popen(["docker-registry", "serve", self.dir / "registry.yml"],
                                        stdout=self.log, stderr=self.log)
        found = until(lambda: re.search(r"listening on (127\.0\.0\.1:\d+)", self.text()), "the registry listens")
        self.host = found.group(1)

    def text(self):
        return (self.dir / "log").read_text(errors="replace")

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()

    def blob(self, digest):
        """The file of a blob."""
        hexadecimal = digest.removeprefix("sha256:")
        return self.dir / "data/docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"

    def fetches(self, digest):
        """How often a blob was given."""
        return len(re.findall(rf'"GET /v2/[^ ]+/blobs/{digest} HTTP/1.1" 200', self.text()))

    def manifest(self, name):
        """The manifest of `repository:tag` and its digest."""
        repository, tag = name.split(":")
        request = urllib.request.Request(f"http://{self.host}/v2/{repository}/manifests/{tag}",
                                         headers={"Accept": f"{INDEX}, {MANIFEST}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer), answer.headers["Docker-Content-Digest"]

    def put_manifest(self, name, document, media_type):
        repository, tag = name.split(":")
        request = urllib.request.Request(f"http://{self.host}/v2/{repository}/manifests/{tag}", method="PUT",
                                         data=json.dumps(document).encode(), headers={"Content-Type": media_type})
        urllib.request.urlopen(request, timeout=10).read()
        return f"{self.host}/{name}"


class Authority:
    """A CA of somebody's own."""

    def __init__(self, file):
        self.certificate, self.key = file.with_suffix(".pem"), file.with_suffix(".key")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={file.name}", "-addext", "keyUsage=critical,keyCertSign", "-keyout", self.key, "-out", self.certificate)

    def sign(self, file, host="IP:127.0.0.1"):
        """Makes `file`.pem for a server of this name; the path of its key."""
        key, extensions = file.with_suffix(".key"), file.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={host}\nextendedKeyUsage=serverAuth\n")
        request = run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=registry",
                      "-keyout", key)
        run("openssl", "x509", "-req", "-days", "2", "-CA", self.certificate, "-CAkey", self.key, "-set_serial", "1",
            "-extfile", extensions, "-out", file.with_suffix(".pem"), input=request)
        return key


def htpasswd(directory, name, password):
    """The `auth` of a registry that wants this name and password."""
    file = pathlib.Path(directory) / "htpasswd"
    file.write_text(f"{name}:{crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))}\n")
    return f"{{htpasswd: {{realm: here, path: {file}}}}}"


class TokenServer:
    """Gives tokens for one name and password, as "Token Authentication Specification" of the registry says."""

    def __init__(self, directory, name, password):
        directory = pathlib.Path(directory)
        self.key, self.certificate = directory / "token.key", directory / "token.pem"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tokens", "-days", "2",
            "-keyout", self.key, "-out", self.certificate)
        self.wanted = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                given = self.headers.get("Authorization") == owner.wanted
                query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
                body = json.dumps({"token": owner.token(query)} if given else {}).encode()
                self.send_response(200 if given else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def auth(self):
        return (f"{{token: {{realm: 'http://{self.host}/token', service: here, issuer: tokens, "
                f"rootcertbundle: {self.certificate}}}}}")

    def token(self, query):
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        certificate = "".join(self.certificate.read_text().splitlines()[1:-1])
        parts = ({"typ": "JWT", "alg": "RS256", "x5c": [certificate]},
                 {"iss": "tokens", "aud": query["service"][0], "sub": "", "iat": now, "nbf": now - 60, "exp": now + 300,
                  "jti": uuid.uuid4().hex, "access": access})
        text = b".".join(unpadded(json.dumps(part).encode()) for part in parts)
        signature = run("openssl", "dgst", "-sha256", "-sign", self.key, input=text)
        return (text + b"." + unpadded(signature)).decode()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def unpadded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def layer(files):
    """A tar of {path: text, bytes, None for a directory, or ("link", target)}; scripts and programs are executable."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.mtime, info.mode = 1_700_000_000, 0o644
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            elif isinstance(content, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, content[1]
                tar.addfile(info)
            else:
                data = content.encode() if isinstance(content, str) else content
                info.size = len(data)
                if data[:2] == b"#!" or data[:4] == b"\x7fELF":
                    info.mode = 0o755
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Builder:
    """An OCI layout in a directory."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.layout = self.dir / "layout"
        run("umoci", "init", "--layout", self.layout)

    def build(self, tag, *layers, base=None, architecture=None, entrypoint=(), cmd=(), env=(), workdir=""):
        """An image of layers (tars, or the path of one) over those of another."""
        if base is None:
            run("umoci", "new", "--image", f"{self.layout}:{tag}")
        else:
            run("umoci", "tag", "--image", f"{self.layout}:{base}", tag)
        for data in layers:
            file = data
            if isinstance(data, bytes):
                file = self.dir / "layer.tar"
                file.write_bytes(data)
            run("umoci", "raw", "add-layer", "--image", f"{self.layout}:{tag}", file)
        options = [*(f"--config.entrypoint={word}" for word in entrypoint), *(f"--config.cmd={word}" for word in cmd),
                   *(f"--config.env={one}" for one in env)]
        if workdir:
            options.append(f"--config.workingdir={workdir}")
        if architecture:
            options.append(f"--architecture={architecture}")
        if options:
            run("umoci", "config", "--image", f"{self.layout}:{tag}", *options)
        return tag

    def push(self, registry, tag, name):
        """Pushes to `repository:tag`; the reference."""
        credentials = ["--dest-creds", registry.credentials] if registry.credentials else []
        run("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", *credentials,
            f"oci:{self.layout}:{tag}", f"docker://{registry.host}/{name}")
        return f"{registry.host}/{name}"
