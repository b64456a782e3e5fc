//! Finding the squad, starting it if none runs, and handing tasks over exactly once.

use std::ffi::OsString;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::args::Global;
use super::client::{CallError, Client};
use super::report::{Report, chain};
use crate::api::wire::{Command, NewTask, Reply};
use crate::config::Places;
use crate::core::TaskId;
use crate::keeper::options::Session;
use crate::keeper::{KeeperOptions, KeeperPaths, ensure_running};

/// A server listens within a second; only an overloaded machine needs more.
const START: Duration = Duration::from_secs(30);

/// How long a server may be away while its keeper starts it again.
pub const AWAY: Duration = Duration::from_secs(60);

/// Between two tries.
pub const PAUSE: Duration = Duration::from_millis(50);

/// Where the keeper of this squad is.
pub fn keeper_paths(places: &Places) -> KeeperPaths {
    KeeperPaths {
        runtime: places.runtime_dir.clone(),
        data: places.data_dir.clone(),
    }
}

/// How a keeper of this squad is to run, with the server that it starts.
pub fn keeper_options(places: &Places, global: &Global) -> Result<KeeperOptions, Report> {
    let program = std::env::current_exe()
        .map_err(|error| Report::internal(format!("the program's own path is unknown: {error}")))?;
    let mut server: Vec<OsString> = vec![program.into(), "server".into(), "--child".into()];
    server.extend(["--data-dir".into(), places.data_dir.clone().into()]);
    server.extend(["--socket".into(), places.socket.clone().into()]);
    if places.config_is_named {
        server.extend(["--config".into(), places.config.clone().into()]);
    }
    for (key, value) in &global.set {
        server.extend(["--set".into(), format!("{key}={value}").into()]);
    }
    Ok(KeeperOptions {
        paths: keeper_paths(places),
        server,
        session: Session::Detached,
    })
}

/// A client of the squad, which is started if it does not run.
pub async fn ensure(places: &Places, global: &Global) -> Result<Client, Report> {
    let client = Client::new(&places.socket);
    if client.is_running().await {
        return Ok(client);
    }
    places.create()?;
    let options = keeper_options(places, global)?;
    let deadline = Instant::now() + START;
    loop {
        // The keeper that answered may have been about to end.
        ensure_running(&options).await.map_err(|error| {
            Report::unavailable(chain(&error)).hint("'warpsquad doctor' checks what a squad needs")
        })?;
        if client.is_running().await {
            return Ok(client);
        }
        if Instant::now() > deadline {
            let log = options.paths.log();
            return Err(
                Report::unavailable("the squad's server does not answer").hint(format!(
                    "see {} and {}",
                    log.display(),
                    places.logs().display()
                )),
            );
        }
        sleep(PAUSE).await;
    }
}

/// Submits tasks. Each gets a key, so that trying again after a lost answer submits nothing twice.
pub async fn submit(client: &Client, mut tasks: Vec<NewTask>) -> Result<Vec<TaskId>, Report> {
    for task in &mut tasks {
        if task.spec.key.is_none() {
            task.spec.key = Some(random_key()?);
        }
    }
    let deadline = Instant::now() + AWAY;
    loop {
        match client
            .command(Command::Submit {
                tasks: tasks.clone(),
            })
            .await
        {
            Ok(Reply::Submitted { tasks }) => return Ok(tasks),
            Ok(Reply::Done) => {
                return Err(CallError::Odd("tasks without numbers".into()).into());
            }
            Err(error) if error.is_passing() && Instant::now() < deadline => sleep(PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
}

fn random_key() -> Result<String, Report> {
    let number = getrandom::u64()
        .map_err(|error| Report::internal(format!("no random numbers: {error}")))?;
    Ok(format!("cli-{number:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_started_for_a_squad_is_told_everything_that_the_call_was_told() {
        let places = Places {
            config: "/c.toml".into(),
            config_is_named: true,
            data_dir: "/d".into(),
            runtime_dir: "/r".into(),
            socket: "/s".into(),
        };
        let global = Global {
            set: vec![("agents.max".into(), "2".into())],
            ..Global::default()
        };
        let options = keeper_options(&places, &global).unwrap();
        let words: Vec<_> = options
            .server
            .iter()
            .skip(1)
            .filter_map(|w| w.to_str())
            .collect();
        assert_eq!(
            words.join(" "),
            "server --child --data-dir /d --socket /s --config /c.toml --set agents.max=2"
        );
    }
}
