//! Terminals of jobs: who reads, what is typed, what is kept.

use sha2::{Digest, Sha256};
use warpsquad::core::Epoch;
use warpsquad::keeper::{JobSignal, KeeperClient, Output, RefusalKind};

use super::squad::{Squad, eventually, exit_of, history_with, read_until, refusal};

#[tokio::test]
async fn output_is_kept_while_nobody_reads_and_after_the_end() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let job = squad.terminal("a", "printf one; read line; printf two; exit 0");
    client.spawn(job).await.unwrap();
    history_with(&client, "a", "one").await;

    client.write("a", b"\n").await.unwrap();
    exit_of(&client, "a").await;
    let mut pty = client.attach("a").await.unwrap();
    let mut all = String::from_utf8(pty.history().unwrap().1).unwrap();
    while let Some(bytes) = pty.read().await.unwrap() {
        all.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(all.starts_with("one") && all.ends_with("two"), "{all:?}");
}

#[tokio::test]
async fn reading_goes_to_the_server_and_back_to_the_keeper_without_a_gap() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let script = "stty -echo; n=0; while echo line-$n; read x; do n=$((n+1)); done";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    history_with(&client, "a", "line-0").await;

    let mut pty = client.attach("a").await.unwrap();
    assert_eq!((pty.attached().cols, pty.attached().rows), (80, 24));
    assert_eq!(
        refusal(client.attach("a").await),
        RefusalKind::AttachedElsewhere
    );
    client.write("a", b"\n").await.unwrap();
    read_until(&mut pty, "line-1").await;
    // Whoever reads puts it into the ring first.
    assert!(
        String::from_utf8(pty.history().unwrap().1)
            .unwrap()
            .contains("line-1")
    );

    drop(pty);
    client.write("a", b"\n").await.unwrap();
    history_with(&client, "a", "line-2").await;

    // A server that is killed gives nothing back by itself.
    let mut pty = client.attach("a").await.unwrap();
    client.write("a", b"\n").await.unwrap();
    read_until(&mut pty, "line-3").await;
    std::mem::forget(pty);
    let next = KeeperClient::connect(&squad.options().paths.socket(), Epoch(2))
        .await
        .unwrap();
    next.write("a", b"\n").await.unwrap();
    let history = history_with(&next, "a", "line-4").await;
    let lines: Vec<&str> = history.split_whitespace().collect();
    assert_eq!(lines, ["line-0", "line-1", "line-2", "line-3", "line-4"]);
}

#[tokio::test]
async fn a_key_is_delivered_exactly_once() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    client
        .spawn(squad.terminal("a", "stty raw -echo; printf ready:; cat"))
        .await
        .unwrap();
    history_with(&client, "a", "ready:").await;

    let first = client.deliver("a", "prompt-1", b"once ").await.unwrap();
    let again = client.deliver("a", "prompt-1", b"once ").await.unwrap();
    assert!(first.fresh && !again.fresh);
    assert_eq!(first.cursor, 6);
    assert_eq!(again.cursor, first.cursor);
    let other = KeeperClient::connect(&squad.options().paths.socket(), Epoch(2))
        .await
        .unwrap();
    assert!(
        !other
            .deliver("a", "prompt-1", b"once ")
            .await
            .unwrap()
            .fresh
    );
    assert!(other.deliver("a", "prompt-2", b"end").await.unwrap().fresh);
    assert_eq!(history_with(&other, "a", "end").await, "ready:once end");
    assert_eq!(
        other.jobs().await.unwrap()[0].delivered,
        ["prompt-1", "prompt-2"]
    );
}

#[tokio::test]
async fn a_mebibyte_reaches_a_job_that_does_not_read_yet_and_holds_up_nobody() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let prompt: Vec<u8> = (0..1u32 << 20)
        .map(|at| u8::try_from(at * 7 % 251).unwrap())
        .collect();
    let script = "stty raw -echo; printf ready; head -c 1048576 | sha256sum; printf over";
    client.spawn(squad.terminal("slow", script)).await.unwrap();
    client.spawn(squad.terminal("other", "cat")).await.unwrap();
    history_with(&client, "slow", "ready").await;

    client.signal("slow", JobSignal::Stop).await.unwrap();
    client.deliver("slow", "big", &prompt).await.unwrap();
    client.write("other", b"still served\n").await.unwrap();
    history_with(&client, "other", "still served").await;
    client.signal("slow", JobSignal::Cont).await.unwrap();
    let history = history_with(&client, "slow", "over").await;
    let digest = Sha256::digest(&prompt);
    let expected = digest
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert!(history.contains(&expected), "{history}");
}

#[tokio::test]
async fn input_that_nobody_reads_is_bounded() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    client
        .spawn(squad.terminal("a", "stty raw -echo; printf ready; sleep 1000"))
        .await
        .unwrap();
    history_with(&client, "a", "ready").await;
    let piece = vec![b'x'; 12 << 20];
    client.write("a", &piece).await.unwrap();
    client.write("a", &piece).await.unwrap();
    assert_eq!(
        refusal(client.write("a", &piece).await),
        RefusalKind::QueueFull
    );
}

#[tokio::test]
async fn a_resize_reaches_the_terminal() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let script = "trap 'stty size' WINCH; printf ready; while :; do read x; done";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    history_with(&client, "a", "ready").await;
    client.resize("a", 132, 50).await.unwrap();
    client.write("a", b"\n").await.unwrap();
    history_with(&client, "a", "50 132").await;
    let Output::Pty { cols, rows } = client.jobs().await.unwrap()[0].output else {
        panic!("no terminal")
    };
    assert_eq!((cols, rows), (132, 50));
}

#[tokio::test]
async fn a_job_that_ends_with_input_unread_holds_up_nobody() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let script = "stty raw -echo; printf ready; exec sleep 1000";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    history_with(&client, "a", "ready").await;
    client.write("a", &vec![b'x'; 4 << 20]).await.unwrap();
    client.signal("a", JobSignal::Kill).await.unwrap();
    assert_eq!(exit_of(&client, "a").await.signal, Some(9));
    client
        .spawn(squad.terminal("b", "printf ready; read x"))
        .await
        .unwrap();
    history_with(&client, "b", "ready").await;
}

#[tokio::test]
async fn a_job_that_never_stops_talking_holds_up_nobody() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    for id in ["a", "b", "c"] {
        client.spawn(squad.terminal(id, "exec yes")).await.unwrap();
    }
    client
        .spawn(squad.terminal("other", "printf ready; read x"))
        .await
        .unwrap();
    history_with(&client, "other", "ready").await;
    // More than a ring holds goes through, and the newest part of it is kept.
    eventually("the ring has gone round", async || {
        let pty = client.attach("a").await.unwrap();
        (pty.cursor().unwrap() > 5 << 20).then_some(())
    })
    .await;
    let pty = client.attach("a").await.unwrap();
    let (start, bytes) = pty.history().unwrap();
    assert_eq!(start + bytes.len() as u64, pty.cursor().unwrap());
    // It begins and ends anywhere in a line, and nothing is missing or doubled between.
    let text = String::from_utf8(bytes).unwrap();
    let whole = "y\r\n".repeat(text.len() / 3 + 2);
    assert!(whole.contains(&text));
}
