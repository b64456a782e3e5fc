//! A merge as an effect: one ref transaction, found again after a kill by asking git.

use crate::agents::Workshop;
use crate::core::settings::MergeStrategy;
use crate::core::task::{Task, Workplace};
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
    if let Some(why) = moved_past(&repository, task, workplace).await {
        return TaskFact::MergeRefused(why);
    }
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

/// Commits that came after the verdict: neither judged nor reviewed, so they are neither merged
/// nor left out without a word.
async fn moved_past(repository: &Repository, task: &Task, workplace: &Workplace) -> Option<String> {
    let head = task.attempt()?.head.as_ref()?;
    let done = repository.recover_merge(task.id).await;
    if matches!(done, Ok(Some(_))) {
        return None;
    }
    let branch = format!("refs/heads/{}", workplace.branch);
    let tip = repository.resolve(&branch).await.ok()?;
    if tip == *head {
        return None;
    }
    let later = repository
        .commits(head, &tip)
        .await
        .map_or(0, |all| all.len());
    let (commits, were) = match later {
        1 => ("1 commit".to_owned(), "was"),
        many => (format!("{many} commits"), "were"),
    };
    Some(format!(
        "{} has moved past what was verified: {commits} on it {were} never judged; \
         'warpsquad task revise {}' has the branch judged as it is, \
         'git -C {} reset --hard {}' leaves them out",
        workplace.branch,
        task.id,
        workplace.dir.display(),
        short(head),
    ))
}

fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
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
