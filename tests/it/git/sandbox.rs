//! A repository of a user, with settings of its own and nothing of this machine's.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use warpsquad::core::TaskId;
use warpsquad::core::settings::MergeStrategy;
use warpsquad::git::{Git, MergeRequest, Repository, Trailers, Worktree, WorktreeRequest};

pub(super) const TASK: TaskId = TaskId(12);

/// `repo` is the user's checkout on `main` with one commit: `a.txt`, `b.txt`, `dir/c.txt`.
pub(super) struct Sandbox {
    pub(super) root: TempDir,
    pub(super) repo: PathBuf,
}

impl Sandbox {
    pub(super) fn new() -> Self {
        Self::named("repo")
    }

    pub(super) fn named(name: &str) -> Self {
        let sandbox = Self::empty(name);
        sandbox.write("a.txt", "a\n");
        sandbox.write("b.txt", "b\n");
        sandbox.write("dir/c.txt", "c\n");
        sandbox.git(&["add", "-A"]);
        sandbox.git(&["commit", "-qm", "start"]);
        sandbox
    }

    /// A repository without a commit.
    pub(super) fn empty(name: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings =
            "[user]\nname = Ada\nemail = ada@example.org\n[init]\ndefaultBranch = main\n";
        std::fs::write(root.path().join("gitconfig"), settings).unwrap();
        let repo = root.path().join(name);
        std::fs::create_dir_all(&repo).unwrap();
        let sandbox = Self { root, repo };
        sandbox.git(&["init", "-q"]);
        sandbox
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The settings that the code under test gets instead of the environment's.
    pub(super) fn settings(&self) -> Git {
        Git::default()
            .with_env("GIT_CONFIG_GLOBAL", self.path("gitconfig"))
            .with_env("GIT_CONFIG_NOSYSTEM", "1")
            .with_env("HOME", self.root.path())
    }

    pub(super) async fn open(&self) -> Repository {
        Repository::open_with(self.settings(), &self.repo)
            .await
            .unwrap()
    }

    /// Runs git in the user's checkout, as the user would.
    pub(super) fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.repo, arguments)
    }

    pub(super) fn git_in(&self, dir: &Path, arguments: &[&str]) -> String {
        let (ok, text) = self.try_git_in(dir, arguments);
        assert!(ok, "git {arguments:?}: {text}");
        text
    }

    pub(super) fn try_git_in(&self, dir: &Path, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.root.path())
            .env("GIT_CONFIG_GLOBAL", self.path("gitconfig"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            text.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        (output.status.success(), text.trim_end().to_owned())
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        write_in(&self.repo, name, text);
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.repo.join(name)).unwrap()
    }

    /// A hook of the user.
    pub(super) fn hook(&self, name: &str, script: &str) {
        Self::script(&self.repo.join(".git/hooks").join(name), script);
    }

    pub(super) fn script(path: &Path, script: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(super) fn request(&self, base: &str) -> WorktreeRequest {
        WorktreeRequest {
            task: TASK,
            attempt: 1,
            slug: "add retry".into(),
            base: base.to_owned(),
            dir: self.path("data/worktrees/12"),
        }
    }

    /// A worktree of [`TASK`] from the present `HEAD`.
    pub(super) async fn worktree(&self, repository: &Repository) -> Worktree {
        let base = self.head();
        repository.add_worktree(&self.request(&base)).await.unwrap()
    }

    pub(super) fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// A task that wrote `files` and committed each: the merge that would bring them to `main`.
    pub(super) async fn task(
        &self,
        repository: &Repository,
        files: &[(&str, &str)],
    ) -> MergeRequest {
        let base = self.head();
        let worktree = self.worktree(repository).await;
        for (name, text) in files {
            write_in(&worktree.path, name, text);
            self.git_in(&worktree.path, &["add", "-A"]);
            self.git_in(&worktree.path, &["commit", "-qm", &format!("write {name}")]);
        }
        self.merge_request(&base, &worktree.branch)
    }

    pub(super) fn merge_request(&self, base: &str, tip: &str) -> MergeRequest {
        MergeRequest {
            task: TASK,
            base: base.to_owned(),
            tip: tip.to_owned(),
            target: "main".into(),
            strategy: MergeStrategy::Squash,
            message: "add retry\n\nBecause it fails at times.".into(),
            trailers: Trailers {
                model: Some("qwen2.5-coder:7b".into()),
                verified: Some("cargo test".into()),
            },
            scratch: self.path("data/scratch"),
        }
    }

    /// Everything a user could notice about the checkout: status, index bytes, refs of their own,
    /// settings, and each file's content and time.
    pub(super) fn picture(&self) -> Picture {
        let mut files = BTreeMap::new();
        collect(&self.repo, &self.repo, &mut files);
        let index = std::fs::read(self.repo.join(".git/index")).unwrap_or_default();
        Picture {
            index,
            config: std::fs::read_to_string(self.repo.join(".git/config")).unwrap(),
            head: std::fs::read_to_string(self.repo.join(".git/HEAD")).unwrap(),
            main: self.try_git_in(&self.repo, &["rev-parse", "main"]).1,
            files,
        }
    }
}

/// See [`Sandbox::picture`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Picture {
    index: Vec<u8>,
    config: String,
    head: String,
    main: String,
    files: BTreeMap<PathBuf, (Vec<u8>, i64, i64, u32)>,
}

fn collect(top: &Path, dir: &Path, files: &mut BTreeMap<PathBuf, (Vec<u8>, i64, i64, u32)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if path == top.join(".git") {
            continue;
        }
        if meta.is_dir() {
            collect(top, &path, files);
        } else if meta.is_file() {
            let content = std::fs::read(&path).unwrap();
            let facts = (content, meta.mtime(), meta.mtime_nsec(), meta.mode());
            files.insert(path, facts);
        }
    }
}

pub(super) fn write_in(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
