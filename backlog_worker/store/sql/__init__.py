"""One set of modules for PostgreSQL and SQLite; `memory` is SQLite in memory."""
