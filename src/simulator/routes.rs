//! The routes, and the answers that need no model.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde_json::{Map, Value, json};

use super::chat::{self, Shape};
use super::json::{error_response, json_response, text_response};
use super::openai;
use super::request::{Refusal, model_name, object};
use super::scenario::ModelSpec;
use super::simulated::{Aborts, Installed, Simulator};
use super::text::{self, Numbers};
use crate::core::model::{ModelName, parse_parameter_size};

/// Longest request: a prompt of 10 MB must be refused by its tokens, not by its bytes.
const BODY_MAX: usize = 256 << 20;

type Shared = State<Arc<Simulator>>;

/// All routes.
pub(super) fn router(simulator: Arc<Simulator>) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/api/version", get(version))
        .route("/api/status", get(status))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(running))
        .route("/api/show", post(show))
        .route("/api/chat", post(chat))
        .route("/api/generate", post(generate))
        .route("/api/embed", post(embed))
        .route("/api/copy", post(copy))
        .route("/api/delete", delete(remove))
        .route("/api/pull", post(pull))
        .route("/v1/models", get(v1_models))
        .route("/v1/models/{id}", get(v1_model))
        .route("/v1/chat/completions", post(completions))
        .fallback(async || text_response(404, "text/plain", "404 page not found"))
        .method_not_allowed_fallback(async || {
            text_response(405, "text/plain", "405 method not allowed")
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(simulator)
}

async fn root() -> Response {
    text_response(200, "text/plain; charset=utf-8", "Ollama is running")
}

async fn version(State(simulator): Shared) -> Response {
    json_response(200, &json!({ "version": simulator.server.version }))
}

/// Cloud models are allowed, and nobody has said otherwise.
async fn status() -> Response {
    json_response(
        200,
        &json!({"cloud": {"disabled": false, "source": "none"}}),
    )
}

async fn tags(State(simulator): Shared) -> Response {
    let models: Vec<Value> = simulator
        .listed()
        .iter()
        .map(|model| {
            let mut details = details(&model.spec);
            details.insert("context_length".into(), model.spec.context.into());
            details.insert(
                "embedding_length".into(),
                model.spec.embedding_length.into(),
            );
            let mut entry = json!({
                "name": model.name, "model": model.name, "modified_at": model.modified_at,
                "size": model.spec.size, "digest": model.digest, "details": details,
                "capabilities": model.spec.capabilities,
            });
            remote(&model.spec, &mut entry);
            entry
        })
        .collect();
    json_response(200, &json!({ "models": models }))
}

async fn running(State(simulator): Shared) -> Response {
    let models: Vec<Value> = simulator
        .scheduler
        .loaded()
        .iter()
        .map(|loaded| {
            json!({
                "name": loaded.name, "model": loaded.name, "size": loaded.size,
                "digest": loaded.digest, "details": details(&loaded.model),
                "expires_at": loaded.expires_at.to_string(), "size_vram": loaded.size_vram,
                "context_length": loaded.context,
            })
        })
        .collect();
    json_response(200, &json!({ "models": models }))
}

/// What a cloud model says of where it runs.
fn remote(spec: &ModelSpec, entry: &mut Value) {
    if let (Some(host), Some(map)) = (&spec.remote_host, entry.as_object_mut()) {
        let name = spec
            .name
            .trim_end_matches(":cloud")
            .trim_end_matches("-cloud");
        map.insert("remote_model".into(), name.into());
        map.insert("remote_host".into(), host.clone().into());
    }
}

fn details(spec: &ModelSpec) -> Map<String, Value> {
    let mut details = Map::new();
    details.insert("parent_model".into(), spec.parent.clone().into());
    details.insert("format".into(), "gguf".into());
    details.insert("family".into(), spec.family.clone().into());
    details.insert("families".into(), json!([spec.family]));
    details.insert("parameter_size".into(), spec.parameters.clone().into());
    details.insert(
        "quantization_level".into(),
        spec.quantisation.clone().into(),
    );
    details
}

async fn show(State(simulator): Shared, body: Bytes) -> Response {
    let name = match object(&body).and_then(|body| model_name(&body)) {
        Ok(name) => name,
        Err(refusal) => return error_response(&refusal),
    };
    let Some(model) = simulator.installed(&name) else {
        let full = ModelName::new(&name);
        return error_response(&Refusal::model_not_found(full.as_str()));
    };
    let spec = &model.spec;
    let template = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n";
    let mut shown = json!({
        "modelfile": format!("# Modelfile generated by \"ollama show\"\nFROM {}\nTEMPLATE \"\"\"{template}\"\"\"\n", model.name),
        "parameters": parameters(spec),
        "template": template,
        "details": details(spec),
        "model_info": model_info(spec),
        "tensors": tensors(spec),
        "capabilities": spec.capabilities,
        "modified_at": model.modified_at,
    });
    remote(spec, &mut shown);
    if let (Some(system), Some(map)) = (&spec.system, shown.as_object_mut()) {
        map.insert("system".into(), system.clone().into());
    }
    json_response(200, &shown)
}

/// The model's own parameters as text.
fn parameters(spec: &ModelSpec) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push(format!("{name:<30} {value}"));
    if let Some(num_ctx) = spec.num_ctx {
        line("num_ctx", num_ctx.to_string());
    }
    for stop in &spec.stop {
        line("stop", format!("{stop:?}"));
    }
    if let Some(temperature) = spec.temperature {
        line("temperature", temperature.to_string());
    }
    lines.join("\n")
}

