# fish completion of lmsupply. Install it:
#   lmsupply completion fish > ~/.config/fish/completions/lmsupply.fish
function __lmsupply_finds
    set -l words (commandline -opc) (commandline -ct)
    set -g __lmsupply_found (_LMSUPPLY_COMPLETE=fish lmsupply $words[2..-1] 2>/dev/null)
    test (count $__lmsupply_found) -gt 0
end
complete -c lmsupply -n __lmsupply_finds -f -a '$__lmsupply_found'
