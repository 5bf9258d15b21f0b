#compdef lmsupply
# zsh completion of lmsupply. Install it in a folder of your $fpath:
#   lmsupply completion zsh > ~/.zfunc/_lmsupply
_lmsupply() {
    local -a lines candidates
    lines=("${(@f)$(_LMSUPPLY_COMPLETE=zsh lmsupply "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    local line
    for line in $lines; do
        [[ -n $line ]] && candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
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
