//! A repository, a stand-in for Ollama and real Aider in a real pty.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tempfile::TempDir;
use warpsquad::agents::aider::cues::{AgentScreenState, AskedQuestion, Cue, CueParser, Signal};
use warpsquad::agents::aider::flavour::{self, AgentPlan, Identity, Launch};
use warpsquad::agents::aider::judge::TurnRecord;
use warpsquad::core::settings::ModelTuning;
use warpsquad::core::task::Mode;

/// Aider says nothing for this long: the test fails.
const SILENCE: Duration = Duration::from_secs(120);

const NONCE: &str = "0123456789abcdef";

/// The interpreter that has Aider.
pub(crate) fn python() -> PathBuf {
    let python = std::env::var_os("WARPSQUAD_TEST_PYTHON");
    PathBuf::from(python.expect(
        "set WARPSQUAD_TEST_PYTHON to a Python 3.10-3.12 that can import aider-chat 0.86.2",
    ))
}

/// A repository with one commit, beside a directory for an agent.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) repo: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let repo = dir.path().join("a repo äß");
        std::fs::create_dir(&repo).unwrap();
        let world = Self { dir, repo };
        world.git(&["init", "-q", "-b", "main"]);
        world.file("README.md", "# Demo\n");
        world.git(&["add", "-A"]);
        world.git(&[
            "-c",
            "user.name=Base",
            "-c",
            "user.email=base@example.com",
            "commit",
            "-qm",
            "base",
        ]);
        world
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        std::fs::write(self.repo.join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.repo.join(name)).unwrap()
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(&self.repo)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {error}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.dir.path().join("agent 1")
    }

    /// A plan as the squad makes it, in code mode.
    pub(crate) fn plan(&self, gateway_url: &str) -> AgentPlan {
        let home = self.dir.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let path = std::env::var("PATH").unwrap();
        let home = home.to_str().unwrap().to_owned();
        AgentPlan {
            python: python(),
            agent_dir: self.agent_dir(),
            worktree: self.repo.clone(),
            model: "coder:7b".into(),
            num_ctx: 16_384,
            can_think: false,
            tuning: ModelTuning::default(),
            mode: Mode::Code,
            files: Vec::new(),
            read: Vec::new(),
            map_tokens: 1_024,
            auto_lint: false,
            shell_commands: false,
            detect_urls: false,
            gateway_url: gateway_url.into(),
            user_git_configs: Vec::new(),
            identity: Some(Identity {
                name: "Ada Lovelace".into(),
                email: "ada@example.com".into(),
            }),
            slot: 1,
            port: 42_000,
            restore_chat: false,
            commit_subject: "squad: say hello".into(),
            nonce: NONCE.into(),
            environment: BTreeMap::from([("PATH".into(), path), ("HOME".into(), home)]),
        }
    }
}

/// Aider in a pty.
pub(crate) struct Agent {
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn std::io::Write + Send>,
    pub(crate) child: Box<dyn Child + Send + Sync>,
    output: Receiver<Vec<u8>>,
    parser: CueParser,
    pub(crate) transcript: Vec<u8>,
    pub(crate) signals: Vec<Signal>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Agent {
    pub(crate) fn start(plan: &AgentPlan) -> Self {
        let launch = flavour::plan(plan).unwrap();
        Self::launch(&launch)
    }

    pub(crate) fn launch(launch: &Launch) -> Self {
        launch.write().unwrap();
        let pair = native_pty_system()
            .openpty(PtySize {
                rows: 40,
                cols: 120,
                pixel_width: 0,
                pixel_height: 0,
            })
            .unwrap();
        let mut command = CommandBuilder::new(&launch.argv[0]);
        command.args(&launch.argv[1..]);
        command.cwd(&launch.cwd);
        command.env_clear();
        for (name, value) in &launch.env {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = sync_channel(64);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            writer: pair.master.take_writer().unwrap(),
            master: pair.master,
            child,
            output,
            parser: CueParser::new(NONCE),
            transcript: Vec::new(),
            signals: Vec::new(),
        }
    }

    pub(crate) fn state(&self) -> &AgentScreenState {
        self.parser.state()
    }

    /// Cues since the last call of `forget`.
    pub(crate) fn cues(&self) -> impl Iterator<Item = &Cue> {
        self.signals.iter().filter_map(|signal| match signal {
            Signal::Cue(cue) => Some(cue),
            Signal::Reading { .. } => None,
        })
    }

    pub(crate) fn forget(&mut self) {
        self.signals.clear();
    }

    pub(crate) fn turn(&self) -> TurnRecord {
        let mut turn = TurnRecord::default();
        self.cues().for_each(|cue| turn.observe(cue));
        turn
    }

    /// Reads until the condition holds, or fails with what was printed.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        while !holds(self) {
            match self.output.recv_timeout(SILENCE) {
                Ok(bytes) => self.take(&bytes),
                Err(error) => {
                    let ended = error == RecvTimeoutError::Disconnected;
                    let text = String::from_utf8_lossy(&self.transcript);
                    panic!("waited for: {what}; ended: {ended}; printed:\n{text}");
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.transcript.extend_from_slice(bytes);
        self.signals.extend(self.parser.feed(bytes));
    }

    /// Reads until Aider ended; its exit code.
    pub(crate) fn until_ended(&mut self) -> u32 {
        while let Ok(bytes) = self.output.recv_timeout(SILENCE) {
            self.take(&bytes);
        }
        self.child.wait().unwrap().exit_code()
    }

    pub(crate) fn until_prompt(&mut self) {
        self.until("a prompt that reads", |agent| {
            matches!(
                agent.state(),
                AgentScreenState::Prompt { reading: true, .. }
            )
        });
    }

    pub(crate) fn until_question(&mut self) -> AskedQuestion {
        self.until("a question that reads", |agent| {
            matches!(
                agent.state(),
                AgentScreenState::Question { reading: true, .. }
            )
        });
        match self.state() {
            AgentScreenState::Question { question, .. } => question.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn until_cue(&mut self, what: &str, mut is: impl FnMut(&Cue) -> bool) -> Cue {
        self.until(what, |agent| agent.cues().any(&mut is));
        self.cues().find(|cue| is(cue)).cloned().unwrap()
    }

    /// Writes while reading, since a pty holds only 4 KiB.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(1024) {
            self.writer.write_all(piece).unwrap();
            self.writer.flush().unwrap();
            while let Ok(bytes) = self.output.try_recv() {
                self.take(&bytes);
            }
        }
    }

    /// Delivers a prompt and waits until it was taken.
    pub(crate) fn prompt(&mut self, text: &str) {
        let delivery = warpsquad::agents::aider::prompt::literal(text).unwrap();
        self.write(&delivery.bytes);
        self.until_cue("the prompt taken as it was delivered", |cue| {
            delivery.was_taken(cue)
        });
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.master
            .resize(PtySize {
                rows,
                cols: columns,
                pixel_width: 0,
                pixel_height: 0,
            })
            .unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.process_id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal)
            .unwrap();
    }
}

/// What lies under a directory, for a comparison.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(crate) fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
