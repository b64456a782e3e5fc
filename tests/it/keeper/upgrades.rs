//! Another server program on trial, seen from the keeper: servers of this version and of the first.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;
use warpsquad::core::Epoch;
use warpsquad::core::upgrade::UpgradeState;
use warpsquad::keeper::{KeeperClient, RefusalKind};

use super::squad::{SERVER, Squad, eventually, refusal};

/// A server that only runs: what a server says is said by the test.
const IDLE: &str = "#!/bin/sh\necho $$ >> $0.pid\nexec sleep 1000\n";

async fn squad() -> (Squad, TempDir) {
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("old", IDLE),
        ("new", IDLE),
        ("broken", "#!/bin/sh\nexit 3\n"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let old = folder.path().join("old").display().to_string();
    (Squad::with_server(&[&old]).await, folder)
}

async fn starts(file: &std::path::Path, times: usize) {
    eventually(&format!("{} is started", file.display()), async || {
        let text = std::fs::read_to_string(file.with_extension("pid")).ok()?;
        (text.lines().count() >= times).then_some(())
    })
    .await;
}

async fn state(keeper: &KeeperClient) -> UpgradeState {
    keeper.upgraded().await.unwrap().state
}

#[tokio::test]
async fn a_new_server_that_says_ready_stays() {
    let (squad, folder) = squad().await;
    let old = squad.connect().await;
    assert_eq!(state(&old).await, UpgradeState::None);
    old.upgrade(&folder.path().join("new")).await.unwrap();
    assert_eq!(state(&old).await, UpgradeState::Trial);
    assert_eq!(
        refusal(old.upgrade(&folder.path().join("new")).await),
        RefusalKind::SystemFailed
    );
    starts(&folder.path().join("new"), 1).await;
    let socket = squad.options().paths.socket();
    let new = KeeperClient::connect(&socket, Epoch(SERVER.0 + 1))
        .await
        .unwrap();
    eventually("the trial is over", async || {
        new.ready().await.unwrap();
        (state(&new).await == UpgradeState::Done).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_old_server_that_never_says_ready_is_asked_nothing_it_cannot_answer() {
    let (squad, folder) = squad().await;
    let old = squad.connect().await;
    old.upgrade(&folder.path().join("new")).await.unwrap();
    starts(&folder.path().join("new"), 1).await;
    let socket = squad.options().paths.socket();
    // All that a server of the first version does at its start.
    let first = KeeperClient::connect(&socket, Epoch(SERVER.0 + 1))
        .await
        .unwrap();
    first.jobs().await.unwrap();
    first.gateway().await.unwrap();
    assert_eq!(state(&first).await, UpgradeState::Trial);
}

#[tokio::test]
async fn a_new_server_that_ends_is_followed_by_the_old_one() {
    let (squad, folder) = squad().await;
    starts(&folder.path().join("old"), 1).await;
    let keeper = squad.connect().await;
    keeper.upgrade(&folder.path().join("broken")).await.unwrap();
    starts(&folder.path().join("old"), 2).await;
    let report = keeper.upgraded().await.unwrap();
    assert_eq!(report.state, UpgradeState::Back);
    assert_eq!(report.why.unwrap(), "it ended with code 3 before it served");
    assert_eq!(report.program, folder.path().join("broken"));
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_and_the_old_server_runs_on() {
    let (squad, folder) = squad().await;
    starts(&folder.path().join("old"), 1).await;
    let keeper = squad.connect().await;
    for program in [folder.path().join("none"), folder.path().join("old.pid")] {
        assert_eq!(
            refusal(keeper.upgrade(&program).await),
            RefusalKind::SystemFailed
        );
    }
    assert_eq!(state(&keeper).await, UpgradeState::None);
}
