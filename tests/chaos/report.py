"""What the run showed: figures for each fault, and which promises were broken."""

import collections

import quota
from linearizability import Undecided, is_linearizable
from load import RESERVED

RESUME_LIMIT_S = 2.0
NS = 1_000_000_000


def is_failure(kind):
    return kind != "ok" and not kind.startswith("429")


def blackout(samples, since, until):
    """Longest time without a success that ended within the window."""
    ends = sorted(s.end for s in samples if s.kind == "ok" and since <= s.end <= until)
    marks = [since, *ends, until]
    return max(b - a for a, b in zip(marks, marks[1:]))


def judge(cluster, load, windows, found, begun, ended):
    runs = []
    for worker in cluster.of("worker"):
        with open(worker.dir / "log", errors="replace") as log:
            runs += quota.runs(log, worker.name, worker.deaths)
    limited = [run for run in runs if run.function == "quota"]
    streams = [*load.streams, load.cold]
    samples = [s for stream in streams for s in stream.samples]
    rows = [row(window, streams, samples, limited, load.metronome) for window in windows]
    lost = {name: (value, found.get(name)) for name, value in load.cold.acknowledged.items() if found.get(name) != value}
    wrong = [s for s in samples if s.wrong]
    peak, _ = quota.peak(limited)
    histories, undecided = check(load.histories.histories)
    broken = []
    if lost:
        broken.append(f"{len(lost)} acknowledged functions lost or changed: {dict(list(lost.items())[:3])}")
    if wrong:
        broken.append(f"{len(wrong)} wrong answers, the first: {wrong[0]}")
    if peak > RESERVED:
        broken.append(f"{peak} at a time with {RESERVED} reserved")
    if not limited:
        broken.append("no run of the limited function was seen: the count is blind")
    broken += [f"history of {name} is not linearizable" for name in histories]
    broken += [f"history of {name} could not be decided" for name in undecided]
    for line in rows:
        broken += line.pop("broken")
    outside = [s for s in samples if is_failure(s.kind) and not any(w["at"] <= s.end <= w["until"] + 1 for w in windows)]
    if outside:
        broken.append(f"{len(outside)} invocations failed while nothing was broken, the first: {outside[0]}")
    every = load.histories.histories.values()
    return {
        "seconds": round(ended - begun, 1), "requests": len(samples),
        "kinds": collections.Counter(s.kind for s in samples), "runs_of_limited": len(limited),
        "runs_that_died": sum(not run.certain for run in limited), "peak": peak, "reserved": RESERVED,
        "metadata_writes": collections.Counter(kind for *_, kind in load.metronome.samples),
        "acknowledged_functions": len(load.cold.acknowledged), "lost_functions": lost, "wrong_answers": len(wrong),
        "histories": len(every), "history_operations": sum(map(len, every)),
        "history_outcomes": collections.Counter(op.outcome for history in every for op in history),
        "not_linearizable": histories, "faults": rows, "broken": broken,
    }


def check(histories):
    """Names with histories that cannot have happened one after the other, with what was recorded; and the undecided."""
    wrong, undecided = {}, []
    for name, history in histories.items():
        try:
            if not is_linearizable(history):
                wrong[name] = [vars(op) for op in sorted(history, key=lambda op: op.start)]
        except Undecided:
            undecided.append(name)
    return wrong, undecided


def row(window, streams, samples, limited, metronome):
    since, until = window["at"], window["until"]
    touched = [s for s in samples if s.end >= since and s.start <= until]
    failed = [s for s in touched if is_failure(s.kind)]
    resumed = metronome.resumed_after(since)
    broken = []
    name = window["fault"]
    if window["healed_after_s"] is None:
        broken.append(f"{name}: the cluster did not heal")
    if window["died"]:
        broken.append(f"{name}: {', '.join(window['died'])} ended by itself")
    if window["leader_lost"]:
        if resumed is None or resumed > RESUME_LIMIT_S:
            broken.append(f"{name}: metadata writes resumed after {resumed and round(resumed, 2)} s, more than {RESUME_LIMIT_S}")
        if failed:
            kinds = dict(collections.Counter(s.kind for s in failed))
            broken.append(f"{name}: {len(failed)} invocations failed though only a leader was lost: {kinds}")
    return {
        **window, "requests": len(touched), "ok": sum(s.kind == "ok" for s in touched),
        "throttled": sum(s.kind.startswith("429") for s in touched),
        "failed": collections.Counter(f"{s.stream}: {s.kind}" for s in failed),
        "failed_begun_after": sum(s.start > since for s in failed),
        "blackout_s": {
            stream.name: round(blackout(stream.samples, since, until), 2) for stream in streams if stream.name != "cold"
        },
        "peak": quota.peak(limited, since * NS, until * NS)[0], "writes_resumed_s": resumed and round(resumed, 2),
        "broken": broken,
    }


def table(result):
    head = f"{'FAULT':<36}{'NODE':<5}{'REQUESTS':>9}{'429':>6}{'FAILED':>8}{'AFTER':>7}{'BLACKOUT s':>12}{'PEAK':>6}{'WRITES s':>10}{'HEALED s':>10}"
    lines = [head]
    for line in result["faults"]:
        worst = max(line["blackout_s"].values())
        healed = line["healed_after_s"]
        lines.append(
            f"{line['fault']:<36}{line['node']:<5}{line['requests']:>9}{line['throttled']:>6}{sum(line['failed'].values()):>8}"
            f"{line['failed_begun_after']:>7}{worst:>12}{line['peak']:>6}{line['writes_resumed_s'] or '-':>10}"
            f"{'-' if healed is None else round(healed, 1):>10}  {line['note']}"
        )
        for kind, count in sorted(line["failed"].items()):
            lines.append(f"    {count} x {kind}")
    lines += [
        "", f"{result['seconds']} s, {result['requests']} invocations: {dict(result['kinds'])}",
        f"concurrency: peak {result['peak']} of {result['reserved']} reserved, over {result['runs_of_limited']} runs"
        f" ({result['runs_that_died']} died with their worker)",
        f"metadata: {dict(result['metadata_writes'])}; {result['acknowledged_functions']} functions acknowledged,"
        f" {len(result['lost_functions'])} lost; {result['wrong_answers']} wrong answers",
        f"histories: {result['history_operations']} operations on {result['histories']} names,"
        f" {len(result['not_linearizable'])} not linearizable; {dict(result['history_outcomes'])}",
    ]
    lines += ["", *(f"BROKEN: {text}" for text in result["broken"])] if result["broken"] else ["", "every promise was kept"]
    return "\n".join(lines)
