//! Sweeps over made-up squads with real repositories: unmerged work is never touched.

use std::process::Command;

use super::*;
use crate::core::AgentSlot;
use crate::core::task::{Attempt, Blocked, TaskSpec, Workplace};
use crate::git::WorktreeRequest;

const DAY: u64 = 24 * 3600 * 1000;

struct House {
    root: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let house = Self {
            root: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir_all(house.repo()).unwrap();
        house.git(&house.repo(), &["init", "-q", "-b", "main"]);
        house.git(&house.repo(), &["config", "user.name", "Ada"]);
        house.git(&house.repo(), &["config", "user.email", "a@example.com"]);
        std::fs::write(house.repo().join(".gitignore"), "target/\nnotes/\n").unwrap();
        house.git(&house.repo(), &["add", "-A"]);
        house.git(&house.repo(), &["commit", "-qm", "start"]);
        house
    }

    fn repo(&self) -> PathBuf {
        self.root.path().join("repo")
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    #[expect(clippy::unused_self, reason = "it reads as the house's own git")]
    fn git(&self, dir: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn head(&self, dir: &Path) -> String {
        self.git(dir, &["rev-parse", "HEAD"])
    }

    /// A task in `state`, last changed `days` ago, with one commit in its worktree.
    async fn task(&self, number: u64, state: TaskState, days: u64) -> Task {
        let spec = TaskSpec {
            repo: self.repo(),
            base_commit: self.head(&self.repo()),
            ..TaskSpec::default()
        };
        let mut task = Task::new(TaskId(number), spec, Blocked::No, Timestamp(1));
        let request = WorktreeRequest {
            task: task.id,
            attempt: 1,
            slug: "work".into(),
            base: task.spec.base_commit.clone(),
            dir: self.data().join(format!("worktrees/{number}-repo")),
        };
        let repository = Repository::open(&self.repo()).await.unwrap();
        let made = repository.add_worktree(&request).await.unwrap();
        std::fs::write(made.path.join(format!("{number}.txt")), "work\n").unwrap();
        self.git(&made.path, &["add", "-A"]);
        self.git(&made.path, &["commit", "-qm", "work"]);
        task.attempts.push(Attempt {
            number: 1,
            slot: AgentSlot(1),
            model: "m".into(),
            endpoint: "e".into(),
            started: Timestamp(1),
            delivered: None,
            settled: None,
            head: Some(self.head(&made.path)),
            failure: None,
            job: None,
            usage: None,
            uncounted_ms: 0,
            routing: None,
            fault: None,
            malformed: 0,
        });
        task.workplace = Some(Workplace {
            dir: made.path,
            branch: made.branch,
            base_commit: task.spec.base_commit.clone(),
        });
        task.state = state;
        task.updated = Timestamp(now().0 - days * DAY);
        std::fs::create_dir_all(self.chat(number)).unwrap();
        task
    }

    /// Puts the worktree away, as a merge or a discard does.
    async fn archive(&self, task: &mut Task) {
        let repository = Repository::open(&self.repo()).await.unwrap();
        let place = task.workplace.take().unwrap();
        repository.archive(task.id, &place.dir).await.unwrap();
    }

    fn chat(&self, number: u64) -> PathBuf {
        self.data().join(format!("tasks/{number}"))
    }

    fn archives(&self) -> Vec<String> {
        let refs = self.git(
            &self.repo(),
            &[
                "for-each-ref",
                "--format=%(refname)",
                "refs/warpsquad/archive",
            ],
        );
        refs.lines().map(str::to_owned).collect()
    }

    async fn sweep(&self, tasks: &[Task], request: CleanRequest) -> CleanReport {
        let mut sweep = Sweep::new(self.data(), tasks.to_vec(), request, Sizes::All);
        sweep.everything().await;
        sweep.report
    }
}

fn old() -> CleanRequest {
    CleanRequest {
        dry_run: false,
        older_than_ms: Some(30 * DAY),
    }
}

#[tokio::test]
async fn worktrees_of_unmerged_tasks_stay_however_old_they_are() {
    let house = House::new();
    let mut tasks = Vec::new();
    for (number, state) in (1..).zip([
        TaskState::Queued,
        TaskState::Running,
        TaskState::Review,
        TaskState::Failed,
        TaskState::Dead,
    ]) {
        tasks.push(house.task(number, state, 400).await);
    }
    let report = house.sweep(&tasks, old()).await;
    assert_eq!(report.removed, []);
    for task in &tasks {
        let dir = &task.workplace.as_ref().unwrap().dir;
        assert!(dir.join(format!("{}.txt", task.id)).exists());
        assert!(house.chat(task.id.0).exists());
    }
    // What belongs to no task known here is nobody's to remove either.
    let report = house.sweep(&[], old()).await;
    assert_eq!(report.removed, []);
}

#[tokio::test]
async fn an_archive_goes_only_when_it_is_old_and_its_commits_are_on_a_branch() {
    let house = House::new();
    let mut merged = house.task(1, TaskState::Merged, 40).await;
    let mut squashed = house.task(2, TaskState::Merged, 40).await;
    let mut fresh = house.task(3, TaskState::Merged, 2).await;
    let mut discarded = house.task(4, TaskState::Discarded, 400).await;
    let mut undone = house.task(5, TaskState::Merged, 400).await;
    for task in [&merged, &fresh] {
        let branch = task.workplace.as_ref().unwrap().branch.clone();
        house.git(&house.repo(), &["merge", "-q", "--no-edit", &branch]);
    }
    std::fs::write(house.repo().join("2.txt"), "work\n").unwrap();
    house.git(&house.repo(), &["add", "-A"]);
    house.git(&house.repo(), &["commit", "-qm", "squashed"]);
    squashed.merged = Some(house.head(&house.repo()));
    // Its merge is on no branch any more.
    undone.merged = undone.attempts[0].head.clone();
    for task in [
        &mut merged,
        &mut squashed,
        &mut fresh,
        &mut discarded,
        &mut undone,
    ] {
        house.archive(task).await;
    }
    let tasks = [merged, squashed, fresh, discarded, undone];
    let dry = CleanRequest {
        dry_run: true,
        ..old()
    };
    let told = house.sweep(&tasks, dry).await;
    assert_eq!(house.archives().len(), 5);
    assert!(house.chat(1).exists());

    let report = house.sweep(&tasks, old()).await;
    assert_eq!(report, told);
    assert_eq!(
        house.archives(),
        [3, 4, 5].map(|number| format!("refs/warpsquad/archive/{number}"))
    );
    let why = |number: u64| {
        let name = format!("refs/warpsquad/archive/{number} in ");
        let kept = report.kept.iter().find(|it| it.what.starts_with(&name));
        kept.unwrap().why.clone()
    };
    assert_eq!(why(3), NOT_OLD);
    assert_eq!(why(4), "its commits are on no branch");
    assert_eq!(why(5), "its commits are on no branch");
    let chats: Vec<bool> = (1..=5).map(|number| house.chat(number).exists()).collect();
    assert_eq!(chats, [false, false, true, true, false]);
}

#[tokio::test]
async fn only_caches_by_their_own_word_go_from_a_worktree_in_review() {
    let house = House::new();
    let reviewed = house.task(1, TaskState::Review, 40).await;
    let recent = house.task(2, TaskState::Review, 2).await;
    for task in [&reviewed, &recent] {
        let dir = &task.workplace.as_ref().unwrap().dir;
        for folder in ["target", "notes"] {
            std::fs::create_dir(dir.join(folder)).unwrap();
            std::fs::write(dir.join(folder).join("file"), "x").unwrap();
        }
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# made by cargo\n";
        std::fs::write(dir.join("target/CACHEDIR.TAG"), tag).unwrap();
        // Not ignored: it may be work, whatever it says of itself.
        std::fs::create_dir(dir.join("cache")).unwrap();
        std::fs::write(dir.join("cache/CACHEDIR.TAG"), tag).unwrap();
    }
    let tasks = [reviewed, recent];
    let report = house.sweep(&tasks, old()).await;
    let removed: Vec<&str> = report.removed.iter().map(|it| it.what.as_str()).collect();
    let dir = |index: usize| tasks[index].workplace.as_ref().unwrap().dir.clone();
    assert_eq!(removed, [dir(0).join("target").display().to_string()]);
    for kept in ["notes/file", "cache/CACHEDIR.TAG", "1.txt"] {
        assert!(dir(0).join(kept).exists(), "{kept}");
    }
    assert!(dir(1).join("target").exists());
}

#[tokio::test]
async fn a_leftover_worktree_of_a_finished_task_is_archived_before_it_goes() {
    let house = House::new();
    let cancelled = house.task(1, TaskState::Cancelled, 40).await;
    let dir = cancelled.workplace.as_ref().unwrap().dir.clone();
    std::fs::write(dir.join("uncommitted.txt"), "precious\n").unwrap();
    let report = house.sweep(&[cancelled], old()).await;
    assert!(!dir.exists(), "{report:?}");
    let shown = house.git(
        &house.repo(),
        &["show", "refs/warpsquad/archive/1:uncommitted.txt"],
    );
    assert_eq!(shown, "precious");
}
