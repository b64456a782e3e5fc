//! All that the keeper knows, and what it does about it. One owner, one thread, no locks.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;

use super::cgroup::{Cgroups, Room};
use super::connection::Asked;
use super::job::{Job, Life, Owner, Wanted};
use super::leftovers::kill_leftovers;
use super::options::SERVER_STOP_CODE;
use super::platform::{self, Reaped};
use super::process::ExitReason;
use super::protocol::{Event, JobExit, JobId, JobSpec};
use super::server_child::ServerChild;
use super::upgrade::Upgrades;
use super::zygote::Zygote;
use crate::core::Epoch;

/// Events that may wait for a connection; one that lets more wait is taken for dead.
pub(super) const WAITING_EVENTS: usize = 1024;

/// A server that is told to end may take this long to write down what it knows.
pub(super) const SERVER_GRACE: Duration = Duration::from_secs(10);
/// Jobs that are told to end.
pub(super) const JOB_GRACE: Duration = Duration::from_secs(5);

/// The keeper's state.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) owner: Owner,
    pub(super) gateway: TcpListener,
    pub(super) gateway_address: SocketAddr,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) started: u64,
    pub(super) server: ServerChild,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) newest: Epoch,
    /// What is to be done later, by when it is due.
    deadlines: BTreeMap<(Instant, u64), Due>,
    deadline_count: u64,
    pub(super) tasks: JoinSet<Finished>,
    phase: Phase,
    pub(super) zygote: Zygote,
    /// Adopted children that ended before the answer that would have said whose they are.
    pub(super) strays: VecDeque<Reaped>,
    pub(super) upgrades: Upgrades,
    /// Where the kernel enforces limits.
    pub(super) cgroups: Option<Cgroups>,
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) task: AbortHandle,
    /// `None` until it says hello.
    pub(super) epoch: Option<Epoch>,
}

/// What a task of the keeper leaves behind.
#[derive(Debug)]
pub(super) enum Finished {
    /// A connection has ended.
    Connection(u64),
    /// Nothing is left of a job.
    Leftovers { job: JobId, number: u64 },
}

/// Something that is due at a certain time. A number tells whether it still concerns the same.
#[derive(Debug)]
pub(super) enum Due {
    TimeLimit {
        job: JobId,
        number: u64,
    },
    KillJob {
        job: JobId,
        number: u64,
    },
    KillServer {
        pid: Pid,
    },
    StartServer,
    StartZygote,
    /// The zygote of this number has to be ready.
    ZygoteReady {
        number: u64,
    },
    /// This fork has to be answered.
    Forked {
        fork: u64,
    },
    /// A server on trial should serve by now.
    TrialEnds {
        pid: Pid,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The server goes first, so that it does not take the end of its jobs for failures.
    StoppingServer(ExitReason),
    StoppingJobs(ExitReason),
}

impl Keeper {
    pub(super) fn new(
        owner: Owner,
        gateway: TcpListener,
        gateway_address: SocketAddr,
        server: ServerChild,
        zygote: Zygote,
    ) -> Self {
        Self {
            owner,
            gateway,
            gateway_address,
            jobs: BTreeMap::new(),
            started: 0,
            server,
            connections: BTreeMap::new(),
            newest: Epoch::default(),
            deadlines: BTreeMap::new(),
            deadline_count: 0,
            tasks: JoinSet::new(),
            phase: Phase::Running,
            zygote,
            strays: VecDeque::new(),
            upgrades: Upgrades::default(),
            cgroups: None,
        }
    }

