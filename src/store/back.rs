//! The way back from a database that a newer program has migrated and never served from.
//!
//! Before a migration a copy is made (`tasks.db.bak-<version>`). When the program that migrated
//! has failed, the copy takes the database's place in one rename; the newer database is kept beside
//! it. Whoever calls this knows that nothing was accepted into the newer one.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::engine::journal::JournalError;

use super::migrations::{copy_of, restrict, sync_folder, unusable};
use super::sqlite::situation;

/// Puts the copy of version `known` in the place of the database of version `found`.
pub(super) fn go_back(path: &Path, found: u32, known: u32) -> Result<(), JournalError> {
    let copy = copy_of(path, known);
    if !copy.exists() {
        return Err(JournalError::Newer { found, known });
    }
    let epoch = close_log(path).map_err(|error| situation(path, &error))?;
    let draft = with_ending(path, "back");
    let draw = || -> std::io::Result<()> {
        fs::copy(&copy, &draft)?;
        restrict(&draft)
    };
    draw().map_err(|error| unusable(&draft, &error))?;
    raise_epoch(&draft, epoch).map_err(|error| situation(&draft, &error))?;
    let exchange = || -> std::io::Result<()> {
        fs::File::open(&draft)?.sync_all()?;
        let aside = with_ending(path, &format!("newer-{found}"));
        if aside.exists() {
            fs::remove_file(&aside)?;
        }
        fs::hard_link(path, &aside)?;
        fs::rename(&draft, path)?;
        sync_folder(path)
    };
    exchange().map_err(|error| unusable(path, &error))
}

/// Moves everything from the log into the database, so that no log is left that would be taken for
/// that of the copy; the newer program's epoch, if it can be read.
fn close_log(path: &Path) -> rusqlite::Result<Option<i64>> {
    let connection = Connection::open(path)?;
    let epoch = connection.query_row("SELECT epoch FROM meta", (), |row| row.get(0));
    connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    Ok(epoch.ok())
}

/// The keeper has seen the newer program's epoch: the next one must not be older.
fn raise_epoch(path: &Path, epoch: Option<i64>) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    let raise = "UPDATE meta SET epoch = max(epoch, coalesce(?1, epoch))";
    connection.execute(raise, [epoch]).map(drop)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}
