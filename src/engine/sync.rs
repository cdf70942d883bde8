//! The locks, conditions and threads that several threads meet at: the standard library's or, with the feature
//! `shuttle`, ones whose every interleaving a test can choose (`make tsan`).
//!
//! Not parking_lot's, because a model must load in a child of fork(): parking_lot keeps one table for the process of
//! who waits where, in the child it leads to threads that are gone, and the next thread that parks there walks it.
//! The standard library's wait in the lock itself (a futex), which the child does not share. parking_lot serves
//! locks that nobody waits for: those that guard against a caller's mistake or hold a rare event's story.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

#[cfg(feature = "shuttle")]
use shuttle as library;
#[cfg(not(feature = "shuttle"))]
use std as library;

pub use library::sync::{atomic::AtomicBool, mpsc};
pub use library::thread;

/// A lock that a panic does not poison: a panicking step closes what it held by its own rules.
#[derive(Debug, Default)]
pub struct Mutex<T>(library::sync::Mutex<T>);

/// Empty only inside the functions below.
pub struct MutexGuard<'a, T> {
    held: Option<library::sync::MutexGuard<'a, T>>,
    of: &'a library::sync::Mutex<T>,
}

#[derive(Debug, Default)]
pub struct Condvar(library::sync::Condvar);

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Self(library::sync::Mutex::new(value))
    }
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { held: Some(take(&self.0)), of: &self.0 }
    }
    /// Nothing when somebody else holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(std::sync::TryLockError::Poisoned(held)) => held.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { held: Some(held), of: &self.0 })
    }
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take<T>(mutex: &library::sync::Mutex<T>) -> library::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> MutexGuard<'_, T> {
    /// Lets go of the lock while `body` runs.
    pub fn unlocked<R>(guard: &mut Self, body: impl FnOnce() -> R) -> R {
        guard.held = None;
        let result = body();
        guard.held = Some(take(guard.of));
        result
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect("held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("held")
    }
}

impl Condvar {
    pub const fn new() -> Self {
        Self(library::sync::Condvar::new())
    }
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect("held");
        guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }
    /// True when the time was over before news came. Time does not exist in a model: there it is over as soon as
    /// everybody else has had the chance to run.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> bool {
        if cfg!(feature = "shuttle") {
            MutexGuard::unlocked(guard, thread::yield_now);
            return true;
        }
        let held = guard.held.take().expect("held");
        let (held, result) = self.0.wait_timeout(held, timeout).unwrap_or_else(PoisonError::into_inner);
        guard.held = Some(held);
        result.timed_out()
    }
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> bool {
        self.wait_for(guard, until.saturating_duration_since(Instant::now()))
    }
    pub fn notify_one(&self) {
        self.0.notify_one();
    }
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
