//! Published configs become the right decoder. The table was written by reading the configs, not by running a reader.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gomlx::engine::model::config::Config;
use gomlx::engine::model::families::{self, Reading};
use gomlx::engine::model::load::{Contents, assemble};
use gomlx::engine::model::spec::Activation::{self, GeluTanh, Silu};
use gomlx::engine::model::spec::{DecoderSpec, RopeScaling, RopeSpec};
use gomlx::engine::model::tensors::DecoderTensors;
use gomlx::engine::weights::{Bytes, DType, Matrix, Storage, Tensor, TensorSource};
use gomlx::engine::{Result, Status};

#[path = "common/shared.rs"]
mod shared;
use shared::shared;

/// What a config must become.
struct Expected {
    name: &'static str,
    family: &'static str,
    layers: usize,
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    context: usize,
    eps: f32,
    rope: RopeSpec,
    activation: Activation,
    tied: bool,
    qkv_bias: bool,
    qk_norm: bool,
    gemma: Option<Gemma>,
}

/// What only Gemma has.
struct Gemma {
    window: usize,
    /// Layers that see everything.
    global: &'static [usize],
    /// `1 / attention_scale²`.
    scale: f32,
    /// `sqrt(hidden)` in bf16.
    embed: f32,
}

const fn rope(theta: f64, scaling: RopeScaling) -> RopeSpec {
    RopeSpec { theta, scaling }
}

const fn plain(theta: f64) -> RopeSpec {
    rope(theta, RopeScaling::None)
}

