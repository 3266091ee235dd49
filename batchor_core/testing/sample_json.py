"""The simplest value that satisfies a strict JSON schema."""

from __future__ import annotations

from typing import Any

_FORMATS = {
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "date-time": "2026-01-01T00:00:00Z",
    "duration": "PT1S",
    "email": "a@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample_json(schema: dict[str, Any]) -> Any:
    """Return a value for ``schema``: the first choice of unions and enums, empty arrays, the least numbers.

    Recursion ends where a union offers null or an array may be empty. Patterns are not looked at.
    """
    return _sample(schema, schema)


def _sample(node: dict[str, Any], root: dict[str, Any]) -> Any:
    if "$ref" in node:
        return _sample(_resolve(node["$ref"], root), root)
    if "const" in node:
        return node["const"]
    if "enum" in node:
        return node["enum"][0]
    if "anyOf" in node:
        if any(choice.get("type") == "null" for choice in node["anyOf"]):
            return None
        return _sample(node["anyOf"][0], root)
    kind = node.get("type")
    if isinstance(kind, list):
        kind = "null" if "null" in kind else kind[0]
    match kind:
        case "object":
            return {name: _sample(part, root) for name, part in node.get("properties", {}).items()}
        case "array":
            return [_sample(node["items"], root) for _ in range(node.get("minItems", 0))]
        case "string":
            return _FORMATS.get(node.get("format", ""), "text").ljust(node.get("minLength", 0), "x")
        case "integer" | "number":
            return _least(node, whole=kind == "integer")
        case "boolean":
            return True
        case _:
            return None


def _least(node: dict[str, Any], *, whole: bool) -> float:
    low = node.get("minimum", node.get("exclusiveMinimum"))
    high = node.get("maximum", node.get("exclusiveMaximum"))
    if low is None:
        low = 1 if high is None or high > 1 else high - 1
    if node.get("exclusiveMinimum") == low:
        low += 1 if whole or high is None else (high - low) / 2
    step = node.get("multipleOf")
    value = low if not step else -(-low // step) * step
    return int(value) if whole else value


def _resolve(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    node: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        node = node[part] if part else node
    return dict(node)
