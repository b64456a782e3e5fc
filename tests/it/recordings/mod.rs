//! Replays what a real Ollama 0.32.15 answered against the simulator.
//!
//! Each recording in `tests/fixtures/ollama` holds requests with their moments and answers. The
//! same requests are sent in the same order and overlap, and statuses, shapes, field types,
//! orderings, reloads and endings must be the same; times and texts are the model's own.

mod compare;
mod replay;

use warpsquad::simulator::Scenario;

/// Adds to `[server]` and the end of the scenario what the recorded server was started with.
fn scenario(server: &str, rest: &str) -> Scenario {
    let text = include_str!("../../scenarios/recordings.toml");
    let text = text.replace("[server]\n", &format!("[server]\n{server}\n"));
    Scenario::parse(&format!("{text}\n{rest}"), "recordings.toml").unwrap()
}

macro_rules! recordings {
    ($($test:ident: $file:literal $(, server $server:literal)? $(, also $also:literal)?;)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let (server, also) = (concat!("", $($server)?), concat!("", $($also)?));
                replay::recording($file, scenario(server, also)).await;
            }
        )*

        #[test]
        fn every_recording_is_replayed() {
            let mut replayed = vec!["04b-show-verbose-keys.json", $($file),*];
            replayed.sort_unstable();
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ollama");
            let mut there: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            there.sort();
            assert_eq!(there, replayed);
        }
    };
}

recordings! {
    version: "01-version.json";
    root: "02-root.json";
    tags: "03-tags.json";
    v1_models: "03b-v1-models.json";
    show: "04-show.json";
    nothing_is_loaded_at_first: "05-ps-empty.json";
    cold_then_warm: "06-chat-stream-cold-then-warm.json";
    an_answer_in_one_piece: "07-chat-nonstream.json";
    generate_streamed: "08-generate-stream.json";
    generate_in_one_piece: "08b-generate-nonstream.json";
    an_empty_prompt_loads: "09-preload-empty-prompt.json";
    keep_alive: "10-keep-alive.json";
    unknown_models: "11-unknown-model.json";
    bad_requests: "12-bad-requests.json";
    tools_and_formats: "13-tools-format.json";
    openai: "14-openai-v1.json";
    another_context_reloads: "15-num-ctx-reload.json";
    another_context_waits_while_busy: "15b-num-ctx-change-while-busy.json";
    an_alias_evicts_its_model: "16-alias-same-blob.json";
    a_client_that_leaves_frees_the_slot: "17-client-disconnect.json";
    too_long_prompts: "18-long-prompt-over-ctx.json";
    answers_that_end_by_themselves: "19-eos-stop.json";
    answers_without_end: "20-num-predict-0-and-minus1.json";
    copy_and_delete: "21-copy-delete.json";
    repeats_end_without_a_done_line: "22-loop-abort-no-done-line.json";
    a_loading_model_is_not_listed: "23-ps-during-load.json";
    unload_while_busy: "24-unload-while-busy.json";
    two_slots: "30-parallel2-six-chats.json", server "num_parallel = 2";
    one_slot: "31-parallel1-four-chats.json";
    one_model_at_a_time: "40-max-loaded-1-alternate.json", server "max_loaded = 1";
    a_full_queue: "50-max-queue-2.json", server "max_loaded = 1\nmax_queue = 2";
    a_killed_runner: "60-runner-killed-mid-stream.json",
        also "[[fault]]\nkind = \"runner-killed\"\nnth = 1\nafter = 20";
    a_stopped_server: "61-server-sigterm-mid-stream.json";
    a_third_model: "62-max-loaded-2-third-model.json", server "num_parallel = 2\nmax_loaded = 2";
}

#[tokio::test]
async fn show_has_the_recorded_keys() {
    let server = replay::Server::start(scenario("", ""));
    let request = serde_json::json!({"model": "tiny-coder:1m", "verbose": true});
    let url = format!("{}/api/show", server.base);
    let response = server.http.post(url).json(&request).send().await.unwrap();
    let shown: serde_json::Value = response.json().await.unwrap();
    let mut keys: Vec<&String> = shown["model_info"].as_object().unwrap().keys().collect();
    keys.sort();
    let recorded = replay::fixture("04b-show-verbose-keys.json");
    let recorded: Vec<String> = serde_json::from_value(recorded["data"].clone()).unwrap();
    assert_eq!(keys, recorded.iter().collect::<Vec<_>>());
}
