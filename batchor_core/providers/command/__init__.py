"""Batches that a command on this machine runs, such as ``vllm run-batch``: no server, and no bill."""

from batchor_core.providers.command.config import CommandProviderConfig

__all__ = ["CommandProviderConfig"]
