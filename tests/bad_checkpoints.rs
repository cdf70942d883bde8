//! Folders, configs and checkpoints that are wrong: each is refused with the right status and a message that names
//! the file, key, tensor or offset, mapped and read in; and what is right loads.

use std::path::Path;

use gomlx::engine::model::load::{LoadOptions, LoadedModel, inspect, load};
use gomlx::engine::weights::WeightsMode;
use gomlx::engine::{Control, Status};
use serde_json::{Value, json};

#[path = "common/checkpoint.rs"]
mod checkpoint;
use checkpoint::{Folder, HIDDEN, Tiny, VOCAB, floats, parts, raw_safetensors, safetensors, zeros};

fn open(path: &Path, weights: WeightsMode) -> gomlx::engine::Result<LoadedModel> {
    load(path, &LoadOptions { weights, control: None })
}

/// Refused in both modes, with this status and a one-line message that has these parts.
#[track_caller]
fn refused(path: &Path, status: Status, parts: &[&str]) {
    for mode in [WeightsMode::Mapped, WeightsMode::Read] {
        let fault = open(path, mode).expect_err("must be refused");
        assert_eq!(fault.status(), status, "{fault}");
        for part in parts {
            assert!(fault.message().contains(part), "\"{fault}\" lacks \"{part}\"");
        }
        assert!(!fault.message().contains('\n'), "{fault}");
    }
}

/// The same, and a look at the headers alone finds it too.
#[track_caller]
fn seen(path: &Path, status: Status, parts: &[&str]) {
    refused(path, status, parts);
    let looked = inspect(path).expect_err("must be seen");
    assert_eq!(looked, open(path, WeightsMode::Mapped).unwrap_err());
}

#[test]
fn right_ones_load() {
    for tiny in [Tiny::llama(), Tiny::quantised(4, 32), Tiny::quantised(3, 64), Tiny::quantised(8, 32)] {
        let folder = tiny.write();
        for mode in [WeightsMode::Mapped, WeightsMode::Read] {
            let model = open(folder.path(), mode).unwrap();
            assert_eq!(model.spec.layers.len(), 2);
            assert_eq!(model.tensors.norm.len(), HIDDEN);
            assert_eq!(inspect(folder.path()).unwrap(), model.summary);
        }
        let (folder, _) = tiny.write_sharded(7);
        assert_eq!(open(folder.path(), WeightsMode::Mapped).unwrap().summary.vocab, VOCAB);
        std::fs::remove_file(folder.file("model.safetensors.index.json")).unwrap();
        assert_eq!(open(folder.path(), WeightsMode::Mapped).unwrap().summary.vocab, VOCAB);
    }
}

#[test]
fn one_weight_file_of_a_folder_loads() {
    let folder = Tiny::llama().write();
    std::fs::rename(folder.file("model.safetensors"), folder.file("other.safetensors")).unwrap();
    assert!(open(&folder.file("other.safetensors"), WeightsMode::Mapped).is_ok());
}

mod paths {
    use super::*;

    #[test]
    fn missing() {
        refused(Path::new("/no/such/model"), Status::Io, &["/no/such/model", "No such file"]);
        refused(Path::new(""), Status::Io, &["No such file"]);
    }

    #[test]
    fn not_a_folder() {
        let folder = Tiny::llama().write();
        seen(&folder.file("config.json"), Status::Io, &["config.json: not a folder"]);
    }

    #[test]
    fn empty_folder() {
        let folder = Folder::new();
        seen(folder.path(), Status::Io, &["config.json: No such file"]);
    }

    #[test]
    fn no_weights() {
        let folder = Tiny::llama().write();
        std::fs::remove_file(folder.file("model.safetensors")).unwrap();
        seen(folder.path(), Status::Io, &["no .safetensors file"]);
    }

    #[test]
    fn config_is_a_folder() {
        let folder = Tiny::llama().write();
        std::fs::remove_file(folder.file("config.json")).unwrap();
        std::fs::create_dir(folder.file("config.json")).unwrap();
        seen(folder.path(), Status::Io, &["config.json: a folder, not a file"]);
    }

