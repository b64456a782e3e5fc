//! A checkout becomes the next spare's only when nothing of its task is left in it.

use std::path::{Path, PathBuf};

use warpsquad::git::{Repository, WorktreeRequest};

use super::sandbox::{Sandbox, TASK, write_in};

/// A task that has committed a file; its checkout.
async fn worked(sandbox: &Sandbox, repository: &Repository) -> PathBuf {
    let made = sandbox.worktree(repository).await;
    write_in(&made.path, "done.txt", "by the task\n");
    let identity = repository.identity().await.unwrap();
    let committed = repository.commit_all(&made.path, "work", &identity).await;
    assert!(committed.unwrap().is_some());
    made.path
}

async fn park(sandbox: &Sandbox, repository: &Repository, dir: &Path) -> bool {
    let parked = sandbox.path("data/worktrees/parked");
    let is_parked = repository.archive_and_park(TASK, dir, &parked).await;
    let is_parked = is_parked.unwrap();
    assert!(!dir.exists());
    assert_eq!(parked.exists(), is_parked);
    is_parked
}

#[tokio::test]
async fn a_clean_checkout_is_kept_and_becomes_a_spare_of_another_commit() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let dir = worked(&sandbox, &repository).await;
    assert!(park(&sandbox, &repository, &dir).await);
    // The work is where an archive has it, and nothing else is left of the task.
    let archived = repository.latest_archive(TASK).await.unwrap().unwrap();
    let shown = format!("{}:done.txt", archived.commit);
    assert_eq!(sandbox.git(&["show", &shown]), "by the task");
    assert_eq!(sandbox.git(&["branch", "--list", "squad/*"]), "");
    sandbox.write("later.txt", "later\n");
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "later"]);
    let spare = sandbox.path("data/worktrees/spare");
    let parked = sandbox.path("data/worktrees/parked");
    repository
        .add_spare_from(&parked, &sandbox.head(), &spare)
        .await
        .unwrap();
    assert!(!parked.exists() && spare.join("later.txt").exists());
    assert!(!spare.join("done.txt").exists());
    let at = sandbox.git_in(&spare, &["rev-parse", "HEAD"]);
    assert_eq!(at, sandbox.head());
    assert_eq!(
        sandbox.git_in(&spare, &["status", "--porcelain", "--ignored"]),
        ""
    );
    let request = WorktreeRequest {
        dir: spare.clone(),
        ..sandbox.request(&at)
    };
    let taken = repository.take_spare(&request, &at).await.unwrap();
    assert_eq!(taken.branch, "squad/12-add-retry");
    assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 2);
}

#[tokio::test]
async fn what_another_task_would_find_keeps_a_checkout_from_being_used_again() {
    type Leave = fn(&Sandbox, &Path);
    let leftovers: [(&str, Leave); 5] = [
        ("an ignored file", |_, dir| {
            write_in(dir, "build/out.o", "x");
        }),
        ("a hidden change", |sandbox, dir| {
            sandbox.git_in(dir, &["update-index", "--assume-unchanged", "a.txt"]);
        }),
        ("an operation under way", |sandbox, dir| {
            let room = sandbox.git_in(dir, &["rev-parse", "--absolute-git-dir"]);
            std::fs::write(Path::new(&room).join("BISECT_LOG"), "").unwrap();
        }),
        ("settings of its own", |sandbox, dir| {
            sandbox.git_in(dir, &["config", "extensions.worktreeConfig", "true"]);
            sandbox.git_in(dir, &["config", "--worktree", "core.autocrlf", "true"]);
        }),
        ("a lock", |sandbox, dir| {
            let path = dir.to_str().unwrap();
            sandbox.git(&["worktree", "lock", path]);
        }),
    ];
    for (what, leave) in leftovers {
        let sandbox = Sandbox::new();
        sandbox.write(".gitignore", "build\n");
        sandbox.git(&["add", "-A"]);
        sandbox.git(&["commit", "-qm", "ignore"]);
        let repository = sandbox.open().await;
        let dir = worked(&sandbox, &repository).await;
        leave(&sandbox, &dir);
        assert!(!park(&sandbox, &repository, &dir).await, "{what}");
        assert!(repository.latest_archive(TASK).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_parked_checkout_that_somebody_has_written_to_is_made_anew() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let dir = worked(&sandbox, &repository).await;
    assert!(park(&sandbox, &repository, &dir).await);
    let parked = sandbox.path("data/worktrees/parked");
    write_in(&parked, "surprise.txt", "?");
    let spare = sandbox.path("data/worktrees/spare");
    repository
        .add_spare_from(&parked, &sandbox.head(), &spare)
        .await
        .unwrap();
    assert!(!parked.exists() && spare.exists());
    assert!(!spare.join("surprise.txt").exists());
}

#[tokio::test]
async fn uncommitted_work_is_kept_before_its_checkout_is_used_again() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let dir = worked(&sandbox, &repository).await;
    write_in(&dir, "late.txt", "not committed\n");
    assert!(park(&sandbox, &repository, &dir).await);
    let archived = repository.latest_archive(TASK).await.unwrap().unwrap();
    let shown = format!("{}:late.txt", archived.commit);
    assert_eq!(sandbox.git(&["show", &shown]), "not committed");
}
