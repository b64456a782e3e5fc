//! Jobs that come from the zygote, from their order to their process.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::cgroup::Room;
use super::job::{Job, Life, Wanted};
use super::platform::Reaped;
use super::protocol::{Event, JobSpec, Refusal, RefusalKind, ZygoteSpec, ZygoteState, ZygoteView};
use super::state::{Due, Keeper};
use super::zygote::{FORK_PATIENCE, START_PATIENCE, Said, Sentence};

/// Adopted children that are remembered while forks wait for their answer.
const STRAYS: usize = 64;

impl Keeper {
    /// From now on a zygote of this kind is kept.
    pub(super) fn keep_zygote(&mut self, spec: ZygoteSpec) -> ZygoteView {
        if !self.is_stopping() && !self.zygote.is_kept(&spec) {
            self.zygote.keep(spec);
            self.start_zygote();
        }
        ZygoteView {
            state: self.zygote.state.clone(),
        }
    }

    /// Starts it, unless one still runs: then the next one follows its end.
    pub(super) fn start_zygote(&mut self) {
        if self.is_stopping() || self.zygote.is_there() {
            return;
        }
        let now = Instant::now();
        match self.zygote.start(&self.owner) {
            Ok(()) => {
                let number = self.zygote.number;
                self.when_due(now + START_PATIENCE, Due::ZygoteReady { number });
            }
            Err(error) => {
                tracing::error!(%error, "cannot start the zygote");
                let pause = self.zygote.failed(error.to_string(), now);
                self.when_due(now + pause, Due::StartZygote);
            }
        }
        self.report_zygote();
    }

    fn report_zygote(&mut self) {
        let zygote = self.zygote.state.clone();
        self.report(&Event::Zygote { zygote });
    }

    /// A job that waits for its process.
    pub(super) fn fork(&mut self, spec: &JobSpec) -> Result<Job, Refusal> {
        let refused = |why: String| Refusal::new(RefusalKind::NoZygote, why);
        if !matches!(self.zygote.state, ZygoteState::Ready { .. }) {
            return Err(refused("there is no zygote that could fork".into()));
        }
        let room = self.room(spec);
        let door = room.as_ref().map(Room::door);
        let (job, terminal): (Job, OwnedFd) = Job::forking(spec.clone(), self.started, room)?;
        let fork = self
            .zygote
            .fork(spec, &self.owner, (terminal, door))
            .map_err(refused)?;
        self.when_due(Instant::now() + FORK_PATIENCE, Due::Forked { fork });
        Ok(job)
    }

    /// Takes what the zygote says.
    pub(super) fn zygote_said(&mut self, Said { number, sentence }: Said) {
        let is_present = number == self.zygote.number;
        match sentence {
            Some(Sentence::Ready { ready }) if is_present => {
                tracing::info!(?ready, "the zygote is ready");
                self.zygote.is_ready(&ready);
                self.report_zygote();
            }
            Some(Sentence::Forked { forked, pid }) => self.forked(forked, pid),
            Some(Sentence::Refused { refused, why }) => {
                if let Some(id) = self.zygote.answered(refused) {
                    self.give_up(&id, &why);
                }
            }
            None if is_present => {
                self.zygote.is_silent();
                self.zygote_may_be_over();
            }
            Some(Sentence::Ready { .. }) | None => {}
        }
        if !self.zygote.has_pending() {
            self.strays.clear();
        }
    }

    fn forked(&mut self, fork: u64, pid: i32) {
        let Some(pid) = Pid::from_raw(pid) else {
            return;
        };
        let id = self.zygote.answered(fork);
        let job = id.and_then(|id| self.jobs.get_mut(&id));
        let Some(job) = job.filter(|job| matches!(job.life, Life::Forking(_))) else {
            // It was given up, and nobody knows this process.
            kill(pid);
            return;
        };
        let is_wanted = matches!(job.life, Life::Forking(Wanted::Yes));
        job.pid = Some(pid);
        job.life = Life::Running;
        let id = job.view().id;
        let number = pid.as_raw_nonzero().get();
        let stray = self.strays.iter().position(|stray| stray.pid == pid);
        if let Some(stray) = stray.and_then(|at| self.strays.remove(at)) {
            return self.ended_before(&id, &stray);
        }
        if !is_wanted {
            kill(pid);
        }
        self.report(&Event::JobStarted {
            job: id,
            pid: number,
        });
    }

    /// It was killed before its process id was known.
    fn ended_before(&mut self, id: &str, stray: &Reaped) {
        if let Some(job) = self.jobs.get(id) {
            let exit = job.exit(stray);
            self.end_job(id, &exit);
        }
    }

    /// A child that nobody knows has ended; it may be a fork whose answer is on its way.
    pub(super) fn keep_stray(&mut self, reaped: Reaped) {
        if !self.zygote.has_pending() {
            return;
        }
        if self.strays.len() >= STRAYS {
            self.strays.pop_front();
        }
        self.strays.push_back(reaped);
    }

    fn give_up(&mut self, id: &str, why: &str) {
        let job = self.jobs.get(id);
        let job = job.filter(|job| matches!(job.life, Life::Forking(_)));
        if let Some(exit) = job.map(|job| job.never_ran(why)) {
            tracing::warn!(job = id, why, "a fork is given up");
            self.end_job(id, &exit);
        }
    }

    /// Starts the next one once nothing more can come of this one.
    pub(super) fn zygote_may_be_over(&mut self) {
        if !self.zygote.is_over() {
            return;
        }
        let now = Instant::now();
        let (given_up, pause, why) = self.zygote.ended(now);
        tracing::warn!(why, ?pause, "the zygote has ended");
        for id in given_up {
            self.give_up(&id, &format!("the zygote ended: {why}"));
        }
        self.when_due(now + pause, Due::StartZygote);
        self.report_zygote();
    }

    /// It has had its time to import.
    pub(super) fn expect_ready(&mut self, number: u64) {
        let is_starting = matches!(self.zygote.state, ZygoteState::Starting);
        if self.zygote.number == number && is_starting {
            self.zygote.end("it did not get ready in time");
        }
    }

    /// It has had its time to fork.
    pub(super) fn expect_forked(&mut self, fork: u64) {
        if self.zygote.is_pending(fork) {
            self.zygote.end("it did not answer in time");
        }
    }
}

fn kill(pid: Pid) {
    if let Err(error) = kill_process(pid, Signal::KILL) {
        tracing::debug!(%error, "an unwanted fork has ended by itself");
    }
}
