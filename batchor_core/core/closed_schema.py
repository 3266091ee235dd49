"""Pydantic's JSON Schemas, rewritten as closed ones: every property required, no other allowed, no notes for people.

Nothing raises here. Each provider's package checks what the provider still refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import unquote

from batchor_core.core.types import JSONObject

Node = dict[str, Any]

DEFINITION = "#/$defs/"
FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
LOOKAROUND = re.compile(r"\(\?<?[=!]")
# Notes for people and OpenAPI tools, which cost prompt tokens, and rules that the model class checks by itself
_DROPPED = {
    *("title", "examples", "deprecated", "readOnly", "writeOnly", "discriminator", "$comment"),
    *("uniqueItems", "contentEncoding", "contentMediaType", "contentSchema"),
}


def closed_schema(plain: Node) -> JSONObject:
    """A schema of Pydantic's as a closed one, wherever that loses nothing."""
    return _Rewriting(plain).schema()


class _Rewriting:
    """Rewrites a schema of Pydantic's in the dialect of strict mode, wherever that loses nothing."""

    def __init__(self, plain: Node) -> None:
        self._root = plain
        self._plain: dict[str, Any] = plain.get("$defs", {})
        self._done: dict[str, Node] = {}
        self._open: set[str] = set()

    def schema(self) -> JSONObject:
        root = self._node({key: value for key, value in self._root.items() if key != "$defs"})
        if "$ref" in root:  # a recursive model refers to itself from the root
            root = dict(self._definition(definition_name(root["$ref"])) or root)
        definitions = self._reachable(root)
        return cast(JSONObject, {**root, "$defs": definitions} if definitions else root)

    def _node(self, node: Any) -> Node:
        if not isinstance(node, dict):
            return {"type": node}  # such as True, left for the check to refuse
        node = {key: value for key, value in node.items() if key not in _DROPPED and not key.startswith("x-")}
        if isinstance(node.get("allOf"), list) and len(node["allOf"]) == 1:
            node = {**node.pop("allOf")[0], **node}
        if "$ref" in node and len(node) > 1:
            return self._inlined(node)
        return self._spelled(node)

    def _inlined(self, node: Node) -> Node:
        # strict dialects take no keywords beside $ref, so what it refers to is put in its place
        ref = node.pop("$ref")
        target = self._definition(definition_name(ref))
        return {"$ref": ref} if target is None else {**target, **node}

    def _definition(self, name: str) -> Node | None:
        """The rewritten definition; None while it is being rewritten itself, or when there is none."""
        if name in self._open or name not in self._plain:
            return None
        if name not in self._done:
            self._open.add(name)
            self._done[name] = self._node(self._plain[name])
            self._open.remove(name)
        return self._done[name]

    def _spelled(self, node: Node) -> Node:
        # Pydantic writes oneOf for discriminated unions only, whose tags make them exclusive anyway
        if "oneOf" in node and "anyOf" not in node:
            node["anyOf"] = node.pop("oneOf")
        if isinstance(node.get("anyOf"), list):
            node["anyOf"] = [self._node(choice) for choice in node["anyOf"]]
        if "items" in node:
            node["items"] = self._node(node["items"])
        if "type" not in node and ("enum" in node or "const" in node):
            node = {"type": _types_of(node.get("enum", [node.get("const")])), **node}
        if node.get("format") not in FORMATS:
            node.pop("format", None)
        if LOOKAROUND.search(str(node.get("pattern", ""))):
            del node["pattern"]
        if isinstance(node.get("properties"), dict):
            node = self._closed(node)
        return node

    def _closed(self, node: Node) -> Node:
        properties = {name: self._node(value) for name, value in node["properties"].items()}
        required = set(node.get("required", ()))
        for name, value in properties.items():
            if value.get("default", "") is None and _takes_null(value):
                # with every property required, the model says null where it would have left the property out
                del value["default"]
                required.add(name)
        return {
            "type": "object",
            **node,
            "properties": properties,
            "required": [name for name in properties if name in required],
            "additionalProperties": node.get("additionalProperties", False),
        }

    def _reachable(self, root: Node) -> dict[str, Node]:
        found: dict[str, Node] = {}
        waiting = [root]
        while waiting:
            for ref in _refs(waiting.pop()):
                name = definition_name(ref)
                if name not in found and (target := self._definition(name)) is not None:
                    found[name] = target
                    waiting.append(target)
        return found


def _takes_null(node: Node) -> bool:
    kinds = node.get("type")
    if kinds == "null" or (isinstance(kinds, list) and "null" in kinds):
        return True
    return any(isinstance(choice, dict) and _takes_null(choice) for choice in node.get("anyOf", ()))


def _types_of(values: list[Any]) -> str | list[str]:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    kinds = list(dict.fromkeys(names.get(type(value), "object") for value in values))
    return kinds[0] if len(kinds) == 1 else kinds


def children(node: Mapping[str, Any]) -> list[Any]:
    items = [node["items"]] if "items" in node else []
    return [*node.get("properties", {}).values(), *node.get("anyOf", ()), *items]


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in children(node):
            yield from _refs(child)


def definition_name(ref: str) -> str:
    return unquote(ref.removeprefix(DEFINITION)).replace("~1", "/").replace("~0", "~")
