"""`params`: every knob that params.yaml may hold, with its default, what it may be and what it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from models import plugins
from models.names import there_are
from models.params import Block
from tasks.order import ORDER, load_stage
from tasks.params import RunParams

Schema = Mapping[str, Any]
LIMITS = {
    "minimum": "{} or more",
    "exclusiveMinimum": "over {}",
    "maximum": "{} or less",
    "exclusiveMaximum": "under {}",
}


@dataclass(frozen=True)
class Knob:
    """One key of params.yaml. required: it has no default. setting: what the file at hand says, None if nothing."""

    name: str
    default: Any
    required: bool
    allowed: str
    description: str
    setting: Any = None


def knobs(block: str | None = None, raw: Mapping[str, Any] | None = None) -> list[Knob]:
    """All of them in the order of the pipeline, or those of a block: run, run.teacher, a stage, a plug-in, a family.

    raw: what a params.yaml holds. A source's knobs are written in its entry of `ingest.sources`. Raises ValueError for
    an unknown block.
    """
    every = [knob for name, model in blocks().items() for knob in _knobs_of(model, name, raw or {})]
    if block is None:
        return every
    found = [knob for knob in every if f"{knob.name}.".startswith(f"{block}.")]
    if not found and block not in blocks():
        names = ["run", *ORDER, *plugins.FAMILIES, *(name for name in blocks() if "." in name)]
        raise ValueError(f"unknown block {block!r}; {there_are(names, block)}")
    return found


def blocks() -> dict[str, type[Block]]:
    """The model of each block by its dotted name: run, the stages, then the plug-ins."""
    stages = {name: load_stage(name).Params for name in ORDER}
    families = {
        f"{family}.{name}": plugins.load(family, name).Params
        for family in plugins.FAMILIES
        for name in plugins.known(family)
    }
    return {"run": RunParams, **stages, **families}


def _knobs_of(model: type[BaseModel], prefix: str, raw: Mapping[str, Any]) -> Iterator[Knob]:
    schema = model.model_json_schema()
    for key, field in model.model_fields.items():
        name = f"{prefix}.{key}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _knobs_of(field.annotation, name, raw)
            continue
        own = schema["properties"][key]
        if "const" in own:
            continue  # it only says which block this is
        default = own["default"] if "default" in own else field.get_default(call_default_factory=True)
        yield Knob(
            name=name,
            default=None if field.is_required() else default,
            required=field.is_required(),
            allowed=_plugins_for(key) or allowed(own, schema.get("$defs", {})),
            description=" ".join((field.description or "").split()),
            setting=_setting(raw, name),
        )


def _plugins_for(key: str) -> str:
    """`teach.teacher` names one of the teachers, and so on."""
    family = f"{key}s"
    return ", ".join(plugins.known(family)) if family in plugins.FAMILIES and family != "sources" else ""


def allowed(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    """A JSON schema in words: `0 to 1`, `1 or more, or null`, `list of x, y, z`."""
    if "$ref" in schema:
        return allowed(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return ", or ".join(allowed(choice, definitions) for choice in schema["anyOf"])
    if choices := schema.get("enum") or schema.get("examples"):
        return ", ".join(map(str, choices))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _limits(schema) or ("whole number" if kind == "integer" else "number")
    if kind == "array":
        inner = [allowed(item, definitions) for item in schema.get("prefixItems", [schema.get("items", {})])]
        return f"[{', '.join(inner)}]" if "prefixItems" in schema else f"list of {inner[0]}"
    words = {"boolean": "true, false", "string": "text", "null": "null", "object": "names and values"}
    return words.get(str(kind), "anything")


def _limits(schema: Schema) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    return ", ".join(words.format(schema[limit]) for limit, words in LIMITS.items() if limit in schema)


def _setting(raw: Mapping[str, Any], name: str) -> Any:
    value: Any = raw
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