    #[cfg(unix)]
    #[test]
    fn weights_are_a_pipe() {
        let folder = Tiny::llama().write();
        let path = folder.file("model.safetensors");
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        seen(folder.path(), Status::Io, &["model.safetensors: a pipe, socket or device, not a file"]);
    }

    #[cfg(unix)]
    #[test]
    fn no_permission() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Tiny::llama().write();
        let path = folder.file("model.safetensors");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        if std::fs::File::open(&path).is_ok() {
            println!("skipped: this user may read everything");
            return;
        }
        seen(folder.path(), Status::Io, &["model.safetensors: Permission denied"]);
    }

    #[cfg(unix)]
    #[test]
    fn dangling_link() {
        let folder = Tiny::llama().write();
        std::fs::remove_file(folder.file("model.safetensors")).unwrap();
        std::os::unix::fs::symlink("/no/such/blob", folder.file("model.safetensors")).unwrap();
        refused(folder.path(), Status::Io, &["model.safetensors: No such file"]);
    }
}

mod configs {
    use super::*;

    #[track_caller]
    fn text(config: &str, status: Status, parts: &[&str]) {
        let folder = Tiny::llama().write();
        folder.write("config.json", config);
        seen(folder.path(), status, parts);
    }

    #[track_caller]
    fn with(key: &str, value: Value, status: Status, parts: &[&str]) {
        let folder = Tiny::llama().with(key, value).write();
        seen(folder.path(), status, parts);
    }

    #[test]
    fn not_json() {
        text("", Status::Format, &["config.json: not JSON"]);
        text("{\"model_type\": ", Status::Format, &["config.json: not JSON", "line 1"]);
        text("[1, 2]", Status::Format, &["config.json: not a JSON object"]);
        text(&"[".repeat(100_000), Status::Format, &["config.json: not JSON", "recursion"]);
        let folder = Tiny::llama().write();
        folder.write("config.json", b"{\"model_type\": \"\xff\"}");
        seen(folder.path(), Status::Format, &["config.json: not UTF-8 at byte 16"]);
    }

    #[test]
    fn model_type() {
        let folder = Tiny::llama().lacking("model_type").write();
        seen(folder.path(), Status::Format, &["config.json: model_type: missing"]);
        with("model_type", json!(3), Status::Format, &["config.json: model_type: 3, expected a string"]);
        for name in ["mamba", "gpt2", "deepseek_v3", ""] {
            with("model_type", json!(name), Status::Unsupported, &["config.json: model_type", &format!("\"{name}\"")]);
        }
    }

