//! What one dashboard shows and where its user is: a small struct for each panel.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::editor::Editor;
use super::keymap::Layer;
use super::message::Want;
use super::theme::Theme;
use super::wire::ClientHello;
use crate::config::templates::Offer;
use crate::core::agent::AgentState;
use crate::core::command::NewTask;
use crate::core::settings::UiSettings;
use crate::core::task::{Autonomy, Mode, Priority, Task, TaskSpec, TaskState};
use crate::core::{AgentSlot, TaskId, Timestamp};
use crate::engine::View;
use crate::engine::view::AgentView;
use crate::pty::{Size, Snapshot};

/// Finished tasks shown at the end of the list.
const FINISHED_SHOWN: usize = 12;

/// One dashboard.
#[derive(Debug, Clone)]
pub struct Model {
    /// The squad.
    pub view: Arc<View>,
    /// The time, at the last message.
    pub now: Timestamp,
    /// Size of the client's terminal.
    pub size: Size,
    /// How the client sees things.
    pub theme: Theme,
    /// Where new tasks come from.
    pub origin: Origin,
    /// What is open above the list, the topmost last.
    pub layers: Vec<Layer>,
    /// The list.
    pub list: ListPanel,
    /// The terminal of the selected agent.
    pub terminal: TerminalPanel,
    /// The lower tabs.
    pub tab: Tab,
    /// First line of the lower tab that is shown.
    pub tab_top: usize,
    /// A new task being written.
    pub composer: Composer,
    /// A line or comment being written.
    pub line: Option<LinePanel>,
    /// The changes of a task.
    pub diff: Option<DiffPanel>,
    /// A question before something that cannot be undone.
    pub confirm: Option<Confirm>,
    /// First line of the help that is shown.
    pub help: usize,
    /// The palette.
    pub palette: Palette,
    /// The last thing to say; gone with the next key.
    pub notice: Option<Notice>,
}

/// Where new tasks come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's working directory.
    pub cwd: PathBuf,
    /// Its chosen environment.
    pub environment: BTreeMap<String, String>,
}

/// One line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// An agent.
    Agent(AgentSlot),
    /// A task that no agent holds.
    Task(TaskId),
}

/// The list: agents, then tasks that no agent holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListPanel {
    /// The selected line; it stays on its agent or task wherever that moves.
    pub cursor: Option<Row>,
    /// Where it was, for when its line is gone.
    pub index: usize,
}

/// The terminal of the selected agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TerminalPanel {
    /// Whose `screen` it is.
    pub slot: Option<AgentSlot>,
    /// What it shows.
    pub screen: Option<Snapshot>,
    /// What is shown instead while looking back.
    pub past: Option<Snapshot>,
    /// It has the whole window.
    pub is_zoomed: bool,
    /// When Ctrl-c was last typed into it.
    pub interrupted: Option<Timestamp>,
}

/// The lower tabs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tab {
    /// What waits for an agent.
    #[default]
    Queue,
    /// Endpoints and their models.
    Models,
    /// What happened last.
    Events,
}

impl Tab {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Queue, Self::Models, Self::Events];

    /// The tab `steps` to the right, around the end.
    #[must_use]
    pub fn stepped(self, steps: usize) -> Self {
        let index = Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Self::ALL
            .get((index + steps) % Self::ALL.len())
            .copied()
            .unwrap_or_default()
    }

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Models => "models",
            Self::Events => "events",
        }
    }
}

/// A new task being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Composer {
    /// The prompt.
    pub editor: Editor,
    /// The options; the last ones are kept for the next task.
    pub options: TaskOptions,
    /// The selected option.
    pub field: Field,
    /// The best templates for the client's repository, the best first.
    pub offers: Vec<Offer>,
}

/// Options of a new task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// The template, by its name; `None` leaves the words of the task alone.
    pub template: Option<String>,
    /// How Aider works; `None` leaves it to the template.
    pub mode: Option<Mode>,
    /// How urgent it is.
    pub priority: Priority,
    /// A model by name; `None` lets the squad choose.
    pub model: Option<String>,
    /// The verify command; empty for the configured one.
    pub verify: Editor,
    /// How far it goes by itself.
    pub autonomy: Autonomy,
}

/// An option of a new task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Field {
    /// What frames the prompt.
    #[default]
    Template,
    /// How Aider works.
    Mode,
    /// How urgent it is.
    Priority,
    /// Which model.
    Model,
    /// How it is checked.
    Verify,
    /// How far it goes by itself.
    Autonomy,
}

impl Field {
    /// All, in order.
    pub const ALL: [Self; 6] = [
        Self::Template,
        Self::Mode,
        Self::Priority,
        Self::Model,
        Self::Verify,
        Self::Autonomy,
    ];
}

