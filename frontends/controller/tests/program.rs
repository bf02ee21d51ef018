//! The subcommands as a process sees them: signals, sockets, exit codes. In a process of its own, because signals reach
//! all of it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use cvsw_controller::{
    cli::{ControllerArgs, StatusArgs, read_status, run, run_status},
    status::Status,
};

const PATIENCE: Duration = Duration::from_secs(30);
const MEMBER: &str = "[timers]\necho = \"500ms\"\n[[network]]\nname = \"n\"\nvni = 1\ngroup = \"239.0.0.1\"\n[[network.member]]\nname = \"vm\"\n\
                      mac = \"02:00:00:00:00:01\"\nip = \"10.0.0.1\"\nunderlay_mac = \"02:00:00:00:01:01\"\n\
                      underlay_ip = \"192.0.2.1\"\n";

fn wait_for(path: &Path, what: &str, good: impl Fn(&Status) -> bool) -> Status {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match read_status(path) {
            Ok((_, status)) if good(&status) => return status,
            other => assert!(Instant::now() < deadline, "waited for {what}: {other:?}"),
        }
        // Not synchronisation: only the pace of looking.
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(name: &str) {
    let status = Command::new("kill").args([name, &std::process::id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Says something to the controller and returns what it answers until it closes the connection.
fn say(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A connection that is closed with unread bytes is reset, which is an end as well.
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn a_controller_lives_by_its_signals_and_survives_its_callers() {
    let folder = tempfile::tempdir().unwrap();
    let (config, socket) = (folder.path().join("c.toml"), folder.path().join("status.sock"));
    std::fs::write(&config, MEMBER).unwrap();
    // Left behind by a process that was killed.
    drop(UnixListener::bind(&socket).unwrap());
    let address = format!("127.0.0.1:{}", free_port());
    let listen = vec![format!("tcp:{address}").parse().unwrap()];
    let status_socket = Some(socket.clone());
    let args = ControllerArgs {
        config: config.clone(),
        check: false,
        listen,
        store: None,
        store_ca: None,
        store_certificate: None,
        store_key: None,
        name: None,
        api: vec![],
        status_socket,
        key_log: None,
        cluster_key: None,
        json: true,
    };
    let second = ControllerArgs { listen: vec!["tcp:127.0.0.1:0".parse().unwrap()], ..args.clone() };
    let controller = std::thread::spawn(move || run(args).unwrap());
    let status = wait_for(&socket, "the controller", |_| true);
    assert_eq!((status.config.generation, status.vnics[0].state.as_str()), (1, "absent"));

    let error = format!("{:#}", run(second).unwrap_err());
    assert!(error.contains("status.sock") && error.contains("another process listens there"), "{error}");

    // HELLO, then what is no message; what is no OpenFlow; a HELLO that is not the first message's type.
    let hello = [1, 0, 0, 8, 0, 0, 0, 1];
    for bytes in [&[1, 0, 0, 7, 0, 0, 0, 0][..], b"GET / HTTP/1.1\r\n\r\n", &[1, 6, 0, 8, 0, 0, 0, 0]] {
        let answer = say(&address, bytes);
        assert!(answer.is_empty() || answer == hello, "{answer:?}");
    }
    wait_for(&socket, "the callers to be gone", |status| status.switches.is_empty());

    signal("-HUP");
    wait_for(&socket, "the reload", |status| status.config.generation == 2);
    std::fs::write(&config, "nonsense").unwrap();
    signal("-HUP");
    let status = wait_for(&socket, "the error", |status| status.config.error.is_some());
    assert!(status.config.error.unwrap().contains("c.toml:1:"));
    assert_eq!(status.config.generation, 2);

    let ask = |wait| run_status(StatusArgs { path: socket.clone(), json: false, wait }).unwrap();
    assert_eq!(ask(None), ExitCode::SUCCESS);
    assert_eq!(ask(Some(0)), ExitCode::FAILURE, "it has not converged");

    signal("-TERM");
    assert_eq!(controller.join().unwrap(), ExitCode::SUCCESS);
    assert!(!socket.exists(), "the socket is removed");
    let error = format!("{:#}", run_status(StatusArgs { path: socket, json: true, wait: None }).unwrap_err());
    assert!(error.contains("is it the --status-socket of a running controller?"), "{error}");
}

#[test]
fn what_cannot_be_used_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    let file = folder.path().join("file");
    std::fs::write(&config, MEMBER).unwrap();
    std::fs::write(&file, "precious").unwrap();
    let args = |check| ControllerArgs {
        config: config.clone(),
        check,
        listen: vec![],
        store: None,
        store_ca: None,
        store_certificate: None,
        store_key: None,
        name: None,
        api: vec![],
        status_socket: None,
        key_log: None,
        cluster_key: None,
        json: true,
    };
    assert_eq!(run(args(true)).unwrap(), ExitCode::SUCCESS);
    let listen = vec![format!("unix:{}", file.display()).parse().unwrap()];
    let error = format!("{:#}", run(ControllerArgs { listen, ..args(false) }).unwrap_err());
    assert!(error.contains("a file that is not a socket is there"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    std::fs::write(&config, "vni = 1").unwrap();
    for check in [true, false] {
        assert!(run(args(check)).unwrap_err().to_string().contains("unknown field `vni`"));
    }
}
