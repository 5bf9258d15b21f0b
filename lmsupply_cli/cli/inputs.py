"""The prompt: arguments, files and stdin, joined by blank lines in this order; and the model, where the first word names it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lmsupply_cli.catalogue.lookup import bare_name, closest, read_catalogue
from lmsupply_cli.chat.files import LIMIT_BYTES, decode_text, read_text
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.options import PROMPT_MARK
from lmsupply_cli.config.templates import Template
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.errors import ModelNotFound, ModelNotInstalled, UsageError
from lmsupply_cli.files import expanded, is_file, read_limited
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.locate import installed_models, is_ref
from lmsupply_cli.store.source_paths import no_source

_WAIT_S = 2.0
_NAME = re.compile(r"[A-Za-z][\w.]*([-/:.]?\w[\w.]*)*", re.ASCII)
_PATH = re.compile(r"\.{0,2}/|~/|[A-Za-z]:\\")
_LETTERS = re.compile(r"([a-z]{3,})(?=[-_.]?\d|:|$)", re.ASCII)
_NAME_LIKE = re.compile(r"[\d/:]|\w[-.]\w")  # found in model names but not in words
_TAGGED = re.compile(r"[A-Za-z][\w.-]*:[\w.-]*\w", re.ASCII)


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """What the command line says about the prompt. `words`: the positional arguments, `prompt`: of `--prompt`; `continues`:
    it goes on from the last run or chat; `command`: the one that hints name, with the options that it needs."""

    words: Sequence[str] = ()
    prompt: str | None = None
    files: Sequence[str] = ()
    system: str | None = None
    raw: bool = False
    no_stdin: bool = False
    continues: bool = False
    no_save: bool = False
    template: Template | None = None
    command: str = "run"


@dataclass(frozen=True, slots=True)
class RunInput:
    """`model`: as the user named it, None if they did not; `prompt` is "" where a model was named without one. `named_by`:
    the template that named it; `guessed`: the first word of a prompt was taken for it."""

    model: str | None
    prompt: str
    system: str = ""
    named_by: str = ""
    guessed: bool = False

    @contextmanager
    def explained(self, command: str) -> Iterator[None]:
        """In the block, a model that is not found is named by where it comes from, with what else its name may be."""
        try:
            yield
        except (ModelNotFound, ModelNotInstalled) as error:
            if not error.hint:  # the user declined
                raise
            start = f"{self.named_by}: " if self.named_by else ""
            prompt = f". {_as_prompt(command, self.model)}" if self.guessed else ""
            raise type(error)(start + error.message, hint=error.hint + prompt) from error

    @property
    def messages(self) -> list[ChatMessage]:
        """Raises UsageError for text that is not Unicode."""
        found = [ChatMessage.system(self.system)] if self.system else []
        found.append(ChatMessage.user(self.prompt))
        for message in found:
            check_text(message.content)
        return found


def read_input(ctx: Context, request: PromptRequest, *, model: str | None) -> RunInput:
    """Split the positional arguments into model and prompt, and join what belongs to the prompt. Raises UsageError."""
    given = model
    model, words = split_words(ctx, request, model=model)
    found = named_input(request, model, words, guessed=given is None)
    piped = "" if request.no_stdin or ctx.terminal.stdin_tty else read_stdin(ctx.terminal, optional=True)
    parts = [" ".join(words), *(read_text(Path(file)) for file in request.files), piped]
    prompt = "\n\n".join(part.strip("\r\n") for part in parts if part.strip())
    system = request.system
    if template := request.template:
        prompt, system = template.filled(prompt), template.system if system is None else system
    if not prompt and found.model is None:
        raise no_prompt(request.command)
    return replace(found, prompt=prompt, system=system or "")


def named_input(request: PromptRequest, model: str | None, words: Sequence[str], *, guessed: bool) -> RunInput:
    """The model without the prompt: that of the words, else that of the template. `guessed`: no option named it."""
    if model is None and request.template and request.template.model:
        return RunInput(request.template.model, "", named_by=f"template {request.template.name}")
    return RunInput(model, "", guessed=guessed and model is not None and bool(words))


def no_prompt(command: str, model: str = "") -> UsageError:
    named = f"{model} " if model else ""
    return UsageError("no prompt", hint=f'add one: lmsupply {command} {named}"your question", or pipe it in')


def split_words(ctx: Context, request: PromptRequest, *, model: str | None) -> tuple[str | None, list[str]]:
    """(model, words of the prompt). The first word is the model if it can be one; `--` or `--prompt` ends all doubt.
    Raises UsageError for a word that is nearly the name of a model, if the user cannot be asked or does not mean it."""
    words = list(request.words)
    mark = words.index(PROMPT_MARK) if PROMPT_MARK in words else None
    head, tail = (words, []) if mark is None else (words[:mark], words[mark + 1 :])
    if model is None and head and not head[0]:
        raise UsageError("the first argument is empty", hint="is a variable unset?")
    if model is None and head:
        if is_ref(head[0], ctx.root):
            model = head.pop(0)
        elif mark is None and request.prompt is None and (near := suspected_ref(head[0], ctx.root)) is not None:
            model = _confirmed(ctx.terminal, head.pop(0), near, command=request.command)
    if request.prompt is None:
        return model, [*head, *tail]
    if len(head) == 1 and not tail and model is None:
        raise _no_model(head[0], suspected_ref(head[0], ctx.root) or "")
    if head or tail:
        given = " ".join([*head, *tail])
        raise UsageError(f"the prompt is given twice: --prompt and {given!r}", hint="use one of them")
    return model, [request.prompt]


def _confirmed(terminal: Terminal, word: str, near: str, *, command: str) -> str:
    if near and terminal.stdin_tty and terminal.stderr_tty and terminal.ask(f"{word} is not a model. Use {near}?"):
        return near
    meant = f"did you mean {near}?" if near else "lmsupply models lists the models; -f adds a file to the prompt."
    if missing := no_source(word):
        raise UsageError(missing.message, hint=f"{missing.hint}. {_as_prompt(command, word)}".replace("?.", "?"))
    is_missing = _PATH.match(word) and not is_file(expanded(word))
    what = f"no such folder: {word}" if is_missing else f"{word} is not a model"
    raise UsageError(what, hint=f"{meant} {_as_prompt(command, word)}")


def _as_prompt(command: str, word: str | None) -> str:
    return f"If it begins your prompt: lmsupply {command} -- {word} …"


def _no_model(word: str, near: str) -> UsageError:
    hint = f"did you mean {near}?" if near else "lmsupply models lists the models"
    return UsageError(f"{word} is not a model", hint=f"{hint}; with --prompt, the only argument can be a model")


def suspected_ref(word: str, root: Path) -> str | None:
    """The model that a misspelled word may mean; "" if it looks like a model name and none is close; None
    if it looks like a word of a prompt."""
    if not re.search(r"\s", word) and (_PATH.match(word) or no_source(word)):
        return ""
    if not _NAME.fullmatch(word):
        return None
    installed = [model.ref for model in installed_models(root)]
    for ref in installed:
        if len(ref) >= 4 and _one_edit(word.lower(), ref.lower()):
            return ref
    families = {entry.family.partition("-")[0] for entry in read_catalogue() if entry.repo}
    of_family = _letters(word) in families
    near = closest(word.lower().removesuffix(":latest"), installed) if of_family or _NAME_LIKE.search(word) else ""
    if of_family or _TAGGED.fullmatch(word):
        return near
    one, other = bare_name(word), bare_name(near)
    return near if near and (one == other or _one_edit(one, other)) else None


def _letters(name: str) -> str:
    """Those at its start, if a digit, a tag or nothing follows: "llama" for "llama3" and "llama:8b"."""
    found = _LETTERS.match(name.lower())
    return found[1] if found else ""


def _one_edit(one: str, other: str) -> bool:
    """Whether one character added, removed or changed makes them equal."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1 or one == other:
        return False
    at = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return short[at + (len(short) == len(long)) :] == long[at + 1 :]


def read_stdin(terminal: Terminal, *, limit_bytes: int = LIMIT_BYTES, optional: bool = False) -> str:
    """All of stdin, "" if it is closed. If that takes a while, a note says what is being waited for; `optional`: and how
    to do without it."""
    if terminal.stdin is None:
        return ""
    note = "note: waiting for input on stdin; end it with Ctrl-D" + (", or use --no-stdin" if optional else "")
    waiting = threading.Timer(_WAIT_S, terminal.say, [note])
    waiting.daemon = True
    waiting.start()
    try:
        binary = getattr(terminal.stdin, "buffer", None)
        data = read_limited(binary, limit_bytes) if binary else terminal.stdin.read(limit_bytes + 1).encode()
    finally:
        waiting.cancel()
    return decode_text(data, "stdin", limit_bytes=limit_bytes)
