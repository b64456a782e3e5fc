//! A request's place: in the queue first, in a slot later. Dropping it gives it back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::place::{Placed, Request};
use super::state::{Conductor, State};
use crate::core::dispatch::{Ask, Focus, Prompt, RequestId, Runner, ServiceTiming};
use crate::core::failure::Failure;
use crate::core::runners::RunnerState;
use crate::core::served::{Served, Swap};
use crate::gateway::lines::End;
use crate::gateway::record::Record;

/// A slot is free for the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Released {
    /// Counts the loads of its runner.
    pub(in crate::gateway) epoch: u64,
    /// The swap that was made for it.
    pub(in crate::gateway) swap: Option<Swap>,
}

/// The place of one request on one GPU.
#[derive(Debug)]
pub(in crate::gateway) struct Ticket {
    conductor: Arc<Conductor>,
    id: RequestId,
    runner: Runner,
    prefixes: Vec<(u64, u64)>,
    chars: u64,
    epoch: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Waiting(oneshot::Receiver<Result<Released, Failure>>),
    Running,
    Over,
}

impl Conductor {
    /// Takes a place for the request where it was placed.
    pub(in crate::gateway) fn enter(
        self: &Arc<Self>,
        request: &Request,
        placed: &Placed,
    ) -> Ticket {
        let (release, released) = oneshot::channel();
        let id = self.change(|state, now| {
            let id = RequestId(state.next);
            state.next += 1;
            state.waiting.insert(id, release);
            state.active = now;
            let ask = Ask {
                id,
                client: request.client.clone(),
                runner: placed.runner.clone(),
                priority: request.priority,
                focus: Focus::Background,
                work: placed.work,
                need: placed.need,
            };
            let Runner {
                endpoint, model, ..
            } = placed.runner.clone();
            state.warmth.asked((endpoint, model), now);
            if let Some(gpu) = state.gpu(&placed.runner.endpoint) {
                gpu.submit(ask, now);
            }
            id
        });
        Ticket {
            conductor: Arc::clone(self),
            id,
            runner: placed.runner.clone(),
            prefixes: request.prefixes.clone(),
            chars: request.chars,
            epoch: 0,
            stage: Stage::Waiting(released),
        }
    }
}

impl Ticket {
    /// Waits for a slot; says on the way what it waits for.
    pub(in crate::gateway) async fn released(
        &mut self,
        record: &Record,
    ) -> Result<Released, Failure> {
        let Stage::Waiting(released) = &mut self.stage else {
            return Err(Failure::gone());
        };
        let mut changes = self.conductor.changes();
        let result = loop {
            tokio::select! {
                biased;
                result = &mut *released => break result,
                changed = changes.changed() => {
                    let (id, runner) = (self.id, &self.runner);
                    let waits = self.conductor.look(|state, now| waits_for(state, id, runner, now));
                    match waits {
                        Waits::Load => record.loading(),
                        Waits::Slot(ahead) => record.queued(ahead),
                    }
                    if changed.is_err() {
                        break Ok(Err(Failure::gone()));
                    }
                }
            }
        };
        match result {
            Ok(Ok(released)) => {
                record.count_among(&self.conductor.pieces);
                self.stage = Stage::Running;
                self.epoch = released.epoch;
                Ok(released)
            }
            Ok(Err(failure)) => {
                self.stage = Stage::Over;
                Err(failure)
            }
            Err(_conductor_gone) => Err(Failure::gone()),
        }
    }

    /// The endpoint has begun to answer: it is alive.
    pub(in crate::gateway) fn answering(&self) {
        let runner = &self.runner;
        self.conductor.change(|state, now| {
            state
                .breakers
                .succeeded(&runner.endpoint, &runner.model, now);
        });
    }

