//! What all commands have in common.

#[test]
fn exit_codes() {
    assert_eq!(cvsw!("--help").code, 0);
    assert_eq!(cvsw!("--version").code, 0);
    assert_eq!(cvsw!("no-such-command").code, 2);
    assert_eq!(cvsw!("replay", "--direction", "sideways").code, 2);
    assert_eq!(cvsw!("flows", "check", "/no/such/file").code, 1);
}

#[test]
fn every_command_has_help_with_an_example() {
    let help = cvsw!("--help").stdout;
    let commands: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // The others are continuations.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.contains(&"replay") && commands.contains(&"trace"), "{help}");
    for command in commands {
        let run = cvsw!(command, "--help");
        assert_eq!(run.code, 0);
        let example = format!("cvsw {command}");
        let after_usage = run.stdout.split_once("Usage: ").unwrap().1.lines().skip(1);
        assert!(after_usage.into_iter().any(|line| line.contains(&example)), "{command}: {}", run.stdout);
    }
}

#[test]
fn a_bad_log_filter_is_named() {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_cvsw"));
    let output = command.args(["completions", "bash"]).env("CVSW_LOG", "cvsw=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("CVSW_LOG=\"cvsw=loud\" is not a log filter"));
}