    #[test]
    fn missing_sizes() {
        for key in ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"] {
            let folder = Tiny::llama().lacking(key).write();
            seen(folder.path(), Status::Format, &[&format!("config.json: {key}: missing")]);
        }
    }

    #[test]
    fn absurd_sizes() {
        let keys = [
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "max_position_embeddings",
        ];
        for key in keys {
            for value in
                [json!(0), json!(-1), json!(1u64 << 40), json!(1.5), json!(1e300), json!("64"), json!([64]), json!({})]
            {
                with(key, value, Status::Format, &[&format!("config.json: {key}: "), "expected an integer from 1"]);
            }
        }
    }

    #[test]
    fn sizes_that_overflow() {
        let wide = json!(1 << 24);
        with("num_attention_heads", wide.clone(), Status::Format, &["config.json: num_attention_heads", "wider"]);
        let folder = Tiny::llama()
            .with("hidden_size", wide.clone())
            .with("intermediate_size", wide.clone())
            .with("vocab_size", wide)
            .with("num_hidden_layers", json!(4096))
            .write();
        seen(folder.path(), Status::Format, &["config.json: hidden_size", "overflow"]);
        let folder = Tiny::llama()
            .with("max_position_embeddings", json!(1 << 27))
            .with("num_hidden_layers", json!(4096))
            .with("num_attention_heads", json!(1 << 15))
            .with("num_key_value_heads", json!(1 << 15))
            .with("head_dim", json!(1 << 9))
            .write();
        seen(folder.path(), Status::Format, &["config.json: max_position_embeddings", "overflow"]);
    }

    #[test]
    fn sizes_that_contradict() {
        with("num_key_value_heads", json!(3), Status::Format, &["num_key_value_heads: 3", "num_attention_heads 2"]);
        with("head_dim", json!(31), Status::Format, &["head_dim: 31", "odd"]);
        let folder = Tiny::llama().with("num_attention_heads", json!(3)).lacking("head_dim").write();
        seen(folder.path(), Status::Format, &["num_attention_heads: 3", "hidden_size 64"]);
    }

    #[test]
    fn other_keys() {
        with("rms_norm_eps", json!(-1e-5), Status::Format, &["config.json: rms_norm_eps: -0.00001"]);
        with("rms_norm_eps", json!("small"), Status::Format, &["rms_norm_eps: \"small\", expected a number"]);
        with("rope_theta", json!(0), Status::Format, &["config.json: rope_theta"]);
        with("rope_theta", json!(1), Status::Format, &["config.json: rope_theta"]);
        with("hidden_act", json!("relu"), Status::Unsupported, &["config.json: hidden_act: \"relu\""]);
        with("hidden_act", json!(1), Status::Format, &["config.json: hidden_act: 1"]);
        with("tie_word_embeddings", json!("no"), Status::Format, &["config.json: tie_word_embeddings: \"no\""]);
        with("eos_token_id", json!(-5), Status::Format, &["config.json: eos_token_id: -5"]);
        with("eos_token_id", json!([1, "x"]), Status::Format, &["config.json: eos_token_id: \"x\""]);
        with("text_config", json!([]), Status::Format, &["config.json: text_config: not an object"]);
    }

    #[test]
    fn rope() {
        let scaling = |value: Value, status: Status, parts: &[&str]| with("rope_scaling", value, status, parts);
        scaling(json!("linear"), Status::Format, &["config.json: rope_scaling: \"linear\", expected an object"]);
        scaling(json!({"type": "linear"}), Status::Format, &["config.json: rope_scaling.factor: missing"]);
        scaling(json!({"type": "linear", "factor": 0}), Status::Format, &["rope_scaling.factor: 0"]);
        for name in ["dynamic", "longrope", "mrope", "proportional"] {
            let parts = ["config.json: rope_scaling.rope_type", name];
            scaling(json!({"rope_type": name, "factor": 2.0}), Status::Unsupported, &parts);
        }
        let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0});
        scaling(llama3, Status::Format, &["rope_scaling.high_freq_factor: 4"]);
        let partial = json!({"rope_type": "default", "partial_rotary_factor": 0.5, "rope_theta": 1e4});
        with("rope_parameters", partial, Status::Unsupported, &["rope_parameters.partial_rotary_factor: 0.5"]);
    }

    #[test]
    fn layers() {
        let qwen = Tiny::llama().with("model_type", json!("qwen3"));
        let folder = qwen.clone().with("layer_types", json!(["full_attention"])).write();
        seen(folder.path(), Status::Format, &["config.json: layer_types: 1 entries", "num_hidden_layers is 2"]);
        let folder = qwen.clone().with("layer_types", json!(["full_attention", "linear_attention"])).write();
        seen(folder.path(), Status::Unsupported, &["config.json: layer_types: \"linear_attention\""]);
        let folder = qwen.with("layer_types", json!(["full_attention", "sliding_attention"])).write();
        seen(folder.path(), Status::Format, &["config.json: sliding_window: none"]);
    }

    #[test]
    fn quantisation_block() {
        with("quantization", json!(4), Status::Format, &["config.json: quantization: not an object"]);
        with("quantization", json!({"bits": 4}), Status::Format, &["config.json: quantization: group_size"]);
        let block = json!({"bits": -4, "group_size": 64});
        with("quantization", block, Status::Format, &["config.json: quantization: bits: -4"]);
        let block = json!({"bits": 4, "group_size": 64, "lm_head": {"bits": 4}});
        with("quantization", block, Status::Format, &["config.json: quantization: lm_head: group_size"]);
        let block = json!({"quant_method": "gptq", "bits": 4, "group_size": 128});
        with("quantization_config", block, Status::Unsupported, &["quantization_config.quant_method: \"gptq\""]);
    }

    #[test]
    fn generation_config() {
        let folder = Tiny::llama().write();
        folder.write("generation_config.json", "{");
        seen(folder.path(), Status::Format, &["generation_config.json: not JSON"]);
        folder.write("generation_config.json", r#"{"eos_token_id": "end"}"#);
        seen(folder.path(), Status::Format, &["generation_config.json: eos_token_id: \"end\""]);
        folder.write("generation_config.json", r#"{"eos_token_id": [7, 2], "bos_token_id": 3}"#);
        let summary = inspect(folder.path()).unwrap();
        assert_eq!((summary.eos, summary.bos), (vec![7, 2], Some(3)));
    }
}

mod headers {
    use super::*;

    /// The tiny Llama's file after `bend` has had its header and data.
    #[track_caller]
    fn bent(bend: impl Fn(&mut Value, &mut Vec<u8>), parts_of_message: &[&str]) {
        let tiny = Tiny::llama();
        let folder = tiny.write();
        let (mut header, mut data) = parts(&tiny.tensors);
        bend(&mut header, &mut data);
        folder.write("model.safetensors", raw_safetensors(&header.to_string(), &data));
        seen(folder.path(), Status::Format, &[&["model.safetensors: "], parts_of_message].concat());
    }

    #[track_caller]
    fn bytes(file: &[u8], parts_of_message: &[&str]) {
        let folder = Tiny::llama().write();
        folder.write("model.safetensors", file);
        seen(folder.path(), Status::Format, &[&["model.safetensors: "], parts_of_message].concat());
    }

    const EMBED: &str = "model.embed_tokens.weight";

    #[test]
    fn too_short() {
        bytes(b"", &["an empty file"]);
        bytes(b"1234567", &["7 bytes, too few"]);
    }

    #[test]
    fn length_lies() {
        let good = safetensors(&Tiny::llama().tensors);
        for length in [u64::MAX, 1 << 63, 1 << 40, 100_000_001] {
            bytes(&[&length.to_le_bytes(), &good[8..]].concat(), &[&format!("header length {length}"), "offset 0"]);
        }
        let length = good.len() as u64;
        bytes(&[&length.to_le_bytes(), &good[8..]].concat(), &[&format!("header length {length}"), "end of the file"]);
        let length = u64::from_le_bytes(good[..8].try_into().unwrap());
        bytes(&[&(length - 3).to_le_bytes(), &good[8..]].concat(), &["is not JSON"]);
        bytes(&[&(length + 40).to_le_bytes(), &good[8..]].concat(), &["is not JSON"]);
        bytes(&raw_safetensors("[]", b""), &["not a JSON object"]);
        bytes(&raw_safetensors("\u{0}\u{1}", b""), &["is not JSON"]);
        bytes(&[&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(), &["is not JSON"]);
    }

    #[test]
    fn truncated() {
        let good = safetensors(&Tiny::llama().tensors);
        let cut = good.len() - 1;
        bytes(&good[..cut], &["lm_head.weight: data_offsets", "pass the file's"]);
        bytes(&good[..good.len() / 2], &["data_offsets", "pass the file's"]);
        bytes(&good[..100], &["header length", "passes the end of the file at 100"]);
    }

    #[test]
    fn bytes_left_over() {
        bent(|_, data| data.extend([0; 8]), &["the tensors end at offset"]);
    }

    #[test]
    fn offsets() {
        bent(|header, _| header[EMBED]["data_offsets"] = json!([0, u64::MAX]), &[EMBED, "data_offsets"]);
        bent(|header, _| header[EMBED]["data_offsets"] = json!([8192, 0]), &[EMBED, "run backwards"]);
        bent(|header, _| header[EMBED]["data_offsets"] = json!([-1, 8191]), &[EMBED, "data_offsets is not a list"]);
        bent(|header, _| header[EMBED]["data_offsets"] = json!([0]), &[EMBED, "1 entries"]);
        bent(|header, _| header[EMBED]["data_offsets"] = json!("all"), &[EMBED, "data_offsets is not a list"]);
        let norm = "model.layers.0.input_layernorm.weight";
        bent(|header, _| header[norm]["data_offsets"] = json!([8000, 8256]), &["overlap"]);
        bent(|header, _| header[norm]["data_offsets"] = json!([8200, 8456]), &["hole after offset 8192"]);
        let outside = json!([1u64 << 40, (1u64 << 40) + 256]);
        bent(|header, _| header[norm]["data_offsets"] = outside.clone(), &["hole", "8192"]);
    }

    #[test]
    fn sizes() {
        bent(|header, _| header[EMBED]["shape"] = json!([VOCAB, HIDDEN + 1]), &[EMBED, "takes 8320 bytes", "8192"]);
        bent(|header, _| header[EMBED]["shape"] = json!([1u64 << 62, 1u64 << 62]), &[EMBED, "overflows"]);
        bent(|header, _| header[EMBED]["shape"] = json!([-1, 64]), &[EMBED, "shape is not a list"]);
        bent(|header, _| header[EMBED]["shape"] = Value::Null, &[EMBED, "shape is not a list"]);
    }

    #[test]
    fn dtypes() {
        bent(|header, _| header[EMBED]["dtype"] = json!("Q4_K"), &[EMBED, "unknown dtype \"Q4_K\""]);
        bent(|header, _| header[EMBED]["dtype"] = json!(4), &[EMBED, "no dtype"]);
        bent(|header, _| header[EMBED] = json!([]), &[EMBED, "no dtype"]);
    }
}

mod shards {
    use super::*;

    const INDEX: &str = "model.safetensors.index.json";

    #[test]
    fn missing() {
        let (folder, _) = Tiny::llama().write_sharded(7);
        std::fs::remove_file(folder.file("model-00002-of-00002.safetensors")).unwrap();
        seen(folder.path(), Status::Io, &["model-00002-of-00002.safetensors", INDEX, "missing"]);
    }

    #[test]
    fn truncated() {
        let (folder, _) = Tiny::llama().write_sharded(7);
        let path = folder.file("model-00002-of-00002.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
        seen(folder.path(), Status::Format, &["model-00002-of-00002.safetensors: ", "data_offsets"]);
    }

    #[track_caller]
    fn index(bend: impl Fn(&mut Value), status: Status, parts: &[&str]) {
        let (folder, mut index) = Tiny::llama().write_sharded(7);
        bend(&mut index);
        folder.write(INDEX, index.to_string());
        seen(folder.path(), status, parts);
    }

    #[test]
    fn index_lies() {
        let first = json!("model-00001-of-00002.safetensors");
        index(
            |index| index["weight_map"]["model.extra"] = first.clone(),
            Status::Format,
            &[INDEX, "model.extra is not in"],
        );
        let wrong = |index: &mut Value| index["weight_map"]["lm_head.weight"] = first.clone();
        index(wrong, Status::Format, &[INDEX, "lm_head.weight is in model-00002", "not in model-00001"]);
        index(|index| *index = json!({}), Status::Format, &[INDEX, "weight_map: missing"]);
        index(|index| index["weight_map"] = json!({}), Status::Format, &[INDEX, "weight_map: empty"]);
        index(|index| index["weight_map"]["x"] = json!(7), Status::Format, &[INDEX, "x: 7 is not a file name"]);
    }

    #[test]
    fn index_leads_elsewhere() {
        for name in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", ""] {
            let parts = [INDEX, "weight_map: x", "not a file name in this folder"];
            index(|index| index["weight_map"]["x"] = json!(name), Status::Format, &parts);
        }
    }

    #[test]
    fn index_is_not_json() {
        let (folder, _) = Tiny::llama().write_sharded(7);
        folder.write(INDEX, "{");
        seen(folder.path(), Status::Format, &[INDEX, "not JSON"]);
    }

    #[test]
    fn twice() {
        let mut tiny = Tiny::llama();
        let again = tiny.tensors[0].clone();
        tiny.tensors.push(again);
        let (folder, _) = tiny.write_sharded(7);
        let parts = ["model-00002-of-00002.safetensors: model.embed_tokens.weight is in model-00001-of-00002"];
        seen(folder.path(), Status::Format, &parts);
    }
}

mod tensors {
    use super::*;

    const Q: &str = "model.layers.1.self_attn.q_proj";

    #[test]
    fn absent() {
        for tensor in &Tiny::llama().tensors {
            let folder = Tiny::llama().without(&tensor.name).write();
            seen(folder.path(), Status::Format, &["model.safetensors: ", &tensor.name, "absent"]);
        }
        let (folder, _) = Tiny::llama().without("model.norm.weight").write_sharded(7);
        seen(folder.path(), Status::Format, &["model.norm.weight: absent"]);
    }

    #[test]
    fn wrong_shape() {
        for tensor in Tiny::llama().tensors {
            let mut tiny = Tiny::llama();
            let mut shape = tensor.shape.clone();
            shape[0] += 1;
            *tiny.tensor(&tensor.name) = floats(&tensor.name, &shape);
            let parts = ["model.safetensors: ", &tensor.name, &format!("{shape:?}"), &format!("{:?}", tensor.shape)];
            seen(tiny.write().path(), Status::Format, &parts);
        }
        let mut tiny = Tiny::llama();
        let name = format!("{Q}.weight");
        *tiny.tensor(&name) = floats(&name, &[64 * HIDDEN]);
        seen(tiny.write().path(), Status::Format, &[&name, "[4096]", "[64, 64]"]);
    }

    #[test]
    fn wrong_dtype() {
        let name = format!("{Q}.weight");
        for (dtype, width, status) in [
            ("I64", 8, Status::Unsupported),
            ("F8_E4M3", 1, Status::Unsupported),
            ("U8", 1, Status::Format),
            ("U32", 4, Status::Format),
        ] {
            let mut tiny = Tiny::llama();
            *tiny.tensor(&name) = zeros(&name, dtype, width, &[64, HIDDEN]);
            seen(tiny.write().path(), status, &["model.safetensors: ", &name, dtype]);
        }
        let norm = "model.norm.weight";
        let mut tiny = Tiny::llama();
        *tiny.tensor(norm) = zeros(norm, "U32", 4, &[HIDDEN]);
        seen(tiny.write().path(), Status::Format, &[norm, "U32"]);
    }

    #[test]
    fn what_no_decoder_uses_is_ignored() {
        let mut tiny = Tiny::llama();
        tiny.tensors.push(zeros("model.layers.0.self_attn.rotary_emb.inv_freq", "I64", 8, &[16]));
        tiny.tensors.push(zeros("vision_tower.patch.weight", "F8_E4M3", 1, &[4, 4]));
        tiny.tensors.push(floats(&format!("{Q}.bias"), &[64]));
        assert!(open(tiny.write().path(), WeightsMode::Mapped).is_ok());
    }

    #[test]
    fn norms_that_are_not_numbers() {
        let norm = "model.layers.1.input_layernorm.weight";
        let mut tiny = Tiny::llama();
        tiny.tensor(norm).bytes[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
        refused(tiny.write().path(), Status::Format, &["model.safetensors: ", norm, "element 5", "finite"]);
    }

    #[test]
    fn tied_heads() {
        let tied = || Tiny::llama().with("tie_word_embeddings", json!(true));
        let head = |tiny: Tiny| open(tiny.write().path(), WeightsMode::Mapped).unwrap();
        assert!(head(tied().without("lm_head.weight")).spec.tied_head);
        // As transformers 5: a head of its own counts, a copy of the table does not.
        assert!(!head(tied()).spec.tied_head);
        let mut copied = tied();
        copied.tensor("lm_head.weight").bytes = tied().tensor("model.embed_tokens.weight").bytes.clone();
        assert!(head(copied).tensors.head.is_none());
        assert!(head(tied().without("model.embed_tokens.weight")).spec.tied_head);
    }
}

mod quantised {
    use super::*;

    const Q: &str = "model.layers.1.self_attn.q_proj";

    #[test]
    fn scales_that_are_not_numbers() {
        for (suffix, value) in [("scales", f32::NAN), ("biases", f32::INFINITY), ("scales", f32::NEG_INFINITY)] {
            let name = format!("{Q}.{suffix}");
            let mut tiny = Tiny::quantised(4, 32);
            tiny.tensor(&name).bytes[28..32].copy_from_slice(&value.to_le_bytes());
            let folder = tiny.write();
            refused(folder.path(), Status::Format, &["model.safetensors: ", &name, "element 7", "finite"]);
            assert!(inspect(folder.path()).is_ok(), "only values show it");
        }
    }

    #[track_caller]
    fn block(block: Value, status: Status, parts: &[&str]) {
        seen(Tiny::quantised(4, 32).with("quantization", block).write().path(), status, parts);
    }

    #[test]
    fn block_contradicts_the_tensors() {
        let first = ["model.embed_tokens.weight: ", "4 bits", "block says 8"];
        block(json!({"group_size": 32, "bits": 8}), Status::Format, &first);
        let first = ["model.embed_tokens.scales: ", "groups of 32", "block says 64"];
        block(json!({"group_size": 64, "bits": 4}), Status::Format, &first);
        let params = json!({"group_size": 32, "bits": 6});
        block(json!({"group_size": 32, "bits": 4, Q: params}), Status::Format, &[Q, "4 bits", "says 6"]);
        let parts = [Q, ".scales: ", "quantization block says", "false"];
        block(json!({"group_size": 32, "bits": 4, Q: false}), Status::Format, &parts);
    }

    #[test]
    fn other_modes() {
        for mode in ["mxfp4", "nvfp4", "mxfp8", "ternary"] {
            let params = json!({"group_size": 32, "bits": 4, "mode": mode});
            block(params, Status::Unsupported, &["model.safetensors: model.embed_tokens.weight", mode]);
        }
    }

    #[test]
    fn parts_missing() {
        let folder = Tiny::quantised(4, 32).without(&format!("{Q}.biases")).write();
        seen(folder.path(), Status::Format, &["model.safetensors: ", &format!("{Q}.biases"), "absent"]);
        let folder = Tiny::quantised(4, 32).without(&format!("{Q}.scales")).write();
        seen(folder.path(), Status::Format, &["model.safetensors: ", &format!("{Q}.weight"), "scales"]);
    }

    #[test]
    fn shapes() {
        let bent = |name: &str, shape: &[usize], dtype: &'static str, width: usize, parts: &[&str]| {
            let mut tiny = Tiny::quantised(4, 32).lacking("quantization");
            *tiny.tensor(name) = zeros(name, dtype, width, shape);
            seen(tiny.write().path(), Status::Format, &[&["model.safetensors: ", name], parts].concat());
        };
        let (weight, scales, biases) = (format!("{Q}.weight"), format!("{Q}.scales"), format!("{Q}.biases"));
        bent(&weight, &[64, 14], "U32", 4, &["[64, 14]", "64 inputs"]);
        bent(&weight, &[64, 0], "U32", 4, &["[64, 0]", "64 inputs"]);
        bent(&weight, &[63, 8], "U32", 4, &["[63, 8]", "[64, words]"]);
        bent(&weight, &[64, 8], "F32", 4, &["F32", "expected U32"]);
        bent(&scales, &[64, 3], "F32", 4, &["[64, 3]", "groups of 32, 64 or 128"]);
        bent(&scales, &[64, 4], "F32", 4, &["[64, 4]", "groups of 32, 64 or 128"]);
        bent(&scales, &[64, 0], "F32", 4, &["[64, 0]", "groups of 32, 64 or 128"]);
        bent(&scales, &[32, 2], "F32", 4, &["[32, 2]", "[64, groups]"]);
        bent(&scales, &[64, 2], "U32", 4, &["U32", "expected F32"]);
        bent(&biases, &[64, 1], "F32", 4, &["[64, 1]", "[64, 2]"]);
        bent(&biases, &[64, 2], "BF16", 2, &["BF16", "scales are F32"]);
    }
}

#[test]
fn a_cancel_ends_the_loading() {
    let folder = Tiny::llama().write();
    for weights in [WeightsMode::Mapped, WeightsMode::Read] {
        let control = Control::new();
        control.cancel();
        let fault = load(folder.path(), &LoadOptions { weights, control: Some(control) }).unwrap_err();
        assert_eq!(fault.status(), Status::Cancelled);
    }
}

#[test]
fn progress_counts_bytes() {
    let (folder, _) = Tiny::llama().write_sharded(7);
    let total: u64 = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        .iter()
        .map(|name| std::fs::metadata(folder.file(name)).unwrap().len())
        .sum();
    for weights in [WeightsMode::Mapped, WeightsMode::Read] {
        let control = Control::new();
        let options = LoadOptions { weights, control: Some(control.clone()) };
        let model = load(folder.path(), &options).unwrap();
        assert_eq!(control.progress(), (total, total));
        assert_eq!(model.summary.bytes_on_disk, total);
    }
}
