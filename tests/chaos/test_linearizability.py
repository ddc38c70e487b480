"""The checker finds what must be found, and does not find what is not there."""

import random

import pytest

from linearizability import ABSENT, Impossible, Operation, Undecided, is_linearizable, step


def op(kind, start, end, outcome="ok", value=None):
    return Operation(kind, start, end, outcome, value)


def test_one_after_the_other_is_linearizable():
    assert is_linearizable([
        op("read", 0, 1, "missing"), op("create", 2, 3, value="a"), op("create", 4, 5, "exists", "b"), op("read", 6, 7, value="a"),
        op("update", 8, 9, value="c"), op("read", 10, 11, value="c"), op("delete", 12, 13), op("read", 14, 15, "missing"),
    ])


def test_a_stale_read_is_found():
    assert not is_linearizable([op("create", 0, 1, value="a"), op("update", 2, 3, value="b"), op("read", 4, 5, value="a")])


def test_reads_that_go_back_are_found_even_while_the_write_runs():
    write = op("update", 2, 20, value="b")
    create = op("create", 0, 1, value="a")
    assert is_linearizable([create, write, op("read", 4, 5, value="a"), op("read", 6, 7, value="b")])
    assert not is_linearizable([create, write, op("read", 4, 5, value="b"), op("read", 6, 7, value="a")])


def test_a_lost_write_is_found():
    assert not is_linearizable([op("create", 0, 1, value="a"), op("read", 2, 3, "missing")])
    assert not is_linearizable([op("create", 0, 1, value="a"), op("delete", 2, 3), op("update", 4, 5, value="b")])


def test_a_delete_that_was_carried_out_twice_is_found():
    # The second time it took a function that was made in between.
    assert not is_linearizable([
        op("create", 0, 1, value="a"), op("delete", 2, 9), op("create", 4, 5, value="b"), op("read", 6, 7, value="b"),
        op("read", 10, 11, "missing"),
    ])


def test_an_unknown_outcome_may_have_happened_at_any_later_time_or_never():
    unknown = op("create", 0, 1, "unknown", "a")
    for outcome, value in [("missing", None), ("ok", "a")]:
        assert is_linearizable([unknown, op("read", 50, 51, outcome, value)])
    assert is_linearizable([unknown, op("read", 5, 6, "missing"), op("read", 7, 8, value="a")])
    assert not is_linearizable([unknown, op("read", 5, 6, value="a"), op("read", 7, 8, "missing")])
    assert not is_linearizable([op("create", 5, 6, "unknown", "a"), op("read", 1, 2, value="a")])


def test_what_was_refused_changes_nothing():
    assert is_linearizable([op("create", 0, 1, value="a"), op("update", 2, 3, "refused", "b"), op("read", 4, 5, value="a")])
    assert not is_linearizable([op("create", 0, 1, value="a"), op("update", 2, 3, "refused", "b"), op("read", 4, 5, value="b")])


def simulated(seed, operations=120, clients=4):
    """A history of a register that works, with overlapping calls: each takes effect at one point inside its interval."""
    rng = random.Random(seed)
    calls = []
    for client in range(clients):
        now = rng.random()
        for number in range(operations // clients):
            start, point, end = now, now + rng.random(), now + 1 + rng.random()
            kind = rng.choice(["create", "update", "delete", "read", "read"])
            calls.append((point, start, end, kind, f"{client}.{number}"))
            now = end + rng.random() * 0.2
    state, history = ABSENT, []
    for _, start, end, kind, value in sorted(calls):
        outcome = "ok"
        if kind == "create" and state is not ABSENT:
            outcome = "exists"
        elif kind != "create" and state is ABSENT:
            outcome = "missing"
        if kind == "read":
            value = state
        unknown = kind != "read" and rng.random() < 0.03
        if not unknown or rng.random() < 0.5:
            state = step(state, Operation(kind, start, end, outcome, value))
        history.append(Operation(kind, start, end, "unknown" if unknown else outcome, value))
    return history


@pytest.mark.parametrize("seed", range(40))
def test_histories_of_a_register_that_works_pass_and_one_changed_read_does_not(seed):
    history = simulated(seed)
    assert is_linearizable(history)
    reads = [i for i, o in enumerate(history) if o.kind == "read" and o.outcome == "ok"]
    if reads:
        i = reads[len(reads) // 2]
        changed = history[:]
        changed[i] = Operation("read", history[i].start, history[i].end, "ok", "nobody wrote this")
        assert not is_linearizable(changed)


def test_a_search_without_end_is_given_up():
    history = [op("update", 0, 1, "unknown", n) for n in range(40)] + [op("read", 2, 3, value="x")]
    with pytest.raises(Undecided):
        is_linearizable(history, initial="y", limit=1_000)


def test_an_impossible_step_says_so():
    with pytest.raises(Impossible):
        step(ABSENT, op("delete", 0, 1))
