//! What may be typed: the whole command line, as it is parsed. What it means is in the commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use super::words;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "\
Without a command, warpsquad attaches to the squad and starts it if needed.

Exit codes: 0 done, 1 internal error, 2 wrong use or a task that failed, 3 configuration,
4 something needed is unavailable.";

/// A terminal supervisor for a squad of Aider agents on local Ollama models.
#[derive(Debug, Parser)]
#[command(name = "warpsquad", version, styles = STYLES, after_help = AFTER_HELP)]
#[command(max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// Where things lie and what is configured.
    #[command(flatten)]
    pub global: Global,
    /// What to do; nothing attaches to the squad.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Cli {
    /// The command line as data, for completions and reference pages.
    pub fn describe() -> clap::Command {
        Self::command()
    }
}

/// Options that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Configuration file instead of your own (also `WARPSQUAD_CONFIG`).
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of everything that the squad stores (also `WARPSQUAD_DATA_DIR`).
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Unix socket of the server (also `WARPSQUAD_SOCKET`).
    #[arg(long, global = true, value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// Set a configuration key for this call or for the squad it starts.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = words::assignment)]
    pub set: Vec<(String, String)>,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit tasks, show progress and wait; exit 0 only if every task reached its goal.
    Run(Box<Run>),
    /// Show the whole thing on a throwaway repository with the built-in Ollama simulator.
    Demo(Demo),
    /// Install or check the private Aider.
    Setup(Setup),
    /// Check everything that a squad needs, each finding with its remedy.
    Doctor(Doctor),
    /// Submit, follow and settle tasks.
    #[command(subcommand)]
    Task(Task),
    /// Look at the templates that tasks can be given.
    #[command(subcommand)]
    Template(Template),
    /// Look at agents and talk to them.
    #[command(subcommand)]
    Agent(Agent),
    /// Look at models.
    #[command(subcommand)]
    Model(Model),
    /// Look at Ollama servers.
    #[command(subcommand)]
    Endpoint(Endpoint),
    /// See what requests would have cost with another order of service or another strategy.
    #[command(subcommand)]
    Route(Route),
    /// One page: agents, queue, models, endpoints.
    Status(Json),
    /// Start the squad, or run it in the foreground.
    Server(Server),
    /// End the squad; its tasks go on when it starts again.
    Stop(Stop),
    /// Let a new warpsquad take over while agents work on; back to the old one if it fails.
    Upgrade(Upgrade),
    /// Remove what finished tasks have left behind; nothing unmerged is ever lost.
    Clean(Clean),
    /// Agree to the commands that the repository here proposes, or take that back.
    Trust(Trust),
    /// Run the Ollama simulator as a server of its own.
    OllamaSim(OllamaSim),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man(Man),
}

/// Output as JSON.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Json {
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `run`
#[derive(Debug, Args)]
pub struct Run {
    /// Tasks from a TOML file; `-` reads standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// How far every task must come.
    #[arg(long, value_enum, default_value_t = Until::Review)]
    pub until: Until,
    /// Give up waiting after this; the tasks go on.
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub timeout: Option<Duration>,
    /// What every task is given.
    #[command(flatten)]
    pub task: TaskOptions,
    /// Print one JSON line for each change and one for the end.
    #[arg(long)]
    pub json: bool,
}

/// When a task has reached its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// It waits for review, its verify command green or none given.
    Review,
    /// It is merged.
    Merged,
}

/// `demo`
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Print progress lines instead of showing the dashboard.
    #[arg(long)]
    pub headless: bool,
    /// Number of tasks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub tasks: Option<u16>,
    /// Print one JSON document at the end instead of progress lines.
    #[arg(long)]
    pub json: bool,
}

/// `setup`
#[derive(Debug, Clone, Copy, Args)]
pub struct Setup {
    /// Only say whether the installation is complete.
    #[arg(long)]
    pub check: bool,
}

