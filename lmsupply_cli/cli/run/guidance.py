"""The guidance that the options of `run` ask for."""

from __future__ import annotations

from lmsupply_cli.cli.options import check_one_of
from lmsupply_cli.engine.guidance import Guidance, grammar_of, schema_of
from lmsupply_cli.errors import UsageError


def read_guidance(
    *, json_schema: str | None, regex: str | None, grammar: str | None, form: str | None
) -> Guidance | None:
    """Raises UsageError."""
    check_one_of({"--json-schema": json_schema, "--regex": regex, "--grammar": grammar, "--format": form})
    if json_schema is not None:
        return schema_of(json_schema)
    if regex is not None:
        return Guidance.regex(regex)
    if grammar is not None:
        return grammar_of(grammar)
    if form is None:
        return None
    if form != "json":
        raise UsageError(f"unknown format {form!r}", hint="--format json; --json prints the answer as an object")
    return Guidance.json()
