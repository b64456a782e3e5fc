//! Promise 1: work happens in worktrees, the user's checkout is not touched.

use std::os::unix::fs::symlink;

use warpsquad::core::TaskId;
use warpsquad::git::{Base, GitError, LfsState, Repository, WorktreeRequest};

use super::sandbox::{Sandbox, TASK, write_in};

#[tokio::test]
async fn a_dirty_checkout_is_the_same_bit_by_bit_after_a_task_has_worked() {
    let sandbox = Sandbox::new();
    sandbox.write("a.txt", "staged\n");
    sandbox.git(&["add", "a.txt"]);
    sandbox.write("b.txt", "unstaged\n");
    sandbox.write("new.txt", "untracked\n");
    let before = sandbox.picture();
    let repository = sandbox.open().await;
    repository.base_commit(TASK, &Base::Wip).await.unwrap();
    let made = sandbox.worktree(&repository).await;
    write_in(&made.path, "a.txt", "by the task\n");
    let identity = repository.identity().await.unwrap();
    repository
        .commit_all(&made.path, "work", &identity)
        .await
        .unwrap()
        .unwrap();
    repository.status(&sandbox.repo).await.unwrap();
    repository
        .diff("main", &made.branch, 1 << 20)
        .await
        .unwrap();
    repository.archive(TASK, &made.path).await.unwrap().unwrap();
    assert_eq!(sandbox.picture(), before);
}

#[tokio::test]
async fn a_base_of_uncommitted_work_holds_staged_unstaged_and_untracked_files() {
    let sandbox = Sandbox::new();
    sandbox.write(".gitignore", "ignored\n");
    sandbox.write("ignored", "no\n");
    sandbox.write("a.txt", "staged\n");
    sandbox.git(&["add", "a.txt"]);
    sandbox.write("dir/c.txt", "unstaged\n");
    sandbox.write("dir/ü x.txt", "untracked\n");
    std::fs::remove_file(sandbox.repo.join("b.txt")).unwrap();
    let repository = sandbox.open().await;
    let base = repository.base_commit(TASK, &Base::Wip).await.unwrap();
    let shown = |path: &str| {
        sandbox.try_git_in(&sandbox.repo, &["show", &format!("{}:{path}", base.commit)])
    };
    assert_eq!(shown("a.txt").1, "staged");
    assert_eq!(shown("dir/c.txt").1, "unstaged");
    assert_eq!(shown("dir/ü x.txt").1, "untracked");
    assert!(!shown("b.txt").0 && !shown("ignored").0);
    let kept = sandbox.git(&["rev-parse", "refs/warpsquad/base/12"]);
    assert_eq!(kept, base.commit);
    sandbox.write("a.txt", "later\n");
    let again = repository.base_commit(TASK, &Base::Wip).await.unwrap();
    assert_eq!(again, base);
}

