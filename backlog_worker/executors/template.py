"""The output rendered from the entry, without a model: an issue becomes a technical specification."""

from backlog_worker.domain import specification
from backlog_worker.domain.outcome import Done, Result
from backlog_worker.domain.pipeline import Job
from backlog_worker.executors import Work


class TemplateExecutor:
    """Analyses the text of an issue by rules and renders what it found; costs nothing, and says the same every time."""

    def perform(self, job: Job, work: Work) -> Result:
        """Write the specification; its sections are the output, its Markdown an artifact."""
        title, body = str(work.entry.get("title", "")), str(work.input.get("body") or "")
        found = specification.analysed(title, body, labels=[str(each) for each in work.entry.get("labels", ())])
        document = specification.markdown(found, url=str(work.entry.get("url", "")))
        return Done(output=found.as_data(), artifacts={f"{job.id}.md": document.encode()})
