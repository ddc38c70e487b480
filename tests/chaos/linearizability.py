"""Whether a history of operations on one register could have happened one after the other (Wing and Gong's search, with
Lowe's cache of configurations already tried). The register is a function: absent, or there with a value."""

from dataclasses import dataclass

ABSENT = None
FOREVER = float("inf")


@dataclass(frozen=True)
class Operation:
    """`outcome` is what the client was told: "ok", "exists", "missing", "refused" (nothing happened), or "unknown", after
    which the operation may take effect at any later time or never."""

    kind: str  # create, update, delete, read
    start: float
    end: float
    outcome: str
    value: object = None  # written, or read

    @property
    def unknown(self):
        return self.outcome == "unknown"


def step(state, operation):
    """The state after the operation, or raises Impossible if its outcome contradicts `state`. An operation of unknown
    outcome does what it would have done."""
    kind, outcome = operation.kind, operation.outcome
    if outcome == "refused":
        return state
    there = state is not ABSENT
    if kind == "read":
        if outcome == "missing" and not there or outcome == "ok" and there and state == operation.value:
            return state
        raise Impossible
    if outcome == "unknown":
        if kind == "create":
            return state if there else operation.value
        if kind == "update":
            return operation.value if there else state
        return ABSENT
    if kind == "create":
        if outcome == "ok" and not there:
            return operation.value
        if outcome == "exists" and there:
            return state
    elif kind == "update":
        if outcome == "ok" and there:
            return operation.value
        if outcome == "missing" and not there:
            return state
    elif kind == "delete":
        if outcome == "ok" and there:
            return ABSENT
        if outcome == "missing" and not there:
            return state
    raise Impossible


class Impossible(Exception):
    pass


class Undecided(Exception):
    """The search was given up; a history with many unknown outcomes can take for ever."""


def is_linearizable(history, initial=ABSENT, limit=2_000_000):
    """True if there is an order of the operations that respects their real-time order and every outcome. Reads of unknown
    outcome say nothing and are left out."""
    operations = [op for op in history if not (op.unknown and op.kind == "read") and op.outcome != "refused"]
    operations.sort(key=lambda op: op.start)
    ends = [FOREVER if op.unknown else op.end for op in operations]
    must = sum(1 << i for i, op in enumerate(operations) if not op.unknown)
    tried = set()
    stack = [(0, initial)]
    while stack:
        done, state = stack.pop()
        if done & must == must:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        if len(tried) > limit:
            raise Undecided(f"more than {limit} configurations")
        # One that began after another's end cannot come before it.
        horizon = FOREVER
        candidates = []
        for i, operation in enumerate(operations):
            if operation.start > horizon:
                break
            if not done >> i & 1:
                candidates.append(i)
                horizon = min(horizon, ends[i])
        # Last pushed is tried first: those that must be placed, earliest end first.
        for i in sorted(candidates, key=lambda i: ends[i], reverse=True):
            if operations[i].start > horizon:
                continue
            try:
                stack.append((done | 1 << i, step(state, operations[i])))
            except Impossible:
                continue
    return not must
