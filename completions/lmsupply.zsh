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
        value=${line%%$'\t'*} help=${line#*$'\t'}
        [[ -n $value ]] && candidates+=("${value//:/\\:}${help:+:$help}")
    done
    (( $#candidates )) && _describe lmsupply candidates
}
if [[ $funcstack[1] == _lmsupply ]]; then
    _lmsupply "$@"
else
    compdef _lmsupply lmsupply
fi
