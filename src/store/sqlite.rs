//! The journal on SQLite: WAL, `synchronous=FULL`, one writer.
//!
//! A commit that has returned survives a power cut. The epoch is read inside the transaction that
//! writes, so that a server that was replaced cannot slip in one more batch. Each commit counts
//! itself in `meta`: SQLite does not write a row that stays the same, and the engine probes a disk
//! that was full with an otherwise empty commit.
//!
//! A damaged database is refused as it lies, never repaired and never deleted.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, ffi, params};
use serde::de::DeserializeOwned;

use crate::core::event::{Event, SquadEvent, What};
use crate::core::router::Learned;
use crate::core::task::Task;
use crate::core::{Epoch, TaskId, Timestamp};
use crate::engine::journal::{EventFilter, Journal, JournalError, Loaded, TaskFilter, Transaction};

use super::migrations::{self, STEPS};
use super::query::{RECENT_EVENTS, is_open, limit};

/// How long another process may hold the database, a copying tool for example.
const BUSY: Duration = Duration::from_secs(5);

/// A journal in one SQLite database.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the database at `path`, making or migrating it first where needed.
    ///
    /// # Errors
    /// It is newer than this program, damaged, another program's, or the disk is full.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_with(path, STEPS)
    }

    /// Puts the copy of version `known` in the place of a database of version `found` whose
    /// program has failed before it accepted anything.
    ///
    /// # Errors
    /// There is no copy, or a file cannot be used; the newer database is still there.
    pub fn go_back(path: &Path, found: u32, known: u32) -> Result<(), JournalError> {
        super::back::go_back(path, found, known)
    }

    pub(super) fn open_with(path: &Path, steps: &[&str]) -> Result<Self, JournalError> {
        make(path).map_err(|error| migrations::unusable(path, &error))?;
        let connection = Connection::open(path).map_err(|error| situation(path, &error))?;
        let mut store = Self {
            connection,
            path: path.to_owned(),
        };
        store.check(steps)?;
        store.configure()?;
        migrations::migrate(&mut store.connection, path, steps)?;
        Ok(store)
    }

    /// Deletes events before `before`, except those of tasks for which something is still to be
    /// done; says how many.
    pub fn prune(&mut self, before: Timestamp) -> Result<u64, JournalError> {
        let deleted = self.connection.execute(
            "DELETE FROM events WHERE at < ?1
             AND (task IS NULL OR task IN (SELECT id FROM tasks WHERE open = 0))",
            [signed(before.0)],
        );
        deleted
            .map(|rows| rows as u64)
            .map_err(|error| situation(&self.path, &error))
    }

    /// Everything that can be found out without writing.
    fn check(&self, steps: &[&str]) -> Result<(), JournalError> {
        self.connection
            .busy_timeout(BUSY)
            .map_err(|error| situation(&self.path, &error))?;
        migrations::check(&self.connection, &self.path, steps)?;
        let found: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
            .map_err(|error| situation(&self.path, &error))?;
        if found != "ok" {
            return Err(damaged(&self.path, &found));
        }
        Ok(())
    }

    fn configure(&self) -> Result<(), JournalError> {
        let set = || -> rusqlite::Result<String> {
            self.connection.pragma_update(None, "foreign_keys", true)?;
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            self.connection
                .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        };
        let mode = set().map_err(|error| situation(&self.path, &error))?;
        if mode != "wal" {
            let path = self.path.display();
            return Err(JournalError::Broken(format!(
                "{path} is on a file system without shared memory ({mode}); name a local data directory"
            )));
        }
        Ok(())
    }

    fn write(&mut self, batch: &Transaction) -> Result<(), Failure> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let current = epoch(&transaction)?;
        if batch.epoch != current {
            return Err(Failure::Fenced(current));
        }
        for task in &batch.tasks {
            put_task(&transaction, task)?;
        }
        let mut next_event = None;
        for event in &batch.events {
            put_event(&transaction, event)?;
            next_event = Some(signed(event.sequence + 1));
        }
        transaction
            .prepare_cached(
                "UPDATE meta SET paused = ?1, next_task = ?2, next_event = coalesce(?3, next_event),
                 commits = commits + 1",
            )?
            .execute(params![batch.paused, signed(batch.next_task), next_event])?;
        if let Some(learned) = &batch.learned {
            transaction
                .prepare_cached("UPDATE meta SET learned = ?1")?
                .execute([serde_json::to_string(&**learned)?])?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn read_all(&mut self, finished: usize) -> Result<Loaded, Failure> {
        // One transaction, so that another process cannot write between two of the reads.
        let transaction = self.connection.transaction()?;
        let mut tasks: Vec<Task> = bodies(
            &transaction,
            "SELECT body FROM tasks WHERE open = 1 ORDER BY id DESC",
            (),
        )?;
        tasks.extend(bodies::<Task>(
            &transaction,
            "SELECT body FROM tasks WHERE open = 0 ORDER BY id DESC LIMIT ?1",
            [signed_length(finished)],
        )?);
        let mut recent: Vec<Event> = bodies(
            &transaction,
            "SELECT body FROM events ORDER BY sequence DESC LIMIT ?1",
            [signed_length(RECENT_EVENTS)],
        )?;
        recent.reverse();
        let counters = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        let (next_task, next_event, paused, learned) = transaction.query_row(
            "SELECT next_task, next_event, paused, learned FROM meta",
            (),
            counters,
        )?;
        Ok(Loaded {
            tasks,
            next_task: unsigned(next_task),
            next_event: unsigned(next_event),
            recent,
            paused,
            learned: what_was_learned(learned),
        })
    }

    fn find_tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Failure> {
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        let states = serde_json::to_string(&states)?;
        bodies(
            &self.connection,
            "SELECT body FROM tasks
             WHERE (?1 = '[]' OR state IN (SELECT value FROM json_each(?1)))
               AND (?2 IS NULL OR key = ?2) AND (?3 IS NULL OR name = ?3)
             ORDER BY id DESC LIMIT ?4",
            params![
                states,
                filter.key,
                filter.name,
                signed_length(limit(filter.limit))
            ],
        )
    }

    fn find_events(&self, filter: &EventFilter) -> Result<Vec<Event>, Failure> {
        bodies(
            &self.connection,
            "SELECT body FROM events WHERE sequence > ?1 AND (?2 IS NULL OR task = ?2)
             ORDER BY sequence LIMIT ?3",
            params![
                signed(filter.after),
                filter.task.map(|task| signed(task.0)),
                signed_length(limit(filter.limit))
            ],
        )
    }

    fn explain(&self, mine: Epoch, failure: Failure) -> JournalError {
        match failure {
            Failure::Sqlite(error) => situation(&self.path, &error),
            Failure::Body(error) => damaged(&self.path, &error.to_string()),
            Failure::Fenced(current) => JournalError::Fenced { mine, current },
        }
    }
}

