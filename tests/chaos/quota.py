"""The true concurrency of a function: its own BEGIN and END lines in the workers' logs, on the machine's monotonic clock.
An invocation that died with its worker ends when that was killed."""

import re
from dataclasses import dataclass

LINE = re.compile(r"\b(BEGIN|END) (\S+) ([0-9a-f-]{36}) (\d+)")
# The functions' timeout: what has no end and no killed worker cannot have run longer.
LONGEST_NS = 10_000_000_000


@dataclass(frozen=True)
class Run:
    function: str
    request: str
    begin: int
    end: int
    worker: str
    certain: bool


def runs(lines, worker, deaths):
    """Of one worker's log; `deaths` are the moments it was killed (monotonic, ns), in order."""
    begun, ended = {}, {}
    for line in lines:
        if found := LINE.search(line):
            what, function, request, moment = found.groups()
            (begun if what == "BEGIN" else ended)[(function, request)] = int(moment)
    for (function, request), begin in begun.items():
        end = ended.get((function, request))
        certain = end is not None
        if end is None:
            end = next((death for death in deaths if death >= begin), begin + LONGEST_NS)
            end = min(end, begin + LONGEST_NS)
        yield Run(function, request, begin, end, worker, certain)


def peak(some, since=0, until=float("inf")):
    """Most runs at a time within the window, and when. One that ends as another begins does not overlap it."""
    events = []
    for run in some:
        if run.end > since and run.begin < until:
            events += [(max(run.begin, since), 1), (run.end, -1)]
    now = most = 0
    when = None
    for moment, change in sorted(events):
        now += change
        if now > most and moment <= until:
            most, when = now, moment
    return most, when
