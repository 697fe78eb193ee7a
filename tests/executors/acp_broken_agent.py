"""An agent that breaks the Agent Client Protocol, for tests: line by line, and without the library."""

import json
import os
import sys

MODE = os.environ["AGENT_MODE"]
ENDLESS = b"x" * 1_000_000


def say(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()


def answer(request, result):
    say({"jsonrpc": "2.0", "id": request["id"], "result": result})


def endless():
    while True:
        sys.stdout.buffer.write(ENDLESS)


def half():
    sys.stdout.buffer.write(b'{"jsonrpc": "2.0", "id": ')
    sys.stdout.buffer.flush()
    os._exit(3)


UPDATE = {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": 1, "update": ["x"]}}
DONE = {"stopReason": "end_turn"}
# What it does when it is prompted, by its mode; one that says nothing more ends.
BROKEN = {
    "garbage": lambda asked: (say(b"\xff\xfe no JSON {"), say(b""), answer(asked, DONE)),
    "only garbage": lambda asked: (say(b"Segmentation fault"), sys.exit(0)),
    "wrong types": lambda asked: answer(asked, {"stopReason": 7, "usage": "n/a"}),
    "no object": lambda asked: answer(asked, [1, 2]),
    "wrong update": lambda asked: (say(UPDATE), answer(asked, DONE)),
    "unknown id": lambda asked: (answer({"id": 4711}, DONE), answer({"id": None}, {}), sys.exit(0)),
    "endless line": lambda asked: endless(),
    "a list": lambda asked: (say([asked]), say(b"17"), sys.exit(0)),
    "mid-answer": lambda asked: half(),
    "deep": lambda asked: (say(b"[" * 200_000), sys.exit(0)),
    "an error without words": lambda asked: say({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": "x"}}),
}
for row in sys.stdin:
    asked = json.loads(row)
    if asked.get("method") == "initialize":
        answer(asked, {} if MODE == "no version" else {"protocolVersion": 1})
    elif asked.get("method") == "session/new":
        answer(asked, {"sessionId": 5} if MODE == "no session" else {"sessionId": "s1"})
    elif asked.get("method") == "session/prompt":
        BROKEN[MODE](asked)
