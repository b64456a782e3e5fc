//! One method of the keeper for each request of the protocol.

use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::connection::Answer;
use super::job::{Job, Life, Wanted, native_signal, system_failed};
use super::process::ExitReason;
use super::protocol::{
    Attached, Gateway, JobList, JobSignal, JobSpec, Origin, Refusal, RefusalKind, Request, Spawned,
    SquadLimits, VERSION, Welcome,
};
use super::state::{Due, Keeper, duplicate, read_again};
use crate::core::Epoch;
use crate::pty::Size;

/// Longest grace that is accepted; longer ones are cut.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3600);

impl Keeper {
    /// Does what `connection` asks.
    pub(super) async fn answer(&mut self, connection: u64, request: Request) -> Answer {
        if let Request::Hello { epoch } = request {
            return self.hello(connection, epoch);
        }
        self.check_epoch(connection)?;
        match request {
            Request::Hello { .. } => nothing(),
            Request::Spawn(spec) => self.spawn(*spec),
            Request::Jobs {} => self.list(),
            Request::Attach { id } => self.attach(connection, &id).await,
            Request::Detach { id } => self.detach(connection, &id),
            Request::Write { id, bytes } => done(self.job(&id)?.write(bytes)),
            Request::Deliver { id, key, bytes } => ok(&self.job(&id)?.deliver(key, bytes)?),
            Request::Resize { id, cols, rows } => self.resize(&id, Size::new(cols, rows)),
            Request::Signal { id, signal } => self.signal(&id, signal),
            Request::Stop {
                id,
                signal,
                grace_ms,
            } => {
                self.job(&id)?;
                let grace = Duration::from_millis(grace_ms).min(LONGEST_GRACE);
                self.stop_job(&id, native_signal(signal), grace);
                nothing()
            }
            Request::Forget { id } => self.forget(&id),
            Request::SetMeta { id, meta } => {
                self.job(&id)?.meta = meta;
                nothing()
            }
            Request::Gateway {} => {
                self.trial_has_gateway();
                self.hand_out_gateway()
            }
            Request::Zygote(spec) => ok(&self.keep_zygote(*spec)),
            Request::Upgrade { program } => done(self.begin_upgrade(&program)),
            Request::Ready {} => {
                self.server_is_ready();
                nothing()
            }
            Request::Upgraded {} => ok(&self.upgrade_report()),
            Request::Limit(limits) => self.limit(limits),
            Request::Shutdown {} => {
                self.shut_down(ExitReason::Requested);
                nothing()
            }
        }
    }

