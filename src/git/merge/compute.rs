//! The result of a merge as trees, computed without any checkout.

use super::super::{GitError, Identity, Repository, SquadRefKind};
use super::request::{MergeRefused, MergeRequest};
use crate::core::settings::MergeStrategy;

/// The final commit, not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) tree: String,
    pub(super) parents: Vec<String>,
    pub(super) message: String,
    /// Name, email and date of a replayed commit's author; the user otherwise.
    pub(super) author: Option<[String; 3]>,
    /// Earlier commits of a rebase, in order, to be made below the final one.
    pub(super) before: Vec<Replayed>,
}

/// A commit to be made again on another parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) tree: String,
    pub(super) message: String,
    pub(super) author: [String; 3],
}

impl Repository {
    /// What merging `request` onto the commit `target` gives.
    pub(super) async fn plan_merge(
        &self,
        request: &MergeRequest,
        target: &str,
    ) -> Result<Plan, MergeRefused> {
        let tip = self.resolve(&request.tip).await?;
        let plan = match request.strategy {
            MergeStrategy::Squash => self.plan_squash(request, target, &tip).await?,
            MergeStrategy::Merge => self.plan_true_merge(request, target, &tip).await?,
            MergeStrategy::Rebase => self.plan_rebase(request, target, &tip).await?,
        };
        if plan.tree == self.tree_of(target).await? {
            return Err(MergeRefused::Nothing);
        }
        Ok(plan)
    }

    async fn plan_squash(
        &self,
        request: &MergeRequest,
        target: &str,
        tip: &str,
    ) -> Result<Plan, MergeRefused> {
        let tree = if self.is_ancestor(&request.base, target).await? {
            self.merge_tree(request, target, tip).await?
        } else {
            // The base is uncommitted work or was rewritten: only what came after it counts.
            let base = self.tree_of(&request.base).await?;
            let ours = self.tree_of(target).await?;
            let theirs = self.tree_of(tip).await?;
            self.merge_three(request, &base, &ours, &theirs).await?
        };
        Ok(Plan {
            tree,
            parents: vec![target.to_owned()],
            message: request.message.clone(),
            author: None,
            before: Vec::new(),
        })
    }

    async fn plan_true_merge(
        &self,
        request: &MergeRequest,
        target: &str,
        tip: &str,
    ) -> Result<Plan, MergeRefused> {
        self.refuse_uncommitted(request, target).await?;
        Ok(Plan {
            tree: self.merge_tree(request, target, tip).await?,
            parents: vec![target.to_owned(), tip.to_owned()],
            message: request.message.clone(),
            author: None,
            before: Vec::new(),
        })
    }

    async fn plan_rebase(
        &self,
        request: &MergeRequest,
        target: &str,
        tip: &str,
    ) -> Result<Plan, MergeRefused> {
        let mut replayed: Vec<Replayed> = Vec::new();
        let mut onto = self.tree_of(target).await?;
        for commit in self.own_commits(&request.base, target, tip).await? {
            let base = self.tree_of(&format!("{commit}^")).await?;
            let theirs = self.tree_of(&commit).await?;
            let tree = self.merge_three(request, &base, &onto, &theirs).await?;
            if tree != onto {
                let (author, message) = self.authorship(&commit).await?;
                replayed.push(Replayed {
                    tree: tree.clone(),
                    message,
                    author,
                });
            }
            onto = tree;
        }
        let last = replayed.pop().ok_or(MergeRefused::Nothing)?;
        Ok(Plan {
            tree: last.tree,
            parents: vec![target.to_owned()],
            message: last.message,
            author: Some(last.author),
            before: replayed,
        })
    }

    async fn refuse_uncommitted(
        &self,
        request: &MergeRequest,
        target: &str,
    ) -> Result<(), MergeRefused> {
        let is_uncommitted = self
            .squad_refs()
            .await?
            .iter()
            .any(|squad| squad.kind == SquadRefKind::Base && squad.object == request.base);
        if is_uncommitted && !self.is_ancestor(&request.base, target).await? {
            return Err(MergeRefused::UncommittedBase);
        }
        Ok(())
    }

    pub(super) async fn is_ancestor(&self, commit: &str, of: &str) -> Result<bool, GitError> {
        let output = self
            .git
            .read(&self.top)
            .args(["merge-base", "--is-ancestor", commit, of])
            .output()
            .await?;
        match output.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            code => Err(GitError::Failed {
                command: "merge-base --is-ancestor".into(),
                code,
                stderr: output.stderr.trim_end().to_owned(),
            }),
        }
    }

    /// The task's commits that the target does not have, oldest first.
    async fn own_commits(
        &self,
        base: &str,
        target: &str,
        tip: &str,
    ) -> Result<Vec<String>, GitError> {
        let list = self
            .git
            .read(&self.top)
            .args(["rev-list", "--reverse", "--topo-order", "--no-merges"])
            .args([tip, &format!("^{base}"), &format!("^{target}"), "--"])
            .text()
            .await?;
        Ok(list.lines().map(str::to_owned).collect())
    }

    async fn authorship(&self, commit: &str) -> Result<([String; 3], String), GitError> {
        let text = self
            .git
            .read(&self.top)
            .args(["show", "--no-patch", "--no-notes", "--encoding=UTF-8"])
            .args(["--date=raw", "--format=%an%n%ae%n%ad%n%B", commit])
            .text()
            .await?;
        let mut lines = text.splitn(4, '\n').map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        Ok(([next(), next(), next()], next()))
    }

    /// Merges three trees. Commits of our own stand for them, because `merge-tree --merge-base`
    /// came only with git 2.40.
    async fn merge_three(
        &self,
        request: &MergeRequest,
        base: &str,
        ours: &str,
        theirs: &str,
    ) -> Result<String, MergeRefused> {
        let stand_in = Identity {
            name: "warpsquad".into(),
            email: "warpsquad@localhost".into(),
        };
        let base = self.commit_tree(base, &[], "base\n", &stand_in).await?;
        let ours = self
            .commit_tree(ours, &[&base], "ours\n", &stand_in)
            .await?;
        let theirs = self
            .commit_tree(theirs, &[&base], "theirs\n", &stand_in)
            .await?;
        self.merge_tree(request, &ours, &theirs).await
    }

    async fn merge_tree(
        &self,
        request: &MergeRequest,
        ours: &str,
        theirs: &str,
    ) -> Result<String, MergeRefused> {
        let output = self
            .git
            .write(&self.top)
            .args(["merge-tree", "--write-tree", "-z", "--name-only"])
            .args(["--no-messages", "--allow-unrelated-histories", ours, theirs])
            .output()
            .await?;
        let mut fields = output.fields().into_iter();
        match (output.code, fields.next()) {
            (Some(0), Some(tree)) => Ok(tree.trim_end().to_owned()),
            (Some(1), Some(_)) => Err(MergeRefused::Conflict {
                files: fields.collect(),
                target: request.target.clone(),
                tip: request.tip.clone(),
            }),
            (code, _) => Err(GitError::Failed {
                command: "merge-tree".into(),
                code,
                stderr: output.stderr.trim_end().to_owned(),
            }
            .into()),
        }
    }
}
