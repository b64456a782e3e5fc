//! From the keys of a model file (`model_info` of `/api/show`) to the facts of its build.
//!
//! Keys begin with the architecture's name. `head_count_kv` is one number, or one for each layer
//! where layers differ; 0 is a layer without attention.

use serde_json::{Map, Value};

use crate::core::vram::Architecture;

/// What `info` says; `None` when it names no architecture.
pub(super) fn architecture_from(info: &Map<String, Value>) -> Option<Architecture> {
    let name = info.get("general.architecture")?.as_str()?.to_owned();
    let get = |key: &str| info.get(&format!("{name}.{key}"));
    let number = |key: &str| get(key).and_then(whole);
    let layers = number("block_count");
    let attending = attention_layers(layers, number("full_attention_interval"));
    let kv_heads = get("attention.head_count_kv").or_else(|| get("attention.head_count"));
    let heads = get("attention.head_count").map(each);
    let window = number("attention.sliding_window").filter(|tokens| *tokens > 0);
    Some(Architecture {
        layers,
        heads: heads.and_then(|heads| heads.into_iter().max()),
        kv_heads: kv_heads.and_then(|value| total(value, attending)),
        kv_heads_least: kv_heads.and_then(|value| each(value).into_iter().filter(|n| *n > 0).min()),
        key_length: number("attention.key_length"),
        value_length: number("attention.value_length"),
        embedding: number("embedding_length"),
        vocabulary: number("vocab_size"),
        window,
        window_layers: window.and(windows(
            &name,
            get("attention.sliding_window_pattern"),
            layers,
        )),
        recurrent: recurrent(&number, layers, attending),
        name,
    })
}

fn whole(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// One number, or all of a list.
fn each(value: &Value) -> Vec<u32> {
    match value {
        Value::Array(items) => items.iter().filter_map(whole).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            whole(value).into_iter().collect()
        }
    }
}

/// Of all layers together.
fn total(value: &Value, layers: Option<u32>) -> Option<u32> {
    if value.is_array() {
        return Some(each(value).into_iter().fold(0, u32::saturating_add));
    }
    whole(value)?.checked_mul(layers?)
}

/// Layers with attention: in some architectures only every n-th has it, the others are recurrent.
fn attention_layers(layers: Option<u32>, interval: Option<u32>) -> Option<u32> {
    match interval {
        Some(every) if every > 1 => layers.map(|layers| layers / every),
        Some(_) | None => layers,
    }
}

/// Layers that see only a window: told by a list or by a period; for some architectures the period
/// is fixed in their code (every n-th layer sees everything). Where neither tells, none: Mistral
/// and Qwen have the key and attend to everything.
fn windows(name: &str, pattern: Option<&Value>, layers: Option<u32>) -> Option<u32> {
    let period = match pattern {
        Some(Value::Array(items)) => {
            let windowed = items.iter().filter(|item| item.as_bool() == Some(true));
            return u32::try_from(windowed.count()).ok();
        }
        Some(value) => whole(value)?,
        None => match name {
            "gemma2" | "gpt-oss" | "gptoss" => 2,
            "cohere2" => 4,
            "gemma3n" => 5,
            "gemma3" => 6,
            _other => return None,
        },
    };
    let layers = layers?;
    Some(layers - layers.checked_div(period)?)
}

/// Numbers that recurrent layers keep of a sequence: the convolution's last inputs and the state.
fn recurrent(
    number: &impl Fn(&str) -> Option<u32>,
    layers: Option<u32>,
    attending: Option<u32>,
) -> Option<u64> {
    let inner = u64::from(number("ssm.inner_size")?);
    let state = u64::from(number("ssm.state_size")?);
    let kernel = u64::from(number("ssm.conv_kernel").unwrap_or(1));
    let groups = u64::from(number("ssm.group_count").unwrap_or(0));
    let (layers, attending) = (layers?, attending?);
    let of = if attending < layers {
        layers - attending
    } else {
        layers
    };
    let a_layer = kernel.saturating_sub(1) * (inner + 2 * groups * state) + inner * state;
    Some(u64::from(of) * a_layer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(info: &Value) -> Architecture {
        architecture_from(info.as_object().unwrap()).unwrap()
    }

    #[test]
    fn the_build_of_llama_8b_is_read() {
        let build = read(&json!({
            "general.architecture": "llama", "llama.attention.head_count": 32,
            "llama.attention.head_count_kv": 8, "llama.block_count": 32,
            "llama.embedding_length": 4096, "llama.vocab_size": 128_256,
            "llama.context_length": 131_072, "tokenizer.ggml.tokens": null,
        }));
        let expected = Architecture {
            name: "llama".into(),
            layers: Some(32),
            heads: Some(32),
            kv_heads: Some(256),
            kv_heads_least: Some(8),
            embedding: Some(4_096),
            vocabulary: Some(128_256),
            ..Architecture::default()
        };
        assert_eq!(build, expected);
        assert_eq!((build.key(), build.value()), (Some(128), Some(128)));
    }

    #[test]
    fn layers_may_differ_in_their_heads() {
        let build = read(&json!({
            "general.architecture": "lfm2", "lfm2.block_count": 4,
            "lfm2.attention.head_count": 32, "lfm2.attention.head_count_kv": [0, 8, 0, 4],
        }));
        assert_eq!((build.kv_heads, build.kv_heads_least), (Some(12), Some(4)));
    }

    #[test]
    fn a_window_counts_only_where_it_is_known_which_layers_have_it() {
        let with = |name: &str, pattern: Value| {
            let info = json!({
                "general.architecture": name, format!("{name}.block_count"): 34,
                format!("{name}.attention.sliding_window"): 1024,
                format!("{name}.attention.sliding_window_pattern"): pattern,
            });
            let mut info = info.as_object().unwrap().clone();
            info.retain(|_, value| !value.is_null());
            architecture_from(&info).unwrap().window_layers
        };
        assert_eq!(with("gemma3", Value::Null), Some(29));
        assert_eq!(with("mistral", Value::Null), None);
        assert_eq!(with("mistral", json!(2)), Some(17));
        assert_eq!(with("gemma4", json!([true, true, false])), Some(2));
    }

    #[test]
    fn recurrent_layers_keep_no_context() {
        // qwen3next: 48 layers, every 4th attends; the state of the others does not grow.
        let build = read(&json!({
            "general.architecture": "qwen3next", "qwen3next.block_count": 48,
            "qwen3next.full_attention_interval": 4, "qwen3next.attention.head_count": 16,
            "qwen3next.attention.head_count_kv": 2, "qwen3next.ssm.inner_size": 4096,
            "qwen3next.ssm.state_size": 128, "qwen3next.ssm.conv_kernel": 4,
            "qwen3next.ssm.group_count": 16,
        }));
        assert_eq!(build.kv_heads, Some(24));
        assert_eq!(build.recurrent, Some(36 * (3 * 8_192 + 4_096 * 128)));
        assert!(build.is_single_slot());
    }

    #[test]
    fn a_file_without_an_architecture_says_nothing() {
        assert_eq!(architecture_from(&Map::new()), None);
    }
}
