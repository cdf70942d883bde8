//! Which key of a config wins, and what its absence means: transformers' rules, one small config each.

use gomlx::engine::Status;
use gomlx::engine::model::config::Config;
use gomlx::engine::model::families;
use gomlx::engine::model::spec::{Activation, DecoderSpec, RopeScaling};
use serde_json::{Value, json};

fn spec(model_type: &str, keys: Value) -> DecoderSpec {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100
    });
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    families::read(&Config::parse(&config.to_string()).unwrap()).unwrap_or_else(|fault| panic!("{fault}")).spec
}

fn windows(spec: &DecoderSpec) -> Vec<Option<usize>> {
    spec.layers.iter().map(|layer| layer.window).collect()
}

#[test]
fn what_absence_means() {
    let llama = spec("llama", json!({}));
    assert_eq!((llama.head_dim, llama.context, llama.tied_head), (16, 2048, false));
    assert_eq!((llama.norm.eps, llama.activation), (1e-6, Activation::Silu));
    assert_eq!((llama.ropes[0].theta, llama.ropes[0].scaling), (10_000.0, RopeScaling::None));
    assert!(!llama.qkv_bias && !llama.output_bias && !llama.mlp_bias);
    assert_eq!(spec("llama", json!({"num_key_value_heads": null})).kv_heads, 4);
    assert_eq!(spec("llama", json!({"head_dim": null})).head_dim, 16);
    assert_eq!(spec("qwen3", json!({})).head_dim, 128);
    assert_eq!(spec("qwen2", json!({})).context, 32_768);
    assert_eq!(spec("mistral", json!({})).context, 131_072);
    let gemma = spec("gemma3_text", json!({}));
    assert_eq!((gemma.head_dim, gemma.context, gemma.tied_head), (256, 131_072, true));
    assert_eq!(gemma.activation, Activation::GeluTanh);
}

#[test]
fn biases() {
    let llama = spec("llama", json!({"attention_bias": true, "mlp_bias": true}));
    assert!(llama.qkv_bias && llama.output_bias && llama.mlp_bias);
    let qwen2 = spec("qwen2", json!({}));
    assert!(qwen2.qkv_bias && !qwen2.output_bias);
    let qwen3 = spec("qwen3", json!({"attention_bias": true}));
    assert!(qwen3.qkv_bias && qwen3.output_bias && qwen3.qk_norm);
}

#[test]
fn mistrals_window() {
    assert_eq!(windows(&spec("mistral", json!({}))), [Some(4096); 4]);
    assert_eq!(windows(&spec("mistral", json!({"sliding_window": null}))), [None; 4]);
    assert_eq!(windows(&spec("mistral", json!({"sliding_window": 7}))), [Some(7); 4]);
}

#[test]
fn qwens_window() {
    let keys = |enabled: bool| json!({"use_sliding_window": enabled, "sliding_window": 9, "max_window_layers": 3});
    for family in ["qwen2", "qwen3"] {
        assert_eq!(windows(&spec(family, json!({"sliding_window": 9, "max_window_layers": 0}))), [None; 4]);
        assert_eq!(windows(&spec(family, keys(false))), [None; 4]);
        assert_eq!(windows(&spec(family, keys(true))), [None, None, None, Some(9)]);
        let mut listed = keys(true);
        listed["layer_types"] = json!(["sliding_attention", "full_attention", "sliding_attention", "full_attention"]);
        assert_eq!(windows(&spec(family, listed)), [Some(9), None, Some(9), None]);
        assert_eq!(
            windows(&spec(family, json!({"use_sliding_window": true, "max_window_layers": 0}))),
            [Some(4096); 4]
        );
    }
}

#[test]
fn gemmas_layers() {
    let every_third = json!({"sliding_window": 5, "sliding_window_pattern": 3, "_sliding_window_pattern": 2});
    let gemma = spec("gemma3_text", every_third);
    assert_eq!(windows(&gemma), [Some(5), Some(5), None, Some(5)]);
    assert_eq!(gemma.layers.iter().map(|layer| layer.rope).collect::<Vec<_>>(), [1, 1, 0, 1]);
    // The list beats the pattern.
    let listed = json!({
        "sliding_window": 5, "sliding_window_pattern": 3,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    });
    assert_eq!(windows(&spec("gemma3_text", listed)), [None, Some(5), Some(5), None]);
    assert_eq!(windows(&spec("gemma2", json!({"sliding_window": 5}))), [Some(5), None, Some(5), None]);
}

#[test]
fn gemmas_numbers() {
    let gemma2 = spec("gemma2", json!({"query_pre_attn_scalar": 144}));
    assert_eq!((gemma2.attention_softcap, gemma2.logit_softcap), (Some(50.0), Some(30.0)));
    assert!((gemma2.attention_scale - 1.0 / 12.0).abs() < 1e-7);
    let keys = json!({"attn_logit_softcapping": null, "final_logit_softcapping": 7.5});
    let gemma2 = spec("gemma2", keys);
    assert_eq!((gemma2.attention_softcap, gemma2.logit_softcap), (None, Some(7.5)));
    let gemma3 = spec("gemma3_text", json!({}));
    assert_eq!((gemma3.attention_softcap, gemma3.logit_softcap, gemma3.norm.offset), (None, None, 1.0));
}

