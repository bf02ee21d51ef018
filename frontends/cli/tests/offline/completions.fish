# What fish offers behind lines. Arguments: the folder with `cvsw.fish`, and the lines. Prints each line, and what is offered
# behind it, with tabs.
source $argv[1]/cvsw.fish
for line in $argv[2..]
    # Behind each word there is a tab and what it means.
    string join \t -- $line (complete -C $line | string replace -r '\t.*' '')
end
