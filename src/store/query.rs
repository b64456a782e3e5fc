//! What both stores agree on: limits, and which tasks are open.

use crate::core::task::Task;

/// Events given back by `load`.
pub(super) const RECENT_EVENTS: usize = 200;
/// Rows given back when a filter names no limit.
const DEFAULT_LIMIT: usize = 1_000;

/// The limit that a filter's `limit` means.
pub(super) fn limit(asked: usize) -> usize {
    if asked == 0 { DEFAULT_LIMIT } else { asked }
}

/// Whether something is still to be done for a task: it is unfinished, or its worktree is not
/// archived yet. An open task is always loaded, however many finished ones are newer.
pub(super) fn is_open(task: &Task) -> bool {
    !task.state.is_final() || task.archiving
}
