//! A squad of the same build, driven by its command line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::endpoint::Endpoint;

const PROGRAM: &str = env!("CARGO_BIN_EXE_warpsquad");
/// One view of the squad a line, at once and after every change.
const WATCH: &[u8] = b"GET /v1/watch HTTP/1.0\r\nHost: squad\r\n\r\n";
/// With the rate below about ten seconds of an answer.
const SLOW: &str = "@sim slow 10\n";
const WORDS: usize = 65;

pub(super) struct Squad {
    folder: TempDir,
}

/// One attempt, in milliseconds of the wall clock.
pub(super) struct Attempt {
    pub(super) slot: u64,
    pub(super) started: u64,
    pub(super) delivered: u64,
    pub(super) settled: u64,
}

impl Squad {
    pub(super) fn start(endpoint: &Endpoint, python: &Path, agents: &str, format: &str) -> Self {
        let squad = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let config = format!(
            "[models.defaults]\nedit_format = \"{format}\"\n[agents]\n{agents}\npython = \"{}\"\n[agents.answers]\nshell = \"ask\"\n[verify]\nbaseline = false\n\
             [[endpoints]]\nname = \"bench\"\nurl = \"{}\"\nparallel = 10\n",
            python.display(),
            endpoint.url
        );
        std::fs::write(squad.path("config.toml"), config).unwrap();
        super::repository(&squad.path("repo"));
        squad.call(&["server"]);
        squad
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(words)
            .current_dir(self.path("repo"))
            .env("WARPSQUAD_DATA_DIR", self.path("data"))
            .env("WARPSQUAD_CONFIG", self.path("config.toml"))
            .env("WARPSQUAD_SOCKET", self.path("s"))
            .stdin(Stdio::null());
        command
    }

    fn call(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.call(words)).unwrap()
    }

    /// Follows the squad until something of its state is as wanted: asking again and again would
    /// take processor time from what is measured.
    fn until<T>(&self, mut wanted: impl FnMut(&Value) -> Option<T>) -> T {
        let mut stream = UnixStream::connect(self.path("s")).unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        stream.write_all(WATCH).unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        let mut views = lines.skip_while(|line| !line.is_empty()).skip(1);
        views
            .find_map(|view| wanted(&serde_json::from_str(&view).unwrap()))
            .unwrap()
    }

    /// From the moment at which the zygote is ready until all spares are, and its processor time;
    /// both in seconds. One task comes first: it tells what is to be made ahead.
    pub(super) fn first_task_and_prompts(&self, spares: usize) -> (f64, f64) {
        let task = self.add(99, "");
        let cpu = self.until(|status| status["pool"]["forking"]["cpu_ms"].as_f64());
        let start = Instant::now();
        self.until_ready(spares);
        let prompts = start.elapsed().as_secs_f64();
        self.until_done(task);
        (prompts, cpu / 1000.0)
    }

    pub(super) fn until_ready(&self, count: usize) {
        self.until(|status| {
            let spares = status["pool"]["spares"].as_array()?;
            let ready = spares.iter().filter(|spare| spare["is_ready"] == true);
            (ready.count() >= count).then_some(())
        });
    }

    /// Submits a task on two files; its number.
    pub(super) fn add(&self, n: usize, extra: &str) -> u64 {
        let files = [format!("f{n}.py"), format!("f{}.py", (n + 1) % 100)];
        let prompt = format!("do it\n{extra}\n@sim append f{n}.py := # {n}");
        let words = [
            "task",
            "add",
            "--json",
            "--autonomy",
            "merge",
            "--verify",
            "true",
            "--edit",
            &files[0],
            "--edit",
            &files[1],
            &prompt,
        ];
        self.json(&words)["tasks"][0].as_u64().unwrap()
    }

    pub(super) fn add_ten(&self) -> u64 {
        self.add_many(super::TEN, "")
    }

    /// Submits tasks in one go; the number of the first.
    pub(super) fn add_many(&self, count: usize, kind: &str) -> u64 {
        let extra = match kind {
            "slow" => SLOW.to_owned(),
            "ask" => "@sim shell true\n".to_owned(),
            _ => String::new(),
        };
        let mut text = "[defaults]\nverify = \"true\"\nautonomy = \"merge\"\n".to_owned();
        for n in 0..count {
            let files = format!("files = [\"f{n}.py\", \"f{}.py\"]", n + 1);
            let words = if kind == "slow" { WORDS } else { 1 };
            let words = "word ".repeat(words);
            let edit = format!("@sim append f{n}.py := # {kind} {n} {words}");
            text.extend([
                format!("[[task]]\nname = \"{kind} {n}\"\n{files}\n"),
                format!("prompt = '''\n{extra}{edit}\n'''\n"),
            ]);
        }
        std::fs::write(self.path("tasks.toml"), text).unwrap();
        let words = ["task", "add", "--json", "-f", "../tasks.toml"];
        self.json(&words)["tasks"][0].as_u64().unwrap()
    }

    fn task(&self, task: u64) -> Value {
        self.json(&["task", "show", &task.to_string(), "--json"])
    }

    pub(super) fn attempt(&self, task: u64) -> Attempt {
        let task = self.task(task);
        let attempt = &task["attempts"][0];
        let moment = |name: &str| attempt[name].as_u64().unwrap();
        Attempt {
            slot: moment("slot"),
            started: moment("started"),
            delivered: moment("delivered"),
            settled: moment("settled"),
        }
    }

    /// When it was given to an agent.
    pub(super) fn assigned(&self, task: u64) -> u64 {
        self.task(task)["attempts"][0]["started"].as_u64().unwrap()
    }

    pub(super) fn until_done(&self, task: u64) {
        self.call(&["task", "wait", "--until", "merged", &task.to_string()]);
    }

    /// Ten agents that have edited and committed, and now ask whether to run a command.
    pub(super) fn memory_of_ten_that_have_edited(&self) -> f64 {
        self.until_ready(super::TEN);
        self.add_many(super::TEN, "ask");
        let pids = self.until(|status| {
            let agents = status["agents"].as_array()?.iter();
            let waiting = agents.filter(|agent| agent["report"]["state"] == "waiting");
            let pids: Vec<u32> = waiting
                .filter_map(|agent| u32::try_from(agent["report"]["pid"].as_u64()?).ok())
                .collect();
            (pids.len() == super::TEN).then_some(pids)
        });
        let status = self.json(&["status", "--json"]);
        let zygote = status["pool"]["forking"]["pid"].as_u64().unwrap();
        // The zygote's pages count as well: without it there would be no agents.
        let all = pids.into_iter().chain(u32::try_from(zygote).ok());
        all.map(super::memory).sum()
    }

    pub(super) fn hit_rate(&self) -> f64 {
        let pool = &self.json(&["status", "--json"])["pool"];
        let (hits, misses) = (pool["hits"].as_f64(), pool["misses"].as_f64());
        hits.unwrap() / (hits.unwrap() + misses.unwrap()).max(1.0)
    }
}

impl Drop for Squad {
    fn drop(&mut self) {
        // A second panic would hide the first.
        drop(self.command(&["stop", "--now"]).output());
    }
}
