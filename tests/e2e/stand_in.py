"""A server that answers as SQS, SNS, S3 and EventBridge do (ministack), for what destinations and dead-letter queues are sent."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import boto3
from harness import until

MINISTACK = pathlib.Path(sys.executable).parent / "ministack"
ACCOUNT = "000000000000"
KEYS = {"aws_access_key_id": ACCOUNT, "aws_secret_access_key": "secret", "region_name": "us-east-1"}


class StandIn:
    """One server, on a port of its own."""

    def __init__(self, directory):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "HOME": str(directory)}
        log = open(pathlib.Path(directory) / "stand-in.log", "wb")
        self.process = subprocess.Popen([MINISTACK], stdout=log, stderr=log, env=environment, cwd=directory)
        until(self.client("sqs").list_queues, "the stand-in answers")

    def client(self, service):
        return boto3.client(service, endpoint_url=self.url, **KEYS)

    def options(self):
        """The table of a gateway that sends there."""
        return "".join(f'[gateway.endpoints.{service}]\nurl = "{self.url}"\naccess_key_id = "{ACCOUNT}"\nsecret_access_key = "secret"\n'
                       for service in ("sqs", "sns", "s3", "events"))

    def stop(self):
        self.process.kill()
        self.process.wait()


class Queue:
    """A queue, and what came into it."""

    def __init__(self, stand_in, name):
        self.sqs = stand_in.client("sqs")
        self.url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"
        self.messages = []

    def wait(self, count=1, timeout=30):
        """The first `count` messages, in any order."""
        def enough():
            got = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1)
            for message in got.get("Messages", []):
                self.messages.append(message)
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            return len(self.messages) >= count

        until(enough, f"{count} messages in {self.arn}", timeout)
        return self.messages

    def records(self, count=1, timeout=30):
        return [json.loads(message["Body"]) for message in self.wait(count, timeout)]