impl Journal for SqliteStore {
    fn begin_epoch(&mut self) -> Result<Epoch, JournalError> {
        self.connection
            .query_row(
                "UPDATE meta SET epoch = epoch + 1 RETURNING epoch",
                (),
                |row| row.get(0),
            )
            .map(|epoch| Epoch(unsigned(epoch)))
            .map_err(|error| situation(&self.path, &error))
    }

    fn load(&mut self, finished: usize) -> Result<Loaded, JournalError> {
        self.read_all(finished)
            .map_err(|failure| self.explain(Epoch::default(), failure))
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), JournalError> {
        self.write(transaction)
            .map_err(|failure| self.explain(transaction.epoch, failure))
    }

    fn task(&mut self, id: TaskId) -> Result<Option<Task>, JournalError> {
        let body: Option<String> = self
            .connection
            .query_row(
                "SELECT body FROM tasks WHERE id = ?1",
                [signed(id.0)],
                |row| row.get(0),
            )
            .optional()
            .map_err(|error| situation(&self.path, &error))?;
        body.map(|body| serde_json::from_str(&body))
            .transpose()
            .map_err(|error| damaged(&self.path, &error.to_string()))
    }

    fn tasks(&mut self, filter: &TaskFilter) -> Result<Vec<Task>, JournalError> {
        self.find_tasks(filter)
            .map_err(|failure| self.explain(Epoch::default(), failure))
    }

    fn events(&mut self, filter: &EventFilter) -> Result<Vec<Event>, JournalError> {
        self.find_events(filter)
            .map_err(|failure| self.explain(Epoch::default(), failure))
    }
}

