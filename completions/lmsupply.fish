# fish completion of lmsupply. Install it:
#   lmsupply completion fish > ~/.config/fish/completions/lmsupply.fish
function __lmsupply_complete
    set -l words (commandline -opc) (commandline -ct)
    _LMSUPPLY_COMPLETE=fish lmsupply $words[2..-1] 2>/dev/null
end
complete -c lmsupply -a '(__lmsupply_complete)'