    /// The answer is whole: everything that can be learned from it is learned.
    pub(in crate::gateway) fn finished(mut self, record: &mut Record, end: &End) {
        let timing = timing_of(&record.served);
        let estimated = record.served.estimated_tokens;
        let prompt_tokens = end.timings.prompt_eval_count;
        let cut = crate::core::context::was_cut(estimated, prompt_tokens, self.runner.context);
        record.served.cut = cut;
        let (runner, id, chars) = (self.runner.clone(), self.id, self.chars);
        let (prefixes, epoch) = (std::mem::take(&mut self.prefixes), self.epoch);
        let gaps = std::mem::take(&mut record.gaps);
        let served = &mut record.served;
        self.conductor.change(|state, now| {
            let prompt = Prompt {
                tokens: served.prompt_tokens,
                hit: state.conversations.hit(&runner, epoch, &prefixes),
            };
            served.cached_tokens = state.rates.cached_tokens(&runner, prompt, &timing);
            state.rates.observe(&runner, prompt, &timing, now);
            state.conversations.remember(&runner, epoch, &prefixes);
            state.learned.observe(&runner, served, chars);
            for gap in gaps {
                state.learned.stalls.observe(gap);
            }
            state.heard(&runner);
            state.is_unsaved = true;
            state.served += 1;
            state.output_tokens += served.output_tokens;
            state.active = now;
            if let Some(gpu) = state.gpu(&runner.endpoint) {
                gpu.finished(id, Some(timing), now);
            }
        });
        if cut {
            record.trouble(&format!(
                "the endpoint cut the prompt: it read {prompt_tokens} of about {estimated} tokens"
            ));
        }
        self.stage = Stage::Over;
    }

    /// It failed there.
    pub(in crate::gateway) fn failed(mut self, failure: &Failure) {
        let (runner, id) = (self.runner.clone(), self.id);
        let is_running = matches!(self.stage, Stage::Running);
        self.conductor.change(|state, now| {
            state.failed(&runner, failure, now);
            state.waiting.remove(&id);
            if let Some(gpu) = state.gpu(&runner.endpoint) {
                if is_running {
                    gpu.finished(id, None, now);
                } else {
                    gpu.withdraw(id, now);
                }
                if failure.is_runner_gone() {
                    gpu.runner_died(&runner, now);
                }
            }
        });
        self.stage = Stage::Over;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (runner, id) = (self.runner.clone(), self.id);
        match &self.stage {
            Stage::Over => {}
            // A release that came in this moment is still a slot to give back.
            Stage::Waiting(_) => self.conductor.change(|state, now| {
                let waited = state.waiting.remove(&id).is_some();
                if let Some(gpu) = state.gpu(&runner.endpoint) {
                    if waited {
                        gpu.withdraw(id, now);
                    } else {
                        gpu.finished(id, None, now);
                    }
                }
            }),
            Stage::Running => self.conductor.change(|state, now| {
                if let Some(gpu) = state.gpu(&runner.endpoint) {
                    gpu.finished(id, None, now);
                }
            }),
        }
    }
}

enum Waits {
    Load,
    Slot(u32),
}

fn waits_for(state: &State, id: RequestId, runner: &Runner, now: Duration) -> Waits {
    let Some(gpu) = state.gpu_of(runner) else {
        return Waits::Slot(0);
    };
    let loads = gpu
        .load(now)
        .endpoints
        .get(&runner.endpoint)
        .and_then(|endpoint| endpoint.models.get(&runner.model))
        .is_some_and(|model| model.state == RunnerState::Loading);
    if loads {
        return Waits::Load;
    }
    let ahead = gpu.position(id).unwrap_or(0);
    Waits::Slot(u32::try_from(ahead).unwrap_or(u32::MAX))
}

fn timing_of(served: &Served) -> ServiceTiming {
    ServiceTiming {
        load: Duration::from_micros(served.runner_load_us),
        slot_wait: Duration::from_micros(served.slot_wait_us),
        prefill: Duration::from_micros(served.prefill_us),
        decode: Duration::from_micros(served.decode_us),
        output_tokens: served.output_tokens,
    }
}
