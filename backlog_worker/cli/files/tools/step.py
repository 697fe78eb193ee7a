"""One step of the sample deployment: says what it would do; put your own commands in its place.

Set `fail` in the entry's input to a step's name to see what a failure does.
"""

import json
import os
import sys

step = sys.argv[1]
with open(os.environ["BACKLOG_CONTEXT"], encoding="utf-8") as file:
    given = json.load(file)["input"]

print(f"[PROGRESS: 50%] {step}")
if given.get("fail") == step:
    sys.exit(f"{step} failed, as the input asks for")
with open(os.environ["BACKLOG_OUTPUT"], "w", encoding="utf-8") as file:
    json.dump({"success": True, "data": {"step": step, "commit": given.get("commit")}}, file)
print("[PROGRESS: 100%]")
