//! Any bytes as a safetensors file: parsed or refused, and what is parsed lies inside the file.
#![no_main]

use gomlx::engine::weights::{Bytes, Checkpoint, TensorSource, expect_finite, matrix};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = ("x.safetensors".to_owned(), Bytes::from(data.to_vec()));
    let source = match Checkpoint::from_bytes(vec![file]) {
        Ok(source) => source,
        Err(fault) => {
            assert!(fault.message().starts_with("x.safetensors: "), "{fault}");
            return;
        }
    };
    for name in source.names() {
        assert!(source.contains(name));
        let Ok(Some(tensor)) = source.get(name) else { continue };
        let size = tensor.shape.iter().product::<usize>() * tensor.dtype.size();
        assert_eq!(tensor.bytes.as_slice().len(), size);
        let _ = expect_finite(&source, &tensor);
        if let (Some(base), [rows, words]) = (name.strip_suffix(".weight"), &tensor.shape[..]) {
            for cols in [*words, words.saturating_mul(8), 64] {
                let _ = matrix(&source, base, *rows, cols, None);
            }
        }
    }
});
