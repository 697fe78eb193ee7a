"""Collect what an issue refers to: links in its text, and the attachments that it names.

Reads $BACKLOG_CONTEXT, writes $BACKLOG_OUTPUT. An attachment of the sample data says how long its host takes.
"""

import json
import os
import re
import time

with open(os.environ["BACKLOG_CONTEXT"], encoding="utf-8") as file:
    given = json.load(file)["input"]

links = re.findall(r"https?://[^\s)>\]\"']+", given.get("body") or "")
attachments = given.get("attachments") or []
for attachment in attachments:
    time.sleep(float(attachment.get("seconds", 0)))

with open(os.environ["BACKLOG_OUTPUT"], "w", encoding="utf-8") as file:
    json.dump({"success": True, "data": {"links": links[:50], "attachments": len(attachments)}}, file)
