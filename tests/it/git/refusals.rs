//! What cannot work is refused with the remedy; what is only unusual works.

use warpsquad::git::{Base, GitError, Head, Repository};

use super::sandbox::{Sandbox, TASK};

#[tokio::test]
async fn an_empty_repository_is_refused_with_the_commands_for_a_first_commit() {
    let sandbox = Sandbox::empty("repo");
    let refused = Repository::open_with(sandbox.settings(), &sandbox.repo).await;
    let Err(error @ GitError::Unborn { .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.hint().contains("commit -m start"), "{}", error.hint());
}

#[tokio::test]
async fn a_bare_repository_is_refused_and_its_worktree_is_not() {
    let sandbox = Sandbox::new();
    sandbox.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
    let bare = sandbox.path("bare.git");
    for path in [
        bare.clone(),
        bare.join("objects"),
        sandbox.repo.join(".git"),
    ] {
        let refused = Repository::open_with(sandbox.settings(), &path).await;
        assert!(matches!(refused, Err(GitError::Bare { .. })), "{refused:?}");
    }
    sandbox.git_in(&bare, &["worktree", "add", "-q", "../work"]);
    let repository = Repository::open_with(sandbox.settings(), &sandbox.path("work"))
        .await
        .unwrap();
    assert!(repository.is_worktree());
    let base = repository.head().commit().to_owned();
    let made = repository
        .add_worktree(&sandbox.request(&base))
        .await
        .unwrap();
    assert!(made.path.join("a.txt").is_file());
}

#[tokio::test]
async fn a_folder_without_a_repository_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("gone")] {
        let refused = Repository::open(&path).await;
        assert!(
            matches!(refused, Err(GitError::NotARepository { .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_missing_identity_is_refused_and_nothing_is_written_for_it() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    assert_eq!(repository.identity().await.unwrap().name, "Ada");
    std::fs::write(sandbox.path("gitconfig"), "[user]\nname = Ada\n").unwrap();
    let before = sandbox.picture();
    let Err(GitError::NoIdentity { missing }) = repository.identity().await else {
        panic!("it was not refused");
    };
    assert_eq!(missing, ["user.email"]);
    let hint = GitError::NoIdentity { missing }.hint();
    assert!(
        hint.contains("user.name") && hint.contains("user.email"),
        "{hint}"
    );
    assert_eq!(sandbox.picture(), before);
}

#[tokio::test]
async fn a_folder_below_the_top_opens_the_repository() {
    let sandbox = Sandbox::new();
    let nested = sandbox.repo.join("dir");
    let repository = Repository::open_with(sandbox.settings(), &nested)
        .await
        .unwrap();
    assert_eq!(repository.top(), sandbox.repo.canonicalize().unwrap());
    assert!(!repository.is_worktree() && !repository.is_submodule());
    let head = Head::Branch {
        name: "main".into(),
        commit: sandbox.head(),
    };
    assert_eq!(*repository.head(), head);
}

#[tokio::test]
async fn a_detached_head_is_a_base_without_a_branch() {
    let sandbox = Sandbox::new();
    sandbox.git(&["switch", "-q", "--detach"]);
    let repository = sandbox.open().await;
    let base = repository.base_commit(TASK, &Base::Head).await.unwrap();
    assert_eq!((base.commit, base.branch), (sandbox.head(), None));
}

#[tokio::test]
async fn a_revision_that_names_no_commit_is_refused() {
    let sandbox = Sandbox::new();
    let repository = sandbox.open().await;
    for revision in ["nowhere", "--all", "HEAD:a.txt", ""] {
        let base = repository
            .base_commit(TASK, &Base::Rev(revision.into()))
            .await;
        assert!(
            matches!(base, Err(GitError::BadRevision { .. })),
            "{revision}: {base:?}"
        );
    }
    let base = repository
        .base_commit(TASK, &Base::Rev("main".into()))
        .await
        .unwrap();
    assert_eq!(base.commit, sandbox.head());
}
