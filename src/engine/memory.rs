//! What this library holds, process-wide, and the limit it keeps.
//!
//! Every large holding (weights, KV pages, activation slots) is taken through [`reserve`] and given back when its
//! [`Reservation`] drops, so `active` is the sum of what lives and a limit can refuse before the system does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::error::{Result, fail};

static ACTIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);
static CACHED: AtomicU64 = AtomicU64::new(0);
static MAPPED: AtomicU64 = AtomicU64::new(0);
static ON_DEVICE: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);
static CACHE_LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);
static IDLE: AtomicU64 = AtomicU64::new(0);
static IDLE_LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);
static CLEAR_EPOCH: AtomicU64 = AtomicU64::new(0);

/// The process's figures at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// In use: weights (mapped ones included), KV cache, activations; on a device all that its allocator holds.
    pub active: u64,
    /// The largest `active` since the start or the last [`reset_peak`].
    pub peak: u64,
    /// Kept for reuse by nobody in particular; [`clear_cache`] returns it to the system.
    pub cached: u64,
    /// The part of `active` that is file mappings, shared with every process that maps the same file.
    pub mapped: u64,
    /// What `active` may not exceed; `u64::MAX` is no limit.
    pub limit: u64,
    /// What `cached` may not exceed; `u64::MAX` is no limit.
    pub cache_limit: u64,
    /// The part of `active` that models hold on which nothing runs: weights and KV pages.
    pub idle: u64,
    /// What `idle` may not exceed for long; `u64::MAX` is no limit.
    pub idle_limit: u64,
}

/// What the holding is, which decides the counters it shows in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory of our own.
    Owned,
    /// A file mapping.
    Mapped,
    /// What the [`Device`]'s allocator holds for us.
    Device,
}

impl Kind {
    /// Where it is counted beside `active`.
    fn part(self) -> Option<&'static AtomicU64> {
        match self {
            Self::Owned => None,
            Self::Mapped => Some(&MAPPED),
            Self::Device => Some(&ON_DEVICE),
        }
    }
}

/// An allocator that counts what it holds itself, temporaries included.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Its figures, in bytes.
    pub figures: fn() -> DeviceFigures,
    /// Starts its peak again from what is active now.
    pub reset_peak: fn(),
}

/// What a device's allocator says, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceFigures {
    /// In use.
    pub active: u64,
    /// The largest `active` since the start or the last reset.
    pub peak: u64,
    /// Kept for reuse.
    pub cached: u64,
}

static DEVICE: OnceLock<Device> = OnceLock::new();

/// Has `device` counted in [`usage`] from now on; only the first counts.
pub fn count_device(device: Device) {
    let _ = DEVICE.set(device);
}

/// Bytes counted as active until this drops.
#[derive(Debug)]
pub struct Reservation {
    bytes: u64,
    kind: Kind,
}

/// Counts `bytes` as active, or refuses with [`Status::Memory`](super::error::Status::Memory) when they would pass
/// the limit. `what` names the holding in the message.
pub fn reserve(bytes: usize, kind: Kind, what: &str) -> Result<Reservation> {
    let bytes = bytes as u64;
    let mut active = ACTIVE.load(Relaxed);
    loop {
        let limit = LIMIT.load(Relaxed);
        let Some(next) = active.checked_add(bytes).filter(|next| *next <= limit) else {
            fail!(Memory, "{what}: {bytes} bytes on top of {active} in use pass the limit of {limit}")
        };
        match ACTIVE.compare_exchange_weak(active, next, Relaxed, Relaxed) {
            Ok(_) => {
                PEAK.fetch_max(next, Relaxed);
                if let Some(part) = kind.part() {
                    part.fetch_add(bytes, Relaxed);
                }
                return Ok(Reservation { bytes, kind });
            }
            Err(seen) => active = seen,
        }
    }
}

impl Reservation {
    /// The bytes counted.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        ACTIVE.fetch_sub(self.bytes, Relaxed);
        if let Some(part) = self.kind.part() {
            part.fetch_sub(self.bytes, Relaxed);
        }
    }
}

/// The figures now.
pub fn usage() -> Usage {
    let device = DEVICE.get().map_or_else(DeviceFigures::default, |device| (device.figures)());
    let (active, on_device) = (ACTIVE.load(Relaxed), ON_DEVICE.load(Relaxed));
    // What is reserved for the device is part of what its allocator counts, once it is there.
    let elsewhere = active.saturating_sub(on_device);
    Usage {
        active: elsewhere + device.active.max(on_device),
        peak: PEAK.load(Relaxed).max(elsewhere + device.peak),
        cached: CACHED.load(Relaxed) + device.cached,
        mapped: MAPPED.load(Relaxed),
        limit: LIMIT.load(Relaxed),
        cache_limit: CACHE_LIMIT.load(Relaxed),
        idle: IDLE.load(Relaxed),
        idle_limit: IDLE_LIMIT.load(Relaxed),
    }
}

/// Sets the limit on `active`. What is already held stays; the next reservation is judged by the new limit.
pub fn set_limit(bytes: u64) {
    LIMIT.store(bytes, Relaxed);
}

/// Sets the limit on `cached`.
pub fn set_cache_limit(bytes: u64) {
    CACHE_LIMIT.store(bytes, Relaxed);
}

