//! The figures of ADR 3: what one edit and its commit cost, by who writes the message.
//!
//! `cargo nextest run --test it --no-capture -E 'test(who_commits)'` prints them.

use super::ollama::{Answer, Ollama};
use super::whole;
use super::world::{Agent, World};
use warpsquad::agents::aider::flavour;

/// Requests and bytes sent for one edit, and what git says afterwards.
struct Cost {
    requests: usize,
    bytes: usize,
    commits: String,
    status: String,
}

fn one_edit(change: impl FnOnce(&mut flavour::Launch)) -> Cost {
    let world = World::new();
    let message = Answer::Text("feat: say hello".into());
    let ollama = Ollama::start([whole("README.md", "# Hello"), message]);
    let mut plan = world.plan(&ollama.url);
    plan.files = vec!["README.md".into()];
    let mut launch = flavour::plan(&plan).unwrap();
    change(&mut launch);
    let mut agent = Agent::launch(&launch);
    agent.until_prompt();
    agent.prompt("Say hello");
    agent.until_prompt();
    let chats = ollama.chats();
    Cost {
        requests: chats.len(),
        bytes: chats.iter().map(|chat| chat.body.to_string().len()).sum(),
        commits: world.git(&["rev-list", "--count", "HEAD"]),
        status: world.git(&["status", "--porcelain"]),
    }
}

#[test]
fn who_commits_decides_what_an_edit_costs() {
    let ours = one_edit(|_| {});
    let aiders = one_edit(|launch| {
        launch
            .env
            .insert("SQUAD_AIDER_COMMIT_MESSAGES".into(), "1".into());
    });
    let nobody = one_edit(|launch| launch.argv.push("--no-auto-commits".into()));
    for (name, cost) in [("launcher", &ours), ("model", &aiders), ("none", &nobody)] {
        println!("{name}: {} requests, {} bytes", cost.requests, cost.bytes);
    }
    assert_eq!(
        (ours.requests, ours.commits.as_str(), ours.status.as_str()),
        (1, "2", "")
    );
    assert_eq!(
        (
            aiders.requests,
            aiders.commits.as_str(),
            aiders.status.as_str()
        ),
        (2, "2", "")
    );
    assert_eq!((nobody.requests, nobody.commits.as_str()), (1, "1"));
    assert_eq!(nobody.status, " M README.md");
    assert_eq!(ours.bytes, nobody.bytes);
}