const fn llama3(factor: f64) -> RopeSpec {
    let scaling = RopeScaling::Llama3 { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
    rope(500_000.0, scaling)
}

const LLAMA: Expected = Expected {
    name: "",
    family: "llama",
    layers: 32,
    hidden: 4096,
    intermediate: 11008,
    heads: 32,
    kv_heads: 32,
    head_dim: 128,
    vocab: 32000,
    context: 2048,
    eps: 1e-5,
    rope: plain(10_000.0),
    activation: Silu,
    tied: false,
    qkv_bias: false,
    qk_norm: false,
    gemma: None,
};

const CODE_LLAMA: Expected = Expected { vocab: 32016, context: 16384, rope: plain(1_000_000.0), ..LLAMA };

const LLAMA_3: Expected =
    Expected { intermediate: 14336, kv_heads: 8, vocab: 128_256, context: 131_072, rope: llama3(8.0), ..LLAMA };

const LLAMA_3_2_1B: Expected =
    Expected { layers: 16, hidden: 2048, intermediate: 8192, head_dim: 64, rope: llama3(32.0), tied: true, ..LLAMA_3 };

const LLAMA_3_2_3B: Expected = Expected { layers: 28, hidden: 3072, heads: 24, head_dim: 128, ..LLAMA_3_2_1B };

const QWEN2: Expected = Expected {
    name: "",
    family: "qwen2",
    layers: 28,
    hidden: 1536,
    intermediate: 8960,
    heads: 12,
    kv_heads: 2,
    head_dim: 128,
    vocab: 151_936,
    context: 32_768,
    eps: 1e-6,
    rope: plain(1_000_000.0),
    activation: Silu,
    tied: true,
    qkv_bias: true,
    qk_norm: false,
    gemma: None,
};

const QWEN2_HALF_B: Expected =
    Expected { layers: 24, hidden: 896, intermediate: 4864, heads: 14, head_dim: 64, ..QWEN2 };

const QWEN2_7B: Expected =
    Expected { hidden: 3584, intermediate: 18944, heads: 28, kv_heads: 4, vocab: 152_064, tied: false, ..QWEN2 };

const R1_QWEN: Expected = Expected { context: 131_072, rope: plain(10_000.0), tied: false, ..QWEN2 };

const QWEN3: Expected = Expected {
    family: "qwen3",
    layers: 28,
    hidden: 1024,
    intermediate: 3072,
    heads: 16,
    kv_heads: 8,
    context: 40_960,
    qkv_bias: false,
    qk_norm: true,
    ..QWEN2
};

const QWEN3_4B: Expected = Expected { layers: 36, hidden: 2560, intermediate: 9728, heads: 32, ..QWEN3 };

const QWEN3_8B: Expected = Expected { layers: 36, hidden: 4096, intermediate: 12288, heads: 32, tied: false, ..QWEN3 };

const GEMMA3_1B: Expected = Expected {
    name: "gemma-3-1b-it",
    family: "gemma3_text",
    layers: 26,
    hidden: 1152,
    intermediate: 6912,
    heads: 4,
    kv_heads: 1,
    head_dim: 256,
    vocab: 262_144,
    context: 32_768,
    eps: 1e-6,
    rope: plain(1_000_000.0),
    activation: GeluTanh,
    tied: true,
    qkv_bias: false,
    qk_norm: true,
    gemma: Some(Gemma { window: 512, global: &[5, 11, 17, 23], scale: 256.0, embed: 34.0 }),
};

const GEMMA3_270M: Expected = Expected {
    layers: 18,
    hidden: 640,
    intermediate: 2048,
    gemma: Some(Gemma { window: 512, global: &[5, 11, 17], scale: 256.0, embed: 25.25 }),
    ..GEMMA3_1B
};

/// The sizes that the published `text_config`s leave to transformers' class.
const GEMMA3_VISION: Expected = Expected {
    heads: 8,
    kv_heads: 4,
    vocab: 262_208,
    context: 131_072,
    rope: rope(1_000_000.0, RopeScaling::Linear { factor: 8.0 }),
    ..GEMMA3_1B
};

const TABLE: &[Expected] = &[
    Expected { name: "Llama-2-7b-chat-hf", ..LLAMA },
    Expected {
        name: "TinyLlama-1.1B-Chat-v1.0",
        layers: 22,
        hidden: 2048,
        intermediate: 5632,
        kv_heads: 4,
        head_dim: 64,
        ..LLAMA
    },
    Expected { name: "CodeLlama-7b-hf", ..CODE_LLAMA },
    Expected {
        name: "CodeLlama-13b-hf",
        layers: 40,
        hidden: 5120,
        intermediate: 13824,
        heads: 40,
        kv_heads: 40,
        ..CODE_LLAMA
    },
    Expected {
        name: "CodeLlama-34b-hf",
        layers: 48,
        hidden: 8192,
        intermediate: 22016,
        heads: 64,
        kv_heads: 8,
        ..CODE_LLAMA
    },
    Expected { name: "Llama-3.1-8B", ..LLAMA_3 },
    Expected { name: "Llama-3.1-8B-Instruct", ..LLAMA_3 },
    Expected { name: "DeepSeek-R1-Distill-Llama-8B", ..LLAMA_3 },
    Expected { name: "Llama-3.1-70B", layers: 80, hidden: 8192, intermediate: 28672, heads: 64, ..LLAMA_3 },
    Expected { name: "Llama-3.2-1B", ..LLAMA_3_2_1B },
    Expected { name: "Llama-3.2-1B-Instruct", ..LLAMA_3_2_1B },
    Expected { name: "Llama-3.2-3B", ..LLAMA_3_2_3B },
    Expected { name: "Llama-3.2-3B-Instruct", ..LLAMA_3_2_3B },
    Expected { name: "Qwen2-0.5B-Instruct", ..QWEN2_HALF_B },
    Expected { name: "Qwen2.5-0.5B", ..QWEN2_HALF_B },
    Expected { name: "Qwen2.5-0.5B-Instruct", ..QWEN2_HALF_B },
    Expected { name: "Qwen2-1.5B-Instruct", ..QWEN2 },
    Expected { name: "Qwen2.5-1.5B-Instruct", ..QWEN2 },
    Expected { name: "Qwen2.5-1.5B-Instruct.transformers5", ..QWEN2 },
    Expected { name: "Qwen2.5-3B-Instruct", layers: 36, hidden: 2048, intermediate: 11008, heads: 16, ..QWEN2 },
    Expected { name: "Qwen2-7B-Instruct", ..QWEN2_7B },
    Expected { name: "Qwen2.5-7B-Instruct", ..QWEN2_7B },
    Expected { name: "DeepSeek-R1-Distill-Qwen-1.5B", ..R1_QWEN },
    Expected {
        name: "DeepSeek-R1-Distill-Qwen-7B",
        hidden: 3584,
        intermediate: 18944,
        heads: 28,
        kv_heads: 4,
        vocab: 152_064,
        ..R1_QWEN
    },
    Expected { name: "Qwen3-0.6B", ..QWEN3 },
    Expected { name: "Qwen3-1.7B", hidden: 2048, intermediate: 6144, ..QWEN3 },
    Expected { name: "Qwen3-4B", ..QWEN3_4B },
    Expected { name: "Qwen3-8B", ..QWEN3_8B },
    Expected { name: "Qwen3-8B-mlx-4bit", ..QWEN3_8B },
    Expected { name: "Qwen3-32B", layers: 64, hidden: 5120, intermediate: 25600, heads: 64, ..QWEN3_8B },
    GEMMA3_1B,
    Expected { name: "gemma-3-270m", ..GEMMA3_270M },
    Expected {
        name: "gemma-3-4b-it",
        layers: 34,
        hidden: 2560,
        intermediate: 10240,
        gemma: Some(Gemma { window: 1024, global: &[5, 11, 17, 23, 29], scale: 256.0, embed: 50.5 }),
        ..GEMMA3_VISION
    },
    Expected {
        name: "gemma-3-12b-it",
        layers: 48,
        hidden: 3840,
        intermediate: 15360,
        heads: 16,
        kv_heads: 8,
        gemma: Some(Gemma { window: 1024, global: &[5, 11, 17, 23, 29, 35, 41, 47], scale: 256.0, embed: 62.0 }),
        ..GEMMA3_VISION
    },
    Expected {
        name: "gemma-3-27b-it",
        layers: 62,
        hidden: 5376,
        intermediate: 21504,
        heads: 32,
        kv_heads: 16,
        head_dim: 128,
        gemma: Some(Gemma {
            window: 1024,
            global: &[5, 11, 17, 23, 29, 35, 41, 47, 53, 59],
            scale: 168.0,
            embed: 73.5,
        }),
        ..GEMMA3_VISION
    },
];

/// Published models of families that nothing here runs, and their `model_type`.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("DeepSeek-R1", "deepseek_v3"),
    ("DeepSeek-V3", "deepseek_v3"),
    ("Qwen3-30B-A3B", "qwen3_moe"),
    ("Qwen3-30B-A3B-FP8", "qwen3_moe"),
    ("Qwen3.5-27B", "qwen3_5"),
    ("gemma-4-26B-A4B", "gemma4"),
    ("gpt-oss-120b", "gpt_oss"),
    ("gpt-oss-20b", "gpt_oss"),
    ("gpt2", "gpt2"),
];