#[tokio::test]
async fn a_base_of_uncommitted_work_is_the_head_when_there_is_none_and_refused_in_a_conflict() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let base = repository.base_commit(TASK, &Base::Wip).await.unwrap();
    assert_eq!(base.commit, sandbox.head());
    sandbox.git(&["switch", "-qc", "other"]);
    sandbox.write("a.txt", "other\n");
    sandbox.git(&["commit", "-qam", "other"]);
    sandbox.git(&["switch", "-q", "main"]);
    sandbox.write("a.txt", "main\n");
    sandbox.git(&["commit", "-qam", "main"]);
    assert!(!sandbox.try_git_in(&sandbox.repo, &["merge", "other"]).0);
    let refused = repository.base_commit(TASK, &Base::Wip).await;
    assert!(
        matches!(refused, Err(GitError::Unmerged { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn asking_again_gives_the_same_worktree() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let first = sandbox.worktree(&repository).await;
    assert_eq!(first.branch, "squad/12-add-retry");
    write_in(&first.path, "a.txt", "uncommitted\n");
    let second = sandbox.worktree(&repository).await;
    assert_eq!(second, first);
    let text = std::fs::read_to_string(first.path.join("a.txt")).unwrap();
    assert_eq!(text, "uncommitted\n");
    let exclude = std::fs::read_to_string(sandbox.repo.join(".git/info/exclude")).unwrap();
    assert_eq!(exclude.lines().filter(|line| *line == ".aider*").count(), 1);
}

#[tokio::test]
async fn a_half_made_worktree_is_repaired() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox.request(&sandbox.head());
    let dir = request.dir.to_str().unwrap().to_owned();
    // As git leaves it when it is killed: locked, without its files.
    sandbox.git(&[
        "worktree",
        "add",
        "-q",
        "--no-checkout",
        "--lock",
        "-b",
        "squad/12-add-retry",
        &dir,
    ]);
    let made = repository.add_worktree(&request).await.unwrap();
    assert!(made.path.join("dir/c.txt").is_file());
    assert!(repository.status(&made.path).await.unwrap().is_clean());
    // And when its room was written and its folder was not.
    repository.archive(TASK, &made.path).await.unwrap();
    sandbox.git(&["worktree", "add", "-q", "-b", "squad/12-add-retry", &dir]);
    std::fs::remove_dir_all(&request.dir).unwrap();
    let made = repository.add_worktree(&request).await.unwrap();
    assert!(repository.status(&made.path).await.unwrap().is_clean());
}

#[tokio::test]
async fn a_worktree_whose_folder_was_deleted_comes_back_with_its_commits() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let made = sandbox.worktree(&repository).await;
    write_in(&made.path, "a.txt", "work\n");
    sandbox.git_in(&made.path, &["commit", "-qam", "work"]);
    let tip = sandbox.git_in(&made.path, &["rev-parse", "HEAD"]);
    std::fs::remove_dir_all(&made.path).unwrap();
    assert_eq!(sandbox.worktree(&repository).await.commit, tip);
}

#[tokio::test]
async fn a_folder_with_something_else_is_refused() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox.request(&sandbox.head());
    write_in(&request.dir, "precious", "mine");
    let refused = repository.add_worktree(&request).await;
    assert!(
        matches!(refused, Err(GitError::Occupied { .. })),
        "{refused:?}"
    );
    assert!(request.dir.join("precious").exists());
}

#[tokio::test]
async fn a_branch_with_other_work_or_in_use_is_left_alone() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let base = sandbox.head();
    // Made by a killed try: taken.
    sandbox.git(&["branch", "squad/12-add-retry"]);
    let first = sandbox.worktree(&repository).await;
    assert_eq!(first.branch, "squad/12-add-retry");
    // Checked out elsewhere, and holding other work.
    sandbox.git(&["branch", "squad/12-add-retry-2"]);
    let elsewhere = sandbox.path("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    sandbox.git(&["worktree", "add", "-q", elsewhere, "squad/12-add-retry-2"]);
    sandbox.git(&["commit", "-q", "--allow-empty", "-m", "other"]);
    sandbox.git(&["branch", "squad/12-add-retry-3"]);
    let request = WorktreeRequest {
        dir: sandbox.path("data/other"),
        ..sandbox.request(&base)
    };
    let second = repository.add_worktree(&request).await.unwrap();
    assert_eq!(second.branch, "squad/12-add-retry-4");
    assert_eq!(second.commit, base);

    std::fs::remove_dir_all(&second.path).unwrap();
    let again = sandbox.path("again");
    let force = ["worktree", "add", "-q", "--force", again.to_str().unwrap()];
    sandbox.git(&[force.as_slice(), &["squad/12-add-retry-4"]].concat());
    let refused = repository.add_worktree(&request).await;
    assert!(
        matches!(refused, Err(GitError::BranchInUse { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_worktrees_at_once_are_all_made() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let base = sandbox.head();
    let mut making = tokio::task::JoinSet::new();
    for number in 1..=10 {
        let (repository, base) = (repository.clone(), base.clone());
        let dir = sandbox.path(&format!("data/worktrees/{number}"));
        making.spawn(async move {
            let request = WorktreeRequest {
                task: TaskId(number),
                attempt: 1,
                slug: "same words".into(),
                base,
                dir,
            };
            repository.add_worktree(&request).await
        });
    }
    let made: Vec<_> = making
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for worktree in &made {
        assert!(repository.status(&worktree.path).await.unwrap().is_clean());
    }
    let under = repository
        .worktrees_under(&sandbox.path("data"))
        .await
        .unwrap();
    assert_eq!(under.len(), 10);
    assert_eq!(sandbox.git(&["fsck", "--no-progress"]), "");
}

#[tokio::test]
async fn spaces_and_unicode_in_paths_work() {
    let sandbox = Sandbox::named("mein Projekt – ü'\"");
    sandbox.write("größe 1/日本 .txt", "x\n");
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "names"]);
    let repository = sandbox.open().await;
    let mut request = sandbox.request(&sandbox.head());
    request.dir = sandbox.path("Daten ü/work tree");
    let made = repository.add_worktree(&request).await.unwrap();
    write_in(&made.path, "größe 1/日本 .txt", "y\n");
    let status = repository.status(&made.path).await.unwrap();
    assert_eq!(status.changed, ["größe 1/日本 .txt"]);
    let archived = repository.archive(TASK, &made.path).await.unwrap().unwrap();
    let changed = repository
        .changed_files("main", &archived.commit)
        .await
        .unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].path, "größe 1/日本 .txt");
    assert_eq!((changed[0].added, changed[0].removed), (Some(1), Some(1)));
}

