//! Promise 2: nothing is deleted that is not kept.

use warpsquad::git::{GitError, SquadRefKind};

use super::sandbox::{Sandbox, TASK, write_in};

#[tokio::test]
async fn uncommitted_work_survives_archive_and_restore() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let made = sandbox.worktree(&repository).await;
    write_in(&made.path, "a.txt", "committed\n");
    sandbox.git_in(&made.path, &["commit", "-qam", "work"]);
    write_in(&made.path, "b.txt", "uncommitted\n");
    write_in(&made.path, "new.txt", "untracked\n");
    let archived = repository.archive(TASK, &made.path).await.unwrap().unwrap();
    assert_eq!(archived.reference, "refs/warpsquad/archive/12");
    assert!(!made.path.exists());
    assert_eq!(sandbox.git(&["branch", "--list", "squad/*"]), "");
    assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);

    let again = repository.archive(TASK, &made.path).await.unwrap();
    assert_eq!(again.as_ref(), Some(&archived));

    let back = repository
        .restore(&sandbox.request("unused"))
        .await
        .unwrap();
    assert_eq!(
        (back.commit.as_str(), back.branch.as_str()),
        (archived.commit.as_str(), "squad/12-add-retry")
    );
    for (name, text) in [
        ("a.txt", "committed\n"),
        ("b.txt", "uncommitted\n"),
        ("new.txt", "untracked\n"),
    ] {
        assert_eq!(std::fs::read_to_string(back.path.join(name)).unwrap(), text);
    }
}

#[tokio::test]
async fn a_second_archive_gets_a_number_and_is_the_one_restored() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let mut tips = Vec::new();
    for text in ["one\n", "two\n", "three\n"] {
        let made = sandbox.worktree(&repository).await;
        write_in(&made.path, "a.txt", text);
        tips.push(repository.archive(TASK, &made.path).await.unwrap().unwrap());
    }
    let names: Vec<_> = tips
        .iter()
        .map(|t| t.reference.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(names, ["12", "12-2", "12-3"]);
    let back = repository
        .restore(&sandbox.request("unused"))
        .await
        .unwrap();
    assert_eq!(back.commit, tips[2].commit);
    let refs = repository.squad_refs().await.unwrap();
    assert!(
        refs.iter()
            .all(|r| r.task == TASK && r.kind == SquadRefKind::Archive)
    );
    repository.delete_squad_refs(&refs).await.unwrap();
    assert_eq!(repository.squad_refs().await.unwrap(), []);
}

#[tokio::test]
async fn a_lock_left_by_a_killed_agent_and_an_unresolved_merge_do_not_lose_work() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let made = sandbox.worktree(&repository).await;
    let base = sandbox.head();
    write_in(&made.path, "a.txt", "mine\n");
    sandbox.git_in(&made.path, &["commit", "-qam", "mine"]);
    sandbox.git_in(&made.path, &["branch", "theirs", &base]);
    let tree = sandbox.path("theirs");
    sandbox.git(&["worktree", "add", "-q", tree.to_str().unwrap(), "theirs"]);
    write_in(&tree, "a.txt", "theirs\n");
    sandbox.git_in(&tree, &["commit", "-qam", "theirs"]);
    assert!(!sandbox.try_git_in(&made.path, &["merge", "theirs"]).0);
    let room = sandbox.git_in(&made.path, &["rev-parse", "--absolute-git-dir"]);
    std::fs::write(format!("{room}/index.lock"), "").unwrap();
    let archived = repository.archive(TASK, &made.path).await.unwrap().unwrap();
    let kept = sandbox.git(&["show", &format!("{}:a.txt", archived.commit)]);
    assert!(kept.contains("mine") && kept.contains("theirs"), "{kept}");
}

#[tokio::test]
async fn commits_beside_the_branch_are_kept_too() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let made = sandbox.worktree(&repository).await;
    write_in(&made.path, "a.txt", "on the branch\n");
    sandbox.git_in(&made.path, &["commit", "-qam", "branch"]);
    let branch = sandbox.git_in(&made.path, &["rev-parse", "HEAD"]);
    sandbox.git_in(&made.path, &["switch", "-q", "--detach", "HEAD^"]);
    write_in(&made.path, "b.txt", "beside it\n");
    sandbox.git_in(&made.path, &["commit", "-qam", "beside"]);
    let beside = sandbox.git_in(&made.path, &["rev-parse", "HEAD"]);
    let archived = repository.archive(TASK, &made.path).await.unwrap().unwrap();
    assert_eq!(archived.commit, beside);
    let kept: Vec<_> = repository.squad_refs().await.unwrap();
    assert!(kept.iter().any(|r| r.object == branch));
}

