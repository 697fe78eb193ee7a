"""Publish a specification: one Markdown file per issue under .backlog-worker/specs/, written aside and renamed."""

import json
import os

with open(os.environ["BACKLOG_CONTEXT"], encoding="utf-8") as file:
    context = json.load(file)

entry, draft = context["entry"], context["previousJobs"]["draft"]["output"]
folder = os.path.join(".backlog-worker", "specs")
os.makedirs(folder, exist_ok=True)
path = os.path.join(folder, entry["id"] + ".md")
with open(path + ".aside", "w", encoding="utf-8") as file:
    file.write(draft["markdown"])
os.replace(path + ".aside", path)

with open(os.environ["BACKLOG_OUTPUT"], "w", encoding="utf-8") as file:
    json.dump({"success": True, "data": {"path": path}}, file)
