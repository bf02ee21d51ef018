# What zsh's own completion system offers behind lines, one after another, typed in a terminal.
# Arguments: the folder with `_cvsw`, and the lines. Prints each line, and what is offered behind it, with tabs.
zmodload zsh/zpty
folder=$1 quoted=${(q)1}
shift
zpty terminal zsh -f -i
# The words are put together here and there, so that what the terminal echoes is not taken for an answer.
zpty -w terminal "fpath=($quoted \$fpath); autoload -U compinit; compinit -u -d $quoted/dump
    # Called as the builtin is; those calls that only ask are left alone.
    compadd() {
        local -a found
        if [[ \${argv[(r)-[OAD]]} == '' ]] { builtin compadd -O found \"\$@\"; offered+=(\$found) }
        builtin compadd \"\$@\"
    }
    silent() { compstate[list]=''; compstate[insert]='' }
    offer() {
        local line=\$BUFFER
        offered=()
        comppostfuncs=(silent)
        zle gather
        print -r -- \"\$line\"\$'\\t'\${(pj:\\t:)offered} >> $quoted/offered
        BUFFER=''
        print -n DO''NE
    }
    zle -C gather .list-choices _main_complete
    zle -N offer
    bindkey '^T' offer
    PROMPT=REA''DY"
zpty -r terminal seen '*READY*'
for line in "$@"; do
    zpty -w -n terminal "$line"$'\C-T'
    zpty -r terminal seen '*DONE*'
done
zpty -d terminal
cat "$folder/offered"
