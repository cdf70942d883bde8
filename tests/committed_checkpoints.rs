//! The checkpoints in this repository: each loads, and the affine layout means what MLX says it means.

use std::path::{Path, PathBuf};

use gomlx::engine::model::load::{LoadOptions, inspect, load};
use gomlx::engine::model::spec::RopeScaling;
use gomlx::engine::weights::{self, Checkpoint, DType, Storage, TensorSource, WeightsMode};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Folders below `path` that have a config.
fn folders(path: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(here(path)).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.join("config.json").exists()).collect();
    folders.sort();
    folders
}

#[test]
fn every_one_loads() {
    let all: Vec<_> = ["models", "tests/golden/tiny", "tests/golden/quant"].into_iter().flat_map(folders).collect();
    assert!(all.len() >= 2 + 20 + 18, "{all:?}");
    for folder in all {
        for weights in [WeightsMode::Mapped, WeightsMode::Read] {
            let options = LoadOptions { weights, control: None };
            let model = load(&folder, &options).unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()));
            assert_eq!(inspect(&folder).unwrap(), model.summary, "{}", folder.display());
            assert_eq!(model.tensors.layers.len(), model.spec.layers.len());
        }
    }
}

#[test]
fn the_demo_models_are_what_their_card_says() {
    let llama = load(&here("models/llama-tales-16m-4bit"), &LoadOptions::default()).unwrap();
    let summary = &llama.summary;
    assert_eq!((summary.parameters, summary.bytes_on_disk), (15_735_168, 8_880_284));
    assert_eq!((summary.eos.as_slice(), summary.bos), (&[8188, 8191][..], Some(8187)));
    assert_eq!((summary.dtype, summary.family), (DType::BF16, "llama"));
    assert_eq!(summary.quantisation.as_ref().map(|params| (params.bits, params.group)), Some((4, 64)));
    assert!(llama.spec.tied_head);
    let gemma = load(&here("models/gemma3-domains-6m-4bit"), &LoadOptions::default()).unwrap();
    assert_eq!(gemma.summary.parameters, 6_102_016);
    let windows: Vec<_> = gemma.spec.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(windows, [Some(64), Some(64), None, Some(64), Some(64), None]);
    // New keys beat old ones: both RoPEs from rope_parameters, the pattern from layer_types.
    let ropes: Vec<_> = gemma.spec.ropes.iter().map(|rope| (rope.theta, rope.scaling)).collect();
    assert_eq!(ropes, [(1e6, RopeScaling::None), (1e4, RopeScaling::None)]);
}

#[test]
fn bits_differ_from_layer_to_layer() {
    let model = load(&here("tests/golden/quant/llama-mixed"), &LoadOptions::default()).unwrap();
    let how = |matrix: &weights::Matrix| match &matrix.storage {
        Storage::Affine(affine) => (affine.bits, affine.group),
        Storage::Dense(_) => (0, 0),
    };
    let [first, second] = &model.tensors.layers[..] else { panic!("two layers") };
    assert_eq!(how(&model.tensors.embed), (6, 32));
    assert_eq!(model.tensors.head.as_ref().map(how), Some((8, 32)));
    assert_eq!((how(&first.q.weight), how(&first.v.weight)), ((4, 64), (8, 64)));
    assert_eq!((how(&second.down.weight), how(&second.gate.weight)), ((3, 128), (0, 0)));
    assert_eq!(model.summary.quantisation.map(|params| (params.bits, params.group)), Some((4, 64)));
}

#[test]
fn dequantised_as_mlx_does() {
    let source = Checkpoint::open(&here("tests/golden/quant/matrix.safetensors"), WeightsMode::Mapped, None).unwrap();
    let mut seen = 0;
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            for dtype in ["f32", "f16", "bf16"] {
                let base = format!("{bits}bit-g{group}-{dtype}");
                let Some(matrix) = weights::matrix(&source, &base, 6, 256, None).unwrap() else { continue };
                let Storage::Affine(affine) = matrix.storage else { panic!("{base} is packed") };
                assert_eq!((affine.bits, affine.group), (bits, group), "{base}");
                let expected = source.get(&format!("{base}.dequantised")).unwrap().unwrap().to_f32().unwrap();
                // MLX may fuse the multiplication and the addition, so the last bit is not ours to promise.
                let found = weights::dequantise(&affine).unwrap();
                assert_eq!(found.len(), expected.len());
                let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
                for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert!((found - expected).abs() <= 2e-7 * largest, "{base}[{at}]: {found}, not {expected}");
                }
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 18);
}

/// Loading looks at every scale. 70 MB of them must not be noticed.
#[test]
fn scales_are_looked_through_quickly() {
    let numbers = 35_000_000;
    let bytes = weights::Bytes::from(vec![0x3c; 2 * numbers]);
    let tensor = weights::Tensor { name: "x".into(), dtype: DType::BF16, shape: vec![numbers], bytes };
    let source = Checkpoint::open(&here("tests/golden/quant/matrix.safetensors"), WeightsMode::Mapped, None).unwrap();
    let times = (0..5).map(|_| {
        let start = std::time::Instant::now();
        weights::expect_finite(&source, &tensor).unwrap();
        start.elapsed()
    });
    let best = times.min().unwrap();
    println!("70 MB of scales: {best:?}");
    // Ten times what it takes here: other tests run beside this one.
    assert!(best < std::time::Duration::from_millis(100), "{best:?}");
}
