"""Things as people read them: entries, runs, reviews and records."""
