import os
import socket
import time

listener = socket.create_server(("127.0.0.1", 0))
connection = socket.create_connection(listener.getsockname())
other_end, _ = listener.accept()
count = 0


def handler(event, context):
    global count
    do = event.get("do")
    if do == "raise":
        raise ValueError("no way é")
    if do == "exit":
        os._exit(3)
    if do == "sleep":
        time.sleep(30)
    print("a line from the function é")
    count += 1
    connection.sendall(b"%d\n" % count)
    seen = int(other_end.recv(64))
    return {
        "event": event, "count": seen, "id": context.aws_request_id, "left": context.get_remaining_time_in_millis(),
        "name": context.function_name, "version": context.function_version, "arn": context.invoked_function_arn,
        "custom": context.client_context.custom if context.client_context else None,
        "trace": os.environ.get("_X_AMZN_TRACE_ID"), "memory": int(context.memory_limit_in_mb),
        "group": context.log_group_name,
    }
