"""Steady open-loop load: each stream sends at its rate whatever the answers are, so that a stall shows as what it is."""

import base64
import io
import itertools
import queue
import threading
import time
import zipfile
from dataclasses import dataclass

import aws

# Calls in flight of one stream; more are counted as not sent, which bounds the harness, not the cluster.
IN_FLIGHT_MAX = 160
RESERVED = 4

# Both lines go to the worker's log with the machine's monotonic clock, which all sandboxes share. Each is one write, which a
# pipe keeps together.
PYTHON = '''
import os, time
def tell(what, context):
    os.write(1, f"{what} {context.function_name} {context.aws_request_id} {time.monotonic_ns()}\\n".encode())
def handler(event, context):
    tell("BEGIN", context)
    time.sleep(event.get("ms", 0) / 1000)
    tell("END", context)
    return {"echo": event, "function": context.function_name}
'''


def zipped(name, content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
        info.external_attr = 0o755 << 16
        archive.writestr(info, content)
    return base64.b64encode(out.getvalue()).decode()


@dataclass(frozen=True)
class Sample:
    stream: str
    start: float
    end: float
    gateway: str
    kind: str
    wrong: str = ""


class Stream:
    """Invocations of one function at a rate, by turns through the gateways."""

    def __init__(self, name, function, per_second, ms, endpoints, right):
        self.name, self.function, self.every, self.ms = name, function, 1 / per_second, ms
        self.endpoints, self.right = endpoints, right
        self.samples, self.jobs = [], queue.Queue(IN_FLIGHT_MAX)
        self.threads = []

    def start(self, stop):
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(IN_FLIGHT_MAX)]
        self.threads.append(threading.Thread(target=self._tick, args=(stop,), daemon=True))
        for thread in self.threads:
            thread.start()

    def _tick(self, stop):
        turn = itertools.cycle(self.endpoints)
        due = time.monotonic()
        for number in itertools.count():
            due += self.every
            if stop.wait(max(0.0, due - time.monotonic())):
                break
            endpoint = next(turn)
            try:
                self.jobs.put_nowait((number, endpoint))
            except queue.Full:
                now = time.monotonic()
                self.samples.append(Sample(self.name, now, now, endpoint, "not sent: too many in flight"))
        for _ in self.threads:
            self.jobs.put(None)

    def _work(self):
        while (job := self.jobs.get()) is not None:
            number, endpoint = job
            event = {"n": number, "ms": self.ms}
            start = time.monotonic()
            answer = aws.invoke(endpoint, self.function, event)
            wrong = ""
            if answer.kind == "ok" and not self.right(answer.json(), event, self.function):
                wrong = answer.body[:200].decode(errors="replace")
            self.samples.append(Sample(self.name, start, time.monotonic(), endpoint, answer.kind, wrong))

    def join(self):
        for thread in self.threads:
            thread.join(30)


def python_right(answer, event, function):
    return answer == {"echo": event, "function": function}


def rust_right(answer, event, _function):
    return answer.get("event") == event


class ColdStream:
    """Makes a function now and then, and invokes one that was made before and never invoked: a cold start each."""

    def __init__(self, every_s, endpoints, ahead):
        self.name, self.every, self.endpoints, self.ahead = "cold", every_s, endpoints, ahead
        self.zip = zipped("app.py", PYTHON)
        self.samples, self.acknowledged, self.waiting = [], {}, []
        self.thread = None

    def make(self, number):
        name, value = f"keep-{number:05}", f"value {number}"
        answer = aws.create(self.endpoints[number % 2], name, self.zip, Description=value)
        if answer.status == 201:
            self.acknowledged[name] = value
            self.waiting.append(name)

    def prepare(self):
        for number in range(self.ahead):
            self.make(number)
        for name in self.waiting:
            aws.wait_active(self.endpoints[0], name)

    def start(self, stop):
        def run():
            for number in itertools.count(self.ahead):
                if stop.wait(self.every):
                    return
                maker = threading.Thread(target=self.make, args=(number,), daemon=True)
                maker.start()
                if self.waiting:
                    threading.Thread(target=self.cold, args=(self.waiting.pop(0), number), daemon=True).start()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def cold(self, name, number):
        event = {"n": number, "ms": 0}
        endpoint = self.endpoints[number % 2]
        start = time.monotonic()
        answer = aws.invoke(endpoint, name, event, timeout=40.0)
        wrong = ""
        if answer.kind == "ok" and not python_right(answer.json(), event, name):
            wrong = answer.body[:200].decode(errors="replace")
        self.samples.append(Sample("cold", start, time.monotonic(), endpoint, answer.kind, wrong))

    def join(self):
        self.thread.join(30)
