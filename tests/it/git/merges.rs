//! Promise 4: a merge happens as git itself would, or nothing changes.

use warpsquad::core::settings::MergeStrategy;
use warpsquad::git::{Base, MergeRefused, MergeRequest, Repository};

use super::sandbox::{Sandbox, TASK, write_in};

fn message(sandbox: &Sandbox, commit: &str) -> String {
    sandbox.git(&["log", "-1", "--format=%B", commit])
}

/// Merges must be refused, and nothing may have changed.
async fn refused(
    sandbox: &Sandbox,
    repository: &Repository,
    request: &MergeRequest,
) -> MergeRefused {
    let (before, refs) = (sandbox.picture(), sandbox.git(&["show-ref", "--heads"]));
    let refused = repository.merge(request).await.unwrap_err();
    assert_eq!(sandbox.picture(), before, "{refused}");
    assert_eq!(sandbox.git(&["show-ref", "--heads"]), refs);
    assert_eq!(repository.recover_merge(TASK).await.unwrap(), None);
    assert!(!refused.hint().is_empty());
    assert!(!request.scratch.join("merge-12").exists());
    refused
}

#[tokio::test]
async fn a_squash_is_one_commit_with_trailers_and_happens_once() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox
        .task(&repository, &[("a.txt", "two\n"), ("new.txt", "new\n")])
        .await;
    let merged = repository.merge(&request).await.unwrap();
    assert_eq!(merged.commit, sandbox.head());
    assert_eq!(merged.checkout, Some(sandbox.repo.canonicalize().unwrap()));
    assert_eq!(sandbox.git(&["rev-parse", "HEAD^@"]), request.base);
    assert_eq!(sandbox.git(&["status", "--porcelain"]), "");
    assert_eq!(
        (sandbox.read("a.txt"), sandbox.read("new.txt")),
        ("two\n".into(), "new\n".into())
    );
    let text = "add retry\n\nBecause it fails at times.\n\nWarpsquad-Task: 12\nWarpsquad-Model: qwen2.5-coder:7b\nWarpsquad-Verified: cargo test";
    assert_eq!(message(&sandbox, "HEAD"), text);
    assert_eq!(
        sandbox.git(&["rev-parse", "refs/warpsquad/merged/12"]),
        merged.commit
    );
    assert!(
        sandbox
            .git(&["reflog", "-1"])
            .contains("warpsquad: task 12")
    );
    assert_eq!(repository.merge(&request).await.unwrap(), merged);
    assert_eq!(sandbox.head(), merged.commit);
}

#[tokio::test]
async fn a_merge_keeps_both_sides_and_a_rebase_replays_authors() {
    for strategy in [MergeStrategy::Merge, MergeStrategy::Rebase] {
        let sandbox = Sandbox::new();
        let repository = sandbox.open().await;
        let mut request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
        request.strategy = strategy;
        let worktree = sandbox.request("").dir;
        write_in(&worktree, "new.txt", "new\n");
        sandbox.git_in(&worktree, &["add", "-A"]);
        let author = [
            "-c",
            "user.name=Ada (aider)",
            "commit",
            "-qm",
            "by the agent",
        ];
        sandbox.git_in(&worktree, &author);
        sandbox.write("b.txt", "meanwhile\n");
        sandbox.git(&["commit", "-qam", "meanwhile"]);
        let before = sandbox.head();
        let merged = repository.merge(&request).await.unwrap();
        assert_eq!(merged.commit, sandbox.head());
        assert_eq!(sandbox.git(&["status", "--porcelain"]), "");
        assert!(message(&sandbox, "HEAD").contains("Warpsquad-Task: 12"));
        let parents = sandbox.git(&["rev-parse", "HEAD^@"]);
        if strategy == MergeStrategy::Merge {
            let tip = sandbox.git(&["rev-parse", &request.tip]);
            assert_eq!(parents, format!("{before}\n{tip}"));
        } else {
            assert_eq!(sandbox.git(&["rev-parse", "HEAD~2"]), before);
            let log = sandbox.git(&["log", "-2", "--format=%an|%s"]);
            assert_eq!(log, "Ada (aider)|by the agent\nAda|write a.txt");
        }
        assert_eq!(
            (sandbox.read("a.txt"), sandbox.read("b.txt")),
            ("two\n".into(), "meanwhile\n".into())
        );
    }
}

