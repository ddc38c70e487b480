"""Event source mappings: documents by kind of source, lists, changes of state, refusals, tags."""

import uuid

import pytest
from harness import create, until
from test_versions import document, refused

APP = {"app.py": "def handler(e, c):\n    return e\n"}
MISSING, INVALID = "ResourceNotFoundException", "InvalidParameterValueException"
GONE = (404, MISSING, "The resource you requested does not exist.")


def arn(name):
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"


def source(service):
    """An ARN of its own: mappings of one source and function conflict."""
    path = {"kinesis": "stream/s-{}", "dynamodb": "table/t-{}/stream/2024", "sqs": "q-{}"}[service]
    return f"arn:aws:{service}:us-east-1:000000000000:{path.format(uuid.uuid4().hex[:8])}"


@pytest.fixture
def function(client, name):
    create(client, name, APP)
    return name


def settled(client, made, state="Enabled"):
    return until(lambda: (lambda now: now["State"] == state and now)(client.get_event_source_mapping(UUID=made["UUID"])), state)


def test_a_mapping_of_a_queue(client, function):
    queue = source("sqs")
    made = client.create_event_source_mapping(FunctionName=function, EventSourceArn=queue, Tags={"a": "b"})
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    said = {"UUID": made["UUID"], "BatchSize": 10, "MaximumBatchingWindowInSeconds": 0, "EventSourceArn": queue,
            "FunctionArn": arn(function), "LastModified": made["LastModified"], "State": "Creating",
            "StateTransitionReason": "USER_INITIATED", "FunctionResponseTypes": [],
            "EventSourceMappingArn": f"arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{made['UUID']}"}
    assert document(made) == said
    now = settled(client, made)
    nobody = "Hearth reads no Amazon SQS yet: no events are sent to the function."
    assert document(now) == {**said, "State": "Enabled", "StateTransitionReason": nobody}
    listed = client.list_event_source_mappings(EventSourceArn=queue)["EventSourceMappings"]
    assert listed == [document(now)]
    tags = made["EventSourceMappingArn"]
    assert client.list_tags(Resource=tags)["Tags"] == {"a": "b"}
    client.tag_resource(Resource=tags, Tags={"c": "d"})
    client.untag_resource(Resource=tags, TagKeys=["a"])
    assert client.list_tags(Resource=tags)["Tags"] == {"c": "d"}
    off = client.update_event_source_mapping(UUID=made["UUID"], Enabled=False, BatchSize=5)
    assert (off["ResponseMetadata"]["HTTPStatusCode"], off["State"], off["BatchSize"]) == (202, "Disabling", 5)
    assert settled(client, made, "Disabled")["StateTransitionReason"] == "USER_INITIATED"
    assert client.update_event_source_mapping(UUID=made["UUID"], Enabled=True)["State"] == "Enabling"
    assert client.update_event_source_mapping(UUID=made["UUID"], BatchSize=6)["State"] == "Updating"
    gone = client.delete_event_source_mapping(UUID=made["UUID"])
    assert (gone["ResponseMetadata"]["HTTPStatusCode"], gone["State"], gone["BatchSize"]) == (202, "Deleting", 6)
    for call in (client.get_event_source_mapping, client.delete_event_source_mapping, client.update_event_source_mapping):
        assert refused(call, UUID=made["UUID"]) == GONE
    assert refused(client.list_tags, Resource=tags) == GONE


@pytest.mark.parametrize("service", ["kinesis", "dynamodb"])
def test_a_mapping_of_a_stream(client, function, service):
    client.publish_version(FunctionName=function)
    client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    stream = source(service)
    pattern = '{"a":["b"]}'
    made = client.create_event_source_mapping(
        FunctionName=f"{function}:live", EventSourceArn=stream, StartingPosition="TRIM_HORIZON", Enabled=False,
        MaximumRetryAttempts=2, FilterCriteria={"Filters": [{"Pattern": pattern}]})
    said = {
        "UUID": made["UUID"], "StartingPosition": "TRIM_HORIZON", "BatchSize": 100, "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1, "EventSourceArn": stream, "FilterCriteria": {"Filters": [{"Pattern": pattern}]},
        "FunctionArn": f"{arn(function)}:live", "LastModified": made["LastModified"],
        "LastProcessingResult": "No records processed", "State": "Creating", "StateTransitionReason": "User action",
        "DestinationConfig": {"OnFailure": {}}, "MaximumRecordAgeInSeconds": -1, "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": 2, "TumblingWindowInSeconds": 0, "FunctionResponseTypes": [],
        "EventSourceMappingArn": f"arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{made['UUID']}"}
    assert document(made) == said
    assert document(settled(client, made, "Disabled")) == {**said, "State": "Disabled"}
    assert client.list_event_source_mappings(FunctionName=f"{function}:live")["EventSourceMappings"][0]["UUID"] == made["UUID"]
    assert client.list_event_source_mappings(FunctionName=f"{function}:1")["EventSourceMappings"] == []


