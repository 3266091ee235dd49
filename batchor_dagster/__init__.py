"""Durable LLM batch runs as Dagster assets."""