/// A line or comment being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinePanel {
    /// What for.
    pub purpose: LinePurpose,
    /// The heading.
    pub title: String,
    /// What it answers.
    pub question: String,
    /// The text.
    pub editor: Editor,
}

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinePurpose {
    /// The answer to an agent's question.
    Answer(AgentSlot),
    /// A line for an agent.
    Send(AgentSlot),
    /// A comment on a task sent back.
    Revise(TaskId),
}

/// The changes of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffPanel {
    /// Which task.
    pub task: TaskId,
    /// What is shown.
    pub content: DiffContent,
    /// First line shown.
    pub top: usize,
}

/// What a diff panel shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffContent {
    /// Asked for.
    Loading,
    /// The lines, safe to show.
    Lines(Vec<String>),
    /// It could not be had.
    Failed(String),
}

/// A question before something that cannot be undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirm {
    /// The question.
    pub question: String,
    /// What is wanted when the answer is yes.
    pub want: Want,
}

/// The palette.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Palette {
    /// What is searched.
    pub editor: Editor,
    /// The selected line of those found.
    pub index: usize,
}

/// Something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The text, on one line.
    pub text: String,
    /// How serious it is.
    pub tone: Tone,
}

/// How serious a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It was done.
    Done,
    /// It cannot be done now.
    Refused,
}

impl Model {
    /// A dashboard for a client.
    pub fn new(
        hello: &ClientHello,
        settings: &UiSettings,
        view: Arc<View>,
        now: Timestamp,
    ) -> Self {
        let mut model = Self {
            view,
            now,
            size: hello.size.clamped(),
            theme: Theme::new(hello, settings),
            origin: Origin {
                cwd: hello.cwd.clone(),
                environment: hello.env.clone(),
            },
            layers: Vec::new(),
            list: ListPanel::default(),
            terminal: TerminalPanel::default(),
            tab: Tab::default(),
            tab_top: 0,
            composer: Composer::default(),
            line: None,
            diff: None,
            confirm: None,
            help: 0,
            palette: Palette::default(),
            notice: None,
        };
        model.follow();
        model
    }

    /// What has the keyboard.
    pub fn layer(&self) -> Layer {
        self.layers.last().copied().unwrap_or(Layer::Overview)
    }

    /// Whether `layer` is open.
    pub fn is_open(&self, layer: Layer) -> bool {
        self.layers.contains(&layer)
    }

    /// Opens a layer above the others, once.
    pub fn open(&mut self, layer: Layer) {
        self.close(layer);
        self.layers.push(layer);
    }

    /// Closes a layer.
    pub fn close(&mut self, layer: Layer) {
        self.layers.retain(|open| *open != layer);
    }

    /// The lines of the list.
    pub fn rows(&self) -> Vec<Row> {
        let agents = self.view.agents.iter().map(|agent| Row::Agent(agent.slot));
        let mut tasks: Vec<&Arc<Task>> = self
            .view
            .tasks
            .iter()
            .filter(|task| !task.state.is_final() && task.slot().is_none())
            .collect();
        tasks.sort_by_key(|task| (need(task), task.spec.priority, task.id));
        let mut finished: Vec<&Arc<Task>> = self
            .view
            .tasks
            .iter()
            .filter(|task| task.state.is_final())
            .collect();
        finished
            .sort_by_key(|task| std::cmp::Reverse((task.state == TaskState::Dead, task.updated)));
        finished.truncate(FINISHED_SHOWN);
        agents
            .chain(
                tasks
                    .into_iter()
                    .chain(finished)
                    .map(|task| Row::Task(task.id)),
            )
            .collect()
    }

    /// Keeps the cursor on its agent or task, whatever became of it.
    pub fn follow(&mut self) {
        let rows = self.rows();
        let found = self.list.cursor.and_then(|cursor| {
            rows.iter()
                .position(|row| *row == cursor)
                .or_else(|| self.holder_row(cursor, &rows))
        });
        let last = rows.len().saturating_sub(1);
        self.list.index = found.unwrap_or(self.list.index).min(last);
        self.list.cursor = rows.get(self.list.index).copied();
    }

    /// The line of the agent that got the task under the cursor.
    fn holder_row(&self, cursor: Row, rows: &[Row]) -> Option<usize> {
        let Row::Task(id) = cursor else { return None };
        let slot = self.view.task(id)?.slot()?;
        rows.iter().position(|row| *row == Row::Agent(slot))
    }

    /// The selected agent.
    pub fn agent(&self) -> Option<&AgentView> {
        match self.list.cursor? {
            Row::Agent(slot) => self.view.agents.iter().find(|agent| agent.slot == slot),
            Row::Task(_) => None,
        }
    }

