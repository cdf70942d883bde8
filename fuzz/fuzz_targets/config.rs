//! Any text as a config: a decoder whose sizes multiply without overflow, or a refusal that names the file.
#![no_main]

use gomlx::engine::model::config::Config;
use gomlx::engine::model::{families, rope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let refused = |fault: gomlx::engine::Error| assert!(fault.message().starts_with("config.json: "), "{fault}");
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(fault) => return refused(fault),
    };
    config.quantisation().map(|_| ()).unwrap_or_else(refused);
    let spec = match families::read(&config) {
        Ok(reading) => reading.spec,
        Err(fault) => return refused(fault),
    };
    assert!(spec.parameters() > 0 && spec.kv_width() > 0 && spec.heads % spec.kv_heads == 0);
    assert!(spec.layers.iter().all(|layer| layer.rope < spec.ropes.len() && layer.window != Some(0)));
    assert!(spec.embed_scale.is_finite() && spec.attention_scale.is_finite());
    if spec.head_dim <= 1024 {
        for table in spec.ropes.iter().map(|rope| rope::table(rope, spec.head_dim)) {
            assert!(table.factor.is_finite() && table.inv_freq.iter().all(|turn| turn.is_finite()), "{:?}", spec.ropes);
        }
    }
});
