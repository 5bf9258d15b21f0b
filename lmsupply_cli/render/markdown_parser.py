"""The Markdown that answers are read as: CommonMark with tables, minus the rules that hide characters.

Emphasis, headings, lists, tables, rules and code are markup. Everything else stays text: HTML, links, entities,
blockquote marks and backslashes. A line break is a line break.
"""

from __future__ import annotations

import re
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.backticks import backtick
from markdown_it.token import Token

_HIDING = (
    "html_block", "html_inline", "autolink", "link", "image", "reference", "entity", "blockquote", "lheading",
)  # fmt: skip
_ESCAPABLE = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_DUNDER = re.compile(r"__[A-Za-z0-9_]+?__(?![A-Za-z0-9_])")  # __init__, which is a name
_OPERATOR = re.compile(r"(?<=[A-Za-z0-9])\*{1,2}(?=[A-Za-z0-9])")  # 2*3 and 2**3
_NESTING = 60


def parse(source: str) -> list[Token]:
    return _parser().parse(source)


def code_blocks(source: str) -> list[str]:
    """The texts of the fenced code blocks; one that is still open ends with the text."""
    return [token.content.removesuffix("\n") for token in parse(source) if token.type == "fence"]


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"maxNesting": _NESTING}).enable("table").disable(list(_HIDING))
    inline = parser.inline.ruler
    inline.at("escape", _keep_backslash)
    inline.at("newline", _line_break)
    inline.at("backticks", _code)
    inline.before("emphasis", "literal", _literal)
    return parser


def _keep_backslash(state: StateInline, silent: bool) -> bool:
    r"""`\*` stays as it is, and its star is no emphasis."""
    following = state.src[state.pos + 1 : state.pos + 2]
    if state.src[state.pos] != "\\" or following not in _ESCAPABLE or state.pos + 1 >= state.posMax:
        return False
    if not silent:
        state.pending += "\\" + following
    state.pos += 2
    return True


def _line_break(state: StateInline, silent: bool) -> bool:
    """A line break; the indent of the next line stays."""
    if state.src[state.pos] != "\n":
        return False
    if not silent:
        state.pending = state.pending.rstrip(" ")
        state.push("hardbreak", "br", 0)
    state.pos += 1
    return True


def _code(state: StateInline, silent: bool) -> bool:
    """A code span that keeps its line breaks."""
    begin, known = state.pos, len(state.tokens)
    if not backtick(state, silent):
        return False
    if len(state.tokens) > known and state.tokens[-1].type == "code_inline":
        token = state.tokens[-1]
        marks = len(token.markup)
        content = state.src[begin + marks : state.pos - marks]
        if content.startswith(" ") and content.endswith(" ") and content.strip(" "):
            content = content[1:-1]
        token.content = content
    return True


def _literal(state: StateInline, silent: bool) -> bool:
    """Stars and underscores that are part of a name or a formula."""
    if state.src[state.pos] not in "*_":
        return False
    found = _OPERATOR.match(state.src, state.pos) or _DUNDER.match(state.src, state.pos)
    if found is None or (state.src[state.pos] == "_" and state.src[state.pos - 1 : state.pos].isalnum()):
        return False
    if not silent:
        state.pending += found[0]
    state.pos = found.end()
    return True
