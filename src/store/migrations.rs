//! The schema, version by version, and the way from any older version to the newest.
//!
//! `PRAGMA user_version` counts the steps that were taken. Before the first further step of an
//! existing database a copy is made beside it (`tasks.db.bak-<version>`). A database with more
//! steps than are known here is not touched at all.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use crate::engine::journal::JournalError;

use super::sqlite::situation;

/// One step a version, never changed once released.
pub(super) const STEPS: &[&str] = &[
    "
    CREATE TABLE meta (
        id         INTEGER PRIMARY KEY CHECK (id = 1),
        epoch      INTEGER NOT NULL,
        next_task  INTEGER NOT NULL,
        next_event INTEGER NOT NULL,
        paused     INTEGER NOT NULL,
        commits    INTEGER NOT NULL
    ) STRICT;
    INSERT INTO meta VALUES (1, 0, 1, 1, 0, 0);

    CREATE TABLE tasks (
        id       INTEGER PRIMARY KEY,
        state    TEXT    NOT NULL,
        open     INTEGER NOT NULL,
        priority TEXT    NOT NULL,
        created  INTEGER NOT NULL,
        updated  INTEGER NOT NULL,
        name     TEXT,
        key      TEXT,
        repo     TEXT    NOT NULL,
        body     TEXT    NOT NULL
    ) STRICT;
    CREATE INDEX tasks_open  ON tasks (open, id);
    CREATE INDEX tasks_state ON tasks (state, id);
    CREATE INDEX tasks_name  ON tasks (name) WHERE name IS NOT NULL;
    CREATE INDEX tasks_key   ON tasks (key)  WHERE key  IS NOT NULL;

    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        at       INTEGER NOT NULL,
        task     INTEGER REFERENCES tasks (id),
        kind     TEXT    NOT NULL,
        body     TEXT    NOT NULL
    ) STRICT;
    CREATE INDEX events_task ON events (task, sequence);
",
    "
    ALTER TABLE meta ADD COLUMN learned TEXT;
",
];

/// Refuses a database that is newer or another program's; writes nothing.
pub(super) fn check(
    connection: &Connection,
    path: &Path,
    steps: &[&str],
) -> Result<(), JournalError> {
    let found = version(connection, path)?;
    let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(JournalError::Newer { found, known });
    }
    if found == 0 && has_tables(connection, path)? {
        return Err(JournalError::Broken(format!(
            "{} belongs to another program; name another data directory",
            path.display()
        )));
    }
    Ok(())
}

/// Takes the steps that are missing, after a copy of what was there.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    steps: &[&str],
) -> Result<(), JournalError> {
    let found = version(connection, path)?;
    let taken = found as usize;
    if taken > 0 && taken < steps.len() {
        back_up(connection, path, found)?;
    }
    for (step, number) in steps.iter().zip(1..).skip(taken) {
        take(connection, step, number).map_err(|error| situation(path, &error))?;
    }
    Ok(())
}

fn take(connection: &mut Connection, step: &str, number: u32) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "user_version", number)?;
    transaction.commit()
}

fn version(connection: &Connection, path: &Path) -> Result<u32, JournalError> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| situation(path, &error))
}

fn has_tables(connection: &Connection, path: &Path) -> Result<bool, JournalError> {
    connection
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| {
            row.get(0)
        })
        .map_err(|error| situation(path, &error))
}

/// Where the copy of version `version` lies.
pub(super) fn copy_of(path: &Path, version: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".bak-{version}"));
    PathBuf::from(name)
}

fn back_up(connection: &Connection, path: &Path, version: u32) -> Result<(), JournalError> {
    let copy = copy_of(path, version);
    let unfinished = copy.with_extension("tmp");
    let Some(target) = unfinished.to_str() else {
        let shown = path.display();
        return Err(JournalError::Broken(format!(
            "{shown} cannot be copied: not UTF-8"
        )));
    };
    remove_if_there(&unfinished)?;
    connection
        .execute("VACUUM INTO ?1", [target])
        .map_err(|error| situation(path, &error))?;
    make_durable(&unfinished, &copy).map_err(|error| unusable(&copy, &error))
}

fn remove_if_there(path: &Path) -> Result<(), JournalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn make_durable(unfinished: &Path, copy: &Path) -> std::io::Result<()> {
    restrict(unfinished)?;
    fs::File::open(unfinished)?.sync_all()?;
    fs::rename(unfinished, copy)?;
    sync_folder(copy)
}

/// Only the owner may read: prompts and environments are inside.
pub(super) fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Makes a new name in the folder of `path` durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// An operation on a file of the store failed.
pub(super) fn unusable(path: &Path, error: &std::io::Error) -> JournalError {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => JournalError::Full,
        _ => JournalError::Broken(format!("{}: {error}", path.display())),
    }
}
