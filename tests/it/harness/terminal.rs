//! The dashboard in a real pty, seen through our own terminal emulator.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use warpsquad::pty::{MouseMode, Screen, Size};

/// The longest a screen may take to become what it should be.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal with the dashboard in it.
pub(crate) struct Terminal {
    master: Box<dyn MasterPty + Send>,
    // Held open: a pty whose last slave is closed forgets its settings.
    _slave: Box<dyn SlavePty + Send>,
    writer: Box<dyn std::io::Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    output: Receiver<Vec<u8>>,
    screen: Screen,
    before: String,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Terminal {
    pub(crate) fn start(
        program: &str,
        dir: &Path,
        environment: &[(&'static str, OsString)],
        columns: u16,
        rows: u16,
    ) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let before = settings(pair.master.as_ref());
        let mut command = CommandBuilder::new(program);
        command.cwd(dir);
        command.env_clear();
        for (name, value) in environment {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = sync_channel(64);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            writer: pair.master.take_writer().unwrap(),
            master: pair.master,
            _slave: pair.slave,
            child,
            output,
            screen: Screen::new(Size::new(columns, rows), 100),
            before,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    pub(crate) fn text(&mut self) -> String {
        self.screen.snapshot(0).text()
    }

    /// Types text, each character as one key.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    /// What the terminal's own paste sends.
    pub(crate) fn paste(&mut self, text: &str) {
        self.keys(&format!("\x1b[200~{text}\x1b[201~"));
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.screen.resize(Size::new(columns, rows));
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// Reads until the screen is as it should be.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let text = self.text();
            if is_so(&text) {
                return;
            }
            let left = PATIENCE.saturating_sub(started.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.screen.feed(&bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("not reached: {what}\n{text}")
                }
            }
        }
    }

    /// Waits for a text on the screen.
    #[track_caller]
    pub(crate) fn see(&mut self, text: &str) {
        self.wait_until(text, |screen| screen.contains(text));
    }

    /// Raw mode and the alternate screen are on.
    #[track_caller]
    pub(crate) fn is_taken(&mut self) {
        assert!(self.screen.modes().alternate_screen, "{}", self.text());
        assert_ne!(
            settings(self.master.as_ref()),
            self.before,
            "the terminal is not in raw mode"
        );
    }

    /// Waits for the end of the program; the terminal has to be as it was before.
    #[track_caller]
    pub(crate) fn ends_restored(&mut self) -> u32 {
        let started = Instant::now();
        let status = loop {
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.screen.feed(&bytes);
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "{}", self.text());
        };
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.screen.feed(&bytes);
        }
        let shown = self.text();
        let now = settings(self.master.as_ref());
        assert_eq!(now, self.before, "{shown}");
        let modes = self.screen.modes();
        assert!(!modes.alternate_screen, "{shown}");
        assert!(!modes.bracketed_paste, "{shown}");
        assert_eq!(modes.mouse, MouseMode::Off, "{shown}");
        let cursor = self.screen.snapshot(0).cursor;
        assert!(cursor.is_some(), "the cursor is hidden\n{shown}");
        status.exit_code()
    }
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize {
        rows,
        cols: columns,
        pixel_width: 0,
        pixel_height: 0,
    }
}

/// Everything that a program can set in the terminal's driver.
fn settings(master: &dyn MasterPty) -> String {
    format!("{:?}", master.get_termios().unwrap())
}
