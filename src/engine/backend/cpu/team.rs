//! The worker team: threads that share out the tasks of one operation with the thread that asks for it.
//!
//! One [`Team::run`] is one fork and one join. Workers spin for some tens of microseconds after a run, because the
//! next operation of a forward pass follows at once, then park and cost nothing. A worker that is late (parked, or
//! descheduled by a busy machine) is not waited for: whoever is there does the work.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::engine::error::{Result, error, fail};

/// How long a worker looks for the next run before it parks. `GOMLX_SPIN_US` overrides it.
const SPIN: Duration = Duration::from_micros(50);
/// More threads than this are a mistake, not a machine.
const MAX_THREADS: usize = 1024;

/// A body with the caller's lifetime taken off; [`Team::run`] does not return while a worker may still call it.
type Body = *const (dyn Fn(usize, usize) + Sync);

/// One run: what to call and how often.
struct Job {
    body: Body,
    tasks: usize,
}

/// Layout of `Shared::gate`: workers inside the current run, one bit "closed to newcomers", one bit "the team
/// ends", and above them the run's number.
const INSIDE: u64 = 0xffff;
const CLOSED: u64 = 1 << 16;
const ENDED: u64 = 1 << 17;
const RUN: u64 = 1 << 18;

/// What the owner and the workers share.
struct Shared {
    /// Who may enter and who is in: see [`INSIDE`].
    gate: AtomicU64,
    /// The next unclaimed task.
    next: AtomicUsize,
    /// Workers that are parked or about to.
    sleepers: AtomicU32,
    /// Written by the owner while the gate is closed and nobody is inside; read by workers that are inside.
    job: UnsafeCell<Job>,
    /// The first panic of this run.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    spin: Duration,
}

// SAFETY: `job` is the only part that is not Sync by itself. The owner writes it only between a join (closed gate,
// nobody inside) and the next opening of the gate (release); workers read it only after entering through the open
// gate (acquire). The body it points to is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is only followed while the owner keeps the body alive inside `run`.
unsafe impl Send for Shared {}

/// A fixed set of threads. Belongs to one thread at a time: it is `Send` but not `Sync`.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// A run is under way: a nested one would wait for itself and is done inline instead.
    running: Cell<bool>,
}

