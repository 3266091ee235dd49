"""Durable runs of the OpenAI Batch API with typed Pydantic results."""