#[tokio::test]
async fn dirty_files_that_do_not_overlap_stay_as_they_are() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox
        .task(&repository, &[("a.txt", "two\n"), ("sub/new.txt", "new\n")])
        .await;
    sandbox.write("b.txt", "staged\n");
    sandbox.git(&["add", "b.txt"]);
    sandbox.write("b.txt", "and changed again\n");
    sandbox.write("dir/c.txt", "unstaged\n");
    sandbox.write("mine.txt", "untracked\n");
    let status = sandbox.git(&["status", "--porcelain"]);
    repository.merge(&request).await.unwrap();
    assert_eq!(sandbox.git(&["status", "--porcelain"]), status);
    assert_eq!(sandbox.git(&["show", ":b.txt"]), "staged");
    assert_eq!(sandbox.read("b.txt"), "and changed again\n");
    assert_eq!(sandbox.read("dir/c.txt"), "unstaged\n");
    assert_eq!(sandbox.read("mine.txt"), "untracked\n");
    assert_eq!(sandbox.read("a.txt"), "two\n");
}

#[tokio::test]
async fn files_in_the_way_refuse_the_merge_and_are_named() {
    // Unstaged, staged, untracked, ignored, a file where a folder shall be.
    let cases = [
        ("a.txt", "a.txt", false),
        ("a.txt", "a.txt", true),
        ("new/x.txt", "new/x.txt", false),
        ("secret.log", "secret.log", false),
        ("new", "new", false),
    ];
    for (mine, named, is_staged) in cases {
        let sandbox = Sandbox::new();
        let repository = sandbox.open().await;
        let files = [
            ("a.txt", "two\n"),
            ("new/x.txt", "new\n"),
            ("secret.log", "log\n"),
        ];
        let request = sandbox.task(&repository, &files).await;
        write_in(
            &sandbox.repo.join(".git"),
            "info/exclude",
            "*.log\n.aider*\n",
        );
        sandbox.write(mine, "mine\n");
        if is_staged {
            sandbox.git(&["add", mine]);
        }
        let refused = refused(&sandbox, &repository, &request).await;
        let MergeRefused::Overlap { files, .. } = refused else {
            panic!("{mine}: {refused}");
        };
        assert_eq!(files, [named], "{mine}");
    }
}

#[tokio::test]
async fn a_file_that_is_only_touched_is_not_in_the_way() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
    let file = std::fs::File::options()
        .write(true)
        .open(sandbox.repo.join("a.txt"))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    repository.merge(&request).await.unwrap();
    assert_eq!(sandbox.read("a.txt"), "two\n");
}

#[tokio::test]
async fn a_branch_that_is_not_checked_out_moves_alone() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let mut request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
    request.target = "squad/inbox".into();
    let refusal = refused(&sandbox, &repository, &request).await;
    assert!(
        matches!(refusal, MergeRefused::NotABranch { .. }),
        "{refusal}"
    );
    repository
        .ensure_branch("squad/inbox", &request.base)
        .await
        .unwrap();
    let before = sandbox.picture();
    let merged = repository.merge(&request).await.unwrap();
    assert_eq!(merged.checkout, None);
    assert_eq!(sandbox.git(&["rev-parse", "squad/inbox"]), merged.commit);
    assert_eq!(sandbox.picture(), before);
}

#[tokio::test]
async fn a_branch_checked_out_in_another_worktree_is_brought_up_to_date_there() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
    sandbox.git(&["switch", "-qc", "elsewhere"]);
    let other = sandbox.path("other tree");
    sandbox.git(&["worktree", "add", "-q", other.to_str().unwrap(), "main"]);
    let merged = repository.merge(&request).await.unwrap();
    assert_eq!(merged.checkout, Some(other.canonicalize().unwrap()));
    assert_eq!(
        std::fs::read_to_string(other.join("a.txt")).unwrap(),
        "two\n"
    );
    assert_eq!(sandbox.git_in(&other, &["status", "--porcelain"]), "");
    assert_eq!(sandbox.read("a.txt"), "a\n");
}

