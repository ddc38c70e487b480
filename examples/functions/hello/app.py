"""The function of the demo: says hello, and where it ran."""

import os


def handler(event, context):
    print(f"hello from {context.function_name}, {context.get_remaining_time_in_millis()} ms left")
    return {
        "message": f"Hello, {event.get('name', 'world')}!",
        "version": os.environ.get("GREETING_VERSION", "1"),
        "request_id": context.aws_request_id,
        "memory_mb": context.memory_limit_in_mb,
    }