#[test]
fn gemmas_embedding_scale_is_rounded_to_the_saved_type() {
    let scale = |keys: Value| spec("gemma3_text", keys).embed_scale;
    // sqrt(1152) = 33.941125…; bf16 has eight significant bits, f16 eleven.
    assert_eq!(scale(json!({"hidden_size": 1152})), 34.0);
    assert_eq!(scale(json!({"hidden_size": 1152, "torch_dtype": "bfloat16"})), 34.0);
    assert_eq!(scale(json!({"hidden_size": 1152, "torch_dtype": "float16"})), 33.9375);
    assert_eq!(scale(json!({"hidden_size": 1152, "dtype": "float32"})), 1152f32.sqrt());
    assert_eq!(scale(json!({"hidden_size": 1152, "dtype": "float32", "torch_dtype": "bfloat16"})), 1152f32.sqrt());
}

#[test]
fn gemmas_text_part() {
    let text = json!({"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 3, "sliding_window": 6});
    let parse = |config: Value| families::read(&Config::parse(&config.to_string()).unwrap());
    let spec = parse(json!({"model_type": "gemma3", "text_config": text, "dtype": "float32"})).unwrap().spec;
    assert_eq!((spec.heads, spec.kv_heads, spec.head_dim, spec.vocab), (8, 4, 256, 262_208));
    assert_eq!((spec.hidden, spec.layers.len(), spec.tied_head), (2560, 3, true));
    assert_eq!(spec.embed_scale, 2560f32.sqrt());
    let fault = parse(json!({"model_type": "gemma3", "hidden_size": 64})).unwrap_err();
    assert_eq!((fault.status(), fault.message()), (Status::Format, "config.json: text_config: missing"));
    let fault = parse(json!({"model_type": "gemma3", "text_config": {"num_hidden_layers": -1}})).unwrap_err();
    assert!(fault.message().starts_with("config.json: text_config.num_hidden_layers: -1, expected"), "{fault}");
    let fault = parse(json!({"model_type": "gemma3_text", "use_bidirectional_attention": true})).unwrap_err();
    assert_eq!(fault.status(), Status::Unsupported);
    assert!(fault.message().contains("use_bidirectional_attention: true"), "{fault}");
}

#[test]
fn new_rope_keys_beat_old_ones() {
    let keys = json!({
        "rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}
    });
    let rope = spec("llama", keys).ropes[0];
    assert_eq!((rope.theta, rope.scaling), (5e5, RopeScaling::Linear { factor: 4.0 }));
    // `rope_parameters` without a theta takes the outer one; an entry for each layer type is looked into.
    let rope = spec("llama", json!({"rope_theta": 7e4, "rope_parameters": {"rope_type": "default"}})).ropes[0];
    assert_eq!((rope.theta, rope.scaling), (7e4, RopeScaling::None));
    let keys = json!({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 3e5}}});
    assert_eq!(spec("qwen3", keys).ropes[0].theta, 3e5);
    let keys = json!({
        "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 2e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 3e4}
        }
    });
    let ropes = spec("gemma3_text", keys).ropes;
    assert_eq!(
        ropes.iter().map(|rope| (rope.theta, rope.scaling)).collect::<Vec<_>>(),
        [(2e6, RopeScaling::None), (3e4, RopeScaling::None)]
    );
    // The old scaling is the global layers' only.
    let keys = json!({"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_local_base_freq": 2e4});
    let ropes = spec("gemma3_text", keys).ropes;
    assert_eq!((ropes[0].theta, ropes[0].scaling), (1e6, RopeScaling::Linear { factor: 8.0 }));
    assert_eq!((ropes[1].theta, ropes[1].scaling), (2e4, RopeScaling::None));
}

#[test]
fn yarn_as_qwens_card_writes_it() {
    let keys = json!({
        "max_position_embeddings": 32768,
        "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    });
    let qwen = spec("qwen2", keys);
    assert_eq!(qwen.context, 131_072);
    let RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, attention_factor, truncate } =
        qwen.ropes[0].scaling
    else {
        panic!("{:?}", qwen.ropes)
    };
    assert_eq!((factor, beta_fast, beta_slow, original_context, truncate), (4.0, 32.0, 1.0, 32768, true));
    assert!((attention_factor - 1.138_629_436_1).abs() < 1e-9);
    let keys = json!({
        "max_position_embeddings": 131072,
        "rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 4096, "attention_factor": 1.5}
    });
    let RopeScaling::Yarn { factor, attention_factor, .. } = spec("llama", keys).ropes[0].scaling else { panic!() };
    assert_eq!((factor, attention_factor), (32.0, 1.5));
}