#[tokio::test]
async fn a_repository_opened_through_a_worktree_or_a_link_shares_everything() {
    let sandbox = Sandbox::new();
    sandbox.git(&["worktree", "add", "-q", "-b", "feature", "../feature"]);
    symlink(sandbox.path("feature"), sandbox.path("link")).unwrap();
    let repository = Repository::open_with(sandbox.settings(), &sandbox.path("link"))
        .await
        .unwrap();
    assert!(repository.is_worktree());
    let base = repository.base_commit(TASK, &Base::Head).await.unwrap();
    assert_eq!(base.branch.as_deref(), Some("feature"));
    let made = repository
        .add_worktree(&sandbox.request(&base.commit))
        .await
        .unwrap();
    let main = sandbox.open().await;
    assert_eq!(repository.common_dir(), main.common_dir());
    assert_eq!(
        main.add_worktree(&sandbox.request(&base.commit))
            .await
            .unwrap(),
        made
    );
}

#[tokio::test]
async fn submodules_are_filled_from_the_clone_without_touching_its_settings() {
    let sandbox = Sandbox::new();
    let library = Sandbox::named("library");
    let url = library.repo.to_str().unwrap();
    for path in ["lib one", "gone"] {
        sandbox.git(&[
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            url,
            path,
        ]);
    }
    sandbox.git(&["commit", "-qm", "submodules"]);
    sandbox.git(&["submodule", "--quiet", "deinit", "-f", "gone"]);
    std::fs::remove_dir_all(sandbox.repo.join(".git/modules/gone")).unwrap();
    let before = sandbox.picture();
    let repository = sandbox.open().await;
    let made = sandbox.worktree(&repository).await;
    assert!(made.path.join("lib one/dir/c.txt").is_file());
    let state = |path: &str| made.submodules.iter().find(|s| s.path == path).unwrap();
    assert_eq!(state("lib one").missing, None);
    assert!(
        state("gone")
            .missing
            .as_ref()
            .unwrap()
            .contains("git submodule update --init")
    );
    assert_eq!(sandbox.picture(), before);
    assert!(repository.status(&made.path).await.unwrap().is_clean());

    // Work inside a submodule is in no commit of the task: it must not go.
    write_in(&made.path, "lib one/a.txt", "work\n");
    let refused = repository.archive(TASK, &made.path).await;
    assert!(
        matches!(refused, Err(GitError::NestedRepository { .. })),
        "{refused:?}"
    );
    assert!(made.path.join("lib one/a.txt").is_file());
}

