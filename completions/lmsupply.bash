# bash completion of lmsupply. Install it:
#   lmsupply completion bash > ~/.local/share/bash-completion/completions/lmsupply
_lmsupply() {
    local candidates
    candidates=$(_LMSUPPLY_COMPLETE=bash lmsupply "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1)
    local IFS=$'\n'
    COMPREPLY=($candidates)
}
complete -o default -F _lmsupply lmsupply
