"""The HTTP API: a thin door to the lifecycle, with tokens, scopes and problem responses."""