#[tokio::test]
async fn a_submodule_is_a_repository_like_any_other() {
    let sandbox = Sandbox::new();
    let library = Sandbox::named("library");
    let url = library.repo.to_str().unwrap();
    sandbox.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        url,
        "lib",
    ]);
    let repository = Repository::open_with(sandbox.settings(), &sandbox.repo.join("lib"))
        .await
        .unwrap();
    assert!(repository.is_submodule());
    let base = repository.head().commit().to_owned();
    let made = repository
        .add_worktree(&sandbox.request(&base))
        .await
        .unwrap();
    write_in(&made.path, "a.txt", "work\n");
    assert_eq!(
        repository.status(&made.path).await.unwrap().changed,
        ["a.txt"]
    );
    let own = repository.status(&sandbox.repo.join("lib")).await.unwrap();
    assert!(own.is_clean());
}

#[tokio::test]
async fn files_kept_by_lfs_are_pointers_where_lfs_is_configured_but_not_installed() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    assert_eq!(repository.lfs("main").await.unwrap(), LfsState::Unused);
    sandbox.write(
        ".gitattributes",
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    );
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    sandbox.write("big.bin", pointer);
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "lfs"]);
    // A git without git-lfs, whatever this machine has.
    for key in ["clean", "smudge", "process"] {
        sandbox.git(&["config", &format!("filter.lfs.{key}"), "no-such-git-lfs"]);
    }
    sandbox.git(&["config", "filter.lfs.required", "true"]);
    sandbox.git(&["config", "alias.lfs", "!false"]);
    let made = sandbox.worktree(&repository).await;
    assert_eq!(made.lfs, LfsState::NotInstalled);
    let text = std::fs::read_to_string(made.path.join("big.bin")).unwrap();
    assert_eq!(text, pointer);
}

#[tokio::test]
async fn the_users_hooks_do_not_run_for_worktrees() {
    let sandbox = Sandbox::new();
    let ran = sandbox.path("ran");
    sandbox.hook("post-checkout", &format!("touch '{}'", ran.display()));
    let repository = sandbox.open().await;
    sandbox.worktree(&repository).await;
    assert!(!ran.exists());
}

#[tokio::test]
async fn commits_and_diffs_of_a_task_are_told() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let request = sandbox
        .task(&repository, &[("a.txt", "two\n"), ("new.txt", "new\n")])
        .await;
    let commits = repository
        .commits(&request.base, &request.tip)
        .await
        .unwrap();
    let subjects: Vec<_> = commits.iter().map(|c| c.subject.as_str()).collect();
    assert_eq!(subjects, ["write a.txt", "write new.txt"]);
    let diff = repository
        .diff(&request.base, &request.tip, 1 << 20)
        .await
        .unwrap();
    assert!(
        diff.stat.contains("2 files changed") && diff.patch.contains("+new\n"),
        "{diff:?}"
    );
    assert!(!diff.is_cut);
    let cut = repository
        .diff(&request.base, &request.tip, 10)
        .await
        .unwrap();
    assert!(cut.is_cut && cut.patch.len() == 10 && cut.stat == diff.stat);
}

#[tokio::test]
async fn a_change_of_the_same_size_and_second_as_the_index_is_seen() {
    let sandbox = Sandbox::new();
    sandbox.git(&["config", "core.trustctime", "false"]);
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let touch = |name: &str| {
        let file = std::fs::File::options()
            .write(true)
            .open(sandbox.repo.join(name));
        file.unwrap().set_modified(time).unwrap();
    };
    touch("a.txt");
    sandbox.git(&["update-index", "--refresh"]);
    sandbox.write("a.txt", "b\n");
    touch("a.txt");
    touch(".git/index");
    let repository = sandbox.open().await;
    let base = repository.base_commit(TASK, &Base::Wip).await.unwrap();
    assert_eq!(
        sandbox.git(&["show", &format!("{}:a.txt", base.commit)]),
        "b"
    );
}
