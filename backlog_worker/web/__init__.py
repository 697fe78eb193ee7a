"""Programs over HTTP: a thin door in front of the same steps, with tokens, scopes and problems as answers."""
