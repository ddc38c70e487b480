"""Concurrency is counted as it was."""

from quota import LONGEST_NS, peak, runs

A, B, C = ("%08d-0000-4000-8000-000000000000" % n for n in range(3))


def line(what, request, moment):
    return f'{{"fields":{{"message":"{what} f {request} {moment}"}},"target":"hearth::function"}}'


def test_overlaps_are_counted_and_touching_runs_are_not():
    log = [line("BEGIN", A, 10), line("BEGIN", B, 15), line("END", A, 20), line("BEGIN", C, 20), line("END", B, 30), line("END", C, 30)]
    some = list(runs(log, "w1", []))
    assert peak(some) == (2, 15)
    assert peak(some, since=21, until=40)[0] == 2
    assert peak(some, since=31)[0] == 0


def test_a_run_ends_with_its_worker():
    log = [line("BEGIN", A, 10), "noise", line("BEGIN", B, 50), line("END", B, 60)]
    first, second = runs(log, "w1", [5, 40, 90])
    assert (first.end, first.certain) == (40, False)
    assert (second.end, second.certain) == (60, True)
    assert peak([first, second])[0] == 1


def test_what_never_ended_lasted_as_long_as_it_may():
    (run,) = runs([line("BEGIN", A, 10)], "w1", [])
    assert run.end == 10 + LONGEST_NS