impl Team {
    /// A team of `threads` threads, the caller's among them: starts `threads - 1`. Fails when `threads` is 0 or the
    /// system refuses a thread.
    pub fn new(threads: usize) -> Result<Team> {
        if threads == 0 || threads > MAX_THREADS {
            fail!(Argument, "{threads} threads: 1 to {MAX_THREADS} can be asked for")
        }
        let spin = std::env::var("GOMLX_SPIN_US").ok().and_then(|us| us.parse().ok()).map(Duration::from_micros);
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(CLOSED),
            next: AtomicUsize::new(0),
            sleepers: AtomicU32::new(0),
            job: UnsafeCell::new(Job { body: &|_, _| {}, tasks: 0 }),
            panic: Mutex::new(None),
            spin: spin.unwrap_or(SPIN),
        });
        let mut team = Team { shared, workers: Vec::with_capacity(threads - 1), running: Cell::new(false) };
        let _signals = SignalsBlocked::new();
        for worker in 1..threads {
            let shared = team.shared.clone();
            let handle = thread::Builder::new()
                .name(format!("gomlx-cpu-{worker}"))
                .spawn(move || shared.work(worker))
                .map_err(|e| error!(Io, "worker thread {worker} of {threads}: {e}"))?;
            team.workers.push(handle);
        }
        Ok(team)
    }

    /// Threads that take part, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(0)` to `body(tasks - 1)`, each once, on this thread and the workers, and returns when all are
    /// done. Tasks are claimed in order, one at a time. A panic inside a task is raised again here after the others
    /// have ended; tasks not yet begun are then skipped.
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        self.run_on(tasks, &|task, _| body(task));
    }

    /// As [`run`](Team::run); `body` also learns which thread it is on: `0 .. threads()`, 0 is the caller's.
    pub fn run_on(&self, tasks: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || self.running.get() {
            (0..tasks).for_each(|task| body(task, 0));
            return;
        }
        let shared = &*self.shared;
        self.running.set(true);
        // SAFETY: only the lifetime changes. This function waits below, on every path (panics of the body are
        // caught), until no worker is inside, and the closed gate lets none in later.
        let body: Body = unsafe { std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), Body>(body) };
        // SAFETY: the gate is closed and nobody is inside, see `Shared::job`.
        unsafe { *shared.job.get() = Job { body, tasks } };
        shared.next.store(0, Relaxed);
        let run = (shared.gate.load(Relaxed) & !(RUN - 1)).wrapping_add(RUN);
        // SeqCst, as in `Shared::sleep`: either the worker sees the open gate or this thread sees the sleeper.
        shared.gate.store(run, SeqCst);
        if shared.sleepers.load(SeqCst) > 0 {
            self.workers.iter().map(JoinHandle::thread).for_each(Thread::unpark);
        }

        shared.claim(0);

        let mut seen = shared.gate.fetch_or(CLOSED, AcqRel);
        let mut spins = 0u32;
        while seen & INSIDE != 0 {
            spins += 1;
            // A worker inside is at most one task away, unless the system took its processor.
            if spins > 20_000 {
                thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
            seen = shared.gate.load(Acquire);
        }
        self.running.set(false);
        let panic = shared.panic.lock().take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.gate.fetch_or(ENDED, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker ends by returning; its panics were caught where they happened.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Claims and runs tasks until none is left.
    fn claim(&self, worker: usize) {
        // SAFETY: this thread is the owner, or inside the gate: `job` is not being written, and the body lives.
        let (body, tasks) = unsafe {
            let job = &*self.job.get();
            (&*job.body, job.tasks)
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next.fetch_add(1, Relaxed);
                if task >= tasks {
                    break;
                }
                body(task, worker);
            }
        }));
        if let Err(panic) = outcome {
            self.next.store(tasks, Relaxed);
            self.panic.lock().get_or_insert(panic);
        }
    }

    /// A worker's life.
    fn work(&self, worker: usize) {
        let mut seen = 0;
        loop {
            let gate = self.gate.load(Acquire);
            if gate & ENDED != 0 {
                return;
            }
            let run = gate & !(RUN - 1);
            if run == seen || gate & CLOSED != 0 {
                self.wait(gate);
                continue;
            }
            if self.gate.compare_exchange(gate, gate + 1, AcqRel, Relaxed).is_ok() {
                seen = run;
                self.claim(worker);
                self.gate.fetch_sub(1, Release);
            }
        }
    }

    /// Returns when the gate may have opened for another run: spins, then parks. `gate` is what the worker saw.
    fn wait(&self, gate: u64) {
        let run = gate & !(RUN - 1);
        let news = |gate: u64| gate & ENDED != 0 || (gate & !(RUN - 1) != run && gate & CLOSED == 0);
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if news(self.gate.load(Relaxed)) {
                    return;
                }
                std::hint::spin_loop();
            }
            let elapsed = start.elapsed();
            if elapsed >= self.spin {
                break;
            }
        }
        self.sleepers.fetch_add(1, SeqCst);
        while !news(self.gate.load(SeqCst)) {
            thread::park();
        }
        self.sleepers.fetch_sub(1, SeqCst);
    }
}

/// Numbers shared out among threads: each has a range of its own to go through in order (memory likes that), and
/// helps with the others' when it is done.
#[derive(Default)]
pub struct Shares {
    next: Vec<Counter>,
    count: AtomicUsize,
}

/// On a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Counter(AtomicUsize);

impl Shares {
    /// Ranges for `threads` threads, from the next [`deal`](Shares::deal) on.
    pub fn split(&mut self, threads: usize) {
        self.next.resize_with(threads, Counter::default);
    }
    /// Shares out `0 .. count` anew; while nobody claims.
    pub fn deal(&self, count: usize) {
        self.count.store(count, Relaxed);
        for (i, next) in self.next.iter().enumerate() {
            next.0.store(self.start(i), Relaxed);
        }
    }
    /// A number that nobody else has got, for thread `worker`; `None` when all are given out.
    pub fn claim(&self, worker: usize) -> Option<usize> {
        let threads = self.next.len();
        (worker..worker + threads).map(|i| i % threads).find_map(|i| {
            let end = self.start(i + 1);
            let claimed = self.next[i].0.fetch_add(1, Relaxed);
            (claimed < end).then_some(claimed)
        })
    }
    fn start(&self, thread: usize) -> usize {
        thread * self.count.load(Relaxed) / self.next.len()
    }
}

/// Threads that compute by default: the physical cores this process may use, after its affinity mask and its
/// cgroup's quota. `GOMLX_THREADS` is read by the caller, not here.
pub fn default_threads() -> usize {
    let available = thread::available_parallelism().map_or(1, |n| n.get());
    physical_cores().map_or(available, |cores| cores.clamp(1, available))
}

