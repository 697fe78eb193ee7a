"""Revisions, NNNN_verb_noun.py: each adds before the new code, or drops after it."""
