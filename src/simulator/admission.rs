//! From a request to its first token: faults, load, slot, prompt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::coder;
use super::generation::{Begin, Generation, RUNNER_DIED};
use super::prompt::Prompt;
use super::request::{Ask, KeepAlive, Refusal};
use super::scenario::{FaultKind, FaultSpec, ModelSpec};
use super::scheduler::{Busy, Grant, Slot, Wanted, Work};
use super::simulated::{Aborts, Simulator};

/// Either an answer in the making, or a short reply that needs none.
pub(super) enum Outcome {
    Answer(Box<Generation>),
    Loaded(&'static str),
}

/// Everything up to the first token.
pub(super) async fn begin(
    simulator: &Simulator,
    aborts: &Aborts,
    path: &str,
    ask: &Ask,
) -> Result<Outcome, Refusal> {
    let arrived = Instant::now();
    let fault = simulator.faults.of(path, ask);
    if let Some(refusal) = immediate(simulator, aborts, fault.as_ref()).await {
        return Err(refusal);
    }
    let installed = simulator
        .installed(&ask.model)
        .ok_or_else(|| Refusal::model_not_found(&ask.model))?;
    let model = Arc::clone(&installed.spec);
    ask.check_capabilities(&model)?;
    let options = ask.runner_options(&model, &simulator.server)?;
    let is_bare = ask.messages.is_empty();
    if is_bare && ask.keep_alive == Some(KeepAlive::For(Duration::ZERO)) {
        simulator.scheduler.unload(&installed.blob);
        return Ok(Outcome::Loaded("unload"));
    }
    let mut num_ctx = options.num_ctx;
    let mut grant = None;
    if model.remote_host.is_none() {
        let wanted = Wanted {
            model: Arc::clone(&model),
            blob: installed.blob,
            name: installed.name,
            digest: installed.digest,
            options,
            keep_alive: ask.keep_alive,
            load_faults: simulator.faults.loads(path, ask),
        };
        let granted = simulator.scheduler.acquire(wanted).await?;
        num_ctx = granted.context();
        grant = Some(granted);
    }
    let granted = Instant::now();
    if is_bare {
        return Ok(Outcome::Loaded("load"));
    }
    let admitted = Admitted {
        grant,
        num_ctx,
        arrived,
        granted,
        fault,
    };
    let generation = start(simulator, ask, &model, admitted).await?;
    Ok(Outcome::Answer(Box::new(generation)))
}

/// Faults that need no model.
async fn immediate(
    simulator: &Simulator,
    aborts: &Aborts,
    fault: Option<&FaultSpec>,
) -> Option<Refusal> {
    let fault = fault?;
    match fault.kind {
        FaultKind::Status => {
            if let Some(duration) = fault.duration {
                simulator.clock.sleep(duration).await;
            }
            let message = fault.message.clone();
            let message = message.unwrap_or_else(|| "something went wrong".into());
            Some(Refusal {
                retry_after: fault.retry_after,
                signin_url: fault.signin_url.clone(),
                ..Refusal::new(fault.status, message)
            })
        }
        FaultKind::Busy => Some(Refusal::busy()),
        FaultKind::Refuse => {
            aborts.abort();
            std::future::pending().await
        }
        FaultKind::Down if fault.after == 0 => {
            simulator.outage.begin(fault.duration);
            std::future::pending().await
        }
        FaultKind::Down
        | FaultKind::QueueError
        | FaultKind::Truncated
        | FaultKind::Exceeded
        | FaultKind::Stall
        | FaultKind::Cut
        | FaultKind::ErrorLine
        | FaultKind::RunnerKilled
        | FaultKind::RunnerOom
        | FaultKind::MalformedLine
        | FaultKind::NoDone
        | FaultKind::Repeat
        | FaultKind::Empty
        | FaultKind::ThinkingOnly
        | FaultKind::SlowLoad
        | FaultKind::StuckLoad
        | FaultKind::LoadError
        | FaultKind::LoadOom
        | FaultKind::CpuOnly
        | FaultKind::SlowUnload
        | FaultKind::StuckUnload
        | FaultKind::PsLag
        | FaultKind::Removed
        | FaultKind::Repointed => None,
    }
}

/// A request whose model is loaded, or is not here at all.
struct Admitted {
    grant: Option<Grant>,
    num_ctx: u64,
    arrived: Instant,
    granted: Instant,
    fault: Option<FaultSpec>,
}

/// Slot, prompt and prefill.
async fn start(
    simulator: &Simulator,
    ask: &Ask,
    model: &ModelSpec,
    admitted: Admitted,
) -> Result<Generation, Refusal> {
    let kind = admitted.fault.as_ref().map(|fault| fault.kind);
    let prompt = Prompt::fit(ask, model, admitted.num_ctx, kind)?;
    let held = match admitted.grant {
        Some(grant) => {
            let slot = slot(simulator, &grant, &prompt.text, admitted.fault.as_ref()).await?;
            Some((grant, slot))
        }
        None => None,
    };
    ask.check_format()?;
    let began = Instant::now();
    let cached = held.as_ref().map_or(0, |(_, slot)| slot.cached_chars);
    let uncached = (prompt.tokens as f64 - cached as f64 / model.chars_per_token).max(1.0);
    let held = if let Some(held) = held {
        let death = held.0.death();
        tokio::select! {
            held = prefill(simulator, held, uncached, model) => Some(held),
            () = death => return Err(Refusal::new(500, RUNNER_DIED)),
        }
    } else {
        let time = Duration::from_secs_f64(uncached / model.prefill);
        simulator.clock.sleep(time).await;
        None
    };
    let begin = Begin {
        arrived: admitted.arrived,
        granted: admitted.granted,
        prompt_tokens: prompt.tokens,
        prefill: began.elapsed(),
        num_ctx: admitted.num_ctx,
        reply: coder::answer(&prompt.messages, &ask.model, &simulator.scripts),
        pace: simulator.pace(),
        outage: simulator.outage.clone(),
    };
    Ok(Generation::new(held, ask, model, begin, admitted.fault))
}

/// Waits for a slot.
async fn slot(
    simulator: &Simulator,
    grant: &Grant,
    prompt: &str,
    fault: Option<&FaultSpec>,
) -> Result<Slot, Refusal> {
    let fault = fault.filter(|fault| fault.kind == FaultKind::QueueError);
    let failed = async {
        let Some(fault) = fault else {
            return std::future::pending().await;
        };
        let duration = fault.duration.unwrap_or(Duration::from_secs(1));
        simulator.clock.sleep(duration).await;
        let message = fault.message.clone();
        Refusal::new(500, message.unwrap_or_else(|| NO_SLOTS.into()))
    };
    let slot = async {
        let slot = grant.slot(prompt).await;
        match fault {
            // Its turn never comes.
            Some(_) => std::future::pending().await,
            None => slot.ok_or_else(|| Refusal::new(500, "the model was unloaded")),
        }
    };
    tokio::select! {
        biased;
        refusal = failed => Err(refusal),
        () = grant.death() => Err(Refusal::new(500, RUNNER_GONE)),
        slot = slot => slot,
    }
}

/// What Ollama says to whoever waited for a slot of a runner that has died.
const RUNNER_GONE: &str = "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama server logs for details";

/// What Ollama says when its runner has no slot for too long.
const NO_SLOTS: &str = "no slots available after 10 retries";

/// Reads a prompt batch by batch. A client that leaves meanwhile does not stop the batch.
async fn prefill(
    simulator: &Simulator,
    held: (Grant, Slot),
    tokens: f64,
    model: &ModelSpec,
) -> (Grant, Slot) {
    let engine = Arc::clone(&held.1.engine);
    let _reading = Busy::new(&engine, Work::Prefill);
    let mut reading = Reading {
        held: Some(held),
        batch_ends: Instant::now(),
    };
    let mut left = tokens;
    loop {
        let batch = left.min(engine.batch as f64);
        reading.reads(batch * model.chars_per_token);
        let seconds = batch / model.prefill * engine.prefill_factor();
        reading.batch_ends += simulator.clock.real(Duration::from_secs_f64(seconds));
        tokio::time::sleep_until(reading.batch_ends).await;
        left -= batch;
        if left <= 0.0
            && let Some((grant, mut slot)) = reading.held.take()
        {
            slot.read_all();
            return (grant, slot);
        }
    }
}

/// A prompt that is read.
struct Reading {
    held: Option<(Grant, Slot)>,
    batch_ends: Instant,
}

impl Reading {
    /// A batch cannot be interrupted: what begins to be read is read.
    fn reads(&mut self, chars: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a batch is small and not below 0"
        )]
        let chars = chars as usize;
        if let Some((_, slot)) = &mut self.held {
            slot.read(chars);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some((grant, slot)) = self.held.take() {
            grant.linger(slot, self.batch_ends);
        }
    }
}