/// Distinct physical cores among the processors of this process's affinity mask.
#[cfg(target_os = "linux")]
fn physical_cores() -> Option<usize> {
    // SAFETY: an all-zero cpu_set_t is valid; the call writes at most its size into it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return None;
        }
        set
    };
    let mut cores = std::collections::BTreeSet::new();
    for cpu in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: `cpu` is below CPU_SETSIZE.
        if !unsafe { libc::CPU_ISSET(cpu, &set) } {
            continue;
        }
        // Hardware threads of one core name the same siblings.
        let siblings = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        cores.insert(std::fs::read_to_string(siblings).ok()?);
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// Performance cores where the chip has two kinds: a slow core would hold up every join.
#[cfg(target_os = "macos")]
fn physical_cores() -> Option<usize> {
    [c"hw.perflevel0.physicalcpu", c"hw.physicalcpu"].into_iter().find_map(|name| {
        let mut value: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>();
        // SAFETY: `name` is a C string; the call writes at most `size` bytes into `value`.
        let status =
            unsafe { libc::sysctlbyname(name.as_ptr(), (&raw mut value).cast(), &mut size, std::ptr::null_mut(), 0) };
        (status == 0 && value > 0).then_some(value as usize)
    })
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn physical_cores() -> Option<usize> {
    None
}

/// While it lives, this thread blocks every signal, and threads it starts begin that way: a host's handlers never
/// run on our threads.
struct SignalsBlocked {
    #[cfg(unix)]
    before: libc::sigset_t,
}

impl SignalsBlocked {
    fn new() -> Self {
        #[cfg(unix)]
        // SAFETY: both sets are ours; sigfillset initialises one, pthread_sigmask the other.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Self { before }
        }
        #[cfg(not(unix))]
        Self {}
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        #[cfg(unix)]
        // SAFETY: `before` is the mask that pthread_sigmask gave us.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads).unwrap();
            assert_eq!(team.threads(), threads);
            for tasks in [0, 1, 2, 3, 17, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                team.run_on(tasks, &|task, worker| {
                    assert!(worker < threads);
                    counts[task].fetch_add(1, Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Relaxed) == 1), "{threads} threads, {tasks} tasks");
            }
        }
    }

    #[test]
    fn many_short_runs_and_parked_workers() {
        let team = Team::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        for round in 0..2000 {
            team.run(7, &|task| {
                sum.fetch_add(task, Relaxed);
            });
            if round % 500 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        assert_eq!(sum.into_inner(), 2000 * 21);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives_on() {
        let team = Team::new(2).unwrap();
        let done = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            team.run(50, &|task| {
                if task == 20 {
                    panic!("task twenty");
                }
                done.fetch_add(1, Relaxed);
            })
        }));
        let panic = outcome.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"task twenty"));
        assert!(done.load(Relaxed) >= 20);
        team.run(10, &|_| {
            done.fetch_add(1, Relaxed);
        });
        assert!(done.load(Relaxed) >= 30);
    }

    #[test]
    fn zero_threads_are_refused() {
        assert!(Team::new(0).is_err());
        assert!(default_threads() >= 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn workers_are_named_block_signals_and_rest() {
        let team = Team::new(2).unwrap();
        let on_worker = Mutex::new(None);
        // Until the worker has taken a task: it may be late.
        while on_worker.lock().is_none() {
            team.run_on(64, &|_, worker| {
                if worker == 1 {
                    // SAFETY: queries the mask of this thread into a set of ours.
                    let blocked = unsafe {
                        let mut set: libc::sigset_t = std::mem::zeroed();
                        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut set);
                        libc::sigismember(&set, libc::SIGTERM) == 1 && libc::sigismember(&set, libc::SIGPROF) == 1
                    };
                    // SAFETY: no arguments.
                    let id = unsafe { libc::gettid() };
                    *on_worker.lock() = Some((thread::current().name().map(str::to_owned), blocked, id));
                }
                thread::sleep(Duration::from_micros(200));
            });
        }
        let (name, blocked, id) = on_worker.lock().take().unwrap();
        assert_eq!(name.as_deref(), Some("gomlx-cpu-1"));
        assert!(blocked);
        // Nanoseconds on a processor: must stand still once the worker has parked.
        let ran = || -> u64 {
            let text = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).unwrap();
            text.split_whitespace().next().unwrap().parse().unwrap()
        };
        thread::sleep(Duration::from_millis(20));
        let before = ran();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(ran(), before, "a parked worker took processor time");
    }
}