def test_a_mapping_of_a_kafka_cluster_of_ones_own(client, function):
    cluster = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": [f"{function}:9092"]}}
    access = [{"Type": "BASIC_AUTH", "URI": "arn:aws:secretsmanager:us-east-1:000000000000:secret:s"}]
    request = {"FunctionName": function, "SelfManagedEventSource": cluster, "Topics": ["topic"]}
    assert refused(client.create_event_source_mapping, **request) == (
        400, INVALID, "Required 'sourceAccessConfigurations' parameter is missing.")
    made = client.create_event_source_mapping(**request, SourceAccessConfigurations=access)
    assert (made["SelfManagedEventSource"], made["SourceAccessConfigurations"]) == (cluster, access)
    assert made["SelfManagedKafkaEventSourceConfig"] == {"ConsumerGroupId": made["UUID"]}
    assert "EventSourceArn" not in made and made["BatchSize"] == 100


def test_lists_come_in_pages(client, function):
    made = [client.create_event_source_mapping(FunctionName=function, EventSourceArn=source("sqs"))["UUID"] for _ in range(3)]
    first = client.list_event_source_mappings(FunctionName=function, MaxItems=2)
    rest = client.list_event_source_mappings(FunctionName=function, MaxItems=2, Marker=first["NextMarker"])
    assert "NextMarker" not in rest
    assert [m["UUID"] for m in first["EventSourceMappings"] + rest["EventSourceMappings"]] == sorted(made)


def test_refusals_in_awss_words(client, function):
    queue, stream, table = source("sqs"), source("kinesis"), source("dynamodb")

    def add(**members):
        return refused(client.create_event_source_mapping, **{"FunctionName": function, **members})

    assert add() == (400, INVALID, "Unrecognized event source.")
    assert add(EventSourceArn=queue, FunctionName="nobody") == (400, INVALID, "Function does not exist")
    assert add(EventSourceArn=stream) == (
        400, INVALID, "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must "
                      "not be null.")
    assert add(EventSourceArn=table, StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=1) == (
        400, INVALID, f"Unsupported starting position for arn type: {table}")
    assert add(EventSourceArn=stream, StartingPosition="invalid")[1] == "ValidationException"
    assert add(EventSourceArn=queue, BatchSize=11) == (
        400, INVALID, "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")
    assert add(EventSourceArn=queue, FilterCriteria={"Filters": [{"Pattern": '{"a":"b"}'}]}) == (
        400, INVALID, "Invalid filter pattern definition.")
    assert add(EventSourceArn=stream, StartingPosition="LATEST", DestinationConfig={"OnSuccess": {"Destination": queue}}) == (
        400, INVALID, "Unsupported DestinationConfig parameter for given event source mapping type.")
    made = client.create_event_source_mapping(FunctionName=function, EventSourceArn=queue)
    assert add(EventSourceArn=queue) == (
        409, "ResourceConflictException",
        f'An event source mapping with SQS arn (" {queue} ") and function (" {function} ") already exists. Please update or '
        f"delete the existing mapping with UUID {made['UUID']}")
    made = client.create_event_source_mapping(FunctionName=function, EventSourceArn=stream, StartingPosition="LATEST")
    assert add(EventSourceArn=stream, StartingPosition="LATEST") == (
        409, "ResourceConflictException",
        f'The event source arn (" {stream} ") and function (" {function} ") provided mapping already exists. Please update or '
        f"delete the existing mapping with UUID {made['UUID']}")
    assert refused(client.update_event_source_mapping, UUID=made["UUID"], FunctionName="nobody") == (
        400, INVALID, "Function does not exist")
    assert refused(client.get_event_source_mapping, UUID=str(uuid.uuid4())) == GONE
    assert add(EventSourceArn=queue, Tags={str(n): "" for n in range(51)}) == (
        400, INVALID, "Number of tags exceeds resource tag limit.")
