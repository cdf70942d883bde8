//! Writes tiny checkpoints, right or wrong ones, into temporary folders.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::{Value, json};

/// A folder that goes away with this.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gomlx-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.file(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tensor to be stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub fn floats(name: &str, shape: &[usize]) -> Stored {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 7919 + name.len() * 31) % 255) as f32 / 1000.0 - 0.127;
    let bytes = (0..count).flat_map(|i| value(i).to_le_bytes()).collect();
    Stored { name: name.into(), dtype: "F32", shape: shape.into(), bytes }
}

pub fn zeros(name: &str, dtype: &'static str, width: usize, shape: &[usize]) -> Stored {
    let bytes = vec![0; shape.iter().product::<usize>() * width];
    Stored { name: name.into(), dtype, shape: shape.into(), bytes }
}

/// A safetensors file with this header text and these bytes behind it.
pub fn raw_safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(data);
    out
}

/// A right safetensors file.
pub fn safetensors(tensors: &[Stored]) -> Vec<u8> {
    let (header, data) = parts(tensors);
    raw_safetensors(&header.to_string(), &data)
}

/// The header and the data of a right file, to be bent.
pub fn parts(tensors: &[Stored]) -> (Value, Vec<u8>) {
    let (mut header, mut data) = (json!({}), Vec::new());
    for tensor in tensors {
        let from = data.len();
        data.extend_from_slice(&tensor.bytes);
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [from, data.len()]});
        header[&tensor.name] = entry;
    }
    (header, data)
}

/// A Llama of two layers that a few kilobytes hold.
#[derive(Clone)]
pub struct Tiny {
    pub config: Value,
    pub tensors: Vec<Stored>,
}

pub const HIDDEN: usize = 64;
pub const VOCAB: usize = 32;

impl Tiny {
    pub fn llama() -> Self {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
            "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 32, "vocab_size": VOCAB, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false, "eos_token_id": 2,
            "bos_token_id": 1, "torch_dtype": "float32"
        });
        let mut tensors = vec![floats("model.embed_tokens.weight", &[VOCAB, HIDDEN])];
        for layer in 0..2 {
            for (name, shape) in [
                ("input_layernorm", &[HIDDEN][..]),
                ("self_attn.q_proj", &[64, HIDDEN]),
                ("self_attn.k_proj", &[32, HIDDEN]),
                ("self_attn.v_proj", &[32, HIDDEN]),
                ("self_attn.o_proj", &[HIDDEN, 64]),
                ("post_attention_layernorm", &[HIDDEN]),
                ("mlp.gate_proj", &[128, HIDDEN]),
                ("mlp.up_proj", &[128, HIDDEN]),
                ("mlp.down_proj", &[HIDDEN, 128]),
            ] {
                tensors.push(floats(&format!("model.layers.{layer}.{name}.weight"), shape));
            }
        }
        tensors.push(floats("model.norm.weight", &[HIDDEN]));
        tensors.push(floats("lm_head.weight", &[VOCAB, HIDDEN]));
        Self { config, tensors }
    }

    /// The same with every matrix in the affine layout, and the block that says so.
    pub fn quantised(bits: usize, group: usize) -> Self {
        let mut tiny = Self::llama();
        tiny.config["quantization"] = json!({"group_size": group, "bits": bits});
        let dense = std::mem::take(&mut tiny.tensors);
        for tensor in dense {
            let [rows, cols] = tensor.shape[..] else {
                tiny.tensors.push(tensor);
                continue;
            };
            let base = tensor.name.trim_end_matches(".weight").to_owned();
            let mut packed = zeros(&tensor.name, "U32", 4, &[rows, cols * bits / 32]);
            packed.bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 37 % 251) as u8);
            tiny.tensors.push(packed);
            tiny.tensors.push(floats(&format!("{base}.scales"), &[rows, cols / group]));
            tiny.tensors.push(floats(&format!("{base}.biases"), &[rows, cols / group]));
        }
        tiny
    }

    pub fn tensor(&mut self, name: &str) -> &mut Stored {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn without(mut self, name: &str) -> Self {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    pub fn lacking(mut self, key: &str) -> Self {
        self.config.as_object_mut().unwrap().remove(key);
        self
    }

    /// Writes `config.json` and `model.safetensors`.
    pub fn write(&self) -> Folder {
        let folder = Folder::new();
        folder.write("config.json", self.config.to_string());
        folder.write("model.safetensors", safetensors(&self.tensors));
        folder
    }

    /// Writes `config.json`, two shards and their index; the first shard holds the first `split` tensors.
    pub fn write_sharded(&self, split: usize) -> (Folder, Value) {
        let folder = Folder::new();
        folder.write("config.json", self.config.to_string());
        let mut index = json!({"weight_map": {}});
        let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        for (name, tensors) in names.iter().zip([&self.tensors[..split], &self.tensors[split..]]) {
            folder.write(name, safetensors(tensors));
            tensors.iter().for_each(|tensor| index["weight_map"][&tensor.name] = json!(name));
        }
        folder.write("model.safetensors.index.json", index.to_string());
        (folder, index)
    }
}
