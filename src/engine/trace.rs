//! `GOMLX_TRACE=file.json` writes what the engine does and how long it takes, as a Chrome trace: chrome://tracing and
//! <https://ui.perfetto.dev> show it. Of every step there is a span with its rows and sequences, and in it one span for
//! each operation of each layer; loading has spans too.
//!
//! The format is the JSON array of complete events ("ph": "X") of the "Trace Event Format" document: `ts` and `dur` in
//! microseconds. The file is whole JSON whenever no step is being written, so that it can be looked at while the process
//! runs. Off, a span costs one branch.

use std::cell::Cell;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

/// The file stops growing here, about a quarter of an hour of decoding.
const MOST_BYTES: u64 = 1 << 30;
/// What ends the array; the next events are written over it.
const END: &[u8] = b"\n]\n";

static ON: AtomicBool = AtomicBool::new(false);
static PROCESS: AtomicU32 = AtomicU32::new(0);
static WRITER: Mutex<Option<Writer<File>>> = Mutex::new(None);

thread_local! {
    /// Spans that are open on this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// This thread's number in the file; 0 until it has one.
    static THREAD: Cell<u32> = const { Cell::new(0) };
}

/// Reads `GOMLX_TRACE`, once a process. That the file cannot be made is said in the log.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(path) = std::env::var_os("GOMLX_TRACE").filter(|path| !path.is_empty()) else { return };
        let path = Path::new(&path);
        match File::create(path).and_then(Writer::new) {
            Ok(writer) => {
                *WRITER.lock() = Some(writer);
                PROCESS.store(std::process::id(), Relaxed);
                ON.store(true, Relaxed);
            }
            Err(fault) => log::error!("GOMLX_TRACE: {}: {fault}", path.display()),
        }
    });
}

/// Begins a span that ends when the value is dropped. `args` are shown with it.
#[inline]
pub fn span(name: &'static str, args: &[(&'static str, usize)]) -> Span {
    if ON.load(Relaxed) { Span(Open::new(name, args)) } else { Span(None) }
}

/// What `work` gives, in a span of one operation of layer `layer`.
#[inline]
pub fn op<T>(name: &'static str, layer: usize, work: impl FnOnce() -> T) -> T {
    let _span = span(name, &[("layer", layer)]);
    work()
}

/// See [`span`].
#[must_use = "a span lasts as long as this value"]
pub struct Span(Option<Open>);

struct Open {
    name: &'static str,
    args: Vec<(&'static str, usize)>,
    began: Instant,
}

impl Open {
    #[cold]
    fn new(name: &'static str, args: &[(&'static str, usize)]) -> Option<Self> {
        // The file is the parent's, and its lock may have been held when this process was forked.
        if PROCESS.load(Relaxed) != std::process::id() {
            ON.store(false, Relaxed);
            return None;
        }
        DEPTH.set(DEPTH.get() + 1);
        Some(Self { name, args: args.to_vec(), began: Instant::now() })
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            close(&open);
        }
    }
}

#[cold]
fn close(open: &Open) {
    let ended = Instant::now();
    let depth = DEPTH.get() - 1;
    DEPTH.set(depth);
    if !ON.load(Relaxed) {
        return;
    }
    let mut guard = WRITER.lock();
    let Some(writer) = guard.as_mut() else { return };
    writer.event(open, ended);
    if depth == 0
        && let Err(fault) = writer.flush()
    {
        ON.store(false, Relaxed);
        *guard = None;
        log::error!("GOMLX_TRACE: no more is written: {fault}");
    }
}

/// Events on their way into a file that is an array after every [`Writer::flush`].
struct Writer<W> {
    file: W,
    began: Instant,
    /// Where the array's end stands in the file.
    end: u64,
    waiting: Vec<u8>,
    threads: u32,
}

impl<W: Write + Seek> Writer<W> {
    fn new(file: W) -> std::io::Result<Self> {
        let mut this = Self { file, began: Instant::now(), end: 0, waiting: Vec::new(), threads: 0 };
        let pid = std::process::id();
        this.waiting.extend_from_slice(b"[");
        this.put(format_args!(r#"{{"name":"process_name","ph":"M","pid":{pid},"args":{{"name":"gomlx"}}}}"#));
        this.flush()?;
        Ok(this)
    }

    fn put(&mut self, event: std::fmt::Arguments) {
        // Writing into memory does not fail.
        let _ = self.waiting.write_fmt(event);
    }

    fn event(&mut self, open: &Open, ended: Instant) {
        let pid = std::process::id();
        if THREAD.get() == 0 {
            self.threads += 1;
            THREAD.set(self.threads);
            let name = serde_json::Value::from(std::thread::current().name().unwrap_or("host"));
            let tid = THREAD.get();
            self.put(format_args!(
                ",\n{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":{pid},\"tid\":{tid},\"args\":{{\"name\":{name}}}}}"
            ));
        }
        let microseconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_nanos() as f64 / 1e3;
        let (start, tid) = (microseconds(self.began, open.began), THREAD.get());
        let took = microseconds(open.began, ended);
        let Open { name, args, .. } = open;
        self.put(format_args!(
            ",\n{{\"name\":\"{name}\",\"ph\":\"X\",\"pid\":{pid},\"tid\":{tid},\"ts\":{start:.3},\"dur\":{took:.3},\"args\":{{"
        ));
        for (at, (key, value)) in args.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            self.put(format_args!("{comma}\"{key}\":{value}"));
        }
        self.waiting.extend_from_slice(b"}}");
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.end + self.waiting.len() as u64 > MOST_BYTES {
            return Err(std::io::Error::other(format!("the file has {MOST_BYTES} bytes")));
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        let written = self.waiting.len() as u64;
        self.waiting.extend_from_slice(END);
        self.file.write_all(&self.waiting)?;
        self.end += written;
        self.waiting.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    fn open(name: &'static str, began: Instant) -> Open {
        Open { name, args: vec![("layer", 3), ("rows", 8)], began }
    }

    #[test]
    fn the_file_is_json_after_every_flush() {
        let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
        let began = writer.began;
        for count in 1..4 {
            writer.event(&open("attention", began), began + Duration::from_nanos(1_500));
            writer.flush().unwrap();
            let events: Vec<Value> = serde_json::from_slice(writer.file.get_ref()).unwrap();
            assert_eq!(events.iter().filter(|event| event["ph"] == "X").count(), count);
            let last = events.last().unwrap();
            assert_eq!((&last["ts"], &last["dur"]), (&Value::from(0.0), &Value::from(1.5)));
            assert_eq!(last["args"], serde_json::json!({"layer": 3, "rows": 8}));
        }
    }

    #[test]
    fn a_full_file_is_an_error_and_stays_whole() {
        let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
        let (began, end) = (writer.began, writer.end);
        writer.end = MOST_BYTES;
        writer.event(&open("attention", began), began);
        assert!(writer.flush().unwrap_err().to_string().contains("bytes"));
        writer.end = end;
        assert!(serde_json::from_slice::<Vec<Value>>(writer.file.get_ref()).is_ok());
    }

    #[test]
    fn nothing_is_recorded_while_it_is_off() {
        let span = span("step", &[]);
        assert!(span.0.is_none());
    }
}