fn read(folder: &Path) -> Result<DecoderSpec> {
    families::read(&Config::read(folder)?).map(|Reading { spec, .. }| spec)
}

#[test]
fn every_published_config_of_a_supported_family() {
    let Some(configs) = shared("configs") else { return };
    for expected in TABLE {
        let spec = read(&configs.join(expected.name)).unwrap_or_else(|fault| panic!("{}: {fault}", expected.name));
        check(expected, &spec);
    }
}

#[track_caller]
fn check(expected: &Expected, spec: &DecoderSpec) {
    let name = expected.name;
    assert_eq!(spec.family, expected.family, "{name}: family");
    assert_eq!(spec.layers.len(), expected.layers, "{name}: layers");
    assert_eq!(spec.hidden, expected.hidden, "{name}: hidden");
    assert_eq!(spec.intermediate, expected.intermediate, "{name}: intermediate");
    assert_eq!(spec.heads, expected.heads, "{name}: heads");
    assert_eq!(spec.kv_heads, expected.kv_heads, "{name}: kv_heads");
    assert_eq!(spec.head_dim, expected.head_dim, "{name}: head_dim");
    assert_eq!(spec.vocab, expected.vocab, "{name}: vocab");
    assert_eq!(spec.context, expected.context, "{name}: context");
    assert_eq!(spec.norm.eps, expected.eps, "{name}: eps");
    assert_eq!(spec.ropes[0], expected.rope, "{name}: rope");
    assert_eq!(spec.activation, expected.activation, "{name}: activation");
    assert_eq!(spec.tied_head, expected.tied, "{name}: tied");
    assert_eq!(spec.qkv_bias, expected.qkv_bias, "{name}: qkv_bias");
    assert_eq!(spec.qk_norm, expected.qk_norm, "{name}: qk_norm");
    assert!(!spec.output_bias && !spec.mlp_bias, "{name}: biases");
    assert_eq!((spec.attention_softcap, spec.logit_softcap), (None, None), "{name}: caps");
    assert_eq!(spec.sandwich_norms, expected.gemma.is_some(), "{name}: sandwich norms");
    let scale = expected.gemma.as_ref().map_or(expected.head_dim as f32, |gemma| gemma.scale);
    assert!((spec.attention_scale * scale.sqrt() - 1.0).abs() < 1e-6, "{name}: attention_scale");
    match &expected.gemma {
        None => {
            assert_eq!((spec.norm.offset, spec.embed_scale), (0.0, 1.0), "{name}: norm, scale");
            assert_eq!(spec.ropes.len(), 1, "{name}: ropes");
            assert!(spec.layers.iter().all(|layer| layer.window.is_none() && layer.rope == 0), "{name}: windows");
        }
        Some(gemma) => {
            assert_eq!((spec.norm.offset, spec.embed_scale), (1.0, gemma.embed), "{name}: norm, scale");
            assert_eq!(spec.ropes[1..], [plain(10_000.0)], "{name}: local rope");
            for (number, layer) in spec.layers.iter().enumerate() {
                let global = gemma.global.contains(&number);
                assert_eq!(layer.window, (!global).then_some(gemma.window), "{name}: window of layer {number}");
                assert_eq!(layer.rope, usize::from(!global), "{name}: rope of layer {number}");
            }
        }
    }
}