/// `doctor`
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Measure how fast a model is with 1, 2, 4 and 8 streams instead; occupies its GPU.
    #[arg(long)]
    pub measure: bool,
    /// Model to measure [default: the one that tasks get].
    #[arg(long, requires = "measure")]
    pub model: Option<String>,
    /// Endpoint to measure [default: the one that has the model].
    #[arg(long, requires = "measure", value_name = "NAME")]
    pub endpoint: Option<String>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What a task can be given on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct TaskOptions {
    /// What Aider is told; `-` reads standard input.
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// Read the prompt from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompt_file: Option<PathBuf>,
    /// Template that frames the prompt and fills what is not said here.
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// Repository to work on [default: the one here].
    #[arg(long, value_name = "FOLDER")]
    pub repo: Option<PathBuf>,
    /// Short name.
    #[arg(long)]
    pub name: Option<String>,
    /// How Aider works: code, architect or ask.
    #[arg(long, value_parser = words::MODES)]
    pub mode: Option<String>,
    /// What kind of work it is.
    #[arg(long, value_parser = words::CATEGORIES)]
    pub category: Option<String>,
    /// How urgent it is.
    #[arg(long, value_parser = words::PRIORITIES)]
    pub priority: Option<String>,
    /// A word to find it by; may be given more than once.
    #[arg(long = "tag", value_name = "WORD")]
    pub tags: Vec<String>,
    /// A task that must be merged first; may be given more than once.
    #[arg(long, value_name = "TASK")]
    pub after: Vec<u64>,
    /// A file put into the chat for editing; may be given more than once.
    #[arg(long = "edit", value_name = "FILE")]
    pub files: Vec<String>,
    /// A file put into the chat for reading; may be given more than once.
    #[arg(long, value_name = "FILE")]
    pub read: Vec<String>,
    /// Model by name, or `fast`, `best` or `auto` [default: the squad chooses].
    #[arg(long)]
    pub model: Option<String>,
    /// Command that must succeed in the task's worktree.
    #[arg(long, value_name = "COMMAND")]
    pub verify: Option<String>,
    /// How far it goes by itself: review, or merge when verified.
    #[arg(long, value_parser = words::AUTONOMIES)]
    pub autonomy: Option<String>,
    /// Further attempts after a failed one.
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Expires when it has waited this long in the queue.
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub ttl: Option<Duration>,
    /// What it starts from: `head`, `wip` (your uncommitted work) or a revision.
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// Branch that receives the result [default: the one checked out].
    #[arg(long, value_name = "BRANCH")]
    pub target: Option<String>,
    /// How it is merged.
    #[arg(long, value_parser = words::STRATEGIES)]
    pub strategy: Option<String>,
    /// Submitting again with the same key returns the same task.
    #[arg(long)]
    pub key: Option<String>,
}

/// `task …`
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Submit tasks and return at once.
    Add(Box<TaskAdd>),
    /// List tasks, the newest first.
    List(TaskList),
    /// Show all that is known of a task.
    Show(TaskNamed),
    /// Wait until tasks reach their goal.
    Wait(TaskWait),
    /// Stop tasks.
    Cancel(TasksNamed),
    /// Start dead, cancelled or expired tasks again.
    Retry(TasksNamed),
    /// Send a task in review back to its agent with a comment.
    Revise(TaskRevise),
    /// Show what happened to a task, or what one of its programs wrote.
    Log(TaskLog),
    /// Show a task's changes.
    Diff(TaskNumber),
    /// Merge tasks in review.
    Merge(TaskMerge),
    /// Throw tasks away; their work is archived.
    Discard(TasksNamed),
    /// Bring discarded, cancelled or dead tasks back to review.
    Restore(TasksNamed),
    /// Print the path of a task's worktree.
    Path(TaskNumber),
}

