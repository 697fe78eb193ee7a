"""What must never be, under faults."""
