"""Shell completion: the scripts, and the words that they ask for.

A script calls lmsupply with _LMSUPPLY_COMPLETE set and the words of the line as arguments, the
one under the cursor last; it gets one candidate a line, a tab and its help. Exit status 0: these are
all there are, even if there are none; any other status: the shell completes file names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lmsupply_cli.errors import UsageError

FILES = 1  # exit status

_SCRIPTS = {
    "bash": """\
# bash completion of lmsupply. Install it:
#   mkdir -p ~/.local/share/bash-completion/completions
#   lmsupply completion bash > ~/.local/share/bash-completion/completions/lmsupply
_lmsupply() {
    # bash breaks words at = and :, so they are put together again from the line
    local rest=${COMP_LINE:0:COMP_POINT} words=() bare word i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        bare=${rest#"${rest%%[![:space:]]*}"}
        word=${COMP_WORDS[i]}
        ((i == COMP_CWORD)) && word=$bare
        if ((i > 0)) && [[ $bare == "$rest" ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        rest=${bare#"$word"}
    done
    local full=${words[${#words[@]}-1]} own=$word candidates
    [[ $own == [=:] ]] && own=
    candidates=$(_LMSUPPLY_COMPLETE=bash lmsupply "${words[@]:1}" 2>/dev/null)
    local status=$? IFS=$'\\n' candidate
    COMPREPLY=()
    for candidate in $candidates; do
        candidate=${candidate%%$'\\t'*}
        COMPREPLY+=("${candidate#"${full%"$own"}"}")
    done
    if ((status != 0)); then
        compopt -o default 2>/dev/null || COMPREPLY=($(compgen -f -- "$own"))
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _lmsupply lmsupply
""",
    "zsh": """\
#compdef lmsupply
# zsh completion of lmsupply. Install it in a folder of your $fpath:
#   mkdir -p ~/.zfunc
#   lmsupply completion zsh > ~/.zfunc/_lmsupply
_lmsupply() {
    local -a candidates
    local lines line value help
    lines=$(_LMSUPPLY_COMPLETE=zsh lmsupply "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( $? )); then
        _files
        return
    fi
    for line in "${(@f)lines}"; do
        value=${line%%$'\\t'*} help=${line#*$'\\t'}
        [[ -n $value ]] && candidates+=("${value//:/\\\\:}${help:+:$help}")
    done
    (( $#candidates )) && _describe lmsupply candidates
}
if [[ $funcstack[1] == _lmsupply ]]; then
    _lmsupply "$@"
else
    compdef _lmsupply lmsupply
fi
""",
    "fish": """\
# fish completion of lmsupply. Install it:
#   mkdir -p ~/.config/fish/completions
#   lmsupply completion fish > ~/.config/fish/completions/lmsupply.fish
function __lmsupply_finds
    set -l words (commandline -opc) (commandline -ct)
    set -g __lmsupply_found (_LMSUPPLY_COMPLETE=fish lmsupply $words[2..-1] 2>/dev/null)
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
_ONE_MODEL, _MODELS, _INSTALLED = {"run", "classify", "chat", "show", "use"}, {"pull"}, {"rm", "verify"}
Row = tuple[str, str]


def script(shell: str) -> str:
    """The completion script. Raises UsageError."""
    if shell not in _SCRIPTS:
        raise UsageError(f"no completion for {shell!r}", hint="shells: " + ", ".join(SHELLS))
    return _SCRIPTS[shell]


def candidates(words: list[str]) -> list[Row] | None:
    """(value, help) for the last of `words`, which follow the program's name; None where a file name belongs."""
    from lmsupply_cli.cli.app import COMMANDS, with_synonyms

    *before, current = words or [""]
    current = current.strip('"')
    if not before:
        top = [*COMMANDS.items(), ("--version", "Show the version."), ("--help", "Show the help.")]
        return _starting(current, top)
    if before[0] == "help":
        return _starting(current, COMMANDS.items()) if len(before) == 1 else []
    name, *before = with_synonyms(before)
    return _of_command(name, before, current) if name in COMMANDS else []


def _of_command(command: str, before: list[str], current: str) -> list[Row] | None:
    from lmsupply_cli.cli.app import load_command

    options = {
        name: p
        for p in load_command(command).params
        if p.param_type_name == "option" and not getattr(p, "hidden", False)
        for name in (*p.opts, *p.secondary_opts)
    }
    if "--" in before:  # what follows are words, whatever they begin with
        at = before.index("--")
        words = [*_positional(before[:at], options), *before[at + 1 :]]
        return _argument(command, words, current) if command in _MODELS | _INSTALLED else []
    last = options.get(before[-1]) if before else None
    if last is not None and not getattr(last, "is_flag", False):
        return _option_values(last, current)
    option, equals, value = current.partition("=")
    if equals and option in options:
        found = _option_values(options[option], value)
        return found and [(f"{option}={one}", text) for one, text in found]
    if current.startswith("-"):
        helps = [(name, str(getattr(p, "help", "") or "")) for name, p in options.items() if name.startswith("--")]
        return _starting(current, [*helps, ("--help", "Show the help.")])
    return _argument(command, _positional(before, options), current)


def _positional(words: list[str], options: dict[str, Any]) -> list[str]:
    """Without options and their values."""
    found, value = [], False
    for word in words:
        option = options.get(word)
        if not value and not word.startswith("-"):
            found.append(word)
        value = option is not None and not getattr(option, "is_flag", False)
    return found


def _argument(command: str, before: list[str], current: str) -> list[Row] | None:
    """For an argument that is not an option; `before`: the arguments before it."""
    if command == "config":
        return _config_words(before, current)
    if command == "templates":
        return _template_words(before, current)
    if command == "completion":
        return _starting(current, [(shell, "") for shell in SHELLS if not before])
    if command == "add":
        return [] if before else None
    if command in _MODELS:
        return _starting(current, _models())
    if command in _ONE_MODEL:
        found = [] if before else _starting(current, _models())
        return found or None  # a folder is a model too
    return _starting(current, _models(installed=True)) if command in _INSTALLED else []


def complete_words(words: list[str]) -> int:
    """Print the candidates; the exit status that the scripts expect."""
    import sys

    from lmsupply_cli.render.sanitize import one_line

    found = candidates(words)
    for value, help_text in found or ():
        if one_line(value) == value:  # a name that could steer the terminal is not offered
            sys.stdout.write(f"{value}\t{one_line(help_text.splitlines()[0]) if help_text else ''}\n")
    return FILES if found is None else 0


def _starting(current: str, rows: Iterable[Row]) -> list[Row]:
    return [(value, text) for value, text in rows if value.startswith(current)]


def _option_values(option: Any, current: str) -> list[Row] | None:
    """Those that begin with `current`; None where an option takes a file, or any text."""
    name = str(option.name)
    if name == "cache_dir" or (option.metavar or "").startswith(("FILE", "CONFIG")):
        return None
    return _starting(current, _values(name))


def _values(option: str) -> list[Row]:
    """What an option takes, where that is a short list."""
    from lmsupply_cli.engine.options import PRESETS

    own = {"model": _models, "revoke": _accepted, "resume": _saved_chats, "template": _templates}
    if option in own:
        return own[option]()
    if option == "form":
        return [("json", "")]
    if option == "preset":
        return [(name, "") for name in PRESETS]
    if option == "sort":
        from lmsupply_cli.cli.models.listing import SORTS

        return [(key, "") for key in SORTS]
    if option == "license_tier":
        return _setting_values("allowed_tiers")
    if option == "role":
        return [(name.removeprefix("role:"), text) for name, text in _roles()]
    if option in ("family", "license"):
        return _of_catalogue(option)
    return _setting_values(option)


def _setting_values(key: str) -> list[Row]:
    from lmsupply_cli.catalogue.entry import TIERS
    from lmsupply_cli.config.table import SETTINGS

    if key == "speculative":
        return [("off", ""), ("ngram", ""), *((f"draft:{ref}", text) for ref, text in _models(installed=True))]
    if key == "precision":
        from lmsupply_cli.providers import PRECISIONS

        return [(name, "") for name in ("auto", *PRECISIONS)]
    if key == "default_model":
        return _models()
    if key == "allowed_tiers":
        return [(tier, "") for tier in TIERS]
    if key == "allowed_licenses":
        return _of_catalogue("license")
    if key not in SETTINGS:
        return []
    return [(choice, "") for choice in (("on", "off") if SETTINGS[key].kind == "bool" else SETTINGS[key].choices)]


def _of_catalogue(what: str) -> list[Row]:
    from lmsupply_cli.catalogue.lookup import read_catalogue

    return [(name, "") for name in sorted({e.family if what == "family" else e.license.id for e in read_catalogue()})]


def _accepted() -> list[Row]:
    from lmsupply_cli.catalogue.acceptance import read_acceptances

    return [(row.ref, row.license) for row in read_acceptances()]


def _saved_chats() -> list[Row]:
    """By the names of the files alone: quick, and the latest first."""
    from lmsupply_cli.chats.archive import Archive
    from lmsupply_cli.paths import sessions_dir

    return [(name, "") for name in Archive(sessions_dir()).names()]


def _config_words(before: list[str], current: str) -> list[Row] | None:
    from lmsupply_cli.cli.config import ACTIONS
    from lmsupply_cli.config.table import SETTINGS

    if not before:
        return _starting(current, [(action, "") for action in ACTIONS])
    if len(before) == 1 and before[0] in ("get", "set", "unset"):
        return _starting(current, [(setting.key, setting.help) for setting in SETTINGS.values()])
    if before[0] == "set" and before[1] in SETTINGS and (len(before) == 2 or SETTINGS[before[1]].kind == "list"):
        return None if before[1] == "cache_dir" else _starting(current, _setting_values(before[1]))
    return []


def _template_words(before: list[str], current: str) -> list[Row]:
    from lmsupply_cli.cli.templates import ACTIONS

    if not before:
        return _starting(current, [(action, "") for action in ACTIONS])
    return _starting(current, _templates()) if before[0] in ("show", "edit") and len(before) == 1 else []


def _templates() -> list[Row]:
    from lmsupply_cli.config.templates import template_names

    return [(name, "") for name in template_names()]


def _roles() -> list[Row]:
    from lmsupply_cli.catalogue.lookup import read_catalogue
    from lmsupply_cli.catalogue.roles import ROLES

    own = {role: "" for entry in read_catalogue() for role in entry.roles}
    return [(f"role:{name}", text) for name, text in (own | {role.name: role.help for role in ROLES}).items()]


def _models(*, installed: bool = False) -> list[Row]:
    """The names of models; `installed`: only of those that are here, without the roles."""
    from lmsupply_cli.catalogue.lookup import read_catalogue
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.paths import settings_file, store_root
    from lmsupply_cli.store.locate import installed_models
    from lmsupply_cli.store.unique_refs import unique_refs

    root = store_root(read_settings(path=settings_file(), skip_bad=True).get("cache_dir"))

    rows = {} if installed else {entry.ref: entry.license.id for entry in read_catalogue()}
    here = installed_models(root)
    return [
        *(rows | dict.fromkeys([*(m.ref for m in here), *unique_refs(here)], "installed")).items(),
        *([] if installed else _roles()),
    ]
