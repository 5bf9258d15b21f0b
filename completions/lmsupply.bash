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
    local status=$? IFS=$'\n' candidate
    COMPREPLY=()
    for candidate in $candidates; do
        candidate=${candidate%%$'\t'*}
        COMPREPLY+=("${candidate#"${full%"$own"}"}")
    done
    if ((status != 0)); then
        compopt -o default 2>/dev/null || COMPREPLY=($(compgen -f -- "$own"))
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _lmsupply lmsupply
