"""The revisions, one small step each."""
