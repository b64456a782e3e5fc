//! A merge or an undo that is killed at any point either happened or did not, and is finished.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use warpsquad::core::TaskId;
use warpsquad::git::{MergeRefused, MergeRequest, Repository, WorktreeRequest};

use super::sandbox::{Sandbox, TASK, write_in};

/// Puts the checkout back to how it was before the merge, as a kill right after the transaction
/// leaves it.
fn forget_the_checkout(sandbox: &Sandbox, request: &MergeRequest) {
    let merged = sandbox.head();
    sandbox.git(&["read-tree", "-m", "-u", &merged, &request.base]);
    let note = sandbox.git(&["rev-parse", "refs/warpsquad/merge/12"]);
    sandbox.git(&["update-ref", "refs/warpsquad/checkout/12", &note]);
}

fn assert_up_to_date(sandbox: &Sandbox, expected: &str) {
    assert_eq!(sandbox.git(&["status", "--porcelain"]), expected);
    let (is_pending, _) = sandbox.try_git_in(
        &sandbox.repo,
        &["rev-parse", "-q", "--verify", "refs/warpsquad/checkout/12"],
    );
    assert!(!is_pending);
}

#[tokio::test]
async fn a_kill_after_the_transaction_is_finished_beside_dirty_files() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox
        .task(&repository, &[("a.txt", "two\n"), ("new.txt", "new\n")])
        .await;
    sandbox.write("b.txt", "dirty\n");
    let merged = repository.merge(&request).await.unwrap();
    forget_the_checkout(&sandbox, &request);
    assert_eq!(sandbox.read("a.txt"), "a\n");
    let recovered = repository.recover_merge(TASK).await.unwrap();
    assert_eq!(recovered, Some(merged.commit));
    assert_eq!(sandbox.read("a.txt"), "two\n");
    assert_up_to_date(&sandbox, " M b.txt");
}

#[tokio::test]
async fn files_that_a_killed_move_had_written_are_no_changes_of_the_user() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let files = [
        ("a.txt", "two\n"),
        ("dir/new.txt", "new\n"),
        ("b.txt", "other\n"),
    ];
    let request = sandbox.task(&repository, &files).await;
    let worktree = sandbox.request("").dir;
    sandbox.git_in(&worktree, &["rm", "-q", "dir/c.txt"]);
    sandbox.git_in(&worktree, &["commit", "-qm", "remove"]);
    repository.merge(&request).await.unwrap();
    forget_the_checkout(&sandbox, &request);
    sandbox.write("a.txt", "two\n");
    sandbox.write("dir/new.txt", "new\n");
    std::fs::remove_file(sandbox.repo.join("dir/c.txt")).unwrap();
    repository.recover_merge(TASK).await.unwrap().unwrap();
    assert_eq!(sandbox.read("b.txt"), "other\n");
    assert_up_to_date(&sandbox, "");
}

#[tokio::test]
async fn files_changed_after_the_kill_stop_the_recovery_until_they_are_out_of_the_way() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
    let merged = repository.merge(&request).await.unwrap();
    forget_the_checkout(&sandbox, &request);
    sandbox.write("a.txt", "of the user\n");
    let refused = repository.recover_merge(TASK).await;
    assert!(
        matches!(refused, Err(MergeRefused::Overlap { .. })),
        "{refused:?}"
    );
    assert_eq!(sandbox.read("a.txt"), "of the user\n");
    sandbox.write("a.txt", "a\n");
    assert_eq!(
        repository.recover_merge(TASK).await.unwrap(),
        Some(merged.commit)
    );
    assert_up_to_date(&sandbox, "");
}

#[tokio::test]
async fn a_kill_between_the_refs_of_the_transaction_is_a_merge_that_happened() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
    let merged = repository.merge(&request).await.unwrap();
    forget_the_checkout(&sandbox, &request);
    sandbox.git(&["update-ref", "-d", "refs/warpsquad/merged/12"]);
    let recovered = repository.recover_merge(TASK).await.unwrap();
    assert_eq!(recovered, Some(merged.commit));
    assert_eq!(sandbox.read("a.txt"), "two\n");
    assert_up_to_date(&sandbox, "");
}

