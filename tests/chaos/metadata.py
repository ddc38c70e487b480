"""Metadata writes: a metronome that tells when writes go through, and clients that contend for a few names and record what
they were told, for the check of linearizability."""

import itertools
import random
import threading
import time

import aws
from linearizability import Operation
from load import zipped

CLIENTS = 3
# A name is given up after so many operations, or once so many outcomes are unknown: the check's cost grows with both.
OPERATIONS_PER_NAME = 80
UNKNOWN_PER_NAME = 3


class Metronome:
    """Begins a write on time whatever became of those before; (start, end, endpoint, kind) of each."""

    EVERY_S = 0.1
    FUNCTION = "metronome"

    def __init__(self, endpoints):
        self.endpoints, self.samples, self.thread = endpoints, [], None

    def start(self, stop):
        slots = threading.Semaphore(120)

        def one(number):
            endpoint = self.endpoints[number % 2]
            start = time.monotonic()
            answer = aws.tag(endpoint, self.FUNCTION, beat=str(number))
            self.samples.append((start, time.monotonic(), endpoint, "ok" if answer.status == 204 else answer.kind))
            slots.release()

        def run():
            due = time.monotonic()
            for number in itertools.count():
                due += self.EVERY_S
                if stop.wait(max(0.0, due - time.monotonic())):
                    return
                if slots.acquire(blocking=False):
                    threading.Thread(target=one, args=(number,), daemon=True).start()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def resumed_after(self, moment, not_by=()):
        """Seconds from `moment` until a write that began after it was acknowledged."""
        ends = [end for start, end, endpoint, kind in self.samples if start >= moment and kind == "ok" and endpoint not in not_by]
        return min(ends) - moment if ends else None

    def join(self):
        self.thread.join(30)


class Histories:
    """Clients that create, update, delete and read the same names through different gateways."""

    def __init__(self, endpoints):
        self.endpoints, self.histories, self.lock = endpoints, {}, threading.Lock()
        self.zip = zipped("app.py", "def handler(event, context):\n    return 1\n")
        self.generation, self.threads = itertools.count(), []
        self.names = [self.fresh() for _ in range(2)]

    def fresh(self):
        name = f"register-{next(self.generation):05}"
        self.histories[name] = []
        return name

    def start(self, stop):
        for client in range(CLIENTS):
            thread = threading.Thread(target=self._client, args=(client, stop), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _client(self, client, stop):
        rng = random.Random(client)
        for number in itertools.count():
            if stop.wait(rng.uniform(0.05, 0.4)):
                return
            with self.lock:
                name = rng.choice(self.names)
            kind = rng.choices(["create", "update", "delete", "read"], [3, 3, 1.5, 5])[0]
            operation = self.perform(name, kind, f"{client}.{number}", rng.choice(self.endpoints))
            with self.lock:
                history = self.histories[name]
                history.append(operation)
                unknown = sum(op.unknown for op in history if op.kind != "read")
                if name in self.names and (unknown >= UNKNOWN_PER_NAME or len(history) >= OPERATIONS_PER_NAME):
                    self.names[self.names.index(name)] = self.fresh()

    def perform(self, name, kind, value, endpoint):
        start = time.monotonic()
        if kind == "create":
            answer = aws.create(endpoint, name, self.zip, Description=value)
        elif kind == "update":
            answer = aws.update(endpoint, name, Description=value)
        elif kind == "delete":
            answer = aws.delete(endpoint, name)
        else:
            answer = aws.get(endpoint, name)
        end = time.monotonic()
        outcome = self.outcome(kind, answer)
        if kind == "read" and outcome == "ok":
            value = answer.json()["Description"]
        return Operation(kind, start, end, outcome, value)

    @staticmethod
    def outcome(kind, answer):
        if 200 <= answer.status < 300:
            return "ok"
        if answer.status == 404:
            return "missing"
        if answer.status == 409:
            # An update in progress refuses another; a create is refused because the name is taken.
            return "exists" if kind == "create" else "refused"
        if answer.kind.startswith("not sent") or 400 <= answer.status < 500:
            return "refused"
        return "unknown"

    def join(self):
        for thread in self.threads:
            thread.join(30)
