//! What a checkpoint is, as a number: two that compute differently have different ones.

use sha2::{Digest, Sha256};

use super::spec::DecoderSpec;
use super::tensors::{DecoderTensors, LinearTensors};
use crate::engine::weights::{Matrix, Storage, Tensor};

/// Looked at in each stored tensor: so many stretches of so many bytes, evenly spread. All of a small one.
const STRETCHES: usize = 32;
const STRETCH: usize = 64;

/// A hash of what the decoder computes, of every tensor's dtype, shape and quantisation, of samples of its contents
/// (a fine-tuned twin differs in nothing else; reading all of a large model would take seconds), and of `setting`.
pub fn identity(spec: &DecoderSpec, tensors: &DecoderTensors, setting: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("gomlx {} {setting} {spec:?}", env!("CARGO_PKG_VERSION")));
    matrix(&mut hash, &tensors.embed);
    tensors.head.iter().for_each(|head| matrix(&mut hash, head));
    vector(&mut hash, Some(&tensors.norm));
    for layer in &tensors.layers {
        for norm in [&layer.attention_norm, &layer.mlp_norm] {
            vector(&mut hash, Some(norm));
        }
        for norm in [&layer.q_norm, &layer.k_norm, &layer.post_attention_norm, &layer.post_mlp_norm] {
            vector(&mut hash, norm.as_ref());
        }
        for LinearTensors { weight, bias } in
            [&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down]
        {
            matrix(&mut hash, weight);
            vector(&mut hash, bias.as_ref());
        }
    }
    hash.finalize().into()
}

fn vector(hash: &mut Sha256, values: Option<&Vec<f32>>) {
    let Some(values) = values else { return hash.update([0]) };
    hash.update((values.len() as u64).to_le_bytes());
    values.iter().for_each(|value| hash.update(value.to_le_bytes()));
}

fn matrix(hash: &mut Sha256, matrix: &Matrix) {
    hash.update(format!("{} x {}", matrix.rows, matrix.cols));
    match &matrix.storage {
        Storage::Dense(dense) => tensor(hash, dense),
        Storage::Affine(affine) => {
            hash.update(format!("affine {} bits of {}", affine.bits, affine.group));
            [&affine.weight, &affine.scales, &affine.biases].into_iter().for_each(|part| tensor(hash, part));
        }
    }
}

fn tensor(hash: &mut Sha256, tensor: &Tensor) {
    let bytes = tensor.bytes.as_slice();
    hash.update(format!("{:?} {:?}", tensor.dtype, tensor.shape));
    if bytes.len() <= STRETCHES * STRETCH {
        return hash.update(bytes);
    }
    let step = (bytes.len() - STRETCH) / (STRETCHES - 1);
    (0..STRETCHES).for_each(|i| hash.update(&bytes[i * step..][..STRETCH]));
}