#[tokio::test]
async fn a_kill_before_the_transaction_is_a_merge_that_did_not_happen() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
    let merged = repository.merge(&request).await.unwrap();
    forget_the_checkout(&sandbox, &request);
    sandbox.git(&["update-ref", "-d", "refs/warpsquad/merged/12"]);
    sandbox.git(&["update-ref", "refs/heads/main", &request.base]);
    // And the temporary checkout of a hook is still there.
    sandbox.hook("pre-commit", "true");
    let scratch = request.scratch.join("merge-12");
    sandbox.git(&[
        "worktree",
        "add",
        "-q",
        "--detach",
        scratch.to_str().unwrap(),
    ]);
    write_in(&scratch, "half", "made");
    assert_eq!(repository.recover_merge(TASK).await.unwrap(), None);
    assert_up_to_date(&sandbox, "");
    let again = repository.merge(&request).await.unwrap();
    assert_eq!(sandbox.head(), again.commit);
    assert_eq!(again.commit.len(), merged.commit.len());
    assert!(!scratch.exists());
}

#[tokio::test]
async fn a_kill_between_the_refs_of_an_undo_is_an_undo_that_happened() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
    let merged = repository.merge(&request).await.unwrap();
    repository.undo_merge(TASK).await.unwrap();
    // The branch is back, the merged ref and the files are not.
    sandbox.git(&["read-tree", "-m", "-u", &request.base, &merged.commit]);
    sandbox.git(&["update-ref", "refs/warpsquad/merged/12", &merged.commit]);
    let note = format!("target main\nfrom {}\nto {}\n", merged.commit, request.base);
    write_in(sandbox.root.path(), "note", &note);
    let note = sandbox.git(&["hash-object", "-w", "../note"]);
    sandbox.git(&["update-ref", "refs/warpsquad/checkout/12", &note]);
    assert_eq!(repository.recover_merge(TASK).await.unwrap(), None);
    assert_eq!(sandbox.read("a.txt"), "a\n");
    assert_up_to_date(&sandbox, "");
}

/// Polls `future` at most `polls` times, then drops it; its result if it was ready by then.
async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

async fn is_merged_or_not(sandbox: &Sandbox, repository: &Repository, base: &str) {
    let main = sandbox.git(&["rev-parse", "main"]);
    match repository.recover_merge(TASK).await.unwrap() {
        Some(commit) => assert_eq!(commit, main),
        None => assert_eq!(main, base),
    }
    assert_up_to_date(sandbox, " M b.txt\n?? mine.txt");
}

#[tokio::test]
async fn a_merge_dropped_at_any_point_is_done_or_not_done() {
    let sandbox = Sandbox::new();
    sandbox.hook("commit-msg", "true");
    let repository = sandbox.open().await;
    let request = sandbox
        .task(&repository, &[("a.txt", "two\n"), ("new.txt", "new\n")])
        .await;
    sandbox.write("b.txt", "dirty\n");
    sandbox.write("mine.txt", "untracked\n");
    let mut step = 1;
    loop {
        let done = cut(repository.merge(&request), step).await;
        // What was dropped while it could not be stopped is still finishing.
        settle(&sandbox).await;
        is_merged_or_not(&sandbox, &repository, &request.base).await;
        if let Some(result) = done {
            result.unwrap();
            break;
        }
        let merged = repository.merge(&request).await.unwrap();
        assert_eq!(sandbox.head(), merged.commit);
        repository.undo_merge(TASK).await.unwrap();
        step += 13;
    }
    assert!(step > 13, "the merge was never cut");
}

/// Waits until no git holds a lock in the repository.
async fn settle(sandbox: &Sandbox) {
    let locks = ["index.lock", "refs/heads/main.lock", "HEAD.lock"];
    let is_locked = || {
        locks
            .iter()
            .any(|lock| sandbox.repo.join(".git").join(lock).exists())
    };
    while is_locked() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn merges_of_two_tasks_at_once_both_arrive() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let one = sandbox.task(&repository, &[("a.txt", "one\n")]).await;
    let other = repository
        .add_worktree(&WorktreeRequest {
            task: TaskId(13),
            dir: sandbox.path("data/worktrees/13"),
            ..sandbox.request(&one.base)
        })
        .await
        .unwrap();
    write_in(&other.path, "b.txt", "other\n");
    sandbox.git_in(&other.path, &["commit", "-qam", "other"]);
    let two = MergeRequest {
        task: TaskId(13),
        ..sandbox.merge_request(&one.base, &other.branch)
    };
    let (first, second) = tokio::join!(repository.merge(&one), repository.merge(&two));
    let (first, second) = (first.unwrap(), second.unwrap());
    let mut commits = [first.commit, second.commit];
    commits.sort();
    let log = sandbox.git(&["rev-list", &format!("{}..main", one.base)]);
    let mut arrived: Vec<_> = log.lines().collect();
    arrived.sort_unstable();
    assert_eq!(arrived, commits);
    assert_eq!(
        (sandbox.read("a.txt"), sandbox.read("b.txt")),
        ("one\n".into(), "other\n".into())
    );
    assert_up_to_date(&sandbox, "");
}
