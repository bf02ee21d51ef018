//! Manual pages and completion scripts know every command; the shells themselves say what they offer.

use std::{collections::BTreeMap, path::Path, time::Duration};

use crate::common::run;

/// `(shell, how it is started without anybody's settings, name of its completion script)`.
const SHELLS: [(&str, &[&str], &str); 3] = [
    ("bash", &["--norc", "--noprofile"], "cvsw.bash"),
    ("zsh", &["-f"], "_cvsw"),
    ("fish", &["--no-config"], "cvsw.fish"),
];

/// The commands below this one, as its help names them, and those below them.
fn commands(of: &[String]) -> Vec<Vec<String>> {
    let arguments: Vec<&str> = of.iter().map(String::as_str).chain(["--help"]).collect();
    let help = run(&arguments, "").stdout;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let below = names.filter(|name| *name != "help").flat_map(|name| {
        let command = [of, &[name.to_owned()]].concat();
        let deeper = commands(&command);
        std::iter::once(command).chain(deeper)
    });
    below.collect()
}

/// What a shell offers behind each of these lines.
fn offered((shell, options, script): (&str, &[&str], &str), lines: &[String]) -> BTreeMap<String, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(script), cvsw!("completions", shell).stdout).unwrap();
    let asker = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/offline/completions.{shell}"));
    let mut command = assert_cmd::Command::new(shell);
    // No settings, no history, no folder of somebody's.
    command.env("HOME", folder.path()).env("XDG_CONFIG_HOME", folder.path()).env("TERM", "dumb");
    command.args(options).arg(asker).arg(folder.path()).args(lines).timeout(Duration::from_secs(120));
    let output =
        command.output().unwrap_or_else(|error| panic!("{shell}: {error}; `cargo xtask setup` installs it"));
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let answers = text.lines().map(|line| {
        let mut words = line.split('\t').map(str::to_owned);
        (words.next().unwrap(), words.filter(|word| !word.is_empty()).collect())
    });
    let answers: BTreeMap<String, Vec<String>> = answers.collect();
    assert_eq!(answers.len(), lines.len(), "{shell}: {text}");
    answers
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(cvsw!("man", &folder.path().display().to_string()).code, 0);
    let all = commands(&[]);
    assert!(all.len() > 40 && all.contains(&vec!["net".to_owned(), "set".to_owned()]), "{all:?}");
    for command in std::iter::once(&Vec::new()).chain(&all) {
        let name = [&["cvsw".to_owned()], &command[..]].concat().join("-");
        let page = std::fs::read_to_string(folder.path().join(format!("{name}.1")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
    }
}

#[test]
fn every_shell_offers_every_command() {
    // Behind a command, those below it, and the help.
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for command in commands(&[]) {
        let (last, before) = command.split_last().unwrap();
        let words: Vec<&str> = std::iter::once("cvsw").chain(before.iter().map(String::as_str)).collect();
        wanted.entry(words.join(" ") + " ").or_insert_with(|| vec!["help".to_owned()]).push(last.clone());
    }
    wanted.values_mut().for_each(|names| names.sort());
    assert!(wanted.len() > 8, "{wanted:?}");
    // What is begun is completed: commands, options, and an option's values.
    let begun: [(&str, &[&str]); 6] = [
        ("cvsw fl", &["flow", "flows"]),
        ("cvsw flow re", &["remove"]),
        ("cvsw member set --underlay", &["--underlay-ip", "--underlay-mac"]),
        ("cvsw vnic list --n", &["--network"]),
        ("cvsw trace --direction ", &["rx", "tx"]),
        ("cvsw net nonsen", &[]),
    ];
    let begun = begun.map(|(line, words)| (line.to_owned(), words.iter().copied().map(str::to_owned).collect()));
    let begun = BTreeMap::<String, Vec<String>>::from(begun);
    let lines: Vec<String> = wanted.keys().chain(begun.keys()).cloned().collect();
    for shell in SHELLS {
        for (line, mut words) in offered(shell, &lines) {
            words.sort();
            if let Some(wanted) = wanted.get(&line) {
                // clap's scripts offer hidden commands, too, and the one for bash options without being asked.
                words.retain(|word| wanted.contains(word));
                assert_eq!(words, *wanted, "{}: {line}", shell.0);
            } else {
                assert_eq!(words, begun[&line], "{}: {line}", shell.0);
            }
        }
    }
}
