//! The flight recorder: every request that passed the gateway as one line of JSON
//! ([`Served`]), in files that are rotated by size.
//!
//! There are figures in it, names and reasons, never a prompt, an answer, a token of the gateway
//! or a key.
//!
//! Invariant: whoever records never waits. The disk has a thread of its own; what it cannot take
//! in time is lost, counted and said. A line that a crash has torn stays alone on its line, so that
//! what follows can be read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::core::measurement::RecorderReport;
use crate::core::served::Served;
use crate::core::settings::RecorderSettings;

/// Requests that wait for the disk; more are lost. Ten busy agents make one a second.
const WAITING: usize = 1_024;
/// The file that is written now; older ones are `requests.1.jsonl` and so on.
const NAME: &str = "requests";

/// Takes requests in. Dropping it writes what it has; [`Recorder::finish`] waits for that.
#[derive(Debug)]
pub struct Recorder {
    lines: Option<SyncSender<Served>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    lost: AtomicU64,
    fault: Mutex<Option<String>>,
}

impl Recorder {
    /// A recorder that writes to `folder`; one that does nothing where it is switched off.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(folder: &Path, settings: RecorderSettings) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        if !settings.enabled {
            return Ok(Self {
                lines: None,
                shared,
                thread: None,
            });
        }
        let (lines, waiting) = sync_channel(WAITING);
        let tape = Tape {
            folder: folder.to_owned(),
            settings,
            file: None,
            size: 0,
        };
        let said = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || write_all(tape, &waiting, &said))?;
        Ok(Self {
            lines: Some(lines),
            shared,
            thread: Some(thread),
        })
    }

    /// Records one request, or counts it as lost.
    pub fn record(&self, served: &Served) {
        if let Some(lines) = &self.lines
            && lines.try_send(served.clone()).is_err()
        {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What it has done so far.
    pub fn report(&self) -> RecorderReport {
        self.shared.report()
    }

    /// Writes what is still waiting. Blocks until the disk has taken it.
    pub fn finish(mut self) -> RecorderReport {
        self.lines = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the recorder's thread has failed");
        }
        self.shared.report()
    }
}

impl Shared {
    fn report(&self) -> RecorderReport {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        RecorderReport {
            written: self.written.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            fault: fault.clone(),
        }
    }

    fn said(&self, result: io::Result<u64>, lines: u64) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(written) => {
                self.written.fetch_add(written, Ordering::Relaxed);
                *fault = None;
            }
            Err(error) => {
                if fault.is_none() {
                    tracing::warn!(%error, "requests cannot be recorded");
                }
                self.lost.fetch_add(lines, Ordering::Relaxed);
                *fault = Some(error.to_string());
            }
        }
    }
}

