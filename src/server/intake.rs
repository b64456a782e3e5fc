//! What a submission leaves open: the repository's top level, the base commit, the target branch,
//! the default verify and setup commands.
//!
//! It runs before the engine sees the tasks, so that the engine stays pure and a repository that
//! cannot work is refused at once, with the remedy.

use std::path::Path;

use crate::config::{Environment, Places, Sources, load};
use crate::core::command::{Command, NewTask, Refusal, Request};
use crate::core::event::ActorKind;
use crate::core::settings::Settings;
use crate::core::task::{Base, Mode, TaskSpec};
use crate::core::{TaskId, Timestamp};
use crate::git::{self, GitError, Repository};

/// Fills in what a request leaves open.
pub(super) async fn fill(
    places: &Places,
    environment: &Environment,
    now: Timestamp,
    mut request: Request,
) -> Result<Request, Refusal> {
    let by = request.by.kind;
    if let Command::Submit { tasks } = &mut request.command {
        for (index, task) in tasks.iter_mut().enumerate() {
            // Unique among all tasks, past and future: it names the ref of uncommitted work.
            let nonce = TaskId(now.0 * 1_000 + index as u64);
            let settings = fill_task(places, environment, nonce, task).await?;
            if by == ActorKind::Human {
                // The dashboard's composer asks for neither: the repository's settings hold.
                task.spec.retries = settings.tasks.retries;
                task.spec.strategy = settings.merge.strategy;
            }
        }
    }
    Ok(request)
}

async fn fill_task(
    places: &Places,
    environment: &Environment,
    nonce: TaskId,
    task: &mut NewTask,
) -> Result<Settings, Refusal> {
    let spec = &mut task.spec;
    let repository = Repository::open(&spec.repo)
        .await
        .map_err(|error| refused(&error))?;
    repository
        .identity()
        .await
        .map_err(|error| refused(&error))?;
    repository.top().clone_into(&mut spec.repo);
    check_files(spec)?;
    spec.largest_file = largest(spec).await;
    // A branch named for this task stands above the inbox.
    let inboxed = spec.target.is_empty();
    if spec.base_commit.is_empty() {
        resolve_base(&repository, nonce, spec).await?;
    }
    let settings = settings_of(places, environment, &spec.repo)?;
    if spec.mode == Mode::Ask {
        spec.verify = None;
    } else if spec.verify.is_none() {
        spec.verify.clone_from(&settings.verify.command);
    }
    if spec.setup.is_none() {
        spec.setup.clone_from(&settings.worktree.setup);
    }
    if spec.copy.is_empty() && spec.link.is_empty() {
        spec.copy.clone_from(&settings.worktree.copy);
        spec.link.clone_from(&settings.worktree.link);
    }
    if inboxed && let Some(inbox) = &settings.merge.inbox {
        spec.target.clone_from(inbox);
        repository
            .ensure_branch(inbox, &spec.base_commit)
            .await
            .map_err(|error| refused(&error))?;
    }
    if spec.target.is_empty() {
        return Err(
            Refusal::user("the repository has no branch checked out (detached HEAD)")
                .hint("switch to a branch, or name the branch that is to receive the result"),
        );
    }
    Ok(settings)
}

async fn resolve_base(
    repository: &Repository,
    nonce: TaskId,
    spec: &mut TaskSpec,
) -> Result<(), Refusal> {
    let base = match &spec.base {
        Base::Head => git::Base::Head,
        Base::Wip => git::Base::Wip,
        Base::Rev(revision) => git::Base::Rev(revision.clone()),
    };
    let found = repository
        .base_commit(nonce, &base)
        .await
        .map_err(|error| refused(&error))?;
    spec.base_commit = found.commit;
    if spec.target.is_empty() {
        spec.target = found.branch.unwrap_or_default();
    }
    Ok(())
}

fn settings_of(
    places: &Places,
    environment: &Environment,
    repository: &Path,
) -> Result<Settings, Refusal> {
    let sources =
        Sources::of(places, environment.clone()).with_repository(Some(repository.to_owned()));
    match load(&sources) {
        Ok(loaded) => Ok(loaded.settings),
        Err(error) => Err(
            Refusal::user(format!("the configuration cannot be used: {error}"))
                .hint("see all mistakes with 'warpsquad config check'"),
        ),
    }
}

/// Bytes of the largest file that is to be edited; none where none is named or there yet.
async fn largest(spec: &TaskSpec) -> Option<u64> {
    let mut largest = None;
    for file in &spec.files {
        let found = tokio::fs::metadata(spec.repo.join(file)).await;
        let bytes = found
            .ok()
            .filter(std::fs::Metadata::is_file)
            .map(|it| it.len());
        largest = largest.max(bytes);
    }
    largest
}

/// Paths stay inside the repository.
fn check_files(spec: &TaskSpec) -> Result<(), Refusal> {
    for file in spec.files.iter().chain(&spec.read) {
        let path = Path::new(file);
        let inside = path.components().all(|part| {
            matches!(
                part,
                std::path::Component::Normal(_) | std::path::Component::CurDir
            )
        });
        if !inside {
            return Err(
                Refusal::user(format!("{file} is not a path inside the repository"))
                    .hint("name files relative to the top of the repository"),
            );
        }
    }
    Ok(())
}

fn refused(error: &GitError) -> Refusal {
    Refusal::user(error.to_string()).hint(error.hint())
}
