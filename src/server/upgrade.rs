//! Handing over to another server program, and the store's way back when that one fails.
//!
//! The server that is asked leaves a mark, asks the keeper and is told to end. Every server takes
//! the mark away before it accepts the first command. So a newer database with the mark beside it
//! was migrated by a program that has failed before it served: nothing is lost by going back.

use std::path::{Path, PathBuf};

use crate::core::command::Refusal;
use crate::core::upgrade::UpgradeReport;
use crate::engine::journal::JournalError;
use crate::keeper::{ClientError, KeeperClient, RefusalKind};
use crate::store::SqliteStore;

fn mark(data: &Path) -> PathBuf {
    data.join("upgrading")
}

/// Opens the store; after a failed upgrade that has migrated it, as it was before.
pub(super) fn open_store(data: &Path) -> Result<SqliteStore, JournalError> {
    let path = data.join("tasks.db");
    match SqliteStore::open(&path) {
        Err(JournalError::Newer { found, known }) if mark(data).exists() => {
            SqliteStore::go_back(&path, found, known)?;
            SqliteStore::open(&path)
        }
        opened => opened,
    }
}

/// Has the keeper start `program` instead of this server.
pub(super) async fn begin(
    keeper: &KeeperClient,
    data: &Path,
    program: &Path,
) -> Result<(), Refusal> {
    let unusable = |error: std::io::Error| {
        Refusal::unavailable(format!(
            "{} cannot be written: {error}",
            mark(data).display()
        ))
    };
    std::fs::write(mark(data), format!("{}\n", program.display())).map_err(unusable)?;
    keeper.upgrade(program).await.map_err(|error| {
        serving(data);
        refused(&error)
    })
}

/// From here on commands are accepted: there is no way back behind them.
pub(super) fn serving(data: &Path) {
    match std::fs::remove_file(mark(data)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::error!(%error, "the mark of an upgrade stays");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Tells the keeper that this server serves; a keeper of a version before that word needs none.
pub(super) async fn ready(keeper: &KeeperClient) {
    if let Err(error) = keeper.ready().await {
        tracing::debug!(%error, "the keeper was not told that the server is ready");
    }
}

/// How the last upgrade went.
pub(super) async fn report(keeper: &KeeperClient) -> Result<UpgradeReport, Refusal> {
    keeper.upgraded().await.map_err(|error| refused(&error))
}

fn refused(error: &ClientError) -> Refusal {
    if error.refusal() == Some(RefusalKind::UnknownMethod) {
        return Refusal::unavailable("the keeper that runs is of a version that cannot do this")
            .hint("'warpsquad stop', then start again: tasks go on, agents are interrupted");
    }
    Refusal::unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::UnixListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::core::Epoch;

    /// A keeper of the first version: it knows `hello` and no later method.
    async fn old_keeper(data: &Path) -> (KeeperClient, JoinSet<()>) {
        let socket = data.join("k");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let asked: serde_json::Value = serde_json::from_str(&line).unwrap();
                let id = &asked["id"];
                let answer = if asked["method"] == "hello" {
                    serde_json::json!({ "id": id, "ok": { "v": 1, "pid": 1, "nonce": "n",
                        "gateway": "127.0.0.1:1" }, "fds": 0 })
                } else {
                    serde_json::json!({ "id": id, "error": { "kind": "unknown_method",
                        "message": "this keeper (version 1) knows no such method" } })
                };
                let line = format!("{answer}\n");
                write.write_all(line.as_bytes()).await.unwrap();
            }
        });
        let keeper = KeeperClient::connect(&socket, Epoch(1)).await.unwrap();
        (keeper, tasks)
    }

    #[tokio::test]
    async fn a_new_server_gets_on_with_an_old_keeper_and_says_what_it_cannot() {
        let data = tempfile::tempdir().unwrap();
        let (keeper, _tasks) = old_keeper(data.path()).await;
        ready(&keeper).await;
        let refusal = begin(&keeper, data.path(), Path::new("/bin/true"))
            .await
            .unwrap_err();
        assert!(
            refusal.message.contains("of a version that cannot do this"),
            "{refusal:?}"
        );
        assert!(refusal.hints[0].contains("warpsquad stop"), "{refusal:?}");
        assert!(!mark(data.path()).exists());
        assert!(report(&keeper).await.is_err());
    }

    #[test]
    fn without_the_mark_a_newer_database_is_refused_as_it_lies() {
        let data = tempfile::tempdir().unwrap();
        drop(open_store(data.path()).unwrap());
        let path = data.path().join("tasks.db");
        let newer = rusqlite::Connection::open(&path).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        drop(newer);
        let refused = open_store(data.path());
        assert!(
            matches!(refused, Err(JournalError::Newer { found: 99, .. })),
            "{refused:?}"
        );
    }
}
