//! The rows of the table of keys, in the order of the reference.

use super::schema::{Key, Repository};
use super::value::{Field, Kind, Value, entry, set_entry};
use crate::core::router::Strategy;
use crate::core::settings::ModelTuning;

/// A key whose field has a place of its own in the settings.
macro_rules! key {
    ($path:expr, $kind:expr, $repository:ident, $doc:literal, $s:ident => $field:expr) => {
        Key {
            path: $path,
            kind: $kind,
            doc: $doc,
            repository: Repository::$repository,
            stars: &[],
            read: |$s, _| $field.to_value(),
            write: |$s, _, value| {
                if let Some(value) = Field::from_value(value) {
                    $field = value;
                }
            },
        }
    };
}

/// A key whose field counts things in memory.
macro_rules! count {
    ($path:literal, $min:literal, $max:literal, $repository:ident, $doc:literal, $s:ident => $field:expr) => {
        Key {
            path: $path,
            kind: Kind::Integer {
                min: $min,
                max: $max,
            },
            doc: $doc,
            repository: Repository::$repository,
            stars: &[],
            read: |$s, _| Value::Integer(i64::try_from($field).unwrap_or(i64::MAX)),
            write: |$s, _, value| {
                if let Value::Integer(value) = value {
                    $field = usize::try_from(value).unwrap_or_default();
                }
            },
        }
    };
}

/// The two keys of a model's field: for every model and for one.
macro_rules! for_every_model {
    ($name:literal, $kind:expr, $doc:literal, $field:ident) => {
        key!(
            concat!("models.defaults.", $name), $kind, May, $doc,
            s => s.models.defaults.$field
        )
    };
}
macro_rules! for_one_model {
    ($name:literal, $kind:expr, $doc:literal, $field:ident) => {
        Key {
            path: concat!("models.by_name.*.", $name),
            kind: $kind,
            doc: $doc,
            repository: Repository::May,
            stars: &[],
            read: |s, names| {
                let tuning = s.models.by_name.get(first(names));
                tuning.map_or(Value::Unset, |tuning| tuning.$field.to_value())
            },
            write: |s, names, value| {
                let tuning: &mut ModelTuning =
                    s.models.by_name.entry(first(names).to_owned()).or_default();
                if let Some(value) = Field::from_value(value) {
                    tuning.$field = value;
                }
            },
        }
    };
}

fn first<'a>(names: &[&'a str]) -> &'a str {
    names.first().copied().unwrap_or_default()
}

fn second<'a>(names: &[&'a str]) -> &'a str {
    names.get(1).copied().unwrap_or_default()
}