#[tokio::test]
async fn unknown_is_not_clean() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let made = sandbox.worktree(&repository).await;
    write_in(&made.path, "a.txt", "work\n");

    // A repository inside: a commit would keep only its name.
    sandbox.git_in(
        &made.path,
        &["clone", "-q", sandbox.repo.to_str().unwrap(), "nested"],
    );
    let refused = repository.archive(TASK, &made.path).await;
    let Err(GitError::NestedRepository { nested, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(nested, ["nested"]);
    std::fs::remove_dir_all(made.path.join("nested")).unwrap();

    // Not readable as a worktree any more.
    let link = std::fs::read(made.path.join(".git")).unwrap();
    std::fs::remove_file(made.path.join(".git")).unwrap();
    let refused = repository.archive(TASK, &made.path).await;
    assert!(
        matches!(refused, Err(GitError::NotAWorktree { .. })),
        "{refused:?}"
    );
    std::fs::write(made.path.join(".git"), link).unwrap();

    // Nobody to commit as.
    let settings = std::fs::read(sandbox.path("gitconfig")).unwrap();
    std::fs::write(sandbox.path("gitconfig"), "").unwrap();
    let refused = repository.archive(TASK, &made.path).await;
    assert!(
        matches!(refused, Err(GitError::NoIdentity { .. })),
        "{refused:?}"
    );
    std::fs::write(sandbox.path("gitconfig"), settings).unwrap();

    // A folder of somebody else.
    let other = sandbox.path("other");
    write_in(&other, "precious", "mine");
    let refused = repository.archive(TASK, &other).await;
    assert!(
        matches!(refused, Err(GitError::NotAWorktree { .. })),
        "{refused:?}"
    );

    assert_eq!(
        std::fs::read_to_string(made.path.join("a.txt")).unwrap(),
        "work\n"
    );
    assert!(other.join("precious").exists());
    assert_eq!(repository.latest_archive(TASK).await.unwrap(), None);
    let refused = repository.restore(&sandbox.request("unused")).await;
    assert!(
        matches!(refused, Err(GitError::NoArchive { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_archive_goes_on_where_it_was_killed() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    let made = sandbox.worktree(&repository).await;
    write_in(&made.path, "a.txt", "work\n");
    sandbox.git_in(&made.path, &["commit", "-qam", "work"]);
    let tip = sandbox.git_in(&made.path, &["rev-parse", "HEAD"]);
    let room = sandbox.git_in(&made.path, &["rev-parse", "--absolute-git-dir"]);
    // Killed while the folder was being removed.
    sandbox.git(&["update-ref", "refs/warpsquad/archive/12", &tip]);
    std::fs::write(
        format!("{room}/warpsquad-removing"),
        format!("{}\n{tip}", made.branch),
    )
    .unwrap();
    std::fs::remove_file(format!("{room}/warpsquad-ready")).unwrap();
    std::fs::remove_file(made.path.join(".git")).unwrap();
    let archived = repository.archive(TASK, &made.path).await.unwrap().unwrap();
    assert_eq!(archived.commit, tip);
    assert!(!made.path.exists());
    assert_eq!(sandbox.git(&["branch", "--list", "squad/*"]), "");
    assert_eq!(repository.squad_refs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_rescue_commit_runs_no_hook_and_signs_nothing() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    sandbox.hook("pre-commit", "exit 1");
    sandbox.hook("commit-msg", "exit 1");
    sandbox.git(&["config", "commit.gpgsign", "true"]);
    sandbox.git(&["config", "gpg.program", "/bin/false"]);
    let made = sandbox.worktree(&repository).await;
    let identity = repository.identity().await.unwrap();
    let none = repository
        .commit_all(&made.path, "work", &identity)
        .await
        .unwrap();
    assert_eq!(none, None);
    write_in(&made.path, "a.txt", "work\n");
    let commit = repository
        .commit_all(&made.path, "work", &identity)
        .await
        .unwrap();
    assert_eq!(
        commit.unwrap(),
        sandbox.git_in(&made.path, &["rev-parse", "HEAD"])
    );
    assert!(repository.status(&made.path).await.unwrap().is_clean());
}
