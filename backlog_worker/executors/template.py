"""The output rendered from the entry, without a model: an issue becomes a technical specification."""

from collections.abc import Sequence

from backlog_worker.domain import specification
from backlog_worker.domain.outcome import Done, Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Work


class TemplateExecutor:
    """Analyses the text of an issue by rules and renders the result; free and deterministic."""

    def perform(self, job: Job, work: Work) -> Result:
        """Return the specification; its sections are the output, its Markdown an artifact."""
        title, body = str(work.entry.get("title", "")), str(work.input.get("body") or "")
        labels, similar = _texts(work.entry.get("labels")), _texts(work.input.get("similar"))
        found = specification.analysed(title, body, labels=labels, similar=similar)
        document = specification.markdown(found, url=str(work.entry.get("url", ""))).encode("utf-8", "replace")
        output = {**found.as_data(), "markdown": document.decode()}
        return Done(output=output, artifacts={f"{job.id}.md": document})


def _texts(given: object) -> list[str]:
    return [str(each) for each in given] if isinstance(given, Sequence) and not isinstance(given, str) else []
