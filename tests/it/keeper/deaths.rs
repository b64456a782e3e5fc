//! What survives whose death: servers, the keeper, and what they leave.

use std::fs;

use tempfile::TempDir;
use warpsquad::keeper::{KeeperClient, KeeperEvent, sweep_orphans};

use super::squad::{
    SERVER, Squad, dies, eventually, history_with, is_dead, kill, options, pid_in, start_keeper,
};

#[tokio::test]
async fn a_killed_server_is_started_again_and_its_jobs_do_not_notice() {
    let squad = Squad::with_server(&["sh", "-c", "echo $$ > server.pid; exec sleep 1000"]).await;
    let client = squad.connect().await;
    let job = client
        .spawn(squad.terminal("a", "exec cat"))
        .await
        .unwrap()
        .job;
    drop(client);
    let server = squad.file("server.pid");
    let first = pid_in(&server).await;
    fs::remove_file(&server).unwrap();
    kill(first, "-KILL");
    let second = pid_in(&server).await;
    fs::remove_file(&server).unwrap();
    assert_ne!(first, second);

    let client = squad.connect().await;
    assert_eq!(client.jobs().await.unwrap(), [job]);
    client.write("a", b"alive\n").await.unwrap();
    history_with(&client, "a", "alive").await;
}

#[tokio::test]
async fn a_server_that_keeps_ending_is_left_alone_for_a_minute() {
    let squad = Squad::with_server(&["sh", "-c", "echo start >> starts; exit 1"]).await;
    eventually("the keeper gives up for now", async || {
        squad
            .log()
            .contains("the next try is in a minute")
            .then_some(())
    })
    .await;
    assert_eq!(
        fs::read_to_string(squad.file("starts"))
            .unwrap()
            .lines()
            .count(),
        6
    );
    // The keeper itself goes on.
    assert!(squad.connect().await.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_says_stop_ends_the_keeper() {
    let directory = TempDir::new().unwrap();
    let mut keeper = start_keeper(directory.path(), &["sh", "-c", "exit 86"]);
    assert!(keeper.wait().unwrap().success());
    assert!(!options(directory.path()).paths.socket().exists());
}

#[tokio::test]
async fn a_killed_keeper_leaves_no_job_and_the_sweep_finds_the_rest() {
    let mut squad = Squad::start().await;
    let client = squad.connect().await;
    let mut events = client.take_events().unwrap();
    let script = "setsid sh -c 'echo $$ > grandchild; exec sleep 1000' & read x";
    let job = client.spawn(squad.terminal("a", script)).await.unwrap().job;
    let file_job = client
        .spawn(squad.file_job("b", "exec sleep 1000"))
        .await
        .unwrap()
        .job;
    let grandchild = pid_in(&squad.file("grandchild")).await;

    squad.keeper.kill().unwrap();
    squad.wait();
    assert_eq!(events.recv().await, Some(KeeperEvent::Disconnected));
    dies(job.pid).await;
    dies(file_job.pid).await;
    assert!(!is_dead(grandchild));
    // Somebody else's living keeper is spared, and so is another squad.
    let data = squad.options().paths.data;
    assert_eq!(sweep_orphans(&data, Some(&client.welcome().nonce)), 0);
    assert_eq!(sweep_orphans(&squad.file("other"), None), 0);
    assert_eq!(sweep_orphans(&data, None), 1);
    assert!(is_dead(grandchild));
}

#[tokio::test]
async fn a_new_keeper_sweeps_what_a_killed_one_left_and_takes_its_place() {
    let mut squad = Squad::start().await;
    let client = squad.connect().await;
    let script = "setsid sh -c 'echo $$ > grandchild; exec sleep 1000' & read x";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    let grandchild = pid_in(&squad.file("grandchild")).await;
    squad.keeper.kill().unwrap();
    squad.wait();
    squad.keeper = start_keeper(squad.directory.path(), &[]);
    let socket = squad.options().paths.socket();
    let next = eventually("the new keeper answers", async || {
        KeeperClient::connect(&socket, SERVER).await.ok()
    })
    .await;
    assert!(is_dead(grandchild));
    assert!(next.jobs().await.unwrap().is_empty());
    assert_ne!(next.welcome().nonce, client.welcome().nonce);
}

#[tokio::test]
async fn a_terminated_keeper_ends_everything_in_order() {
    let server = "trap 'echo server >> order; exit 0' TERM; \
        echo $$ > server.pid; while :; do sleep 0.01; done";
    let mut squad = Squad::with_server(&["sh", "-c", server]).await;
    pid_in(&squad.file("server.pid")).await;
    let client = squad.connect().await;
    let script = "trap 'echo job >> order; exit 0' TERM; \
         setsid env -i sh -c 'echo $$ > escaped; exec sleep 1000' & \
         printf ready; while :; do sleep 0.01; done";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    history_with(&client, "a", "ready").await;
    let escaped = pid_in(&squad.file("escaped")).await;
    kill(squad.keeper.id().try_into().unwrap(), "-TERM");
    assert!(squad.wait().success());
    assert_eq!(
        fs::read_to_string(squad.file("order")).unwrap(),
        "server\njob\n"
    );
    assert!(is_dead(escaped));
    assert!(!squad.options().paths.socket().exists());
}
