//! Accepting tasks: all of a submission or none of it.

use std::sync::Arc;

use crate::core::TaskId;
use crate::core::command::{NewTask, Refusal, Reply};
use crate::core::event::TaskEvent;
use crate::core::router;
use crate::core::task::{Blocked, Category, Task, TaskSpec, TaskState};

use super::Step;

pub(super) fn submit(step: &mut Step<'_>, tasks: Vec<NewTask>) -> Result<Reply, Refusal> {
    check(step, &tasks)?;
    let mut ids: Vec<TaskId> = Vec::with_capacity(tasks.len());
    for new in tasks {
        let id = match known_key(step, &new) {
            Some(id) => id,
            None => accept(step, new, &ids)?,
        };
        ids.push(id);
    }
    Ok(Reply::Submitted { tasks: ids })
}

fn check(step: &Step<'_>, tasks: &[NewTask]) -> Result<(), Refusal> {
    let limits = &step.state.settings.tasks;
    if tasks.is_empty() {
        return Err(Refusal::user("no task was given"));
    }
    let waiting = step.state.unfinished().count();
    if waiting + tasks.len() > limits.queue_max {
        return Err(Refusal::unavailable(format!(
            "the queue is full: {waiting} tasks are waiting, {} is the limit",
            limits.queue_max
        ))
        .hint("wait for some to finish, or raise tasks.queue_max"));
    }
    for (index, new) in tasks.iter().enumerate() {
        check_prompt(&new.spec.prompt, limits.prompt_max)?;
        for after in &new.spec.after {
            if step.task(*after).is_none() {
                return Err(
                    Refusal::user(format!("there is no task {after} to wait for"))
                        .hint("'warpsquad task list --all' shows all tasks"),
                );
            }
        }
        if new.after_index.iter().any(|&earlier| earlier >= index) {
            return Err(Refusal::user(
                "a task of a submission can only wait for earlier ones",
            ));
        }
    }
    Ok(())
}

fn check_prompt(prompt: &str, max: usize) -> Result<(), Refusal> {
    if prompt.trim().is_empty() {
        return Err(Refusal::user("the prompt is empty").hint("say what is to be done"));
    }
    if prompt.len() > max {
        return Err(Refusal::user(format!(
            "the prompt has {} bytes, {max} is the limit",
            prompt.len()
        ))
        .hint("name files with 'files' or 'read' instead, or raise tasks.prompt_max"));
    }
    Ok(())
}

fn known_key(step: &Step<'_>, new: &NewTask) -> Option<TaskId> {
    let key = new.spec.key.as_ref()?;
    step.state
        .tasks
        .values()
        .find(|task| task.spec.key.as_ref() == Some(key))
        .map(|task| task.id)
}

fn accept(step: &mut Step<'_>, new: NewTask, earlier: &[TaskId]) -> Result<TaskId, Refusal> {
    let id = TaskId(step.state.next_task);
    step.state.next_task += 1;
    let mut spec = new.spec;
    spec.after.extend(
        new.after_index
            .iter()
            .filter_map(|&index| earlier.get(index).copied()),
    );
    classify(&mut spec);
    let open = spec.after.iter().any(|after| !is_done(step, *after));
    let blocked = if open { Blocked::Yes } else { Blocked::No };
    let task = Task::new(id, spec, blocked, step.now);
    step.state.tasks.insert(id, Arc::new(task));
    step.record(id, TaskEvent::Submitted)
        .map_err(|error| Refusal::user(error.to_string()))?;
    Ok(id)
}

/// Says what kind of work it is, where nobody did.
fn classify(spec: &mut TaskSpec) {
    if spec.category_said || spec.category != Category::General {
        return;
    }
    let asked = spec.asked.as_deref().unwrap_or(&spec.prompt);
    let classified = router::classify(asked, &spec.files, spec.mode);
    spec.category = classified.category;
    let is_known = classified.category != Category::General;
    spec.category_because = is_known.then_some(classified.because);
}

pub(super) fn is_done(step: &Step<'_>, id: TaskId) -> bool {
    step.task(id).is_none_or(is_merged)
}

pub(super) fn is_merged(task: &Arc<Task>) -> bool {
    task.state == TaskState::Merged
}
