//! A merge as an effect: one ref transaction, found again after a kill by asking git.

use crate::agents::Workshop;
use crate::core::settings::MergeStrategy;
use crate::core::task::Task;
use crate::core::verify::VerifyOutcome;
use crate::engine::TaskFact;
use crate::git::{MergeRequest, Repository, Trailers};

/// Merges a task's work; asking again gives the same commit.
pub(super) async fn merge(workshop: &Workshop, task: &Task, strategy: MergeStrategy) -> TaskFact {
    let Some(workplace) = &task.workplace else {
        return TaskFact::MergeRefused("the task has no worktree any more".into());
    };
    let repository = match Repository::open(&task.spec.repo).await {
        Ok(repository) => repository,
        Err(error) => return TaskFact::MergeRefused(format!("{error}; {}", error.hint())),
    };
    let attempt = task.attempt();
    let request = MergeRequest {
        task: task.id,
        base: workplace.base_commit.clone(),
        tip: attempt
            .and_then(|attempt| attempt.head.clone())
            .unwrap_or_else(|| workplace.branch.clone()),
        target: task.spec.target.clone(),
        strategy,
        message: message(task),
        trailers: Trailers {
            model: attempt.map(|attempt| attempt.model.clone()),
            verified: task.verify.as_ref().map(|report| match report.outcome {
                VerifyOutcome::NotVerified => report.outcome.as_str().to_owned(),
                outcome => format!("{} ({})", outcome.as_str(), report.command),
            }),
        },
        scratch: workshop
            .data
            .join("scratch")
            .join(format!("merge-{}", task.id)),
    };
    let turn = workshop.merging(&task.spec.repo);
    let _turn = turn.lock().await;
    match repository.merge(&request).await {
        Ok(merged) => TaskFact::Merged(Some(merged.commit)),
        Err(refused) => TaskFact::MergeRefused(format!("{refused}; {}", refused.hint())),
    }
}

fn message(task: &Task) -> String {
    let title = task.spec.title();
    let prompt = task.spec.prompt.trim();
    if task.spec.name.is_none() && prompt.lines().count() <= 1 && prompt.chars().count() <= 60 {
        return title;
    }
    let body: String = prompt.chars().take(2_000).collect();
    format!("{title}\n\n{body}")
}
