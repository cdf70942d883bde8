//! Silent unless asked: `GOMLX_LOG=error|warn|info|debug|trace` sends the log to standard error.
//!
//! A Rust host that has installed a logger of its own keeps it; ours then stays out of the way.

use std::io::Write;
use std::sync::Once;

struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("gomlx")
    }
    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            // Nobody is left to hear that the log itself could not be written.
            let _ = writeln!(std::io::stderr(), "gomlx {}: {}", record.level().as_str().to_lowercase(), record.args());
        }
    }
    fn flush(&self) {}
}

/// Reads `GOMLX_LOG`, once a process.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let level = std::env::var("GOMLX_LOG").ok().and_then(|level| level.parse::<log::LevelFilter>().ok());
        if let Some(level) = level
            && log::set_logger(&Stderr).is_ok()
        {
            log::set_max_level(level);
        }
    });
}
