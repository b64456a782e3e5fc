//! What a client sees: pinned requests, listed routes, both APIs, tokens that end.

use serde_json::{Value, json};
use warpsquad::core::served::Outcome;
use warpsquad::core::traffic::Phase;
use warpsquad::gateway::{GatewaySettings, Patience};

use super::world::{World, chat, read};

#[tokio::test]
async fn an_answer_passes_whole_and_is_recorded_with_its_figures() {
    let mut world = World::new(&[""]).await;
    let traffic = world.agent("t", "coder:7b");
    let response = world.chat("t", "coder:7b", "@sim say hello there").await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"].to_str().unwrap(),
        "application/x-ndjson"
    );
    let route = response.headers()["x-warpsquad-route"].to_str().unwrap();
    assert!(route.contains("endpoint=e0"), "{route}");
    let (text, last) = read(response).await;
    assert!(text.contains("hello there"), "{text}");
    assert_eq!(last["done"], true);
    let record = world.record().await;
    assert_eq!(record.outcome, Outcome::Done);
    assert_eq!(record.prompt_tokens, last["prompt_eval_count"]);
    assert_eq!(record.output_tokens, last["eval_count"]);
    assert!(record.first_token_us.unwrap() <= record.total_us);
    let traffic = traffic.borrow();
    assert_eq!((traffic.open, traffic.phase), (0, Phase::Idle));
    assert_eq!(traffic.used.requests, 1);
}

#[tokio::test]
async fn contexts_that_change_with_every_message_load_the_model_once() {
    let mut world = World::new(&[""]).await;
    drop(world.agent("t", "coder:7b"));
    for context in [8_940, 8_518, 9_100, 12_000, 8_200] {
        let mut body = chat("coder:7b", "@sim say hi");
        body["options"]["num_ctx"] = context.into();
        let (_, last) = read(world.post("/agent/t/api/chat", &body).await).await;
        assert_eq!(last["done"], true);
        let record = world.record().await;
        assert_eq!(record.epoch, 1, "one load serves them all");
    }
    let running = world.ask(0, "/api/ps").await;
    assert_eq!(running["models"][0]["context_length"], 16_384);
}

#[tokio::test]
async fn an_answer_in_one_piece_has_the_shape_that_was_asked_for() {
    let world = World::new(&[""]).await;
    drop(world.agent("t", "coder:7b"));
    let mut body = chat("coder:7b", "@sim say hello");
    body["stream"] = false.into();
    let native: Value = world
        .post("/agent/t/api/chat", &body)
        .await
        .json()
        .await
        .unwrap();
    let text = native["message"]["content"].as_str().unwrap();
    assert!(text.contains("hello") && native["done"] == true, "{native}");
    let path = "/agent/t/v1/chat/completions";
    let openai: Value = world.post(path, &body).await.json().await.unwrap();
    assert_eq!(openai["choices"][0]["message"]["content"], text);
    assert_eq!(openai["choices"][0]["finish_reason"], "stop");
    assert_eq!(openai["object"], "chat.completion");
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let stream = world.post(path, &body).await.text().await.unwrap();
    let mut joined = String::new();
    let mut usage = Value::Null;
    for data in stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
    {
        let Ok(chunk) = serde_json::from_str::<Value>(data) else {
            assert_eq!(data, "[DONE]");
            continue;
        };
        let delta = &chunk["choices"][0]["delta"]["content"];
        joined.push_str(delta.as_str().unwrap_or_default());
        usage = chunk["usage"].clone();
    }
    assert_eq!(joined, text);
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    assert_eq!(usage["completion_tokens"], native["eval_count"]);
}

#[tokio::test]
async fn only_listed_routes_are_served_and_none_of_them_changes_a_model() {
    let world = World::new(&[""]).await;
    drop(world.agent("t", "coder:7b"));
    for path in [
        "pull",
        "push",
        "create",
        "copy",
        "delete",
        "embed",
        "blobs/sha256:0",
    ] {
        let path = format!("/agent/t/api/{path}");
        let answer = world.post(&path, &json!({"model": "coder:7b"})).await;
        assert_eq!(answer.status(), 404, "{path}");
    }
    let tags: Value = world.get("/agent/t/api/tags").await.json().await.unwrap();
    let direct = world.ask(0, "/api/tags").await;
    let names = |tags: &Value| {
        let models = tags["models"].as_array().unwrap().iter();
        let mut names: Vec<String> = models
            .map(|model| model["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&tags), names(&direct));
    let show = world
        .post("/agent/t/api/show", &json!({"name": "coder:7b"}))
        .await;
    let show: Value = show.json().await.unwrap();
    assert_eq!(show["details"]["parameter_size"], "7B");
    let missing = world
        .post("/agent/t/api/show", &json!({"model": "none"}))
        .await;
    assert_eq!(missing.status(), 404);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot_at_once() {
    let mut world = World::new(&[""]).await;
    drop(world.agent("a", "coder:7b"));
    drop(world.agent("b", "coder:7b"));
    // A tenth of a token a second: it would speak for hours.
    let slow = "@sim slow 0.1\n@sim say a very long story that nobody waits for";
    let mut first = world.chat("a", "coder:7b", slow).await;
    first.chunk().await.unwrap().unwrap();
    drop(first);
    let (text, _) = read(world.chat("b", "coder:7b", "@sim say next").await).await;
    assert!(text.contains("next"));
    assert_eq!(world.record().await.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_the_open_answer_and_is_refused_afterwards() {
    let mut world = World::new(&[""]).await;
    drop(world.agent("t", "coder:7b"));
    let slow = "@sim slow 0.1\n@sim say a very long story that nobody waits for";
    let mut open = world.chat("t", "coder:7b", slow).await;
    open.chunk().await.unwrap().unwrap();
    world.gateway.grants().revoke("t");
    while let Ok(Some(_)) = open.chunk().await {}
    assert_eq!(world.record().await.outcome, Outcome::Cancelled);
    let refused = world.chat("t", "coder:7b", "@sim say hi").await;
    assert_eq!(refused.status(), 403);
}

#[tokio::test]
async fn other_clients_come_in_with_a_key_only_where_they_are_let_in() {
    let world = World::new(&[""]).await;
    let body = chat("warpsquad/auto", "@sim say hello");
    let shut = world.post("/api/chat", &body).await;
    assert_eq!(shut.status(), 404);
    let settings = GatewaySettings {
        key: Some("secret".into()),
        ..GatewaySettings::default()
    };
    let world = World::with(&[""], settings, Patience::default()).await;
    assert_eq!(world.post("/api/chat", &body).await.status(), 401);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = client
        .post(format!("{}/api/chat", world.base))
        .bearer_auth("secret")
        .json(&body);
    let (text, last) = read(asked.send().await.unwrap()).await;
    assert!(text.contains("hello"));
    assert_eq!(last["model"], "coder:7b", "the most capable one");
}

#[tokio::test]
async fn a_model_that_thinks_is_told_not_to() {
    let world = World::new(&[""]).await;
    drop(world.agent("t", "talker:3b"));
    let (text, last) = read(world.chat("t", "talker:3b", "@sim say hello").await).await;
    assert!(text.contains("hello"), "{last}");
    assert!(last["message"]["thinking"].is_null());
}
