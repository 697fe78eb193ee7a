"""An agent that speaks the Agent Client Protocol, for tests: what it does stands in its environment."""

import asyncio
import json
import os
import sys
from pathlib import Path

from acp import (
    Agent,
    InitializeResponse,
    NewSessionResponse,
    PromptResponse,
    plan_entry,
    run_agent,
    update_agent_message_text,
    update_plan,
)
from acp.schema import Cost, PermissionOption, ToolCallUpdate, UsageUpdate


class Scripted(Agent):
    def on_connect(self, conn):
        self.client = conn

    async def initialize(self, protocol_version, **_):
        return InitializeResponse(protocol_version=protocol_version)

    async def new_session(self, cwd, **_):
        return NewSessionResponse(session_id="s1")

    async def cancel(self, session_id, **_):
        return None

    async def prompt(self, prompt, session_id, **_):
        tell = self.client.session_update
        await tell(session_id=session_id, update=update_plan([plan_entry("a", status="completed"), plan_entry("b")]))
        cost = float(os.environ.get("AGENT_COST", "0.25"))
        usage = UsageUpdate(session_update="usage_update", used=10, size=100, cost=Cost(amount=cost, currency="USD"))
        await tell(session_id=session_id, update=usage)
        mode = os.environ.get("AGENT_MODE", "")
        if mode == "hang":
            await asyncio.sleep(60)
        if mode == "ask":
            options = [
                PermissionOption(option_id="y", name="Allow", kind="allow_once"),
                PermissionOption(option_id="n", name="Reject", kind="reject_once"),
            ]
            call = ToolCallUpdate(tool_call_id="t1", title="rm -rf build/", kind="execute")
            answer = await self.client.request_permission(session_id=session_id, tool_call=call, options=options)
            if getattr(answer.outcome, "option_id", "") != "y":
                return PromptResponse(stop_reason="cancelled")
        if mode == "refuse":
            return PromptResponse(stop_reason="refusal")
        context = json.loads(Path(os.environ["BACKLOG_CONTEXT"]).read_text())  # noqa: ASYNC240 - a test's agent does nothing else
        text = json.dumps({"success": True, "data": {"title": context["entry"]["title"], "told": prompt[0].text}})
        await tell(session_id=session_id, update=update_agent_message_text(text))
        return PromptResponse(stop_reason="end_turn")


if __name__ == "__main__":
    sys.exit(asyncio.run(run_agent(Scripted())))