#[tokio::test]
async fn a_conflict_names_the_files() {
    for strategy in [
        MergeStrategy::Squash,
        MergeStrategy::Merge,
        MergeStrategy::Rebase,
    ] {
        let sandbox = Sandbox::new();
        let repository = sandbox.open().await;
        let mut request = sandbox
            .task(&repository, &[("a.txt", "task\n"), ("b.txt", "fine\n")])
            .await;
        request.strategy = strategy;
        sandbox.write("a.txt", "user\n");
        sandbox.git(&["commit", "-qam", "user"]);
        let refused = refused(&sandbox, &repository, &request).await;
        let MergeRefused::Conflict { files, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(files, ["a.txt"]);
    }
}

#[tokio::test]
async fn nothing_to_merge_is_said() {
    for strategy in [
        MergeStrategy::Squash,
        MergeStrategy::Merge,
        MergeStrategy::Rebase,
    ] {
        let sandbox = Sandbox::new();
        let repository = sandbox.open().await;
        let mut request = sandbox.task(&repository, &[]).await;
        request.strategy = strategy;
        let refused = refused(&sandbox, &repository, &request).await;
        assert!(matches!(refused, MergeRefused::Nothing), "{refused}");
    }
}

#[tokio::test]
async fn work_on_uncommitted_work_leaves_that_out_of_the_merge() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    sandbox.write("b.txt", "work of the user\n");
    sandbox.write("untracked.txt", "of the user\n");
    let base = repository.base_commit(TASK, &Base::Wip).await.unwrap();
    let made = repository
        .add_worktree(&sandbox.request(&base.commit))
        .await
        .unwrap();
    write_in(&made.path, "a.txt", "by the task\n");
    sandbox.git_in(&made.path, &["commit", "-qam", "task"]);
    let mut request = sandbox.merge_request(&base.commit, &made.branch);
    request.strategy = MergeStrategy::Merge;
    let refusal = refused(&sandbox, &repository, &request).await;
    assert!(
        matches!(refusal, MergeRefused::UncommittedBase),
        "{refusal}"
    );
    request.strategy = MergeStrategy::Squash;
    repository.merge(&request).await.unwrap();
    assert_eq!(sandbox.git(&["show", "--name-only", "--format="]), "a.txt");
    assert_eq!(
        sandbox.git(&["status", "--porcelain"]),
        "M b.txt\n?? untracked.txt".replace("M b", " M b")
    );
}

#[tokio::test]
async fn the_users_hooks_see_the_result_and_may_change_it() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    sandbox.hook("pre-commit", "test \"$(cat a.txt)\" = two || exit 1\ngit diff --cached --quiet && exit 1\necho formatted >> a.txt && git add a.txt");
    sandbox.hook("prepare-commit-msg", "echo \"Ticket: $2\" >> \"$1\"");
    sandbox.hook("commit-msg", "sed -i.bak '1s/^/feat: /' \"$1\"");
    let request = sandbox.task(&repository, &[]).await;
    let worktree = sandbox.request("").dir;
    write_in(&worktree, "a.txt", "two\n");
    sandbox.git_in(&worktree, &["commit", "-q", "--no-verify", "-am", "two"]);
    repository.merge(&request).await.unwrap();
    let text = message(&sandbox, "HEAD");
    assert!(
        text.starts_with("feat: add retry\n") && text.ends_with("Ticket: message"),
        "{text}"
    );
    assert_eq!(sandbox.read("a.txt"), "two\nformatted\n");
    assert_eq!(sandbox.git(&["status", "--porcelain"]), "");
    assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 2);
}

#[tokio::test]
async fn a_hook_that_refuses_stops_the_merge_with_its_words() {
    let cases = [
        ("pre-commit", MergeStrategy::Squash),
        ("commit-msg", MergeStrategy::Squash),
        ("prepare-commit-msg", MergeStrategy::Rebase),
        ("pre-merge-commit", MergeStrategy::Merge),
        ("reference-transaction", MergeStrategy::Squash),
    ];
    for (name, strategy) in cases {
        let sandbox = Sandbox::new();
        let repository = sandbox.open().await;
        let mut request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
        request.strategy = strategy;
        let refuses = "echo 'not on a Friday'; exit 1";
        if name == "reference-transaction" {
            let script = format!("if grep -q refs/heads/main; then {refuses}; fi");
            sandbox.hook(name, &script);
        } else {
            sandbox.hook(name, refuses);
        }
        let refused = refused(&sandbox, &repository, &request).await;
        let MergeRefused::Hook { hook, output } = refused else {
            panic!("{name}: {refused}");
        };
        assert_eq!(hook, name);
        assert!(output.contains("not on a Friday"), "{output}");
    }
}

#[tokio::test]
async fn a_hook_of_the_repository_runs_as_the_user_has_it_not_as_the_task_made_it() {
    let sandbox = Sandbox::new();
    let ran = sandbox.path("ran");
    Sandbox::script(&sandbox.repo.join(".hooks/pre-commit"), "true");
    sandbox.git(&["config", "core.hooksPath", ".hooks"]);
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "hooks"]);
    let repository = sandbox.open().await;
    let request = sandbox.task(&repository, &[]).await;
    let worktree = sandbox.request("").dir;
    Sandbox::script(
        &worktree.join(".hooks/pre-commit"),
        &format!("touch '{}'", ran.display()),
    );
    sandbox.git_in(&worktree, &["commit", "-q", "--no-verify", "-am", "evil"]);
    repository.merge(&request).await.unwrap();
    assert!(!ran.exists());
}