    /// A newer server ends the connections of all older ones: their reading, too.
    fn hello(&mut self, connection: u64, epoch: Epoch) -> Answer {
        if epoch < self.newest {
            return Err(self.stale(epoch));
        }
        let fenced: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, other)| other.epoch.is_some_and(|other| other < epoch))
            .map(|(number, _)| *number)
            .filter(|number| *number != connection)
            .collect();
        for number in fenced {
            tracing::info!(connection = number, %epoch, "a newer server is here");
            self.connection_ended(number);
        }
        self.newest = epoch;
        self.server.is_greeted = true;
        if let Some(entry) = self.connections.get_mut(&connection) {
            entry.epoch = Some(epoch);
        }
        ok(&Welcome {
            v: VERSION,
            pid: self.owner.pid.as_raw_nonzero().get(),
            nonce: self.owner.nonce.clone(),
            gateway: self.gateway_address,
            controllers: self
                .cgroups
                .as_ref()
                .map(|groups| groups.controllers().to_vec())
                .unwrap_or_default(),
        })
    }

    fn check_epoch(&self, connection: u64) -> Result<(), Refusal> {
        match self
            .connections
            .get(&connection)
            .and_then(|entry| entry.epoch)
        {
            Some(epoch) if epoch >= self.newest => Ok(()),
            Some(epoch) => Err(self.stale(epoch)),
            None => Err(Refusal::new(
                RefusalKind::NoHello,
                "hello has to come first",
            )),
        }
    }

    fn stale(&self, epoch: Epoch) -> Refusal {
        let message = format!("a server of epoch {} is here, this is {epoch}", self.newest);
        Refusal::new(RefusalKind::StaleEpoch, message)
    }

    fn job(&mut self, id: &str) -> Result<&mut Job, Refusal> {
        self.jobs
            .get_mut(id)
            .ok_or_else(|| Refusal::new(RefusalKind::UnknownJob, format!("there is no job {id}")))
    }

    fn spawn(&mut self, spec: JobSpec) -> Answer {
        if let Some(job) = self.jobs.get(&spec.id) {
            return ok(&Spawned {
                fresh: false,
                job: job.view(),
            });
        }
        if self.is_stopping() {
            return Err(Refusal::new(
                RefusalKind::ShuttingDown,
                "the keeper is about to end",
            ));
        }
        let (id, time_limit) = (spec.id.clone(), spec.time_limit);
        self.started += 1;
        let job = match spec.origin {
            Origin::Program => {
                let room = self.room(&spec);
                Job::start(spec, &self.owner, self.started, room)?
            }
            Origin::Zygote => self.fork(&spec)?,
        };
        let (number, view) = (job.number, job.view());
        let due = time_limit.and_then(|limit| Instant::now().checked_add(limit));
        if let Some(at) = due {
            let job = id.clone();
            self.when_due(at, Due::TimeLimit { job, number });
        }
        self.jobs.insert(id, job);
        ok(&Spawned {
            fresh: true,
            job: view,
        })
    }

    fn limit(&self, limits: SquadLimits) -> Answer {
        match self.cgroups.as_ref().map(|groups| groups.limit(limits)) {
            Some(Err(error)) => Err(system_failed(&error)),
            Some(Ok(())) | None => nothing(),
        }
    }

    fn signal(&mut self, id: &str, signal: JobSignal) -> Answer {
        let is_final = matches!(
            signal,
            JobSignal::Hup | JobSignal::Int | JobSignal::Term | JobSignal::Kill
        );
        let job = self.job(id)?;
        match &mut job.life {
            Life::Forking(wanted) if is_final => {
                *wanted = Wanted::NoMore;
                nothing()
            }
            Life::Forking(_) => nothing(),
            Life::Running | Life::Ending(_) | Life::Ended(_) => {
                done(job.signal(native_signal(signal)))
            }
        }
    }

    fn list(&self) -> Answer {
        let mut jobs: Vec<&Job> = self.jobs.values().collect();
        jobs.sort_by_key(|job| job.number);
        ok(&JobList {
            jobs: jobs.into_iter().map(Job::view).collect(),
        })
    }

    async fn attach(&mut self, connection: u64, id: &str) -> Answer {
        let job = self.job(id)?;
        if job.reader.is_some() {
            let message = format!("job {id} is read by another connection");
            return Err(Refusal::new(RefusalKind::AttachedElsewhere, message));
        }
        let no_terminal = job.no_terminal();
        let terminal = job.terminal.as_mut().ok_or(no_terminal)?;
        let fds = terminal
            .hand_over()
            .await
            .map_err(|error| system_failed(&error))?;
        let cursor = terminal.cursor().map_err(|error| system_failed(&error))?;
        let Size {
            columns: cols,
            rows,
        } = terminal.size();
        job.reader = Some(connection);
        with_fds(&Attached { cursor, cols, rows }, fds)
    }

    fn detach(&mut self, connection: u64, id: &str) -> Answer {
        let job = self
            .jobs
            .get_mut(id)
            .filter(|job| job.reader == Some(connection));
        if let Some(job) = job {
            read_again(job);
        }
        nothing()
    }

    fn resize(&mut self, id: &str, size: Size) -> Answer {
        let job = self.job(id)?;
        let no_terminal = job.no_terminal();
        let terminal = job.terminal.as_mut().ok_or(no_terminal)?;
        terminal
            .resize(size)
            .map_err(|error| system_failed(&error))?;
        nothing()
    }

    fn forget(&mut self, id: &str) -> Answer {
        match self.jobs.get(id).map(|job| &job.life) {
            Some(Life::Forking(_) | Life::Running | Life::Ending(_)) => Err(Refusal::new(
                RefusalKind::JobRunning,
                format!("job {id} still runs"),
            )),
            Some(Life::Ended(_)) | None => {
                self.jobs.remove(id);
                nothing()
            }
        }
    }

    fn hand_out_gateway(&self) -> Answer {
        let listener = duplicate(&self.gateway).map_err(|error| system_failed(&error))?;
        with_fds(
            &Gateway {
                address: self.gateway_address,
            },
            vec![listener],
        )
    }
}

fn nothing() -> Answer {
    ok(&serde_json::Map::new())
}

fn done(result: Result<(), Refusal>) -> Answer {
    result.and_then(|()| nothing())
}

fn ok(answer: &impl Serialize) -> Answer {
    with_fds(answer, Vec::new())
}

fn with_fds(answer: &impl Serialize, fds: Vec<OwnedFd>) -> Answer {
    let value = serde_json::to_value(answer)
        .map_err(|error| Refusal::new(RefusalKind::SystemFailed, error.to_string()))?;
    Ok((value, fds))
}
