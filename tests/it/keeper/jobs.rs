//! Jobs: their identity, environment, limits and ends.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use warpsquad::keeper::{JobSignal, JobSpec, KeeperEvent, RefusalKind};

use super::squad::{Squad, eventually, exit_of, history_with, is_dead, pid_in, refusal};

#[tokio::test]
async fn asking_again_for_a_job_returns_the_same_one_also_after_its_end() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let mut events = client.take_events().unwrap();
    let spec = squad.terminal("agent-1-1", "read line; exit 7");

    let first = client
        .spawn(JobSpec {
            meta: "token".into(),
            ..spec.clone()
        })
        .await
        .unwrap();
    let again = client.spawn(spec.clone()).await.unwrap();
    assert!(first.fresh && !again.fresh);
    assert_eq!(again.job, first.job);
    client
        .spawn(squad.file_job("a-later-one", "true"))
        .await
        .unwrap();
    let ids: Vec<String> = client
        .jobs()
        .await
        .unwrap()
        .into_iter()
        .map(|job| job.id)
        .collect();
    assert_eq!(ids, ["agent-1-1", "a-later-one"]);

    client.write("agent-1-1", b"go\n").await.unwrap();
    let exit = loop {
        let event = events.recv().await.unwrap();
        if let KeeperEvent::JobExited { job, exit } = event
            && job == "agent-1-1"
        {
            break exit;
        }
    };
    assert_eq!(
        (exit.code, exit.signal, exit.timed_out),
        (Some(7), None, false)
    );
    let ended = client.spawn(spec.clone()).await.unwrap();
    assert!(!ended.fresh);
    assert_eq!(ended.job.exit, Some(exit));
    assert_eq!(ended.job.meta, "token");

    client.forget("agent-1-1").await.unwrap();
    assert!(client.spawn(spec).await.unwrap().fresh);
    assert_eq!(
        refusal(client.forget("agent-1-1").await),
        RefusalKind::JobRunning
    );
}

#[tokio::test]
async fn a_job_has_exactly_its_own_environment_and_descriptors() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let nonce = client.welcome().nonce.clone();
    let data = squad.options().paths.data;
    for (id, is_terminal) in [("pty", true), ("file", false)] {
        let script = "env > env.$0; ls -l /proc/$$/fd > fds.$0; exec sleep 1000";
        let mut spec = if is_terminal {
            squad.terminal(id, "")
        } else {
            squad.file_job(id, "")
        };
        let path = std::env::var("PATH").unwrap();
        spec.argv = ["bash", "-c", script, id].map(String::from).to_vec();
        spec.env = BTreeMap::from([("PATH".into(), path.clone()), ("A".into(), "b c".into())]);
        let pid = client.spawn(spec).await.unwrap().job.pid;
        eventually("the job is there", async || {
            (fs::read(format!("/proc/{pid}/cmdline")).ok()? == b"sleep\x001000\x00").then_some(())
        })
        .await;

        let mut descriptors: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        descriptors.sort();
        assert_eq!(descriptors, ["0", "1", "2"], "{id}");

        let env = fs::read_to_string(squad.file(&format!("env.{id}"))).unwrap();
        // The shell's own additions.
        let own = ["PWD=", "OLDPWD=", "SHLVL=", "_="];
        let mut env: Vec<&str> = env
            .lines()
            .filter(|line| !own.iter().any(|own| line.starts_with(own)))
            .collect();
        env.sort_unstable();
        let expected = [
            "A=b c".to_owned(),
            format!("PATH={path}"),
            format!("SQUAD_DATA={}", data.display()),
            format!("SQUAD_JOB={id}"),
            format!("SQUAD_KEEPER={nonce}"),
        ];
        assert_eq!(env, expected);
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_so_in_its_output() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let argv = vec!["no-such-program-here".to_owned()];
    client
        .spawn(JobSpec {
            argv,
            ..squad.file_job("a", "")
        })
        .await
        .unwrap();
    assert_eq!(exit_of(&client, "a").await.code, Some(127));
    assert!(
        squad
            .output("a")
            .contains("cannot start no-such-program-here"),
        "{}",
        squad.output("a")
    );

    let nowhere = JobSpec {
        cwd: squad.file("missing"),
        ..squad.terminal("b", "true")
    };
    assert_eq!(
        refusal(client.spawn(nowhere).await),
        RefusalKind::BadRequest
    );
    let empty = JobSpec {
        argv: Vec::new(),
        ..squad.terminal("c", "")
    };
    assert_eq!(refusal(client.spawn(empty).await), RefusalKind::BadRequest);
    assert_eq!(
        refusal(client.write("a", b"x").await),
        RefusalKind::NoTerminal
    );
    assert_eq!(refusal(client.attach("d").await), RefusalKind::UnknownJob);
}

#[tokio::test]
async fn a_job_over_its_time_limit_is_ended() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let time_limit = Some(Duration::from_millis(50));
    client
        .spawn(JobSpec {
            time_limit,
            ..squad.file_job("a", "sleep 1000")
        })
        .await
        .unwrap();
    let exit = exit_of(&client, "a").await;
    assert!(exit.timed_out && !exit.is_success());
    assert_eq!(exit.signal, Some(15));
}

#[tokio::test]
async fn a_job_that_ignores_the_polite_signal_is_killed() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let script = "trap '' TERM; printf ready; while :; do sleep 1000; done";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    history_with(&client, "a", "ready").await;
    client
        .stop("a", JobSignal::Term, Duration::from_millis(20))
        .await
        .unwrap();
    assert_eq!(exit_of(&client, "a").await.signal, Some(9));
    client
        .stop("a", JobSignal::Term, Duration::ZERO)
        .await
        .unwrap();
}

#[tokio::test]
async fn when_a_job_ends_all_of_it_ends() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    // One stays in the session, one leaves it and keeps its environment.
    let script = "sleep 1000 & echo $! > inside; \
        setsid sh -c 'echo $$ > outside; exec sleep 1000' & read x";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    let inside = pid_in(&squad.file("inside")).await;
    let outside = pid_in(&squad.file("outside")).await;
    client.write("a", b"\n").await.unwrap();
    exit_of(&client, "a").await;
    assert!(is_dead(inside) && is_dead(outside));
}
