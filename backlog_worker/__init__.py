"""A Celery worker fleet that drives AI and agent pipelines from a governed backlog; importing it does nothing."""