#[test]
fn every_other_published_config_names_its_family() {
    let Some(configs) = shared("configs") else { return };
    for (name, model_type) in UNSUPPORTED {
        let fault = read(&configs.join(name)).expect_err(name);
        assert_eq!(fault.status(), Status::Unsupported, "{name}: {fault}");
        assert!(fault.message().contains(&format!("model_type: \"{model_type}\"")), "{name}: {fault}");
    }
}

#[test]
fn no_published_config_was_forgotten() {
    let Some(configs) = shared("configs") else { return };
    let known: Vec<&str> = TABLE.iter().map(|e| e.name).chain(UNSUPPORTED.iter().map(|(name, _)| *name)).collect();
    for entry in std::fs::read_dir(configs).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().join("config.json").exists() {
            assert!(known.contains(&name.as_str()), "{name} is in neither table");
        }
    }
}

/// A list of tensors without their bytes, which remembers what was asked for.
struct Listing {
    tensors: BTreeMap<String, (DType, Vec<usize>)>,
    taken: RefCell<BTreeSet<String>>,
}

impl Listing {
    fn read(path: &Path) -> Self {
        let list: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let tensor = |(name, entry): (&String, &serde_json::Value)| {
            let shape = entry["shape"].as_array().unwrap().iter().map(|extent| extent.as_u64().unwrap() as usize);
            let dtype = match entry["dtype"].as_str().unwrap() {
                "float32" => DType::F32,
                "uint32" => DType::U32,
                "uint8" => DType::U8,
                other => panic!("{other}"),
            };
            (name.clone(), (dtype, shape.collect()))
        };
        Self { tensors: list.as_object().unwrap().iter().map(tensor).collect(), taken: RefCell::default() }
    }
}

impl TensorSource for Listing {
    fn get(&self, name: &str) -> Result<Option<Tensor>> {
        let Some((dtype, shape)) = self.tensors.get(name).cloned() else { return Ok(None) };
        self.taken.borrow_mut().insert(name.to_owned());
        Ok(Some(Tensor { name: name.to_owned(), dtype, shape, bytes: Bytes::from(Vec::new()) }))
    }
    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }
    fn place(&self, name: &str) -> String {
        name.to_owned()
    }
}

fn generated(name: &str) -> Option<(Config, Listing)> {
    let folder = shared("configs/mlx-generated")?;
    let config = std::fs::read_to_string(folder.join(format!("{name}.config.json"))).unwrap();
    Some((Config::parse(&config).unwrap(), Listing::read(&folder.join(format!("{name}.tensors.json")))))
}

fn bits(matrix: &Matrix) -> (u32, usize) {
    match &matrix.storage {
        Storage::Affine(affine) => (affine.bits, affine.group),
        Storage::Dense(_) => (0, 0),
    }
}

/// Bits of `(embedding, q, v and down of layer 0, down of layer `mid`, head)`.
type Bits = (u32, u32, u32, u32, u32, Option<u32>);