    /// The selected task: the one of the line, or the one that its agent holds.
    pub fn task(&self) -> Option<&Arc<Task>> {
        match self.list.cursor? {
            Row::Agent(_) => self.view.task(self.agent()?.task?),
            Row::Task(id) => self.view.task(id),
        }
    }

    /// The task in review that an agent worked on last.
    pub fn last_in_review(&self, slot: AgentSlot) -> Option<&Arc<Task>> {
        let ended = |task: &&Arc<Task>| {
            task.state == TaskState::Review && task.attempt().is_some_and(|last| last.slot == slot)
        };
        let tasks = self.view.tasks.iter().filter(ended);
        tasks.max_by_key(|task| task.updated)
    }

    /// Whether a line needs a human.
    pub fn needs_human(&self, row: Row) -> bool {
        match row {
            Row::Agent(slot) => self
                .view
                .agents
                .iter()
                .any(|agent| agent.slot == slot && agent.report.state == AgentState::Waiting),
            Row::Task(id) => self
                .view
                .task(id)
                .is_some_and(|task| task.state == TaskState::Review),
        }
    }

    /// How many lines need a human.
    pub fn waiting_count(&self) -> usize {
        self.rows()
            .into_iter()
            .filter(|row| self.needs_human(*row))
            .count()
    }

    /// The names of models that can be chosen, without repetition.
    pub fn model_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .view
            .catalogue
            .endpoints
            .values()
            .flat_map(|endpoint| endpoint.models.values())
            .filter(|model| model.can_chat())
            .map(|model| model.name.as_str().to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Says something.
    pub fn say(&mut self, tone: Tone, text: impl AsRef<str>) {
        self.notice = Some(Notice {
            text: super::text::plain(text.as_ref()),
            tone,
        });
    }

    /// Whether anything shown changes by the passing of time alone.
    pub fn is_ticking(&self) -> bool {
        self.view.agents.iter().any(|agent| agent.since.is_some())
    }
}

impl Composer {
    /// The task as written, in the frame of its template.
    pub fn new_task(&self, origin: &Origin) -> NewTask {
        let offer = self.offer();
        let verify = Some(self.options.verify.text().trim().to_owned());
        let mut spec = TaskSpec {
            repo: origin.cwd.clone(),
            prompt: self.editor.text(),
            mode: self.mode(),
            category: offer.map(|it| it.template.category).unwrap_or_default(),
            priority: self.options.priority,
            read: offer.map(|it| it.read.clone()).unwrap_or_default(),
            model: self.options.model.clone(),
            verify: verify
                .filter(|verify| !verify.is_empty())
                .or_else(|| offer?.verify.clone()),
            autonomy: self.options.autonomy,
            environment: origin.environment.clone(),
            ..TaskSpec::default()
        };
        if let Some(offer) = offer {
            offer.frame(&mut spec);
        }
        NewTask {
            spec,
            after_index: Vec::new(),
        }
    }

    /// The chosen template.
    pub fn offer(&self) -> Option<&Offer> {
        let name = self.options.template.as_ref()?;
        self.offers.iter().find(|it| it.template.name == *name)
    }

    /// How Aider is to work: as chosen, else as the template says.
    pub fn mode(&self) -> Mode {
        let template = self.offer().map(|it| it.template.mode);
        self.options.mode.or(template).unwrap_or_default()
    }

    /// Takes the templates that can be chosen from now on.
    pub fn take(&mut self, offers: Vec<Offer>) {
        self.offers = offers;
        if self.offer().is_none() {
            self.options.template = None;
        }
    }

    /// Chooses a template of the list, counted from 1; 0 is none. Its mode counts again.
    pub fn choose(&mut self, number: usize) {
        let index = number.checked_sub(1);
        let offer = index.and_then(|index| self.offers.get(index));
        if offer.is_some() || number == 0 {
            self.options.template = offer.map(|it| it.template.name.clone());
            self.options.mode = None;
        }
    }

    /// The number of the chosen template in the list; 0 when there is none.
    pub fn chosen(&self) -> usize {
        let name = self.options.template.as_deref();
        let mut offers = self.offers.iter();
        offers
            .position(|it| Some(it.template.name.as_str()) == name)
            .map_or(0, |index| index + 1)
    }
}

/// What needs a human first, then what is nearest to it.
fn need(task: &Task) -> u8 {
    match task.state {
        TaskState::Review => 0,
        TaskState::Merging | TaskState::Verifying => 1,
        TaskState::Assigned | TaskState::Running => 2,
        TaskState::Failed | TaskState::Queued => 3,
        TaskState::Blocked => 4,
        TaskState::Merged
        | TaskState::Discarded
        | TaskState::Dead
        | TaskState::Cancelled
        | TaskState::Expired => 5,
    }
}