/// Why a transaction did not happen.
#[derive(Debug)]
enum Failure {
    Sqlite(rusqlite::Error),
    Body(serde_json::Error),
    Fenced(Epoch),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Body(error)
    }
}

/// What cannot be read is learned again: no task depends on it.
fn what_was_learned(text: Option<String>) -> Learned {
    let read = text.map(|text| serde_json::from_str(&text));
    read.transpose()
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "what the router learned cannot be read");
            None
        })
        .unwrap_or_default()
}

/// Makes the file, readable by its owner alone, before SQLite would make it readable by others.
fn make(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match new {
        Ok(_) => migrations::sync_folder(path),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn epoch(connection: &Connection) -> rusqlite::Result<Epoch> {
    let epoch = connection
        .prepare_cached("SELECT epoch FROM meta")?
        .query_row((), |row| row.get(0))?;
    Ok(Epoch(unsigned(epoch)))
}

fn put_task(connection: &Connection, task: &Task) -> Result<(), Failure> {
    let body = serde_json::to_string(task)?;
    connection
        .prepare_cached(
            "INSERT INTO tasks (id, state, open, priority, created, updated, name, key, repo, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET state = ?2, open = ?3, priority = ?4, created = ?5,
                 updated = ?6, name = ?7, key = ?8, repo = ?9, body = ?10",
        )?
        .execute(params![
            signed(task.id.0),
            task.state.as_str(),
            is_open(task),
            task.spec.priority.as_str(),
            signed(task.created.0),
            signed(task.updated.0),
            task.spec.name,
            task.spec.key,
            task.spec.repo.to_string_lossy(),
            body
        ])?;
    Ok(())
}

fn put_event(connection: &Connection, event: &Event) -> Result<(), Failure> {
    let body = serde_json::to_string(event)?;
    let (task, kind) = match &event.what {
        What::Task { task, event } => (Some(signed(task.0)), event.name()),
        What::Squad { event } => (None, kind_of(event)),
    };
    connection
        .prepare_cached(
            "INSERT INTO events (sequence, at, task, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            signed(event.sequence),
            signed(event.at.0),
            task,
            kind,
            body
        ])?;
    Ok(())
}

fn kind_of(event: &SquadEvent) -> &'static str {
    match event {
        SquadEvent::ServerStarted { .. } => "server-started",
        SquadEvent::Paused => "paused",
        SquadEvent::Resumed => "resumed",
        SquadEvent::CatalogueChanged { .. } => "catalogue-changed",
        SquadEvent::ForkingFailed { .. } => "forking-failed",
        SquadEvent::LimitChanged { .. } => "limit-changed",
        SquadEvent::SleepNotInhibited { .. } => "sleep-not-inhibited",
        SquadEvent::ForkingResumed => "forking-resumed",
        SquadEvent::KeeperLost { .. } => "keeper-lost",
        SquadEvent::Warned { .. } => "warned",
        SquadEvent::HeldBack { .. } => "held-back",
        SquadEvent::RoomAgain => "room-again",
        SquadEvent::Cleaned { .. } => "cleaned",
        SquadEvent::Jumped { .. } => "jumped",
        SquadEvent::Unknown => "unknown",
    }
}

fn bodies<T: DeserializeOwned>(
    connection: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<T>, Failure> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(serde_json::from_str(
            row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?,
        )?);
    }
    Ok(found)
}

/// What a failure of SQLite means to the engine.
pub(super) fn situation(path: &Path, error: &rusqlite::Error) -> JournalError {
    let code = error.sqlite_error_code();
    let extended = error.sqlite_error().map(|error| error.extended_code);
    match (code, extended) {
        // A quota and a full disk under the shared memory arrive as I/O errors.
        (Some(ErrorCode::DiskFull), _)
        | (_, Some(ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE)) => JournalError::Full,
        (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _) => {
            damaged(path, &error.to_string())
        }
        _ => JournalError::Broken(format!("{}: {error}", path.display())),
    }
}

fn damaged(path: &Path, detail: &str) -> JournalError {
    let path = path.display();
    JournalError::Broken(format!(
        "{path} is damaged ({detail}); it was left as it is: put a copy in its place \
         ({path}.bak-…), or move it away to start with an empty one"
    ))
}

/// SQLite has no unsigned integers; none of ours comes near the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn signed_length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