/// What mlx-lm wrote: file, group, bits. In the mixed recipes v and down get the higher bits in the first and last
/// eighth of the layers and in every third between.
const GENERATED: &[(&str, usize, Bits)] = &[
    ("DeepSeek-R1-Distill-Qwen-7B-4bit", 64, (4, 4, 4, 4, 4, Some(4))),
    ("Llama-3.1-8B-Instruct-4bit", 64, (4, 4, 4, 4, 4, Some(4))),
    ("Llama-3.2-1B-Instruct-4bit", 64, (4, 4, 4, 4, 4, None)),
    ("Llama-3.2-1B-Instruct-mixed_4_6", 64, (4, 4, 6, 6, 4, None)),
    ("Qwen2.5-0.5B-Instruct-4bit", 64, (4, 4, 4, 4, 4, None)),
    ("Qwen3-0.6B-3bit", 64, (3, 3, 3, 3, 3, None)),
    ("Qwen3-0.6B-4bit", 64, (4, 4, 4, 4, 4, None)),
    ("Qwen3-0.6B-4bit-g32", 32, (4, 4, 4, 4, 4, None)),
    ("Qwen3-0.6B-8bit", 64, (8, 8, 8, 8, 8, None)),
    ("Qwen3-4B-4bit", 64, (4, 4, 4, 4, 4, None)),
    ("Qwen3-4B-mixed_2_6", 64, (2, 2, 6, 6, 2, None)),
    ("Qwen3-4B-mixed_3_4", 64, (3, 3, 4, 4, 3, None)),
    ("Qwen3-4B-mixed_3_6", 64, (3, 3, 6, 6, 3, None)),
    ("Qwen3-4B-mixed_4_6", 64, (4, 4, 6, 6, 4, None)),
    // mlx-lm's Gemma class was saved with a head of its own; one like the embedding counts as its copy.
    ("gemma-3-1b-it-4bit", 64, (4, 4, 4, 4, 4, None)),
    ("gemma-3-1b-it-mixed_4_6", 64, (4, 4, 6, 6, 4, Some(6))),
    ("gemma-3-270m-4bit", 64, (4, 4, 4, 4, 4, None)),
];

#[test]
fn every_tensor_of_the_mlx_layouts_is_found() {
    for &(name, group, expected) in GENERATED {
        let Some((config, source)) = generated(name) else { return };
        let (_, tensors) = assemble(&config, &source, Contents::Skip).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let DecoderTensors { embed, head, layers, .. } = &tensors;
        // The recipes spend more bits on the first eighth of the layers; the next one is plain.
        let plain = &layers[layers.len() / 8];
        let found = [embed, &layers[0].q.weight, &layers[0].v.weight, &layers[0].down.weight, &plain.down.weight];
        let (e, q, v, d, m, h) = expected;
        assert_eq!(found.map(bits), [e, q, v, d, m].map(|bits| (bits, group)), "{name}");
        assert_eq!(head.as_ref().map(bits), h.map(|bits| (bits, group)), "{name}: head");
        let all: BTreeSet<String> = source.tensors.keys().cloned().collect();
        let left: Vec<_> = all.difference(&source.taken.borrow()).cloned().collect();
        assert!(left.is_empty(), "{name}: nobody asked for {left:?}");
    }
}

#[test]
fn mlx_layouts_that_are_not_affine_say_their_mode() {
    for mode in ["mxfp4", "mxfp8", "nvfp4"] {
        let Some((config, source)) = generated(&format!("Qwen3-0.6B-{mode}")) else { return };
        let fault = assemble(&config, &source, Contents::Skip).expect_err(mode);
        assert_eq!(fault.status(), Status::Unsupported, "{fault}");
        assert!(fault.message().contains(&format!("model.embed_tokens.weight: quantisation mode {mode}")), "{fault}");
    }
    for (name, family) in [
        ("Qwen3-30B-A3B-4bit", "qwen3_moe"),
        ("gpt-oss-20b-4bit", "gpt_oss"),
        ("gpt-oss-20b-MXFP4-Q4", "gpt_oss"),
        ("gpt-oss-20b-MXFP4-Q8", "gpt_oss"),
    ] {
        let Some((config, source)) = generated(name) else { return };
        let fault = assemble(&config, &source, Contents::Skip).expect_err(name);
        assert_eq!(fault.status(), Status::Unsupported, "{fault}");
        assert!(fault.message().contains(family), "{fault}");
    }
}