    /// Why the keeper may end now; `None` while there is something to do.
    pub(super) fn is_finished(&self) -> Option<ExitReason> {
        match self.phase {
            Phase::StoppingJobs(reason) if self.all_ended() => Some(reason),
            Phase::Running | Phase::StoppingServer(_) | Phase::StoppingJobs(_) => None,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.phase != Phase::Running
    }

    fn all_ended(&self) -> bool {
        self.jobs
            .values()
            .all(|job| matches!(job.life, Life::Ended(_)))
    }

    /// Answers one request.
    pub(super) async fn asked(
        &mut self,
        Asked {
            connection,
            request,
            answer,
        }: Asked,
    ) {
        let result = self.answer(connection, request).await;
        // The connection may have ended meanwhile; then nobody waits for the answer.
        drop(answer.send(result));
    }

    /// Takes note of an ended task.
    pub(super) fn joined(&mut self, finished: Result<Finished, JoinError>) {
        match finished {
            Ok(Finished::Connection(connection)) => self.connection_ended(connection),
            Ok(Finished::Leftovers { job, number }) => self.job_ended(&job, number),
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a task of the keeper failed"),
        }
    }

    /// Nobody is there any more: what it read is read by the keeper again, at once.
    pub(super) fn connection_ended(&mut self, connection: u64) {
        if let Some(ended) = self.connections.remove(&connection) {
            ended.task.abort();
        }
        for job in self
            .jobs
            .values_mut()
            .filter(|job| job.reader == Some(connection))
        {
            read_again(job);
        }
    }

    /// Reaps every child that has ended, its own and the adopted ones.
    pub(super) fn reap(&mut self) {
        loop {
            match platform::reap() {
                Ok(Some(reaped)) => self.reaped(reaped),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn reaped(&mut self, reaped: Reaped) {
        if self.server.pid == Some(reaped.pid) {
            self.server.pid = None;
            self.trial_server_ended(reaped.pid, reaped.status);
            self.server_ended(reaped.status);
            return;
        }
        if self.zygote.reaped(reaped.pid, &reaped.status.to_string()) {
            return self.zygote_may_be_over();
        }
        let is_main =
            |job: &&mut Job| job.pid == Some(reaped.pid) && matches!(job.life, Life::Running);
        match self.jobs.values_mut().find(is_main) {
            Some(job) => {
                job.life = Life::Ending(job.exit(&reaped));
                let (id, number) = (job.view().id, job.number);
                self.end_leftovers(reaped.pid, id, number);
            }
            None => self.keep_stray(reaped),
        }
    }

    /// A control group for a job; none where there are none.
    pub(super) fn room(&mut self, spec: &JobSpec) -> Option<Room> {
        let groups = self.cgroups.as_mut()?;
        match groups.room(self.started, &spec.limits) {
            Ok(room) => Some(room),
            Err(error) => {
                tracing::warn!(%error, job = spec.id, "the job has no control group");
                None
            }
        }
    }

    /// Nothing of an ended job stays.
    fn end_leftovers(&mut self, session: Pid, id: JobId, number: u64) {
        let nonce = self.owner.nonce.clone();
        self.tasks.spawn_blocking(move || {
            let killed = kill_leftovers(session, &id, &nonce);
            if killed > 0 {
                tracing::info!(job = id, killed, "processes of an ended job were killed");
            }
            Finished::Leftovers { job: id, number }
        });
    }

    fn job_ended(&mut self, id: &str, number: u64) {
        let Some(job) = self.jobs.get_mut(id).filter(|job| job.number == number) else {
            return;
        };
        let Life::Ending(exit) = &job.life else {
            return;
        };
        let exit = exit.clone();
        self.end_job(id, &exit);
    }

    /// Nothing is left of a job: everybody is told.
    pub(super) fn end_job(&mut self, id: &str, exit: &JobExit) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        job.life = Life::Ended(exit.clone());
        let room = job.room.take();
        if let (Some(groups), Some(room)) = (&mut self.cgroups, room) {
            groups.close(room);
        }
        self.report(&Event::JobExited {
            job: id.to_owned(),
            exit: exit.clone(),
        });
    }

    /// Tells every connection that said hello.
    pub(super) fn report(&mut self, event: &Event) {
        let mut stuck = Vec::new();
        for (number, connection) in &self.connections {
            let told = connection
                .epoch
                .map(|_| connection.events.try_send(event.clone()).is_ok());
            if told == Some(false) {
                stuck.push(*number);
            }
        }
        for connection in stuck {
            tracing::warn!(connection, "a connection that takes no events is ended");
            self.connection_ended(connection);
        }
    }

    fn server_ended(&mut self, status: ExitStatus) {
        tracing::info!(
            code = status.code(),
            signal = status.signal(),
            "the server has ended"
        );
        match self.phase {
            Phase::StoppingServer(reason) => self.stop_jobs(reason),
            Phase::StoppingJobs(_) => {}
            Phase::Running if status.code() == Some(i32::from(SERVER_STOP_CODE)) => {
                self.stop_jobs(ExitReason::ServerStopped);
            }
            Phase::Running if self.server.was_killed_at_work(status.signal()) => {
                self.when_due(Instant::now(), Due::StartServer);
            }
            Phase::Running => self.start_server_later(),
        }
    }

    fn start_server_later(&mut self) {
        let now = Instant::now();
        let pause = self.server.pause(now);
        self.when_due(now + pause, Due::StartServer);
    }

    /// Starts the server; if that fails it is tried again as if it had ended.
    pub(super) fn start_server(&mut self) {
        if self.is_stopping() || !self.server.is_wanted() || self.server.pid.is_some() {
            return;
        }
        let started = self.server.start();
        self.trial_started(&started);
        if let Err(error) = started {
            tracing::error!(%error, "cannot start the server");
            self.start_server_later();
        }
    }

    /// Begins to end everything: the server, then the jobs, then the keeper.
    pub(super) fn shut_down(&mut self, reason: ExitReason) {
        if self.is_stopping() {
            return;
        }
        tracing::info!(?reason, "the keeper stops");
        let Some(pid) = self.server.pid else {
            return self.stop_jobs(reason);
        };
        self.phase = Phase::StoppingServer(reason);
        self.server.signal(Signal::TERM);
        self.when_due(Instant::now() + SERVER_GRACE, Due::KillServer { pid });
    }

    fn stop_jobs(&mut self, reason: ExitReason) {
        self.phase = Phase::StoppingJobs(reason);
        self.zygote.end("the keeper stops");
        let ids: Vec<JobId> = self.jobs.keys().cloned().collect();
        for id in ids {
            self.stop_job(&id, Signal::TERM, JOB_GRACE);
        }
    }

    /// Signals a running job now and kills it after `grace`.
    pub(super) fn stop_job(&mut self, id: &str, signal: Signal, grace: Duration) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        if let Life::Forking(wanted) = &mut job.life {
            *wanted = Wanted::NoMore;
        }
        if !matches!(job.life, Life::Running) {
            return;
        }
        if let Err(error) = job.signal(signal) {
            tracing::warn!(%error, job = id, "cannot send a signal");
        }
        let (job, number) = (id.to_owned(), job.number);
        self.when_due(Instant::now() + grace, Due::KillJob { job, number });
    }

    /// Notes what is to be done at `at`.
    pub(super) fn when_due(&mut self, at: Instant, due: Due) {
        self.deadline_count += 1;
        self.deadlines.insert((at, self.deadline_count), due);
    }

    /// When the next thing is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first_key_value().map(|((at, _), _)| *at)
    }

    /// Does everything that is due.
    pub(super) fn do_due(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self
            .deadlines
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let due = entry.remove();
            self.act(due);
        }
    }

