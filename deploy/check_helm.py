"""Checks the chart without a cluster; started by scripts/check-helm.

Each good set of values is linted, rendered and validated against Kubernetes' own schemas. Then the init container's script is run
for each pod, and every key of the TOML file it writes must be one that the role's sample names. Each bad set must be refused.
"""

import base64
import copy
import functools
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import kubernetes_validate
import yaml
from helm_python import Chart, HelmError
from helm_python import chart as helm

CHART = Path(__file__).parent / "helm"
ROOT = CHART.parent.parent
HEARTH = ROOT / "target/debug/hearth"
KUBERNETES = ["1.25", "1.31", "1.34"]
# Kinds of operators, which Kubernetes' schemas do not have.
FOREIGN = {"PodMonitor"}

GOOD = {
    "defaults": {},
    "one of each": {
        "controller": {"replicas": 1},
        "worker": {"replicas": 1, "hostDevices": False, "runtimes": {"install": [], "source": "hostPath"}},
        "gateway": {"replicas": 1},
        "networkPolicy": {"enabled": False},
        "tls": {"enabled": False},
    },
    "five controllers, everything on": {
        "nameOverride": "faas",
        "clusterId": "prod",
        "listenHost": "[::]",
        "image": {"repository": "registry.example.com/hearth", "tag": "v1"},
        "imagePullSecrets": [{"name": "registry"}],
        "credentials": {"existingSecret": "root"},
        "tls": {"caSecretName": "ca"},
        "telemetry": {"logFilter": 'info,hearth_worker="debug"', "otlpEndpoint": "http://otel:4317"},
        "serviceAccount": {"create": False, "name": "mine"},
        "controller": {
            "replicas": 5,
            "antiAffinity": "hard",
            "s3SecretName": "s3",
            "options": {
                "raft": {"snapshot_every": 10000, "request_timeout": "10s"},
                "accounts": {"concurrency": 5000},
                "workers": {"margin": "3s"},
                "blobs": {"store": "s3", "s3": {"bucket": "code", "endpoint": "http://minio:9000", "allow_http": True}},
            },
            "priorityClassName": "system-cluster-critical",
            "resources": {"requests": {"cpu": 1}, "limits": {"memory": "2Gi"}},
        },
        "worker": {
            "replicas": 4,
            "options": {"code_cache": "20GiB", "max_cold_starts": 8, "server": {"max_connections": 64}},
            "labels": {"zone": "a", "example.com/disk": "local"},
            "runtimes": {"install": [], "source": "existingClaim", "existingClaim": "runtimes"},
            "nodeSelector": {"hearth": "worker"},
            "tolerations": [{"key": "hearth", "operator": "Exists", "effect": "NoSchedule"}],
            "podAnnotations": {"a": "b"},
        },
        "gateway": {
            "options": {"max_requests": 2000, "queue_timeout": "1m"},
            "service": {"type": "LoadBalancer", "port": 80, "loadBalancerSourceRanges": ["10.0.0.0/8"]},
            "ingress": {"enabled": True, "className": "nginx", "host": "lambda.example.com", "tlsSecretName": "tls"},
        },
        "networkPolicy": {
            "gatewayFrom": [{"namespaceSelector": {}}],
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "a long name": {"fullnameOverride": "x" * 70},
}

# Values -> what the refusal must name.
BAD = [
    ({"controller": {"replicas": 2}}, "replicas"),
    ({"controller": {"replicas": 0}}, "replicas"),
    ({"worker": {"replcas": 2}}, "replcas"),
    ({"gateway": {"options": {"auth": "any"}}}, "auth"),
    ({"worker": {"options": {"node_id": 7}}}, "node_id"),
    ({"controller": {"options": {"workers": {"lease": "9s"}}}}, "lease"),
    ({"worker": {"options": {"tls": {"mode": "off"}}}}, "tls"),
    ({"controller": {"options": {"raft": None}}}, "null"),
    ({"accountId": 123456789012}, "accountId"),
    ({"workerLease": "soon"}, "workerLease"),
    ({"worker": {"runtimes": {"source": "existingClaim", "existingClaim": "x"}}}, "install must be []"),
    ({"worker": {"runtimes": {"source": "existingClaim", "install": []}}}, "existingClaim is needed"),
    ({"worker": {"onePerNode": False, "runtimes": {"source": "hostPath"}}}, "onePerNode"),
]


class Failure(Exception):
    """A check that did not hold."""


def expect(holds, problem):
    if not holds:
        raise Failure(problem)


@functools.cache
def sample(role):
    """The role's options with their defaults, as the executable prints them (`make check` builds it)."""
    run = subprocess.run([HEARTH, role, "--sample"], capture_output=True, text=True, check=True)
    # Options without a default, and tables of examples, are commented out; they are options all the same.
    known = tomllib.loads(re.sub(r"(?m)^# (\[[a-z_.]+\]|[a-z_]+ = .+)$", r"\1", run.stdout))
    expect(len(known) > 8, f"the sample of {role} has only {len(known)} keys")
    return known


# Tables whose keys are the user's.
FREE_TABLES = {"peers", "labels"}


def check_keys(known, found, path=""):
    """Every key found is known, and its value is of the known one's type."""
    for key, value in found.items():
        name = path + key
        expect(key in known, f"unknown option {name}")
        expect(type(value) is type(known[key]), f"option {name} is {value!r}, the sample has {known[key]!r}")
        if isinstance(value, dict) and key not in FREE_TABLES:
            check_keys(known[key], value, f"{name}.")


def render(values, release="demo", namespace="faas"):
    with Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name=release, namespace=namespace)
    documents = []
    for name, text in files.items():
        if name.endswith((".yaml", ".yml")):
            documents += [document for document in yaml.safe_load_all(text) if document]
    notes = next(text for name, text in files.items() if name.endswith("NOTES.txt"))
    expect("AWS_ENDPOINT_URL" in notes, "the notes do not say how to go on")
    return documents


def configured(config_map, role, pod, base):
    """The TOML file of a pod, written by the script that its init container runs."""
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        for name, text in config_map["data"].items():
            (directory / name).write_text(text)
        subprocess.run(
            ["sh", "configure.sh", f"{role}.toml", "out.toml"],
            cwd=directory, check=True, env={"PATH": os.environ["PATH"], "POD_NAME": pod, "NODE_ID_BASE": str(base)},
        )
        return tomllib.loads((directory / "out.toml").read_text())


def certified(config_map, role, pod, base, options, secret):
    """The pod's certificate, issued by the script and the executable that its init container runs, from the CA the chart made."""
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        (directory / "certify.sh").write_text(config_map["data"]["certify.sh"])
        (directory / "ca").mkdir()
        for name, text in secret["data"].items():
            (directory / "ca" / name).write_bytes(base64.b64decode(text))
        run = subprocess.run(
            ["sh", "certify.sh", role, "ca", "tls"], cwd=directory, capture_output=True, text=True,
            env={"PATH": f"{HEARTH.parent}:{os.environ['PATH']}", "POD_NAME": pod, "NODE_ID_BASE": str(base), "CLUSTER_ID": options["cluster_id"]},
        )
        expect(run.returncode == 0, f"{pod}: no certificate: {run.stderr}")
        name = f"hearth://{options['cluster_id']}/{role}/{options['node_id']}:"
        expect(run.stdout.startswith(name), f"{pod}: the certificate is another's: {run.stdout}")
        files = sorted(file.name for file in (directory / "tls").iterdir())
        expect(files == ["ca.pem", "node.pem"], f"{pod}: certify wrote {files}")


def check_role(documents, role):
    by_kind = lambda kind: [d for d in documents if d["kind"] == kind and d["metadata"]["labels"].get("app.kubernetes.io/component") == role]
    (config_map,), (stateful,) = by_kind("ConfigMap"), by_kind("StatefulSet")
    spec = stateful["spec"]["template"]["spec"]
    init = spec["initContainers"][0]
    base = next(int(e["value"]) for e in init["env"] if e["name"] == "NODE_ID_BASE")
    names = {m["metadata"]["name"]: m for m in by_kind("Service")}
    expect(stateful["spec"]["serviceName"] in names, f"{role}: no headless Service")
    # The pod's name and a hash of 10 characters must be label values.
    expect(len(stateful["metadata"]["name"]) <= 52, f"{role}: the name is too long")
    ports = {p["name"]: p["containerPort"] for p in spec["containers"][0]["ports"]}
    volumes = {v["name"] for v in spec.get("volumes", [])} | {c["metadata"]["name"] for c in stateful["spec"].get("volumeClaimTemplates", [])}
    for container in spec["initContainers"] + spec["containers"]:
        for mount in container.get("volumeMounts", []):
            expect(mount["name"] in volumes, f"{role}: volume {mount['name']} is not there")
    seen = []
    for ordinal in range(stateful["spec"]["replicas"]):
        pod = f"{stateful['metadata']['name']}-{ordinal}"
        options = configured(config_map, role, pod, base)
        check_keys(sample(role), options)
        expect(options["node_id"] == base + ordinal, f"{pod}: node_id is {options['node_id']}")
        expect(options["listen"].endswith(f":{ports.get('grpc', ports.get('http'))}"), f"{pod}: listen and the ports differ")
        expect(options["admin_listen"].endswith(f":{ports['admin']}"), f"{pod}: admin_listen and the ports differ")
        expect(len(f"{options['cluster_id']}-{options['node_id']}") <= 64, f"{pod}: cluster_id is too long")
        if "advertise" in options:
            host = f"{pod}.{stateful['spec']['serviceName']}.faas.svc."
            expect(options["advertise"].startswith(host), f"{pod}: advertises {options['advertise']}")
        if "peers" in options:
            expect(options["peers"][str(options["node_id"])] == options["advertise"], f"{pod}: its peers know it by another name")
        is_on = options["tls"]["mode"] == "on"
        expect(is_on == any(c["name"] == "certify" for c in spec["initContainers"]), f"{pod}: TLS and its certificate do not go together")
        secrets = [d for d in documents if d["kind"] == "Secret" and "ca.key" in d["data"]]
        if is_on and secrets and HEARTH.exists():
            certified(config_map, role, pod, base, options, secrets[0])
        seen.append(options)
    return seen


def check_good(values):
    report = helm.lint(str(CHART), values, strict=True)
    expect(not report["errors"], report["errors"])
    documents = render(values)
    for document in documents:
        if document["kind"] in FOREIGN:
            continue
        for version in KUBERNETES:
            kubernetes_validate.validate(copy.deepcopy(document), version, strict=True)
    names = [(d["kind"], d["metadata"]["name"]) for d in documents]
    expect(len(names) == len(set(names)), "two objects have one name")
    nodes = {role: check_role(documents, role) for role in ("controller", "worker", "gateway")}
    ids = [options["node_id"] for role in nodes.values() for options in role]
    expect(len(ids) == len(set(ids)), f"node ids are not unique: {ids}")
    expect(len({o["cluster_id"] for role in nodes.values() for o in role}) == 1, "cluster ids differ")
    peers = sorted(nodes["controller"][0]["peers"].values())
    for options in nodes["worker"] + nodes["gateway"]:
        expect(sorted(options["controllers"]) == peers, "controllers are not the peers")
    for options in nodes["worker"]:
        expect(options["lease"] == nodes["controller"][0]["workers"]["lease"], "leases differ")
    return len(documents), len(ids)


def check_bad(values, names):
    try:
        render(values)
    except HelmError as error:
        expect(names in str(error), f"{values}: the refusal does not name {names!r}: {error}")
        return " ".join(str(error).split())
    raise Failure(f"{values} was not refused")


def main():
    try:
        # The check itself must see a key that no role knows.
        wrong = render({"controller": {"options": {"raft": {"snapshots": 1}}}})
        try:
            check_role(wrong, "controller")
        except Failure as failure:
            expect("raft.snapshots" in str(failure), str(failure))
        else:
            raise Failure("an unknown option was not seen")
        for title, values in GOOD.items():
            objects, files = check_good(values)
            print(f"ok   {title}: {objects} objects for Kubernetes {', '.join(KUBERNETES)}, {files} TOML files")
        for values, names in BAD:
            print(f"ok   refused: {values}: {check_bad(values, names)}")
    except (Failure, HelmError, kubernetes_validate.ValidationError) as error:
        sys.exit(f"check-helm: {title if 'title' in locals() else 'chart'}: {error}")


if __name__ == "__main__":
    main()
