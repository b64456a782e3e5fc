//! What requests may look like: types, forms, thoughts.

use super::*;

const THINKER: &str = r#"
[[model]]
name = "thinker:1b"
size = "1GiB"
parameters = "1B"
rate = 10.0
load_time = "1s"
voice = "ends"
length = 3
capabilities = ["completion", "thinking"]
"#;

fn texts(answer: &Answer, key: &str) -> String {
    let texts = answer.lines.iter();
    let texts = texts.filter_map(|line| line["message"][key].as_str());
    texts.collect()
}

#[tokio::test(start_paused = true)]
async fn values_of_the_wrong_type_are_refused_as_ollama_does() {
    let server = simulated("", "");
    let with = |key: &str, value: Value| {
        let mut body = chat("hello", 1);
        body[key] = value;
        body
    };
    let unmarshal = "json: cannot unmarshal";
    let cases = [
        (
            with("options", json!({"temperature": "hot"})),
            500,
            "option \"temperature\" must be of type float32".to_owned(),
        ),
        (
            with("options", json!({"stop": "END"})),
            500,
            "option \"stop\" must be of type array".to_owned(),
        ),
        (
            with("options", json!({"stop": [1]})),
            500,
            "option \"stop\" must be of an array of strings".to_owned(),
        ),
        (
            with("options", json!({"use_mmap": 1})),
            500,
            "option \"use_mmap\" must be of type boolean".to_owned(),
        ),
        (
            with("messages", json!([{"role": "user", "content": 5}])),
            400,
            format!(
                "{unmarshal} number into Go struct field ChatRequest.messages.content of type string"
            ),
        ),
        (
            with("keep_alive", json!(true)),
            400,
            "unsupported duration type: 'bool'".to_owned(),
        ),
        (
            with("format", json!("xml")),
            500,
            "invalid format: \"\\\"xml\\\"\"; expected \"json\" or a valid JSON Schema object"
                .to_owned(),
        ),
    ];
    for (body, status, error) in cases {
        let answer = send(&server, "/api/chat", &body).await.unwrap();
        assert_eq!((answer.status, answer.error()), (status, error.as_str()));
    }
    let accepted = with(
        "options",
        json!({"stop": ["END"], "num_predict": 1, "other": {}}),
    );
    assert_eq!(
        send(&server, "/api/chat", &accepted).await.unwrap().status,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn fields_are_found_without_looking_at_case() {
    let server = simulated("", "");
    let body = json!({
        "MODEL": "m:1b", "Stream": false, "Options": {"num_predict": 2},
        "messages": [{"Role": "USER", "Content": "hello"}],
    });
    let answer = send(&server, "/api/chat", &body).await.unwrap();
    assert_eq!((answer.status, answer.lines.len()), (200, 1));
    // "user\nhello\n" and three more: the role is written small.
    assert_eq!(answer.last()["prompt_eval_count"], 14);
    let shown = send(&server, "/api/show", &json!({"Model": "m:1b"})).await;
    assert_eq!(shown.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn generating_without_a_prompt_is_a_load_whatever_the_system_message_says() {
    let server = simulated("", "");
    let body = json!({"model": "m:1b", "system": "Be brief."});
    let answer = send(&server, "/api/generate", &body).await.unwrap();
    assert_eq!(
        (answer.lines.len(), &answer.last()["done_reason"]),
        (1, &json!("load"))
    );
    let body = json!({"model": "m:1b", "system": "Be brief.", "keep_alive": 0});
    let answer = send(&server, "/api/generate", &body).await.unwrap();
    assert_eq!(answer.last()["done_reason"], "unload");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_can_think_does_unless_it_is_told_not_to() {
    let server = simulated("", THINKER);
    let body = |think: Value| {
        json!({
            "model": "thinker:1b", "think": think,
            "messages": [{"role": "user", "content": "hello"}],
        })
    };
    for think in [Value::Null, json!(true), json!("low")] {
        let answer = send(&server, "/api/chat", &body(think)).await.unwrap();
        let is_thought = |line: &&Value| line["message"]["thinking"].is_string();
        let thoughts = answer.lines.iter().take_while(is_thought).count();
        assert!(thoughts > 0 && !texts(&answer, "content").is_empty());
        let counted = answer.last()["eval_count"].as_u64();
        assert_eq!(counted, Some(thoughts as u64 + 3), "both are generated");
    }
    let silent = send(&server, "/api/chat", &body(json!(false)))
        .await
        .unwrap();
    assert_eq!(texts(&silent, "thinking"), "");
    assert_eq!(silent.last()["eval_count"], 3);
}
