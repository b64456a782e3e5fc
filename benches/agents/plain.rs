//! Aiders as a script would start them.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::endpoint::Endpoint;

const METADATA: &str = r#"{"ollama_chat/coder:7b":{"max_tokens":32768,"max_input_tokens":32768,
"max_output_tokens":32768,"litellm_provider":"ollama","mode":"chat"}}"#;
/// What a terminal is told when Aider begins to read.
const READS: &str = "\x1b[?2004h";

pub(super) struct Plain {
    child: Box<dyn Child + Send + Sync>,
    input: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    said: Vec<u8>,
    _master: Box<dyn MasterPty + Send>,
}

impl Plain {
    /// Does one task with two files and ends.
    pub(super) fn one_shot(endpoint: &Endpoint, python: &Path, dir: &Path, n: usize) -> Self {
        let message = format!("do it\n@sim append f{n}.py := # {n}");
        let files = [format!("f{n}.py"), format!("f{}.py", n + 1)];
        let words = [
            "--message",
            &message,
            "--file",
            &files[0],
            "--file",
            &files[1],
        ];
        Self::start(endpoint, python, dir, &words)
    }

    /// Waits at its prompt.
    pub(super) fn interactive(endpoint: &Endpoint, python: &Path, dir: &Path) -> Self {
        Self::start(endpoint, python, dir, &[])
    }

    fn start(endpoint: &Endpoint, python: &Path, dir: &Path, words: &[&str]) -> Self {
        let metadata = std::env::temp_dir().join("bench-metadata.json");
        std::fs::write(&metadata, METADATA).unwrap();
        let pair = native_pty_system()
            .openpty(PtySize {
                rows: 40,
                cols: 120,
                pixel_width: 0,
                pixel_height: 0,
            })
            .unwrap();
        let mut command = CommandBuilder::new(python);
        command.args([
            "-m",
            "aider",
            "--model",
            "ollama_chat/coder:7b",
            "--yes-always",
        ]);
        command.args(["--model-metadata-file", metadata.to_str().unwrap()]);
        command.args([
            "--no-check-update",
            "--no-show-release-notes",
            "--no-analytics",
        ]);
        command.args([
            "--no-show-model-warnings",
            "--no-gitignore",
            "--no-detect-urls",
        ]);
        command.args([
            "--no-suggest-shell-commands",
            "--map-tokens",
            "1024",
            "--edit-format",
            "diff",
        ]);
        command.args(words);
        command.cwd(dir);
        command.env("OLLAMA_API_BASE", &endpoint.url);
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
        command.env("OPENBLAS_NUM_THREADS", "1");
        command.env("PROMPT_TOOLKIT_NO_CPR", "1");
        command.env("BROWSER", "true");
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        let output = read(pair.master.try_clone_reader().unwrap());
        Self {
            child,
            input: pair.master.take_writer().unwrap(),
            output,
            said: Vec::new(),
            _master: pair.master,
        }
    }

    /// Waits until it reads for the time of this number. A message ends one reading, and each
    /// resize would begin another: there is none here.
    pub(super) fn until_prompt(&mut self, number: usize) {
        let reads = |said: &[u8]| String::from_utf8_lossy(said).matches(READS).count();
        while reads(&self.said) < number {
            self.said.extend(super::take(&self.output));
        }
    }

    /// Types a message.
    pub(super) fn say(&mut self, text: &str) {
        let keys = format!("\x1b[200~{text}\x1b[201~\r");
        self.input.write_all(keys.as_bytes()).unwrap();
    }

    pub(super) fn memory(&self) -> f64 {
        super::memory(self.child.process_id().unwrap())
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

fn read(mut from: Box<dyn Read + Send>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
