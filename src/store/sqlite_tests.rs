//! What only a database on a disk can do: be full, damaged, newer, older, another program's.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::core::task::TaskState;
use crate::store::contract::{batch, task};

/// The version of a database of this program.
#[expect(clippy::cast_possible_truncation, reason = "a handful of steps")]
const KNOWN: u32 = STEPS.len() as u32;

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("tasks.db")
    }

    fn open(&self) -> Result<SqliteStore, JournalError> {
        SqliteStore::open(&self.path())
    }

    /// A database with one queued task, closed.
    fn with_a_task() -> Self {
        let place = Self::new();
        let mut store = place.open().unwrap();
        let epoch = store.begin_epoch().unwrap();
        store
            .commit(&batch(epoch, &[task(1, TaskState::Queued)], &[]))
            .unwrap();
        place
    }
}

fn long(number: u64) -> Arc<Task> {
    let mut long = Task::clone(&task(number, TaskState::Queued));
    long.spec.prompt = "x".repeat(400_000);
    Arc::new(long)
}

#[test]
fn a_commit_is_in_the_log_on_disk_and_synced() {
    let store = Place::new().open().unwrap();
    let pragma = |name: &str| -> String {
        let read = |row: &Row<'_>| {
            let value: rusqlite::types::Value = row.get(0)?;
            Ok(format!("{value:?}"))
        };
        store
            .connection
            .pragma_query_value(None, name, read)
            .unwrap()
    };
    assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
    assert_eq!(pragma("synchronous"), "Integer(2)");
    assert_eq!(pragma("foreign_keys"), "Integer(1)");
}

#[test]
fn only_the_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_a_task();
    let store = place.open().unwrap();
    for file in fs::read_dir(place.folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
    drop(store);
}

#[test]
fn an_empty_commit_writes_so_that_it_can_probe_the_disk() {
    let place = Place::new();
    let mut store = place.open().unwrap();
    let epoch = store.begin_epoch().unwrap();
    let log = place.folder.path().join("tasks.db-wal");
    let before = fs::metadata(&log).unwrap().len();
    store
        .commit(&Transaction {
            epoch,
            next_task: 1,
            ..Transaction::default()
        })
        .unwrap();
    let after = fs::metadata(&log).unwrap().len();
    assert!(after > before, "{before} bytes before, {after} after");
}

#[test]
fn a_database_that_may_not_grow_is_full_and_works_again_when_it_may() {
    let place = Place::with_a_task();
    let mut store = place.open().unwrap();
    let epoch = store.begin_epoch().unwrap();
    let pages: i64 = store
        .connection
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    let limit = |store: &SqliteStore, pages: i64| {
        let set = store
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0));
        set.unwrap();
    };
    limit(&store, pages);
    let refused = store.commit(&batch(epoch, &[long(2)], &[]));
    assert!(matches!(refused, Err(JournalError::Full)), "{refused:?}");
    assert_eq!(store.load(10).unwrap().next_task, 2);
    assert_eq!(store.task(TaskId(2)).unwrap(), None);
    limit(&store, 1_000_000);
    store.commit(&batch(epoch, &[long(2)], &[])).unwrap();
    assert!(store.task(TaskId(2)).unwrap().is_some());
}

