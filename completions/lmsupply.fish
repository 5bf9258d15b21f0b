# fish completion of lmsupply. Install it:
#   mkdir -p ~/.config/fish/completions
#   lmsupply completion fish > ~/.config/fish/completions/lmsupply.fish
function __lmsupply_finds
    set -l words (commandline -opc) (commandline -ct)
    set -g __lmsupply_found (_LMSUPPLY_COMPLETE=fish lmsupply $words[2..-1] 2>/dev/null)
end
complete -c lmsupply -n __lmsupply_finds -f -a '$__lmsupply_found'