#[tokio::test]
async fn the_final_commit_is_signed_as_the_user_signs_and_a_failure_refuses() {
    let sandbox = Sandbox::new();
    let gpg = sandbox.path("gpg");
    Sandbox::script(
        &gpg,
        "cat > /dev/null\necho '[GNUPG:] SIG_CREATED ' >&2\necho '-----BEGIN PGP SIGNATURE-----'\necho fake\necho '-----END PGP SIGNATURE-----'",
    );
    let repository = sandbox.open().await;
    let request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
    sandbox.git(&["config", "commit.gpgsign", "true"]);
    sandbox.git(&["config", "gpg.program", "/bin/false"]);
    let refusal = refused(&sandbox, &repository, &request).await;
    assert!(matches!(refusal, MergeRefused::Signing { .. }), "{refusal}");
    sandbox.git(&["config", "gpg.program", gpg.to_str().unwrap()]);
    repository.merge(&request).await.unwrap();
    assert!(
        sandbox
            .git(&["cat-file", "commit", "HEAD"])
            .contains("\n fake\n")
    );
}

#[tokio::test]
async fn a_checkout_in_the_middle_of_something_is_left_alone() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox.task(&repository, &[("new.txt", "new\n")]).await;
    sandbox.git(&["switch", "-qc", "other"]);
    sandbox.write("a.txt", "other\n");
    sandbox.git(&["commit", "-qam", "other"]);
    sandbox.git(&["switch", "-q", "main"]);
    sandbox.write("a.txt", "main\n");
    sandbox.git(&["commit", "-qam", "main"]);
    for (begin, expected) in [
        ("merge", "a merge"),
        ("rebase", "a rebase"),
        ("cherry-pick", "a cherry-pick"),
    ] {
        assert!(!sandbox.try_git_in(&sandbox.repo, &[begin, "other"]).0);
        let refused = refused(&sandbox, &repository, &request).await;
        let MergeRefused::Busy { operation, .. } = refused else {
            panic!("{begin}: {refused}");
        };
        assert_eq!(operation, expected);
        sandbox.git(&[begin, "--abort"]);
    }
    repository.merge(&request).await.unwrap();
}

#[tokio::test]
async fn a_detached_head_or_a_tag_is_no_target() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let mut request = sandbox.task(&repository, &[("a.txt", "two\n")]).await;
    sandbox.git(&["tag", "v1"]);
    sandbox.git(&["switch", "-q", "--detach"]);
    for target in ["HEAD", "v1", "nowhere"] {
        request.target = target.into();
        let refused = refused(&sandbox, &repository, &request).await;
        assert!(
            matches!(refused, MergeRefused::NotABranch { .. }),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_merge_is_undone_while_nothing_came_after_it() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox
        .task(&repository, &[("a.txt", "two\n"), ("new.txt", "new\n")])
        .await;
    let missing = repository.undo_merge(TASK).await;
    assert!(
        matches!(missing, Err(MergeRefused::NotMerged { .. })),
        "{missing:?}"
    );
    let merged = repository.merge(&request).await.unwrap();
    sandbox.write("new.txt", "changed since\n");
    let refused = repository.undo_merge(TASK).await;
    assert!(
        matches!(refused, Err(MergeRefused::Overlap { .. })),
        "{refused:?}"
    );
    assert_eq!(sandbox.head(), merged.commit);
    sandbox.git(&["checkout", "-q", "new.txt"]);
    sandbox.write("b.txt", "dirty\n");
    assert_eq!(repository.undo_merge(TASK).await.unwrap(), request.base);
    assert_eq!(sandbox.head(), request.base);
    assert_eq!(
        sandbox.git(&["status", "--porcelain"]),
        "M b.txt".replace("M b", " M b")
    );
    assert_eq!(sandbox.read("a.txt"), "a\n");
    assert_eq!(
        sandbox.git(&["rev-parse", "refs/warpsquad/undone/12"]),
        merged.commit
    );
    assert_eq!(repository.recover_merge(TASK).await.unwrap(), None);
    let again = repository.merge(&request).await.unwrap();
    assert_eq!(sandbox.head(), again.commit);
    sandbox.git(&["commit", "-q", "--allow-empty", "-m", "later"]);
    let refused = repository.undo_merge(TASK).await;
    assert!(
        matches!(refused, Err(MergeRefused::MovedOn { .. })),
        "{refused:?}"
    );
}
