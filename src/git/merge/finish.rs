//! The final commit with the user's hooks and signature.
//!
//! Hooks come from the user's checkout, never from the task's: an agent that edits a hook of the
//! repository must not have it run by merging. Where a hook exists it runs in a temporary checkout
//! of the result, so that it may look at files and stage changes as it does under `git commit`.

use std::path::{Path, PathBuf};

use super::super::command::LONG;
use super::super::{GitError, Repository};
use super::compute::{Plan, Replayed};
use super::request::{MergeRefused, MergeRequest};
use crate::core::settings::MergeStrategy;

impl Repository {
    /// Makes the commits of `plan`; the last one's id. No ref moves.
    pub(super) async fn make_commits(
        &self,
        request: &MergeRequest,
        plan: Plan,
    ) -> Result<String, MergeRefused> {
        self.identity().await?;
        let mut plan = plan;
        for replayed in std::mem::take(&mut plan.before) {
            let commit = self.replay(&replayed, &plan.parents).await?;
            plan.parents = vec![commit];
        }
        plan.message = self.with_trailers(request, &plan.message).await?;
        let plan = self.through_hooks(request, plan).await?;
        self.commit_signed(
            &plan.tree,
            &plan.parents,
            &plan.message,
            plan.author.as_ref(),
        )
        .await
    }

    async fn replay(&self, commit: &Replayed, parents: &[String]) -> Result<String, MergeRefused> {
        self.commit_signed(&commit.tree, parents, &commit.message, Some(&commit.author))
            .await
    }

    async fn with_trailers(
        &self,
        request: &MergeRequest,
        message: &str,
    ) -> Result<String, GitError> {
        let mut call = self
            .git
            .read(&self.top)
            .args(["interpret-trailers", "--if-exists", "replace"])
            .stdin(format!("{}\n", message.trim_end()));
        for trailer in request.trailers.lines(request.task) {
            call = call.args(["--trailer", &trailer]);
        }
        self.cleaned(&call.text().await?).await
    }

    /// The message as `git commit` would store it.
    async fn cleaned(&self, message: &str) -> Result<String, GitError> {
        let call = self.git.read(&self.top).arg("stripspace");
        Ok(format!("{}\n", call.stdin(message).text().await?))
    }

    async fn commit_signed(
        &self,
        tree: &str,
        parents: &[String],
        message: &str,
        author: Option<&[String; 3]>,
    ) -> Result<String, MergeRefused> {
        let is_signed = self.is_signing().await?;
        let sign = if is_signed {
            "--gpg-sign"
        } else {
            "--no-gpg-sign"
        };
        let mut call = self
            .git
            .write(&self.top)
            .args(["commit-tree", sign, tree])
            .stdin(message)
            .limit(LONG);
        for parent in parents {
            call = call.args(["-p", parent]);
        }
        if let Some([name, email, date]) = author {
            call = call
                .env("GIT_AUTHOR_NAME", name)
                .env("GIT_AUTHOR_EMAIL", email)
                .env("GIT_AUTHOR_DATE", date);
        }
        let output = call.output().await?;
        if output.is_success() {
            return Ok(output.text());
        }
        let said = output.said();
        if is_signed {
            return Err(MergeRefused::Signing { output: said });
        }
        Err(GitError::Failed {
            command: "commit-tree".into(),
            code: output.code,
            stderr: said,
        }
        .into())
    }

    async fn is_signing(&self) -> Result<bool, GitError> {
        let output = self
            .git
            .read(&self.top)
            .args(["config", "--type=bool", "--get", "commit.gpgSign"])
            .output()
            .await?;
        Ok(output.text() == "true")
    }

    /// The folder of the user's hooks.
    pub(super) async fn hooks_dir(&self) -> Result<PathBuf, GitError> {
        let text = self
            .git
            .read(&self.top)
            .configured_hooks()
            .args(["rev-parse", "--path-format=absolute", "--git-path", "hooks"])
            .text()
            .await?;
        Ok(text.into())
    }

