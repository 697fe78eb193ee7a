"""The text of an issue to a technical specification, by rules and without a model."""

from backlog_worker.domain.specification.analysis import Specification, analysed
from backlog_worker.domain.specification.render import markdown

__all__ = ["Specification", "analysed", "markdown"]
