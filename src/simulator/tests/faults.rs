//! Every fault, and when it happens.

use super::*;

#[tokio::test(start_paused = true)]
async fn faults_of_requests_have_their_status_and_words() {
    let cases = [
        (
            "kind = \"busy\"",
            503,
            "server busy, please try again.  maximum pending requests exceeded",
        ),
        (
            "kind = \"status\"\nstatus = 502\nmessage = \"bad gateway\"",
            502,
            "bad gateway",
        ),
        (
            "kind = \"queue-error\"",
            500,
            "no slots available after 10 retries",
        ),
        (
            "kind = \"load-error\"",
            500,
            "llama-server process has terminated: exit status 1",
        ),
        (
            "kind = \"load-oom\"",
            500,
            "llama-server process has terminated: exit status 2: CUDA error: out of memory",
        ),
        (
            "kind = \"stuck-load\"",
            500,
            "timed out waiting for llama-server to start - ",
        ),
        (
            "kind = \"removed\"\nmodel = \"m:1b\"",
            404,
            "model 'm:1b' not found",
        ),
        ("kind = \"exceeded\"", 400, "{\"error\":{"),
        (
            "kind = \"error-line\"\nafter = 3",
            200,
            "an error was encountered while running the model: unexpected EOF",
        ),
        (
            "kind = \"error-line\"",
            500,
            "an error was encountered while running the model: unexpected EOF",
        ),
        (
            "kind = \"runner-killed\"\nafter = 3",
            200,
            "an error was encountered while running the model: unexpected EOF",
        ),
        (
            "kind = \"runner-oom\"\nafter = 3",
            200,
            "an error was encountered while running the model: CUDA error: out of memory",
        ),
    ];
    for (fault, status, error) in cases {
        let server = simulated("", &format!("[[fault]]\n{fault}\n"));
        let answer = ask(&server, 9).await;
        assert_eq!(answer.status, status, "{fault}: {answer:?}");
        assert!(answer.error().starts_with(error), "{fault}: {answer:?}");
        let lines = if status == 200 { 4 } else { 1 };
        assert_eq!(answer.lines.len(), lines, "{fault}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_of_streams_end_them_as_they_say() {
    let with = async |fault: &str| {
        let server = simulated("", &format!("[[fault]]\n{fault}\n"));
        let answer = timeout(Duration::from_secs(600), ask(&server, 60)).await;
        answer.ok()
    };
    assert_eq!(with("kind = \"stall\"\nafter = 3").await, None);
    let cut = with("kind = \"cut\"\nafter = 3").await.unwrap();
    assert!(cut.is_cut && cut.lines.len() == 3);
    let no_done = with("kind = \"no-done\"\nafter = 3").await.unwrap();
    assert!(!no_done.is_cut && no_done.lines.len() == 3 && no_done.last()["done"] == false);
    let malformed = with("kind = \"malformed-line\"\nafter = 3").await.unwrap();
    assert!(malformed.lines[3].is_null() && malformed.last()["done"] == true);
    let empty = with("kind = \"empty\"").await.unwrap();
    assert!(empty.lines.len() == 1 && empty.last()["done_reason"] == "stop");
    let thoughts = with("kind = \"thinking-only\"").await.unwrap();
    assert_eq!(thoughts.last()["done_reason"], "length");
    let first = &thoughts.lines[0]["message"];
    assert!(first["content"] == "" && first["thinking"].is_string());
    // 31 equal tokens, then a clean end without a last line.
    let repeat = with("kind = \"repeat\"\nafter = 3").await.unwrap();
    assert!(!repeat.is_cut && repeat.lines.len() == 34 && repeat.last()["done"] == false);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_is_cut_counts_half_the_context_and_two() {
    let server = simulated("", "[[fault]]\nkind = \"truncated\"\n");
    assert_eq!(ask(&server, 1).await.last()["prompt_eval_count"], 2_050);
    let server = simulated("", "");
    let long = send(&server, "/api/chat", &chat(&"x".repeat(9_000), 1))
        .await
        .unwrap();
    assert_eq!(long.last()["prompt_eval_count"], 2_050);
}

#[tokio::test(start_paused = true)]
async fn a_cloud_model_is_never_loaded_and_has_the_errors_of_a_cloud() {
    let cloud = "[[model]]\nname = \"big:cloud\"\nsize = 384\nparameters = \"480B\"\nremote_host = \"https://ollama.com:443\"\nvoice = \"endless\"\n\
        [[fault]]\nkind = \"status\"\nnth = 1\nstatus = 401\nmessage = \"unauthorized\"\nsignin_url = \"https://ollama.com/connect\"\n\
        [[fault]]\nkind = \"status\"\nnth = 2\nstatus = 429\nretry_after = 7\n";
    let server = simulated("", cloud);
    let mut body = chat("hello", 2);
    body["model"] = "big:cloud".into();
    let first = send(&server, "/api/chat", &body).await.unwrap();
    assert_eq!(first.status, 401);
    assert_eq!(
        *first.last(),
        json!({"error": "unauthorized", "signin_url": "https://ollama.com/connect"})
    );
    let second = server.call(post("/api/chat", &body)).await.unwrap();
    assert_eq!(
        (second.status().as_u16(), &second.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    let third = send(&server, "/api/chat", &body).await.unwrap();
    assert_eq!(third.last()["done_reason"], "length");
    assert_eq!(get(&server, "/api/ps").await["models"], json!([]));
    let tags = get(&server, "/api/tags").await;
    let models = tags["models"].as_array().unwrap();
    let big = models
        .iter()
        .find(|model| model["name"] == "big:cloud")
        .unwrap();
    assert_eq!(
        (&big["remote_model"], &big["remote_host"]),
        (&json!("big"), &json!("https://ollama.com:443"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_fault_has_a_window_that_comes_again() {
    let server = simulated(
        "",
        "[[fault]]\nkind = \"busy\"\nfrom = \"10s\"\nuntil = \"20s\"\nevery = \"60s\"\n",
    );
    let mut statuses = Vec::new();
    for _ in 0..9 {
        sleep(Duration::from_secs(15).saturating_sub(Duration::from_millis(1))).await;
        statuses.push(
            server
                .call(post("/api/chat", &json!({"model": "m:1b"})))
                .await
                .unwrap()
                .status()
                .as_u16(),
        );
    }
    // At 15 s; the load takes five, so then at 35, 50, 65, 80 …
    assert_eq!(statuses, [503, 200, 200, 200, 503, 200, 200, 200, 503]);
}

#[tokio::test(start_paused = true)]
async fn matches_are_counted_for_nth_every_and_times() {
    let statuses = async |fault: &str| {
        let server = simulated("", &format!("[[fault]]\nkind = \"busy\"\n{fault}\n"));
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(ask(&server, 1).await.status);
        }
        statuses
    };
    assert_eq!(statuses("nth = 2").await, [200, 503, 200, 200, 200, 200]);
    assert_eq!(statuses("every = 3").await, [200, 200, 503, 200, 200, 503]);
    assert_eq!(statuses("times = 2").await, [503, 503, 200, 200, 200, 200]);
    assert_eq!(statuses("prompt = \"nobody says this\"").await, [200; 6]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_points_elsewhere_has_another_digest_and_loads_anew() {
    let server = simulated(
        "",
        "[[fault]]\nkind = \"repointed\"\nmodel = \"m:1b\"\nfrom = \"60s\"\n",
    );
    ask(&server, 1).await;
    let digest = async || get(&server, "/api/tags").await["models"][0]["digest"].clone();
    let before = digest().await;
    sleep(Duration::from_secs(60)).await;
    assert_ne!(digest().await, before);
    about(seconds(&ask(&server, 1).await, "load_duration"), 5.0);
    let loaded = get(&server, "/api/ps").await;
    assert_eq!(loaded["models"].as_array().unwrap().len(), 2, "{loaded}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_refuses_and_comes_back_without_its_models() {
    let server = simulated(
        "",
        "[[fault]]\nkind = \"down\"\nfrom = \"30s\"\nuntil = \"40s\"\n",
    );
    ask(&server, 1).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        send(&server, "/api/chat", &chat("x", 1)).await,
        Err(Refused)
    );
    sleep(Duration::from_secs(10)).await;
    about(seconds(&ask(&server, 1).await, "load_duration"), 5.0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_gets_no_answer() {
    let server = simulated("", "[[fault]]\nkind = \"refuse\"\nnth = 1\n");
    assert_eq!(
        send(&server, "/api/chat", &chat("x", 1)).await,
        Err(Refused)
    );
    assert_eq!(ask(&server, 1).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_dies_ends_all_that_it_does() {
    let fault = "[[fault]]\nkind = \"runner-killed\"\nprompt = \"fatal\"\nafter = 3\n";
    let server = std::sync::Arc::new(simulated("num_parallel = 3", fault));
    ask(&server, 1).await;
    let mut tasks = JoinSet::new();
    // It speaks, it dies, it is read, and it waits for a slot.
    for (number, prompt) in ["speaks", "fatal", &"x".repeat(5_000), "waits"]
        .into_iter()
        .enumerate()
    {
        let (server, body) = (std::sync::Arc::clone(&server), chat(prompt, 100));
        tasks.spawn(async move {
            sleep(Duration::from_millis(number as u64)).await;
            (number, send(&server, "/api/chat", &body).await.unwrap())
        });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    let told: Vec<(u16, &str)> = answers
        .iter()
        .map(|(_, it)| (it.status, it.error()))
        .collect();
    let died = "an error was encountered while running the model: unexpected EOF";
    assert_eq!(told[..3], [(200, died), (200, died), (500, died)]);
    assert_eq!(told[3].0, 500);
    assert!(
        told[3]
            .1
            .starts_with("model runner has unexpectedly stopped")
    );
    // It is still listed, and loaded again for the next one.
    assert_eq!(ask(&server, 1).await.status, 200);
}