    async fn through_hooks(
        &self,
        request: &MergeRequest,
        plan: Plan,
    ) -> Result<Plan, MergeRefused> {
        let hooks = self.hooks_dir().await?;
        let before = match request.strategy {
            MergeStrategy::Merge => "pre-merge-commit",
            MergeStrategy::Squash | MergeStrategy::Rebase => "pre-commit",
        };
        let wanted = [before, "prepare-commit-msg", "commit-msg"];
        if !wanted.iter().any(|hook| is_executable(&hooks.join(hook))) {
            return Ok(plan);
        }
        let dir = request.scratch.join(format!("merge-{}", request.task));
        self.remove_scratch(&dir).await?;
        let result = self.run_hooks(request, plan, &dir, &hooks).await;
        self.remove_scratch(&dir).await?;
        result
    }

    /// Removes a temporary checkout, also one that a killed process left.
    async fn remove_scratch(&self, dir: &Path) -> Result<(), GitError> {
        let room = self.find_room(dir)?;
        self.remove_checkout(dir, room.as_deref().unwrap_or(dir))
            .await
    }

    async fn run_hooks(
        &self,
        request: &MergeRequest,
        mut plan: Plan,
        dir: &Path,
        hooks: &Path,
    ) -> Result<Plan, MergeRefused> {
        let parent = plan.parents.first().cloned().unwrap_or_default();
        self.check_out_result(dir, &parent, &plan.tree).await?;
        let room = self.room_of(dir)?;
        let hook = HookRun {
            repository: self,
            dir,
            hooks,
            index: room.join("index"),
        };
        let (first, source) = match request.strategy {
            MergeStrategy::Merge => ("pre-merge-commit", "merge"),
            MergeStrategy::Squash | MergeStrategy::Rebase => ("pre-commit", "message"),
        };
        hook.run(first, &[]).await?;
        plan.tree = self.git.write(dir).arg("write-tree").text().await?;
        let file = room.join("COMMIT_EDITMSG");
        let name = file.to_string_lossy().into_owned();
        tokio::fs::write(&file, &plan.message)
            .await
            .map_err(GitError::io("write", &file))?;
        hook.run("prepare-commit-msg", &[&name, source]).await?;
        hook.run("commit-msg", &[&name]).await?;
        let message = tokio::fs::read_to_string(&file)
            .await
            .map_err(GitError::io("read", &file))?;
        plan.message = self.cleaned(&message).await?;
        if plan.message.trim().is_empty() {
            return Err(MergeRefused::Hook {
                hook: "commit-msg".into(),
                output: "it left an empty message".into(),
            });
        }
        Ok(plan)
    }

    async fn check_out_result(&self, dir: &Path, parent: &str, tree: &str) -> Result<(), GitError> {
        let lfs = self.lfs(parent).await?;
        let add = self
            .git
            .write(&self.top)
            .args(["worktree", "add", "--quiet", "--detach"])
            .arg(dir)
            .arg(parent)
            .limit(LONG);
        super::super::lfs::without_filter(add, lfs).run().await?;
        let fill = self
            .git
            .write(dir)
            .args(["read-tree", "-m", "-u", parent, tree])
            .limit(LONG);
        super::super::lfs::without_filter(fill, lfs).run().await?;
        Ok(())
    }
}

/// Where hooks run.
struct HookRun<'a> {
    repository: &'a Repository,
    dir: &'a Path,
    hooks: &'a Path,
    index: PathBuf,
}

impl HookRun<'_> {
    async fn run(&self, hook: &str, arguments: &[&str]) -> Result<(), MergeRefused> {
        let output = self
            .repository
            .git
            .write(self.dir)
            .hooks(self.hooks)
            .env("GIT_INDEX_FILE", &self.index)
            .args(["hook", "run", "--ignore-missing", hook, "--"])
            .args(arguments)
            .limit(LONG)
            .output()
            .await?;
        if output.is_success() {
            return Ok(());
        }
        Err(MergeRefused::Hook {
            hook: hook.to_owned(),
            output: output.said(),
        })
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
