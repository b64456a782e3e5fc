//! What is learned of models and endpoints, and kept over restarts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::report::resident_context;
use super::state::Conductor;
use crate::core::context::{CharsPerToken, ContextPlan, need_of};
use crate::core::dispatch::{Rates, Runner};
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::runners::EndpointLoad;
use crate::core::served::Served;
use crate::core::stall::Stalls;
use crate::core::vram::VramTable;

/// Tokens of an answer before one was seen: an edit of a few dozen lines.
const OUTPUT_PRIOR: f64 = 300.0;
/// Weight of the newest answer in the expected length.
const OUTPUT_WEIGHT: f64 = 0.1;
/// Models remembered.
const MODELS_MAX: usize = 200;

/// Everything that is learned.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Learned {
    /// By model.
    pub(super) models: BTreeMap<ModelName, OfModel>,
    /// GPU memory.
    pub(super) vram: VramTable,
    /// Speeds.
    pub(super) rates: Rates,
    /// Silences.
    #[serde(skip)]
    pub(super) stalls: Stalls,
}

/// What is learned of one model, wherever it runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OfModel {
    /// Characters of a token.
    pub(super) chars: CharsPerToken,
    /// What its requests needed.
    pub(super) context: ContextPlan,
    /// Tokens of an answer.
    pub(super) output: Option<f64>,
}

impl Learned {
    /// Reads what was kept; what cannot be read is learned again.
    pub(super) fn load(path: &Path) -> Self {
        let Ok(text) = std::fs::read(path) else {
            return Self::default();
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was learned of the models cannot be read");
            Self::default()
        })
    }

    /// Writes it in one step.
    fn save(&self, path: &Path) -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        file.persist(path).map_err(|failed| failed.error)?;
        Ok(())
    }

    /// Tokens of a prompt of so many characters.
    pub(super) fn estimate(&self, model: &ModelName, chars: u64) -> u64 {
        match self.models.get(model) {
            Some(known) => known.chars.estimate(chars),
            None => CharsPerToken::default().estimate(chars),
        }
    }

    /// Tokens that an answer is expected to have.
    pub(super) fn output(&self, model: &ModelName) -> u64 {
        let known = self.models.get(model).and_then(|known| known.output);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean of counts of tokens"
        )]
        let tokens = known.unwrap_or(OUTPUT_PRIOR).max(1.0) as u64;
        tokens
    }

    /// The context that a model is started with.
    pub(super) fn context(
        &self,
        model: &ModelName,
        configured: Option<u32>,
        trained: Option<u32>,
        fits: impl Fn(u32) -> Option<bool>,
    ) -> u32 {
        match self.models.get(model) {
            Some(known) => known.context.choose(configured, trained, fits),
            None => ContextPlan::default().choose(configured, trained, fits),
        }
    }

    /// A model was loaded.
    pub(super) fn loaded(&mut self, runner: &Runner) {
        self.of(&runner.model)
            .context
            .loaded_with(Some(runner.context));
    }

    /// What is in memory, or on its way there. A model that has left may come back with a smaller
    /// context.
    pub(super) fn resident(&mut self, loads: &BTreeMap<EndpointName, EndpointLoad>) {
        for (name, of) in &mut self.models {
            let mut everywhere = loads.values().filter_map(|it| it.models.get(name));
            if everywhere.all(|load| resident_context(Some(load)).is_none()) {
                of.context.loaded_with(None);
            }
        }
    }

    /// An answer was whole.
    pub(super) fn observe(&mut self, runner: &Runner, served: &Served, chars: u64) {
        let of = self.of(&runner.model);
        if !served.cut && served.prompt_tokens > 0 {
            of.chars.observe(chars, served.prompt_tokens);
        }
        of.context.observe_need(need_of(served));
        let tokens = served.output_tokens as f64;
        let before = of.output.unwrap_or(OUTPUT_PRIOR);
        of.output = Some(before + (tokens - before) * OUTPUT_WEIGHT);
    }

    /// A prompt of so many characters had so many tokens.
    pub(super) fn counted(&mut self, model: &ModelName, chars: u64, tokens: u64) {
        self.of(model).chars.observe(chars, tokens);
    }

    fn of(&mut self, model: &ModelName) -> &mut OfModel {
        if self.models.len() >= MODELS_MAX && !self.models.contains_key(model) {
            self.models.pop_first();
        }
        self.models.entry(model.clone()).or_default()
    }
}

impl Conductor {
    /// Writes what was learned, if anything was.
    pub(in crate::gateway) async fn remember(&self) {
        let learned = self.begin(|state| {
            let is_unsaved = std::mem::take(&mut state.is_unsaved);
            is_unsaved.then(|| Learned {
                rates: state.rates.clone(),
                ..state.learned.clone()
            })
        });
        let (Some(learned), Some(path)) = (learned, self.settings.learned.clone()) else {
            return;
        };
        let written = tokio::task::spawn_blocking(move || learned.save(&path)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what was learned cannot be kept"),
            Err(error) => tracing::warn!(%error, "what was learned cannot be kept"),
        }
    }
}
