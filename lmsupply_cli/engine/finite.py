"""Whether a JSON schema has an instance that ends: a reference that always leads back to itself has none.

The engine finds what cannot be satisfied at once (an empty enum, more items than are allowed). A circle it follows
without an end, or takes for nothing at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

_SCALARS = {"null", "boolean", "integer", "number", "string"}


def has_instance(schema: Mapping[str, Any]) -> bool:
    """False only where no finite value can follow the schema, because of what it requires of itself."""
    ends: set[str] = set()  # references to what has an instance
    waiting: dict[str, set[str]] = defaultdict(set)
    asked, todo = {"#"}, ["#"]
    while todo:
        ref = todo.pop()
        if ref in ends:
            continue
        look = _Look(ends)
        target = _resolve(schema, ref)
        if look.ends(target):
            ends.add(ref)
            todo += waiting.pop(ref, ())
            continue
        for other in look.missed:
            waiting[other].add(ref)
        todo += look.missed - asked
        asked |= look.missed
    return "#" in ends


class _Look:
    """One look at a schema, by what is known; `missed`: references whose end is not known, and would count."""

    def __init__(self, known: set[str]) -> None:
        self._known = known
        self.missed: set[str] = set()

    def ends(self, schema: Any) -> bool:
        if not isinstance(schema, Mapping):
            return schema is not False
        if isinstance(ref := schema.get("$ref"), str) and ref not in self._known:
            self.missed.add(ref)
            return False
        if not all(self.ends(part) for part in _parts(schema, "allOf")):
            return False
        for keyword in ("anyOf", "oneOf"):
            if (parts := _parts(schema, keyword)) and not any(self.ends(part) for part in parts):
                return False
        if "const" in schema or "enum" in schema:
            return True
        types = schema.get("type")
        allowed = {types} if isinstance(types, str) else set(filter(None, types or ())) if types else {"string"}
        return (
            bool(allowed & _SCALARS)
            or ("object" in allowed and self._object_ends(schema))
            or ("array" in allowed and self._array_ends(schema))
        )

    def _object_ends(self, schema: Mapping[str, Any]) -> bool:
        named, required = schema.get("properties"), schema.get("required")
        if not isinstance(named, Mapping):
            named = {}
        # which pattern a name matches is the engine's to find out
        other = "patternProperties" in schema or schema.get("additionalProperties", True)
        names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        return all(self.ends(named.get(name, other)) for name in names)

    def _array_ends(self, schema: Mapping[str, Any]) -> bool:
        least = wanted if isinstance(wanted := schema.get("minItems"), int) else 0
        items = schema.get("items", True)
        first = items if isinstance(items, list) else _parts(schema, "prefixItems")
        rest = schema.get("additionalItems", True) if isinstance(items, list) else items
        return all(self.ends(part) for part in first[:least]) and (least <= len(first) or self.ends(rest))


def _parts(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _resolve(schema: Mapping[str, Any], ref: str) -> Any:
    """What a reference inside the schema names; an unknown one counts as free, the engine refuses it."""
    found: Any = schema
    for part in unquote(ref.removeprefix("#")).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping) and name in found:
            found = found[name]
        else:
            return True
    return found
