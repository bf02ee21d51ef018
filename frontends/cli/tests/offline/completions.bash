# What bash offers behind lines. Arguments: the folder with `cvsw.bash`, and the lines. Prints each line, and what is offered
# behind it, with tabs.
source "$1/cvsw.bash"
shift
for line in "$@"; do
    read -ra COMP_WORDS <<<"$line"
    [[ $line == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _cvsw cvsw "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s' "$line"
    printf '\t%s' "${COMPREPLY[@]}"
    echo
done