/// `task add`
#[derive(Debug, Args)]
pub struct TaskAdd {
    /// Tasks from a TOML file; `-` reads standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// What the task is given.
    #[command(flatten)]
    pub task: TaskOptions,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `task list`
#[derive(Debug, Args)]
pub struct TaskList {
    /// Only tasks in this state; may be given more than once.
    #[arg(long, value_parser = words::STATES)]
    pub state: Vec<String>,
    /// Only tasks with this word.
    #[arg(long, value_name = "WORD")]
    pub tag: Option<String>,
    /// Only tasks of the repository here.
    #[arg(long)]
    pub here: bool,
    /// Also the finished ones.
    #[arg(short, long)]
    pub all: bool,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub limit: usize,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// One task.
#[derive(Debug, Clone, Copy, Args)]
pub struct TaskNumber {
    /// The task's number.
    pub task: u64,
}

/// One task, shown as text or JSON.
#[derive(Debug, Clone, Copy, Args)]
pub struct TaskNamed {
    /// The task's number.
    pub task: u64,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Some tasks.
#[derive(Debug, Args)]
pub struct TasksNamed {
    /// Their numbers.
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<u64>,
}

/// `task wait`
#[derive(Debug, Args)]
pub struct TaskWait {
    /// Their numbers [default: all that are not finished].
    #[arg(value_name = "TASK")]
    pub tasks: Vec<u64>,
    /// How far every task must come.
    #[arg(long, value_enum, default_value_t = Until::Review)]
    pub until: Until,
    /// Give up waiting after this.
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub timeout: Option<Duration>,
    /// Print one JSON line for each change and one for the end.
    #[arg(long)]
    pub json: bool,
}

/// `task revise`
#[derive(Debug, Args)]
pub struct TaskRevise {
    /// The task's number.
    pub task: u64,
    /// What to do; `-` reads standard input.
    #[arg(required = true)]
    pub comment: Vec<String>,
}

/// `task log`
#[derive(Debug, Args)]
pub struct TaskLog {
    /// The task's number.
    pub task: u64,
    /// What one of its programs wrote, instead of the events.
    #[arg(long, value_parser = ["agent", "verify", "setup"])]
    pub what: Option<String>,
    /// Print one JSON document instead of text.
    #[arg(long, conflicts_with = "what")]
    pub json: bool,
}

/// `task merge`
#[derive(Debug, Args)]
pub struct TaskMerge {
    /// Their numbers.
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<u64>,
    /// Instead of the task's own strategy.
    #[arg(long, value_parser = words::STRATEGIES)]
    pub strategy: Option<String>,
}

/// `template …`
#[derive(Debug, Subcommand)]
pub enum Template {
    /// List all templates, the best for the repository here first.
    List(TemplateList),
    /// Show all that a template says, and what it means in the repository here.
    Show(TemplateNamed),
}

/// `template list`
#[derive(Debug, Args)]
pub struct TemplateList {
    /// Only those that the dashboard offers for the repository here.
    #[arg(long)]
    pub best: bool,
    /// Repository [default: the one here].
    #[arg(long, value_name = "FOLDER")]
    pub repo: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `template show`
#[derive(Debug, Args)]
pub struct TemplateNamed {
    /// Its name.
    pub name: String,
    /// Repository [default: the one here].
    #[arg(long, value_name = "FOLDER")]
    pub repo: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `agent …`
#[derive(Debug, Subcommand)]
pub enum Agent {
    /// List agents.
    List(Json),
    /// Show all that is known of an agent.
    Show(AgentNamed),
    /// Print an agent's screen and its history.
    Log(AgentNumber),
    /// Type a line into an agent at its prompt, or answer its question.
    Send(AgentSend),
    /// Kill an agent; its task goes back to the queue.
    Kill(AgentNumber),
}

/// One agent.
#[derive(Debug, Clone, Copy, Args)]
pub struct AgentNumber {
    /// The agent's number.
    pub agent: u16,
}

/// One agent, shown as text or JSON.
#[derive(Debug, Clone, Copy, Args)]
pub struct AgentNamed {
    /// The agent's number.
    pub agent: u16,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `agent send`
#[derive(Debug, Args)]
pub struct AgentSend {
    /// The agent's number.
    pub agent: u16,
    /// The text is the answer to the agent's question.
    #[arg(long)]
    pub answer: bool,
    /// What is typed.
    #[arg(required = true)]
    pub text: Vec<String>,
}

/// `model …`
#[derive(Debug, Subcommand)]
pub enum Model {
    /// List the models of all endpoints.
    List(ModelList),
    /// Show all that is known of a model.
    Show {
        /// Its name.
        name: String,
        /// Print one JSON document instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// `model list`
#[derive(Debug, Clone, Copy, Args)]
pub struct ModelList {
    /// Which contexts and slots fit the GPU, and what to set in Ollama; needs no squad.
    #[arg(long)]
    pub fit: bool,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `endpoint …`
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// List Ollama servers.
    List(Json),
}

/// `route …`
#[derive(Debug, Subcommand)]
pub enum Route {
    /// Tell what a log of requests would have cost in another order of service, or with another
    /// strategy.
    Replay(RouteReplay),
}

const REPLAY_HELP: &str = "\
Strategies:
  recorded       what was measured when the log was written; nothing is simulated
  unpinned-fifo  in the order of arrival, and each request loads its model again: Aider on Ollama
  fifo           in the order of arrival with the context pinned: Ollama
  collate        a model is served as long as it has work
  quantum        the dispatcher, batches of at most 4 swaps; quantum-8 for another number
  round-robin, least-loaded, random, performance, affinity, hybrid
                 the router's strategies: models and endpoints chosen anew for each attempt, served
                 by the dispatcher; they learn from what had ended by then

What is assumed: requests stay on their endpoint and with their model, but for the router's
strategies; a service takes as long as it took, whoever else is served; a load takes the median of
the model's loads in the log; a client asks again as long after its answer as it did; nothing
fails. What was refused is left out. 'recorded' differs from 'quantum' by what these assumptions
miss. An attempt that gets another model takes its tokens at that model's median rates, and
succeeds as often as that model did at such work in the log; one whose task named its model keeps
it. An attempt has succeeded when its last request was answered and no other attempt followed;
recorded attempts stay, also those that would not have been needed. SUCCESS is the share of
attempts.";

/// `route replay`
#[derive(Debug, Args)]
#[command(after_help = REPLAY_HELP)]
pub struct RouteReplay {
    /// The gateway's log of requests, one JSON object a line; `-` reads standard input.
    pub log: PathBuf,
    /// Seed of the router's draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Only this; may be given several times. Without it all are compared.
    #[arg(long, value_name = "NAME", value_parser = words::order_of_service)]
    pub strategy: Vec<words::OrderOfService>,
    /// Requests that a model serves at a time; else the most that the log shows at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub slots: Option<u16>,
    /// Models in memory together; else the most that the log shows without an eviction.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub room: Option<u16>,
    /// What a load takes; else what the log shows for each model, or 15 s.
    #[arg(long, value_name = "TIME", value_parser = words::some_time)]
    pub load: Option<Duration>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `server`
#[derive(Debug, Clone, Copy, Args)]
pub struct Server {
    /// Stay in the foreground: the main process of a service or a container.
    #[arg(long)]
    pub foreground: bool,
    /// The server itself, below its keeper.
    #[arg(long, hide = true)]
    pub child: bool,
}

/// `stop`
#[derive(Debug, Clone, Copy, Args)]
pub struct Stop {
    /// Kill agents at once instead of letting them end.
    #[arg(long)]
    pub now: bool,
}

/// `upgrade`
#[derive(Debug, Clone, Args)]
pub struct Upgrade {
    /// The new program; this very one if nothing is named.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `clean`
#[derive(Debug, Clone, Copy, Args)]
pub struct Clean {
    /// Only say what would be removed.
    #[arg(long)]
    pub dry_run: bool,
    /// Only what is older than this, such as `30days`, and archives whose commits are on a branch;
    /// as the squad does by itself.
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    pub older_than: Option<Duration>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `trust`
#[derive(Debug, Clone, Args)]
pub struct Trust {
    /// Only show what is proposed and whether it was agreed to.
    #[arg(long, conflicts_with = "revoke")]
    pub show: bool,
    /// Take an agreement back.
    #[arg(long)]
    pub revoke: bool,
    /// Agree without being asked.
    #[arg(short, long)]
    pub yes: bool,
    /// Repository [default: the one here].
    pub repo: Option<PathBuf>,
}

/// `ollama-sim`
#[derive(Debug, Clone, Args)]
pub struct OllamaSim {
    /// Address and port; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: std::net::SocketAddr,
    /// Models, pace and faults as TOML, or the name of a built-in scenario.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
}

/// `config …`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Show every value and where it came from.
    Show(ConfigShow),
    /// Look for mistakes in all layers.
    Check(Json),
    /// Print the path of your configuration file.
    Path,
    /// Print a file with every key and its default.
    Example,
}

/// `config show`
#[derive(Debug, Args)]
pub struct ConfigShow {
    /// Only keys that start with this.
    pub key: Option<String>,
    /// Only values that are not the default.
    #[arg(long)]
    pub changed: bool,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `man`
#[derive(Debug, Args)]
pub struct Man {
    /// Write the pages of all commands into this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "markdown")]
    pub dir: Option<PathBuf>,
    /// Print the reference of all commands as Markdown.
    #[arg(long)]
    pub markdown: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::describe().debug_assert();
    }
}
