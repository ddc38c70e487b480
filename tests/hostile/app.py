"""The function that is deployed: runs the attempts asked for, each in a process of its own."""

import os
import resource
import signal

import calls  # noqa: F401
import files  # noqa: F401
import neighbours  # noqa: F401
import users  # noqa: F401
from table import TABLE, ended

# One attempt gets so long, seconds.
LIMIT = 5


def alone(action, facts):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(LIMIT)
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
        os.write(writer, ended(action, facts).encode()[:4096])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        # A child of the attempt may hold the pipe, so the end of the attempt counts, not that of the pipe.
        _, status = os.waitpid(pid, 0)
        os.set_blocking(said.fileno(), False)
        text = said.read() or b""
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else text.decode()


def handler(facts, context):
    return {name: alone(action, facts) for name, _, _, _, action in TABLE}