fn model_info(spec: &ModelSpec) -> Value {
    let family = &spec.family;
    let counted = spec
        .parameter_count
        .or_else(|| parse_parameter_size(&spec.parameters));
    let heads = (spec.embedding_length / 128).max(1);
    // As many as make `kv_per_token` what a client computes: 128 numbers of 2 bytes in each key
    // and value.
    let kv_heads = (spec.kv_per_token / (spec.blocks.max(1) * 512)).clamp(1, heads);
    let mut info = json!({
        "general.architecture": family,
        "general.description": "simulated",
        "general.file_type": 1,
        "general.parameter_count": counted,
        "general.quantization_version": 2,
        "tokenizer.ggml.add_bos_token": false,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.merges": null,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.padding_token_id": 1,
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type": null,
        "tokenizer.ggml.tokens": null,
    });
    let own = [
        ("attention.head_count", json!(heads)),
        ("attention.head_count_kv", json!(kv_heads)),
        ("attention.layer_norm_rms_epsilon", json!(1e-5)),
        ("block_count", json!(spec.blocks)),
        ("context_length", json!(spec.context)),
        ("embedding_length", json!(spec.embedding_length)),
        ("feed_forward_length", json!(spec.embedding_length * 3)),
        ("rope.dimension_count", json!(64)),
        ("rope.freq_base", json!(10_000)),
        ("vocab_size", json!(32_000)),
    ];
    if let Some(map) = info.as_object_mut() {
        map.extend(own.map(|(key, value)| (format!("{family}.{key}"), value)));
    }
    info
}

fn tensors(spec: &ModelSpec) -> Value {
    let width = spec.embedding_length;
    let kind = &spec.quantisation;
    let mut tensors = vec![
        json!({"name": "output.weight", "type": kind, "shape": [width, 32_000]}),
        json!({"name": "output_norm.weight", "type": "F32", "shape": [width]}),
        json!({"name": "token_embd.weight", "type": kind, "shape": [width, 32_000]}),
    ];
    tensors.extend((0..spec.blocks).map(|block| {
        let name = format!("blk.{block}.attn_k.weight");
        json!({"name": name, "type": kind, "shape": [width, width]})
    }));
    Value::Array(tensors)
}

async fn chat(
    State(simulator): Shared,
    Extension(aborts): Extension<Aborts>,
    body: Bytes,
) -> Response {
    chat::native(&simulator, &aborts, &body, Shape::Chat).await
}

async fn generate(
    State(simulator): Shared,
    Extension(aborts): Extension<Aborts>,
    body: Bytes,
) -> Response {
    chat::native(&simulator, &aborts, &body, Shape::Generate).await
}

async fn completions(
    State(simulator): Shared,
    Extension(aborts): Extension<Aborts>,
    body: Bytes,
) -> Response {
    openai::completions(&simulator, &aborts, &body).await
}