/// Starts `peak` again from what is active now.
pub fn reset_peak() {
    PEAK.store(ACTIVE.load(Relaxed), Relaxed);
    if let Some(device) = DEVICE.get() {
        (device.reset_peak)();
    }
}

/// Asks every pool to return what it keeps for reuse: idle owners at once, busy ones at their next idle moment.
pub fn clear_cache() {
    CLEAR_EPOCH.fetch_add(1, Relaxed);
    owners().iter().for_each(|owner| owner.wake());
}

/// Sets the limit on `idle`: models on which nothing runs, beginning with the one not used for longest, let go of all
/// they hold until the others hold at most `bytes`. Each is loaded again when it is next used.
pub fn set_idle_limit(bytes: u64) {
    IDLE_LIMIT.store(bytes, Relaxed);
    settle_idle();
}

/// Bytes counted as idle until this drops.
#[derive(Debug)]
pub struct Resting {
    /// Later ones have larger numbers.
    since: u64,
    bytes: u64,
}

/// Counts `bytes` as idle from now on.
pub fn rest(bytes: u64) -> Resting {
    static CLOCK: AtomicU64 = AtomicU64::new(0);
    IDLE.fetch_add(bytes, Relaxed);
    Resting { since: CLOCK.fetch_add(1, Relaxed), bytes }
}

impl Resting {
    /// Its owner has let go of some, or taken more, and rests on.
    pub fn correct(&mut self, bytes: u64) {
        IDLE.fetch_add(bytes.wrapping_sub(self.bytes), Relaxed);
        self.bytes = bytes;
    }
    /// `(since, bytes)`.
    pub fn figures(&self) -> (u64, u64) {
        (self.since, self.bytes)
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        IDLE.fetch_sub(self.bytes, Relaxed);
    }
}

/// Unloads what passes the idle limit. The caller holds no lock that an [`Owner`] takes.
pub fn settle_idle() {
    let limit = IDLE_LIMIT.load(Relaxed);
    if limit == u64::MAX {
        return;
    }
    let owners = owners();
    let mut idle: Vec<_> = owners.iter().filter_map(|owner| Some((owner.resting()?, owner))).collect();
    idle.sort_by_key(|((since, _), _)| std::cmp::Reverse(*since));
    let mut kept = 0_u64;
    for ((_, bytes), owner) in idle {
        match kept.checked_add(bytes).filter(|sum| *sum <= limit) {
            Some(sum) => kept = sum,
            None => owner.unload(),
        }
    }
}

/// Who keeps memory for reuse, and may be asleep when it is asked for.
pub trait Owner: Send + Sync {
    /// Looks at [`clear_epoch`] soon.
    fn wake(&self);
    /// Since when it rests, and the bytes that it holds meanwhile; `None` while it works.
    fn resting(&self) -> Option<(u64, u64)>;
    /// Lets go of all it holds, unless it works again.
    fn unload(&self);
}

/// Something alive that tests count.
#[derive(Debug)]
pub struct Alive(&'static AtomicU64);

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static WORKERS: AtomicU64 = AtomicU64::new(0);

impl Alive {
    /// A request, from its submission to its last event.
    pub fn request() -> Self {
        Self::count(&REQUESTS)
    }
    /// A thread that owns a backend, with everything it holds.
    pub fn worker() -> Self {
        Self::count(&WORKERS)
    }
    fn count(counter: &'static AtomicU64) -> Self {
        counter.fetch_add(1, Relaxed);
        Self(counter)
    }
    /// Live requests and workers.
    pub fn figures() -> (u64, u64) {
        (REQUESTS.load(Relaxed), WORKERS.load(Relaxed))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The standard library's lock, for the reason that `sync.rs` gives; not the one of that file, because a model of
/// threads cannot have statics.
static OWNERS: Mutex<Vec<Weak<dyn Owner>>> = Mutex::new(Vec::new());

fn registered() -> MutexGuard<'static, Vec<Weak<dyn Owner>>> {
    OWNERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those alive. Their own locks are taken by whoever calls them, after this one is free again.
fn owners() -> Vec<Arc<dyn Owner>> {
    registered().iter().filter_map(Weak::upgrade).collect()
}

/// Has `owner` woken by [`clear_cache`] while it lives.
pub fn register(owner: Weak<dyn Owner>) {
    let mut owners = registered();
    owners.retain(|owner| owner.strong_count() > 0);
    owners.push(owner);
}

/// Changes when [`clear_cache`] was called: a pool compares it with the value it saw last.
pub fn clear_epoch() -> u64 {
    CLEAR_EPOCH.load(Relaxed)
}

/// Moves `bytes` into the cached counter when they fit the cache limit; `false` means: return them to the system.
pub fn keep_cached(bytes: usize) -> bool {
    let bytes = bytes as u64;
    let kept = CACHED.fetch_add(bytes, Relaxed) + bytes <= CACHE_LIMIT.load(Relaxed);
    if !kept {
        CACHED.fetch_sub(bytes, Relaxed);
    }
    kept
}

/// Takes `bytes` out of the cached counter: they are in use again, or went back to the system.
pub fn leave_cached(bytes: usize) {
    CACHED.fetch_sub(bytes as u64, Relaxed);
}