/// Needs a file system that can be filled: set `WARPSQUAD_TEST_SMALL_DISK` to the mount point of a
/// small tmpfs. `tests/small-disk` mounts one in a namespace of its own.
#[test]
#[ignore = "needs a small file system: run tests/small-disk"]
fn a_disk_that_is_full_loses_nothing_and_works_again_when_it_is_not() {
    let disk = std::env::var_os("WARPSQUAD_TEST_SMALL_DISK").expect("the mount point");
    let folder = tempfile::tempdir_in(disk).unwrap();
    let path = folder.path().join("tasks.db");
    let mut store = SqliteStore::open(&path).unwrap();
    let epoch = store.begin_epoch().unwrap();
    let mut accepted = 0;
    let refusal = loop {
        match store.commit(&batch(epoch, &[long(accepted + 1)], &[])) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 1_000, "the file system is not small");
    };
    assert!(matches!(refusal, JournalError::Full), "{refusal:?}");
    let filler = folder.path().join("filler");
    let rest = fs::write(&filler, vec![0; 1 << 26]);
    assert!(rest.is_err(), "something could still be written");
    let known = store.load(0).unwrap().tasks.len() as u64;
    assert_eq!(known, accepted);
    drop(store);
    fs::remove_file(&filler).unwrap();
    let mut store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.load(0).unwrap().tasks.len() as u64, accepted);
    let epoch = store.begin_epoch().unwrap();
    let small = task(accepted + 1, TaskState::Queued);
    store.commit(&batch(epoch, &[small], &[])).unwrap();
}

