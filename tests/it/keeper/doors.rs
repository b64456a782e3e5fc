//! The keeper's sockets: who may come in, and who waits at the gateway.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixStream};
use warpsquad::core::Epoch;
use warpsquad::keeper::launch::ensure_running_from;
use warpsquad::keeper::{KeeperClient, RefusalKind, stop_running};

use super::squad::{PATIENCE, PROGRAM, SERVER, Squad, dies, eventually, kill, options, refusal};

#[tokio::test]
async fn the_gateway_keeps_callers_while_no_server_is_there() {
    let squad = Squad::start().await;
    let address = squad.connect().await.welcome().gateway;
    let mut callers: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for caller in &mut callers {
        caller.write_all(b"hello").unwrap();
    }

    let client = squad.connect().await;
    let listener = TcpListener::from_std(client.gateway().await.unwrap()).unwrap();
    assert_eq!(listener.local_addr().unwrap(), address);
    for mut caller in callers {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept())
            .await
            .unwrap()
            .unwrap()
            .0;
        let mut accepted = accepted.into_std().unwrap();
        accepted.set_nonblocking(false).unwrap();
        let mut text = [0; 5];
        accepted.read_exact(&mut text).unwrap();
        accepted.write_all(&text).unwrap();
        caller.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
    }
}

#[tokio::test]
async fn a_second_keeper_is_refused() {
    let squad = Squad::start().await;
    let second = Command::new(PROGRAM)
        .args(squad.options().to_args())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(87));
    let said = String::from_utf8(second.stderr).unwrap();
    let expected = format!("(process {})", squad.keeper.id());
    assert!(
        said.contains("a keeper already runs") && said.contains(&expected),
        "{said}"
    );
    assert!(squad.connect().await.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_directory_open_to_others_is_refused_and_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    let runtime = directory.path().join("run");
    fs::create_dir(&runtime).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    let args = options(directory.path()).to_args();
    let refused = Command::new(PROGRAM).args(args).output().unwrap();
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        String::from_utf8(refused.stderr)
            .unwrap()
            .contains("mode 0700")
    );
    assert_eq!(
        fs::metadata(&runtime).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only() {
    let squad = Squad::start().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let paths = squad.options().paths;
    assert_eq!(
        (mode(&paths.runtime), mode(&paths.socket())),
        (0o700, 0o600)
    );
}

#[tokio::test]
async fn an_older_server_is_shut_out() {
    let squad = Squad::start().await;
    let socket = squad.options().paths.socket();
    let old = KeeperClient::connect(&socket, Epoch(1)).await.unwrap();
    old.spawn(squad.terminal("a", "exec cat")).await.unwrap();
    let mut pty = old.attach("a").await.unwrap();
    let new = KeeperClient::connect(&socket, Epoch(2)).await.unwrap();
    old.disconnected().await;
    assert_eq!(
        pty.read().await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
    assert!(old.jobs().await.is_err());
    assert_eq!(
        refusal(KeeperClient::connect(&socket, Epoch(1)).await),
        RefusalKind::StaleEpoch
    );
    new.attach("a").await.unwrap();
}

#[tokio::test]
async fn nonsense_on_the_socket_is_answered_with_an_error() {
    let squad = Squad::start().await;
    let stream = UnixStream::connect(squad.options().paths.socket())
        .await
        .unwrap();
    let mut stream = BufReader::new(stream);
    let mut ask = async |line: &[u8]| {
        stream.write_all(line).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_line(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer
    };
    for (line, kind) in [
        (&b"\xff\x00nonsense\n"[..], "bad_request"),
        (b"\n", "bad_request"),
        (b"{\"id\":5,\"method\":\"jobs\"}\n", "no_hello"),
        (
            b"{\"id\":6,\"v\":9,\"method\":\"dance\"}\n",
            "unknown_method",
        ),
        (
            b"{\"id\":7,\"method\":\"hello\",\"params\":{}}\n",
            "bad_request",
        ),
        (
            b"{\"id\":8,\"method\":\"hello\",\"params\":{\"epoch\":1,\"later\":2}}\n",
            "\"ok\"",
        ),
    ] {
        let answer = ask(line).await;
        assert!(answer.contains(kind), "{answer}");
    }
}

#[tokio::test]
async fn several_callers_start_one_detached_keeper_and_it_can_be_stopped() {
    let directory = TempDir::new().unwrap();
    let options = options(directory.path());
    let program = Path::new(PROGRAM);
    let (one, two) = tokio::join!(
        ensure_running_from(program, &options),
        ensure_running_from(program, &options),
    );
    one.unwrap();
    two.unwrap();
    let client = KeeperClient::connect(&options.paths.socket(), SERVER)
        .await
        .unwrap();
    let pid = client.welcome().pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(3)
        .unwrap()
        .to_owned();
    assert_eq!(session, pid.to_string());

    assert!(stop_running(&options.paths, PATIENCE).await.unwrap());
    client.disconnected().await;
    assert!(!stop_running(&options.paths, PATIENCE).await.unwrap());
    // The place is free at once.
    ensure_running_from(program, &options).await.unwrap();
    assert!(stop_running(&options.paths, PATIENCE).await.unwrap());
    dies(pid).await;
}

#[tokio::test]
async fn the_command_line_can_become_the_keeper() {
    let directory = TempDir::new().unwrap();
    let keeper = Command::new(PROGRAM)
        .args(["server", "--foreground"])
        .env("WARPSQUAD_DATA_DIR", directory.path().join("data"))
        .env("XDG_CONFIG_HOME", directory.path())
        .env("HOME", directory.path())
        .current_dir(directory.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut squad = Squad { directory, keeper };
    let socket = squad.file("data/run/keeper.sock");
    eventually("the keeper listens", async || {
        UnixStream::connect(&socket).await.ok()
    })
    .await;
    kill(squad.keeper.id().try_into().unwrap(), "-TERM");
    assert!(squad.wait().success());
}