/// Until nobody can send any more: all that waits, then one flush.
fn write_all(mut tape: Tape, waiting: &Receiver<Served>, shared: &Shared) {
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        while batch.len() < WAITING {
            match waiting.try_recv() {
                Ok(next) => batch.push(next),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let lines = batch.len() as u64;
        let result = tape.write(&batch).map(|()| lines);
        if result.is_err() {
            // The next batch begins with a new look at the disk.
            tape.file = None;
        }
        shared.said(result, lines);
    }
}

/// The files.
#[derive(Debug)]
struct Tape {
    folder: PathBuf,
    settings: RecorderSettings,
    file: Option<BufWriter<File>>,
    size: u64,
}

impl Tape {
    fn write(&mut self, batch: &[Served]) -> io::Result<()> {
        for served in batch {
            let mut line = serde_json::to_vec(served)?;
            line.push(b'\n');
            let length = line.len() as u64;
            if self.file.is_none() {
                self.open()?;
            }
            if self.size > 0 && self.size + length > self.settings.max_size as u64 {
                self.rotate()?;
                self.open()?;
            }
            if let Some(file) = &mut self.file {
                file.write_all(&line)?;
                self.size += length;
            }
        }
        self.file.as_mut().map_or(Ok(()), io::Write::flush)
    }

    fn path(&self, age: usize) -> PathBuf {
        match age {
            0 => self.folder.join(format!("{NAME}.jsonl")),
            age => self.folder.join(format!("{NAME}.{age}.jsonl")),
        }
    }

    /// The file that an earlier server left, or a new one; readable by nobody else.
    fn open(&mut self) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.path(0))?;
        self.size = file.metadata()?.len();
        if self.size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                self.size += 1;
            }
        }
        self.file = Some(BufWriter::new(file));
        Ok(())
    }

    /// Every file becomes one older; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        if let Some(mut file) = self.file.take() {
            file.flush()?;
        }
        let kept = self.settings.keep.max(1);
        for age in (0..kept).rev() {
            let from = self.path(age);
            let moved = if age + 1 == kept {
                fs::remove_file(&from)
            } else {
                fs::rename(&from, self.path(age + 1))
            };
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.size = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(id: u64) -> Served {
        serde_json::from_value(serde_json::json!({
            "id": id, "at": 0, "client": "agent-1", "model": "m:1b", "endpoint": "e",
            "total_us": 5, "outcome": {"ended": "done"},
        }))
        .unwrap()
    }

    fn settings(max_size: usize, keep: usize) -> RecorderSettings {
        RecorderSettings {
            enabled: true,
            max_size,
            keep,
        }
    }

    fn recorded(folder: &Path, settings: RecorderSettings, ids: std::ops::Range<u64>) {
        let recorder = Recorder::start(folder, settings).unwrap();
        let expected = ids.end - ids.start;
        for id in ids {
            recorder.record(&served(id));
        }
        let report = recorder.finish();
        assert_eq!((report.written, report.lost), (expected, 0));
    }

    fn ids(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Served>(line).ok())
            .map(|served| served.id)
            .collect()
    }

    #[test]
    fn what_is_recorded_is_read_back_and_the_next_server_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        recorded(dir.path(), settings(1 << 20, 3), 0..3);
        recorded(dir.path(), settings(1 << 20, 3), 3..5);
        assert_eq!(ids(&dir.path().join("requests.jsonl")), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn files_are_rotated_by_size_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let line = serde_json::to_vec(&served(10)).unwrap().len() + 1;
        recorded(dir.path(), settings(line * 2, 3), 10..19);
        let name = |name: &str| ids(&dir.path().join(name));
        assert_eq!(name("requests.jsonl"), [18]);
        assert_eq!(name("requests.1.jsonl"), [16, 17]);
        assert_eq!(name("requests.2.jsonl"), [14, 15]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_that_an_earlier_server_left_full_is_rotated_first() {
        let dir = tempfile::tempdir().unwrap();
        let line = serde_json::to_vec(&served(10)).unwrap().len() + 1;
        recorded(dir.path(), settings(line * 2, 3), 10..12);
        recorded(dir.path(), settings(line * 2, 3), 12..13);
        assert_eq!(ids(&dir.path().join("requests.jsonl")), [12]);
        assert_eq!(ids(&dir.path().join("requests.1.jsonl")), [10, 11]);
    }

    #[test]
    fn a_torn_last_line_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        recorded(dir.path(), settings(1 << 20, 3), 0..2);
        let path = dir.path().join("requests.jsonl");
        let mut text = fs::read(&path).unwrap();
        text.truncate(text.len() - 7);
        fs::write(&path, text).unwrap();
        recorded(dir.path(), settings(1 << 20, 3), 2..4);
        assert_eq!(ids(&path), [0, 2, 3]);
    }

    #[test]
    fn a_disk_that_refuses_loses_lines_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("taken");
        fs::write(&folder, "a file where a folder should be").unwrap();
        let recorder = Recorder::start(&folder, settings(1 << 20, 3)).unwrap();
        recorder.record(&served(1));
        let report = recorder.finish();
        assert_eq!((report.written, report.lost), (0, 1));
        assert!(report.fault.is_some());
    }

    #[test]
    fn a_recorder_that_is_switched_off_makes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let off = RecorderSettings {
            enabled: false,
            ..settings(1 << 20, 3)
        };
        let recorder = Recorder::start(dir.path(), off).unwrap();
        recorder.record(&served(1));
        assert_eq!(recorder.finish(), RecorderReport::default());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        recorded(dir.path(), settings(1 << 20, 3), 0..1);
        let mode = fs::metadata(dir.path().join("requests.jsonl"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
}