#[test]
fn a_newer_database_is_refused_and_not_touched() {
    let place = Place::with_a_task();
    let store = place.open().unwrap();
    store
        .connection
        .pragma_update(None, "user_version", 9)
        .unwrap();
    drop(store);
    let before = fs::read(place.path()).unwrap();
    let refused = place.open().map(drop);
    assert!(
        matches!(refused, Err(JournalError::Newer { found: 9, known }) if known == KNOWN),
        "{refused:?}"
    );
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[test]
fn another_programs_database_is_refused_and_not_touched() {
    let place = Place::new();
    let other = Connection::open(place.path()).unwrap();
    other
        .execute_batch("CREATE TABLE bookmarks (url TEXT)")
        .unwrap();
    drop(other);
    let before = fs::read(place.path()).unwrap();
    let refused = place.open().map(drop).unwrap_err().to_string();
    assert!(refused.contains("belongs to another program"), "{refused}");
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let place = Place::new();
    let text = "these are my notes\n".repeat(100);
    fs::write(place.path(), &text).unwrap();
    let refused = place.open().map(drop).unwrap_err().to_string();
    assert!(
        refused.contains("is damaged") && refused.contains("move it away"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(place.path()).unwrap(), text);
}

#[test]
fn a_damaged_database_is_refused_and_not_deleted() {
    let place = Place::with_a_task();
    let mut bytes = fs::read(place.path()).unwrap();
    let length = bytes.len();
    bytes[5_000..length].fill(0xAA);
    fs::write(place.path(), &bytes).unwrap();
    let refused = place.open().map(drop).unwrap_err().to_string();
    assert!(refused.contains("is damaged"), "{refused}");
    assert_eq!(fs::read(place.path()).unwrap(), bytes);
}

#[test]
fn a_body_that_cannot_be_read_is_a_fault_not_a_lost_task() {
    let place = Place::with_a_task();
    let mut store = place.open().unwrap();
    store
        .connection
        .execute("UPDATE tasks SET body = '{}'", ())
        .unwrap();
    assert!(matches!(store.load(10), Err(JournalError::Broken(_))));
    assert!(matches!(
        store.task(TaskId(1)),
        Err(JournalError::Broken(_))
    ));
}

#[test]
fn an_older_database_is_copied_then_migrated() {
    let place = Place::with_a_task();
    let steps = [STEPS, &["ALTER TABLE tasks ADD COLUMN colour TEXT"]].concat();
    let mut store = SqliteStore::open_with(&place.path(), &steps).unwrap();
    assert_eq!(store.load(10).unwrap().tasks.len(), 1);
    store
        .connection
        .execute("UPDATE tasks SET colour = 'red'", ())
        .unwrap();
    drop(store);
    let copy = format!("tasks.db.bak-{KNOWN}");
    let copy = place.folder.path().join(copy);
    let mut old = SqliteStore::open(&copy).unwrap();
    assert_eq!(old.load(10).unwrap().tasks.len(), 1);
    let newer = place.open().map(drop);
    assert!(
        matches!(newer, Err(JournalError::Newer { found, .. }) if found == KNOWN + 1),
        "{newer:?}"
    );
}

#[test]
fn a_migration_that_fails_leaves_the_older_database() {
    let place = Place::with_a_task();
    let broken = "ALTER TABLE tasks ADD COLUMN colour TEXT; SELECT nonsense";
    let steps = [STEPS, &[broken]].concat();
    assert!(SqliteStore::open_with(&place.path(), &steps).is_err());
    let mut store = place.open().unwrap();
    assert_eq!(store.load(10).unwrap().tasks.len(), 1);
}

#[test]
fn a_new_database_needs_no_copy() {
    let place = Place::with_a_task();
    drop(place.open().unwrap());
    let copies = fs::read_dir(place.folder.path()).unwrap().filter(|file| {
        file.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("bak")
    });
    assert_eq!(copies.count(), 0);
}

#[test]
fn a_folder_that_cannot_be_made_is_a_clear_fault() {
    let place = Place::with_a_task();
    let below_a_file = place.path().join("below/tasks.db");
    let refused = SqliteStore::open(&below_a_file).map(drop).unwrap_err();
    assert!(matches!(refused, JournalError::Broken(_)), "{refused}");
    assert!(refused.to_string().contains("below/tasks.db"), "{refused}");
}

#[test]
fn after_a_failed_upgrade_the_copy_is_back_and_the_newer_one_is_kept() {
    let place = Place::with_a_task();
    let newer = [STEPS, &["CREATE TABLE later (a INTEGER) STRICT"]].concat();
    let mut store = SqliteStore::open_with(&place.path(), &newer).unwrap();
    let epoch = store.begin_epoch().unwrap();
    store
        .commit(&batch(epoch, &[task(2, TaskState::Queued)], &[]))
        .unwrap();
    drop(store);
    let known = KNOWN;
    let refused = place.open().unwrap_err();
    assert!(matches!(refused, JournalError::Newer { .. }), "{refused}");

    SqliteStore::go_back(&place.path(), known + 1, known).unwrap();
    let mut back = place.open().unwrap();
    let tasks = back.load(10).unwrap().tasks;
    assert_eq!(tasks.iter().map(|task| task.id.0).collect::<Vec<_>>(), [1]);
    // The keeper has seen the newer epoch and refuses older ones.
    assert!(back.begin_epoch().unwrap() > epoch);
    let aside = place
        .folder
        .path()
        .join(format!("tasks.db.newer-{}", known + 1));
    let kept = SqliteStore::open_with(&aside, &newer)
        .unwrap()
        .load(10)
        .unwrap();
    assert_eq!(kept.tasks.len(), 2);
}

#[test]
fn without_a_copy_there_is_no_way_back_and_nothing_is_touched() {
    let place = Place::with_a_task();
    let before = fs::read(place.path()).unwrap();
    let refused = SqliteStore::go_back(&place.path(), 9, 1).unwrap_err();
    assert!(
        matches!(refused, JournalError::Newer { found: 9, known: 1 }),
        "{refused}"
    );
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_database_from_before_the_router_is_migrated_and_what_is_learned_survives() {
    let place = Place::new();
    drop(SqliteStore::open_with(&place.path(), &STEPS[..1]));
    let mut store = place.open().unwrap();
    let epoch = store.begin_epoch().unwrap();
    let learned = Learned {
        turn: 7,
        ..Learned::default()
    };
    let lesson = Transaction {
        learned: Some(learned.clone().into()),
        ..batch(epoch, &[], &[])
    };
    store.commit(&lesson).unwrap();
    // A batch that teaches nothing takes nothing away.
    store.commit(&batch(epoch, &[], &[])).unwrap();
    drop(store);
    assert_eq!(place.open().unwrap().load(10).unwrap().learned, learned);
}
