//! Files of the user's checkout that a worktree gets.

use std::os::unix::fs::symlink;

use warpsquad::git::{GitError, prepare};

use super::sandbox::{Sandbox, TASK, write_in};

fn globs(list: &[&str]) -> Vec<String> {
    list.iter().map(|&glob| glob.to_owned()).collect()
}

#[tokio::test]
async fn files_are_copied_and_folders_linked_and_neither_becomes_work() {
    let sandbox = Sandbox::new();
    sandbox.write(".gitignore", ".env\nnode_modules/\n");
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "ignore"]);
    sandbox.write(".env", "SECRET=1\n");
    sandbox.write("node_modules/x/index.js", "x\n");
    sandbox.write("dir/local.toml", "l\n");
    let repository = sandbox.open().await;
    let made = sandbox.worktree(&repository).await;
    let (copy, link) = (globs(&[".env", "dir/*.toml"]), globs(&["node_modules"]));
    let done = prepare(&repository, &made.path, &copy, &link)
        .await
        .unwrap();
    assert_eq!(done.copied, [".env", "dir/local.toml"]);
    assert_eq!(done.linked, ["node_modules"]);
    assert!(made.path.join("node_modules").is_symlink());
    assert!(made.path.join("node_modules/x/index.js").is_file());
    assert!(repository.status(&made.path).await.unwrap().is_clean());
    let identity = repository.identity().await.unwrap();
    let none = repository
        .commit_all(&made.path, "work", &identity)
        .await
        .unwrap();
    assert_eq!(none, None);

    let again = prepare(&repository, &made.path, &copy, &link)
        .await
        .unwrap();
    assert_eq!(
        (again.copied.len(), again.linked.len(), again.skipped.len()),
        (0, 0, 3)
    );

    repository.archive(TASK, &made.path).await.unwrap();
    assert_eq!(sandbox.read("node_modules/x/index.js"), "x\n");
}

#[tokio::test]
async fn nothing_leaves_the_worktree_and_nothing_comes_from_outside() {
    let sandbox = Sandbox::new();
    let outside = sandbox.path("outside");
    write_in(&outside, "secret", "s");
    // The commit has a link that leads out where the checkout has a folder.
    symlink(&outside, sandbox.repo.join("trap")).unwrap();
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "trap"]);
    let base = sandbox.head();
    sandbox.git(&["rm", "-q", "trap"]);
    sandbox.git(&["commit", "-qm", "no trap"]);
    sandbox.write("trap/planted", "p");
    symlink(outside.join("secret"), sandbox.repo.join("stolen")).unwrap();
    let repository = sandbox.open().await;
    let made = repository
        .add_worktree(&sandbox.request(&base))
        .await
        .unwrap();
    let done = prepare(
        &repository,
        &made.path,
        &globs(&["trap/planted", "stolen"]),
        &[],
    )
    .await
    .unwrap();
    assert_eq!(done.copied, Vec::<String>::new());
    assert_eq!(done.skipped.len(), 2);
    assert!(!outside.join("planted").exists());
    assert!(made.path.join("stolen").symlink_metadata().is_err());
    let linked = prepare(&repository, &made.path, &[], &globs(&["stolen"]))
        .await
        .unwrap();
    assert_eq!(linked.linked, Vec::<String>::new());
    let refused = prepare(&repository, &made.path, &globs(&["../outside/*"]), &[]).await;
    assert!(
        matches!(refused, Err(GitError::LeavesCheckout { .. })),
        "{refused:?}"
    );
}
