"""Records how botocore serialises an input of every Lambda operation, into requests.json.

Run with the botocore version that xtask pins: python3 record_requests.py
The inputs are made here from the model, without Hearth's generator, so that the two are compared.
Nothing is sent anywhere.
"""

import base64
import datetime
import json
import pathlib
from urllib.parse import quote

import botocore.loaders
import botocore.model
import botocore.serialize

LOADER = botocore.loaders.Loader()
SERVICE = botocore.model.ServiceModel(LOADER.load_service_model("lambda", "service-2"))
SERIALIZER = botocore.serialize.create_serializer("rest-json", include_validation=False)
TIME = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc)


def sample(shape, name):
    """A value of the shape, as botocore takes it; no constraint is kept but the type."""
    kind = shape.type_name
    if kind == "structure":
        return {member: sample(target, member) for member, target in shape.members.items()}
    if kind == "list":
        return [sample(shape.member, name), sample(shape.member, name)]
    if kind == "map":
        return {"k": sample(shape.value, name)}
    return {
        "string": f"{name}:/$ é",
        "integer": 7,
        "long": 1 << 40,
        "double": 0.5,
        "boolean": True,
        "blob": b"\x00\xff{}",
        "timestamp": TIME,
    }[kind]


def members(value):
    """The same value as the JSON that Hearth assembles."""
    if isinstance(value, dict):
        return {key: members(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [members(entry) for entry in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return int(value.timestamp()) if isinstance(value, datetime.datetime) else value


def url(request):
    pairs = []
    for name, value in dict(request["query_string"]).items():
        pairs += [(name, v) for v in (value if isinstance(value, list) else [value])]
    path, _, query = request["url_path"].partition("?")
    parts = [query] + [f"{quote(name, safe='-._~')}={quote(str(value), safe='-._~')}" for name, value in pairs]
    query = "&".join(filter(None, parts))
    return path + ("?" + query if query else "")


def record(name):
    operation = SERVICE.operation_model(name)
    value = sample(operation.input_shape, name)
    for member, target in operation.input_shape.members.items():
        if target.serialization.get("location") == "header":
            value[member] = f"{member} in ASCII"
    request = SERIALIZER.serialize_to_request(value, operation)
    payload = operation.input_shape.serialization.get("payload")
    expected = members(value)
    raw = payload and operation.input_shape.members[payload].type_name == "blob"
    if raw:
        expected.pop(payload)
    body = request["body"]
    return {
        "operation": name,
        "method": request["method"],
        "url": url(request),
        "headers": {k: v for k, v in request["headers"].items()},
        "body": (body if isinstance(body, bytes) else body.encode()).hex(),
        "members": expected,
    }


def totals():
    """Sums over the shapes of all inputs and outputs, less event streams."""
    shapes = {}

    def walk(shape):
        if shape.name in shapes or getattr(shape, "is_eventstream", False) or shape.serialization.get("eventstream"):
            return
        shapes[shape.name] = shape
        if shape.type_name == "structure":
            for member in shape.members.values():
                walk(member)
        elif shape.type_name == "list":
            walk(shape.member)
        elif shape.type_name == "map":
            walk(shape.key)
            walk(shape.value)

    for name in SERVICE.operation_names:
        operation = SERVICE.operation_model(name)
        for shape in (operation.input_shape, operation.output_shape):
            if shape is not None:
                walk(shape)
    meta = [shape.metadata for shape in shapes.values()]
    return {
        "shapes": len(shapes),
        "required": sum(len(m.get("required", [])) for m in meta),
        "enum_values": sum(len(m.get("enum", [])) for m in meta),
        "patterns": sum("pattern" in m for m in meta),
        "sensitive": sum(bool(m.get("sensitive")) for m in meta),
        "sum_of_min": sum(m.get("min", 0) for m in meta),
        "sum_of_max": sum(m.get("max", 0) for m in meta),
    }


lines = [json.dumps(record(name), ensure_ascii=False) for name in SERVICE.operation_names]
text = '{"totals": ' + json.dumps(totals()) + ',\n"requests": [\n' + ",\n".join(lines) + "\n]}\n"
pathlib.Path(__file__).with_name("requests.json").write_text(text)
