"""Shell completion: the scripts, and the words that they ask for.

A script calls lmsupply with _LMSUPPLY_COMPLETE set and the words of the line as arguments, the
one under the cursor last; it gets one candidate a line, a tab and its help. With no candidate
the shell completes file names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lmsupply_cli.errors import UsageError

ENVIRONMENT = "_LMSUPPLY_COMPLETE"

_SCRIPTS = {
    "bash": """\
# bash completion of lmsupply. Install it:
#   lmsupply completion bash > ~/.local/share/bash-completion/completions/lmsupply
_lmsupply() {
    local candidates
    candidates=$(_LMSUPPLY_COMPLETE=bash lmsupply "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1)
    local IFS=$'\\n'
    COMPREPLY=($candidates)
}
complete -o default -F _lmsupply lmsupply
""",
    "zsh": """\
#compdef lmsupply
# zsh completion of lmsupply. Install it in a folder of your $fpath:
#   lmsupply completion zsh > ~/.zfunc/_lmsupply
_lmsupply() {
    local -a lines candidates
    lines=("${(@f)$(_LMSUPPLY_COMPLETE=zsh lmsupply "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    local line
    for line in $lines; do
        [[ -n $line ]] && candidates+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    if (( $#candidates )); then
        _describe lmsupply candidates
    else
        _files
    fi
}
if [[ $funcstack[1] == _lmsupply ]]; then
    _lmsupply "$@"
else
    compdef _lmsupply lmsupply
fi
""",
    "fish": """\
# fish completion of lmsupply. Install it:
#   lmsupply completion fish > ~/.config/fish/completions/lmsupply.fish
function __lmsupply_finds
    set -l words (commandline -opc) (commandline -ct)
    set -g __lmsupply_found (_LMSUPPLY_COMPLETE=fish lmsupply $words[2..-1] 2>/dev/null)
    test (count $__lmsupply_found) -gt 0
end
complete -c lmsupply -n __lmsupply_finds -f -a '$__lmsupply_found'
""",
    "powershell": """\
# PowerShell completion of lmsupply. Install it:
#   lmsupply completion powershell >> $PROFILE
Register-ArgumentCompleter -Native -CommandName lmsupply -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    if ($wordToComplete -eq '') { $words += '""' }
    $env:_LMSUPPLY_COMPLETE = 'powershell'
    try {
        lmsupply @words 2>$null | ForEach-Object {
            $value, $help = $_ -split "`t", 2
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $(if ($help) { $help } else { $value }))
        }
    } finally {
        Remove-Item Env:_LMSUPPLY_COMPLETE
    }
}
""",
}
SHELLS = tuple(_SCRIPTS)
_ONE_MODEL, _MODELS, _INSTALLED = {"run", "classify", "chat", "show"}, {"pull"}, {"rm", "verify"}


def script(shell: str) -> str:
    """The completion script. Raises UsageError."""
    if shell not in _SCRIPTS:
        raise UsageError(f"no completion for {shell!r}", hint="shells: " + ", ".join(SHELLS))
    return _SCRIPTS[shell]


def candidates(words: list[str]) -> list[tuple[str, str]]:
    """(value, help) for the last of `words`, which follow the program's name."""
    from lmsupply_cli.cli.app import COMMANDS, load_command

    *before, current = words or [""]
    current = current.strip('"')
    if not before:
        top = [*COMMANDS.items(), ("--version", "Show the version."), ("--help", "Show the help.")]
        return _starting(current, top)
    if before[0] not in COMMANDS:
        return []
    command = load_command(before[0])
    options = {
        name: p for p in command.params if p.param_type_name == "option" for name in (*p.opts, *p.secondary_opts)
    }
    last = options.get(before[-1])
    if last is not None and not getattr(last, "is_flag", False):
        return _starting(current, _values(str(last.name)))
    if current.startswith("-"):
        helps = [(name, str(getattr(p, "help", "") or "")) for name, p in options.items() if name.startswith("--")]
        return _starting(current, [*helps, ("--help", "Show the help.")])
    if before[0] == "config":
        return _starting(current, _config_words(before[1:]))
    if before[0] == "completion":
        return _starting(current, [(shell, "") for shell in SHELLS])
    first = not any(not word.startswith("-") for word in before[1:])
    if before[0] in _MODELS or (before[0] in _ONE_MODEL and first):
        return _starting(current, _models())
    return _starting(current, _models(installed=True)) if before[0] in _INSTALLED else []


def complete_words(words: list[str]) -> int:
    import sys

    from lmsupply_cli.render.sanitize import one_line

    for value, help_text in candidates(words):
        if one_line(value) == value:  # a name that could steer the terminal is not offered
            sys.stdout.write(f"{value}\t{one_line(help_text.splitlines()[0]) if help_text else ''}\n")
    return 0


def _starting(current: str, rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(value, text) for value, text in rows if value.startswith(current)]


def _values(option: str) -> list[tuple[str, Any]]:
    """What an option takes, where that is a short list."""
    from lmsupply_cli.config.table import SETTINGS
    from lmsupply_cli.engine.options import PRESETS

    if option == "model":
        return _models()
    if option == "resume":
        return _saved_chats()
    if option == "speculative":
        return [("off", ""), ("ngram", ""), *((f"draft:{ref}", text) for ref, text in _models(installed=True))]
    if option == "form":
        return [("json", "")]
    if option == "preset":
        return [(name, "") for name in PRESETS]
    return [(choice, "") for choice in SETTINGS[option].choices] if option in SETTINGS else []


def _saved_chats() -> list[tuple[str, str]]:
    """By the names of the files alone: quick, and the latest first."""
    from lmsupply_cli.chats.archive import Archive
    from lmsupply_cli.paths import sessions_dir

    return [(name, "") for name in Archive(sessions_dir()).names()]


def _config_words(before: list[str]) -> list[tuple[str, str]]:
    from lmsupply_cli.config.table import SETTINGS

    if not before:
        return [(action, "") for action in ("list", "get", "set", "unset", "path", "edit")]
    if len(before) == 1 and before[0] in ("get", "set", "unset"):
        return [(setting.key, setting.help) for setting in SETTINGS.values()]
    if len(before) == 2 and before[0] == "set" and before[1] in SETTINGS:
        return [(choice, "") for choice in SETTINGS[before[1]].choices]
    return []


def _models(*, installed: bool = False) -> list[tuple[str, str]]:
    from lmsupply_cli.catalogue.lookup import read_catalogue
    from lmsupply_cli.paths import store_root
    from lmsupply_cli.store.locate import installed_models

    rows = {} if installed else {entry.ref: entry.license.id for entry in read_catalogue()}
    return list((rows | {m.ref: "installed" for m in installed_models(store_root())}).items())
