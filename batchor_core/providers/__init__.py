"""Adapters to batch APIs. Everything about one vendor lives in that vendor's module."""