    fn act(&mut self, due: Due) {
        match due {
            Due::TimeLimit { job: id, number } => {
                let job = self.jobs.get_mut(&id).filter(|job| job.number == number);
                let Some(job) = job.filter(|job| matches!(job.life, Life::Running)) else {
                    return;
                };
                job.timed_out = true;
                self.stop_job(&id, Signal::TERM, JOB_GRACE);
            }
            Due::KillJob { job: id, number } => {
                let job = self.jobs.get(&id).filter(|job| job.number == number);
                // If it has ended meanwhile there is nothing to kill.
                drop(job.map(|job| job.signal(Signal::KILL)));
            }
            Due::KillServer { pid } if self.server.pid == Some(pid) => {
                self.server.signal(Signal::KILL);
            }
            Due::KillServer { .. } => {}
            Due::StartServer => self.start_server(),
            Due::StartZygote => self.start_zygote(),
            Due::ZygoteReady { number } => self.expect_ready(number),
            Due::Forked { fork } => self.expect_forked(fork),
            Due::TrialEnds { pid } => self.trial_ends(pid),
        }
    }
}

/// The keeper reads this job again.
pub(super) fn read_again(job: &mut Job) {
    job.reader = None;
    let resumed = job.terminal.as_mut().map(super::terminal::Terminal::resume);
    if let Some(Err(error)) = resumed {
        tracing::error!(%error, job = job.view().id, "nobody reads this job's terminal");
    }
}

/// Duplicates a descriptor for an answer.
pub(super) fn duplicate(listener: &TcpListener) -> std::io::Result<OwnedFd> {
    Ok(listener.try_clone()?.into())
}