async fn embed(State(simulator): Shared, body: Bytes) -> Response {
    let read = object(&body).and_then(|body| model_name(&body).map(|name| (body, name)));
    let (body, name) = match read {
        Ok(read) => read,
        Err(refusal) => return error_response(&refusal),
    };
    let Some(model) = simulator.installed(&name) else {
        return error_response(&Refusal::model_not_found(&name));
    };
    if !model
        .spec
        .capabilities
        .iter()
        .any(|word| word == "embedding")
    {
        let message = "This server does not support embeddings. Start it with `--embeddings`";
        return error_response(&Refusal::new(501, message));
    }
    let inputs: Vec<&str> = match body.get("input") {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let vector = |text: &&str| {
        let mut numbers = Numbers::of(text);
        (0..8)
            .map(|_| numbers.fraction() - 0.5)
            .collect::<Vec<f64>>()
    };
    let tokens = inputs
        .iter()
        .map(|text| text::count(text, model.spec.chars_per_token));
    json_response(
        200,
        &json!({
            "model": name,
            "embeddings": inputs.iter().map(vector).collect::<Vec<_>>(),
            "total_duration": 1_000_000, "load_duration": 500_000,
            "prompt_eval_count": tokens.sum::<u64>(),
        }),
    )
}

async fn copy(State(simulator): Shared, body: Bytes) -> Response {
    let names = object(&body).and_then(|body| {
        let name = |key: &str| match body.get(key).and_then(Value::as_str) {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(Refusal::new(400, format!("{key} is required"))),
        };
        Ok((name("source")?, name("destination")?))
    });
    let (source, destination) = match names {
        Ok(names) => names,
        Err(refusal) => return error_response(&refusal),
    };
    let Some(model) = simulator.installed(&source) else {
        return error_response(&Refusal::new(404, format!("model {source:?} not found")));
    };
    let name = ModelName::new(&destination).as_str().to_owned();
    let modified_at = simulator.clock.shown().to_string();
    let mut models = simulator.models();
    models.retain(|model| model.name != name);
    models.push(Installed {
        name,
        modified_at,
        ..model
    });
    drop(models);
    empty()
}

async fn remove(State(simulator): Shared, body: Bytes) -> Response {
    let name = match object(&body).and_then(|body| model_name(&body)) {
        Ok(name) => name,
        Err(refusal) => return error_response(&refusal),
    };
    let Some(model) = simulator.installed(&name) else {
        return error_response(&Refusal::model_not_found(&name));
    };
    simulator.models().retain(|other| other.name != model.name);
    empty()
}

fn empty() -> Response {
    Response::new(axum::body::Body::empty())
}

/// There is no registry: the answer is that of a machine without a network.
async fn pull(body: Bytes) -> Response {
    let name = match object(&body).and_then(|body| model_name(&body)) {
        Ok(name) => ModelName::new(&name),
        Err(refusal) => return error_response(&refusal),
    };
    let (path, tag) = name
        .as_str()
        .rsplit_once(':')
        .unwrap_or((name.as_str(), "latest"));
    let url = format!("https://registry.ollama.ai/v2/library/{path}/manifests/{tag}");
    let message = format!(
        "pull model manifest: Get \"{url}\": dial tcp: lookup registry.ollama.ai: no such host"
    );
    error_response(&Refusal::new(500, message))
}

fn v1_entry(model: &Installed) -> Value {
    let created: Option<jiff::Timestamp> = model.modified_at.parse().ok();
    json!({
        "id": model.name, "object": "model",
        "created": created.map_or(0, jiff::Timestamp::as_second), "owned_by": "library",
    })
}

async fn v1_models(State(simulator): Shared) -> Response {
    let data: Vec<Value> = simulator.listed().iter().map(v1_entry).collect();
    json_response(200, &json!({ "object": "list", "data": data }))
}

async fn v1_model(State(simulator): Shared, Path(id): Path<String>) -> Response {
    match simulator.installed(&id) {
        Some(model) => json_response(200, &v1_entry(&model)),
        None => openai::error(&Refusal::model_not_found(&id)),
    }
}