const fn whole(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

const CONTEXT: Kind = whole(512, 16_777_216);
const TEMPERATURE: Kind = Kind::Float { min: 0.0, max: 2.0 };
pub(super) const EDIT_FORMAT: Kind = Kind::Choice(&["whole", "diff", "diff-fenced", "udiff"]);
const QUESTIONS: &[&str] = &[
    "create-file",
    "add-file",
    "fix-lint",
    "fix-tests",
    "shell",
    "url",
    "gitignore",
    "token-limit",
];

/// The kinds, and every question that is in none of them.
const UNANSWERED: &[&str] = &[
    "create-file",
    "add-file",
    "fix-lint",
    "fix-tests",
    "shell",
    "url",
    "gitignore",
    "token-limit",
    "unknown",
];

/// Every key.
pub static KEYS: &[Key] = &[
    key!("agents.max", Kind::AutoOr { min: 1, max: 64 }, MayNot,
        "Agents working at a time. `\"auto\"` lets 1 to 10 work, as many as add throughput: see `endpoints.parallel`.",
        s => s.agents.max),
    key!("agents.spare", whole(0, 32), MayNot,
        "Agents made ahead, on top of those that work: they wait at their prompt in a prepared worktree, for what the queue needs next, else for what was used last.",
        s => s.agents.spare),
    key!("agents.fork", Kind::Bool, MayNot,
        "Fork agents from one process that has imported Aider, instead of starting each as a program.",
        s => s.agents.fork),
    key!("agents.recycle", whole(1, 1_000_000), MayNot,
        "Forks after which that process is replaced by a fresh one, as when its memory grows; agents go on.",
        s => s.agents.recycle),
    key!("agents.inhibit_sleep", Kind::Bool, MayNot,
        "Keep the machine awake while tasks are under way (`systemd-inhibit`, on macOS `caffeinate`).",
        s => s.agents.inhibit_sleep),
    key!("agents.python", Kind::Text, MayNot,
        "Python interpreter with Aider importable, used instead of the private installation made by `warpsquad setup`.",
        s => s.agents.python),
    key!("agents.columns", whole(40, 500), MayNot,
        "Width of an agent's terminal while nobody watches it.", s => s.agents.columns),
    key!("agents.rows", whole(10, 200), MayNot,
        "Height of an agent's terminal while nobody watches it.", s => s.agents.rows),
    count!("agents.scrollback", 0, 100_000, MayNot,
        "Lines of scrollback kept for each agent.", s => s.agents.scrollback),
    key!("agents.start_timeout", Kind::Duration, MayNot,
        "A started agent must reach its prompt within this.", s => s.agents.start_timeout),
    key!("agents.auto_lint", Kind::Bool, MayNot,
        "Aider's own lint after each edit. Off by default: the verify command judges.",
        s => s.agents.auto_lint),
    key!("agents.map_tokens", whole(0, 1_000_000), May,
        "Tokens of repository map in a prompt; 0 switches the map off.", s => s.agents.map_tokens),
    Key {
        path: "agents.answers.*",
        kind: Kind::Choice(&["yes", "no", "ask"]),
        doc: "Answer to one kind of Aider's questions; `ask` leaves it to a human. Unless said otherwise, creating and adding files and fixing lint or tests are answered yes, shell commands, addresses, `.gitignore` and the token limit no.",
        repository: Repository::MayNot,
        stars: QUESTIONS,
        read: |s, names| entry(&s.agents.answers, first(names)),
        write: |s, names, value| set_entry(&mut s.agents.answers, first(names), value),
    },
    key!("tasks.retries", whole(0, 100), May,
        "Further attempts after a failed one.", s => s.tasks.retries),
    key!("tasks.backoff", Kind::Duration, May,
        "Wait before the first further attempt; it doubles each time.", s => s.tasks.backoff),
    key!("tasks.backoff_max", Kind::Duration, May,
        "Longest wait between attempts.", s => s.tasks.backoff_max),
    key!("tasks.time_limit", Kind::Duration, May,
        "An attempt is stopped after this.", s => s.tasks.time_limit),
    key!("tasks.prompt_max", Kind::Size, MayNot,
        "Longest prompt accepted.", s => s.tasks.prompt_max),
    count!("tasks.queue_max", 1, 1_000_000, MayNot,
        "Tasks waiting at most; one more is refused.", s => s.tasks.queue_max),
    key!("worktree.setup", Kind::Text, Proposes,
        "Command run once in each new worktree.", s => s.worktree.setup),
    key!("worktree.setup_timeout", Kind::Duration, May,
        "Time limit of the setup command.", s => s.worktree.setup_timeout),
    key!("worktree.copy", Kind::List, Proposes,
        "Untracked files copied from your checkout into each worktree (globs).", s => s.worktree.copy),
    key!("worktree.link", Kind::List, Proposes,
        "Untracked files or folders of your checkout linked into each worktree (globs).",
        s => s.worktree.link),
    key!("worktree.first_port", whole(1024, 65_000), MayNot,
        "First port given to agents as `SQUAD_PORT`; slot n gets this plus (n - 1) × 10.",
        s => s.worktree.first_port),
    key!("verify.command", Kind::Text, Proposes,
        "Command that checks a result in its worktree; exit status 0 means good.", s => s.verify.command),
    key!("verify.timeout", Kind::Duration, May,
        "Time limit of one run.", s => s.verify.timeout),
    key!("verify.concurrency", whole(1, 64), MayNot,
        "Verify commands running at a time.", s => s.verify.concurrency),
    key!("verify.nice", whole(0, 19), MayNot,
        "Niceness of verify commands.", s => s.verify.nice),
    key!("verify.baseline", Kind::Bool, May,
        "Run the verify command once per base commit first, so that failures that were there before are not blamed on an agent.",
        s => s.verify.baseline),
    key!("merge.strategy", Kind::Choice(&["squash", "merge", "rebase"]), May,
        "How a task's commits become part of the target branch.", s => s.merge.strategy),
    key!("merge.inbox", Kind::Text, May,
        "Branch that collects merges, instead of the branch a task started from.", s => s.merge.inbox),
    key!("endpoints", Kind::Endpoints, MayNot,
        "Ollama servers: tables with `name`, `url` and, where they are known, `parallel` (requests of one model served at a time, `OLLAMA_NUM_PARALLEL`), `kv_cache` (`f16`, `q8_0` or `q4_0`, `OLLAMA_KV_CACHE_TYPE`) and `vram` (memory of its GPUs, such as `\"24GiB\"`; this machine's own are read from the driver), `gpu` (endpoints of the same name share a GPU). A layer that names any replaces those of the layers below. Without any, `OLLAMA_HOST` or `OLLAMA_BASE_URL` decides, else `http://127.0.0.1:11434`.",
        s => s.endpoints),
    key!("gateway.key", Kind::Text, MayNot,
        "Key with which clients that are no agents may use the squad's models (`Authorization: Bearer KEY`). Nobody else is let in while it is not set.", s => s.gateway.key),
    key!("vram.reserve", Kind::Size, MayNot,
        "GPU memory of each endpoint that models may not take.", s => s.vram.reserve),
    key!("discovery.interval", Kind::Duration, MayNot,
        "Between two looks at a healthy endpoint.", s => s.discovery.interval),
    key!("discovery.backoff_max", Kind::Duration, MayNot,
        "Longest wait before an unreachable endpoint is tried again.", s => s.discovery.backoff_max),
    key!("discovery.timeout", Kind::Duration, MayNot,
        "Time limit of one question to an endpoint.", s => s.discovery.timeout),
    key!("models.default", Kind::Text, May,
        "Model of tasks that name none, when no fitting one is loaded.", s => s.models.default),
    key!("models.selection", Kind::Choice(&["auto", "fastest", "most-capable", "round-robin"]), MayNot,
        "How the model of a task that names none is selected, instead of by `router.strategy`: the one that answers in the least time, the one with the most parameters, or one after the other.",
        s => s.models.selection),
    for_every_model!(
        "context",
        CONTEXT,
        "Pinned context in tokens (`num_ctx`), capped at what the model was trained for. 16384 unless said otherwise.",
        context
    ),
    for_every_model!(
        "temperature",
        TEMPERATURE,
        "Sampling temperature. Aider's own default is 0.",
        temperature
    ),
    for_every_model!(
        "edit_format",
        EDIT_FORMAT,
        "How the model writes its edits. Aider's own choice for the model unless said otherwise.",
        edit_format
    ),
    for_every_model!(
        "thinking",
        Kind::Bool,
        "Ask a model that can think to think. Off unless said otherwise.",
        thinking
    ),
    Key {
        path: "models.defaults.options.*",
        kind: Kind::Scalar,
        doc: "A further option of Ollama's (`top_p`, `num_predict`, …), passed on as it is.",
        repository: Repository::May,
        stars: &[],
        read: |s, names| entry(&s.models.defaults.options, first(names)),
        write: |s, names, value| set_entry(&mut s.models.defaults.options, first(names), value),
    },
    for_one_model!(
        "context",
        CONTEXT,
        "As in `models.defaults`, for one model.",
        context
    ),
    for_one_model!(
        "temperature",
        TEMPERATURE,
        "As in `models.defaults`, for one model.",
        temperature
    ),
    for_one_model!(
        "edit_format",
        EDIT_FORMAT,
        "As in `models.defaults`, for one model.",
        edit_format
    ),
    for_one_model!(
        "thinking",
        Kind::Bool,
        "As in `models.defaults`, for one model.",
        thinking
    ),
    Key {
        path: "models.by_name.*.options.*",
        kind: Kind::Scalar,
        doc: "As in `models.defaults`, for one model.",
        repository: Repository::May,
        stars: &[],
        read: |s, names| {
            let tuning = s.models.by_name.get(first(names));
            tuning.map_or(Value::Unset, |tuning| entry(&tuning.options, second(names)))
        },
        write: |s, names, value| {
            let tuning = s.models.by_name.entry(first(names).to_owned()).or_default();
            set_entry(&mut tuning.options, second(names), value);
        },
    },
    key!("router.strategy", Kind::Choice(&Strategy::WORDS), MayNot,
        "How the model of a task that names none is picked: each in turn, the least wait, at random, the least time until a success, the best at the kind of work (learned), or the last less what its time costs (`hybrid`).",
        s => s.router.strategy),
    key!("router.seed", whole(0, 4_294_967_295), MayNot,
        "Seed of what the router draws: the same seed, tasks and outcomes give the same choices.",
        s => s.router.seed),
    key!("medic.stall", Kind::Duration, MayNot,
        "An agent that works is stuck after this without output and without a model request: its launcher is asked to say its state again, then Aider is interrupted, then the attempt ends and the task starts again.",
        s => s.medic.stall),
    key!("medic.no_answer", Kind::Duration, MayNot,
        "A model request on which nothing comes back is interrupted after this; the task is held and costs no attempt.",
        s => s.medic.no_answer),
    key!("medic.retries", whole(0, 100), MayNot,
        "Aider is interrupted when it has repeated a failing request this often; the task is held and costs no attempt. 0 lets Aider go on for as long as it likes.",
        s => s.medic.retries),
    key!("medic.question_timeout", Kind::Duration, MayNot,
        "A question that needs a human waits this long before `medic.unanswered` applies.",
        s => s.medic.question_timeout),
    Key {
        path: "medic.unanswered.*",
        kind: Kind::Choice(&["wait", "yes", "no", "hold"]),
        doc: "What happens to a question of one kind that nobody answers: it goes on waiting (`wait`, the default), is answered, or its agent ends and the task starts again (`hold`). `unknown` is every question that is in no other kind; one that wants a text is never answered yes or no.",
        repository: Repository::MayNot,
        stars: UNANSWERED,
        read: |s, names| entry(&s.medic.unanswered, first(names)),
        write: |s, names, value| set_entry(&mut s.medic.unanswered, first(names), value),
    },
    key!("quota.agent_memory", Kind::Size, MayNot,
        "Memory of an agent with everything it started. In this section 0 is no limit; at four fifths of a limit there is a warning, above it the task ends as `dead`, with its work kept.",
        s => s.quota.agent_memory),
    key!("quota.agent_cpu", Kind::Duration, MayNot,
        "Processor time of one attempt.", s => s.quota.agent_cpu),
    key!("quota.agent_processes", whole(0, 1_000_000), MayNot,
        "Processes of an agent.", s => s.quota.agent_processes),
    count!("quota.task_tokens", 0, 1_000_000_000_000, MayNot,
        "Tokens of a task, sent and received, over all its attempts. `tasks.time_limit` limits its time.",
        s => s.quota.task_tokens),
    key!("quota.worktree_disk", Kind::Size, MayNot,
        "What a worktree takes on disk.", s => s.quota.worktree_disk),
    key!("quota.squad_memory", Kind::Size, MayNot,
        "Memory of all agents together; above it the largest one is stopped.",
        s => s.quota.squad_memory),
    key!("quota.squad_cpu", whole(0, 1_000_000), MayNot,
        "Processor time of all agents together, per cent of one processor: 250 is two and a half. Where the kernel enforces it, agents and verify commands are held back; elsewhere the agent that takes most is stopped when a minute's average is above.",
        s => s.quota.squad_cpu),
    key!("quota.disk_free_floor", Kind::Size, MayNot,
        "With less than this free where the data lies, no worktree is made and no verify command is started until there is room again.",
        s => s.quota.disk_free_floor),
    key!("clean.automatic", Kind::Bool, MayNot,
        "Remove what is old at every start and once a day. Unmerged work is never removed by itself.",
        s => s.clean.automatic),
    key!("clean.after", Kind::Duration, MayNot,
        "What counts as old: chats and logs of merged tasks, archives whose commits are on a branch, baselines, worktrees that no task needs any more.",
        s => s.clean.after),
    key!("recorder.enabled", Kind::Bool, MayNot,
        "Record every model request, its times and figures but none of its text, in `requests/` in the data directory.",
        s => s.recorder.enabled),
    key!("recorder.max_size", Kind::Size, MayNot,
        "When a file is this large the next one is begun.", s => s.recorder.max_size),
    count!("recorder.keep", 1, 1_000, MayNot,
        "Files kept, the one that is written included.", s => s.recorder.keep),
    key!("ui.colour", Kind::Choice(&["auto", "always", "never"]), MayNot,
        "When to use colours; `auto` lets `NO_COLOR` and the terminal decide.", s => s.ui.colour),
    key!("ui.ascii", Kind::Bool, MayNot,
        "Draw with ASCII only. Decided by the locale unless said otherwise.", s => s.ui.ascii),
    key!("ui.reduced_motion", Kind::Bool, MayNot,
        "No moving glyphs.", s => s.ui.reduced_motion),
    key!("log.level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), MayNot,
        "How much the server writes to its log.", s => s.log.level),
];
