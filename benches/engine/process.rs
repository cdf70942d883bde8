//! What the operating system and the checkpoint's config say.

use std::path::Path;

/// Processor seconds that this process used, all threads together (Linux; 0 elsewhere).
pub fn cpu_seconds() -> f64 {
    // schedstat counts nanoseconds; the clock ticks of /proc/self/stat would round an idle process to nothing.
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}

/// Bytes of this process in memory: now, and at most so far (Linux; 0 elsewhere).
pub fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0)
    };
    (kib("VmRSS:") * 1024, kib("VmHWM:") * 1024)
}

/// Positions that the model was made for.
pub fn max_positions(dir: &Path) -> usize {
    let text = std::fs::read_to_string(dir.join("config.json")).unwrap_or_else(|error| panic!("{dir:?}: {error}"));
    let config: serde_json::Value = serde_json::from_str(&text).expect("config.json");
    config["max_position_embeddings"].as_u64().expect("max_position_embeddings") as usize
}
