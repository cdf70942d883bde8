//! The locks, conditions and threads that the scheduler is made of: parking_lot's and the standard library's, or, with
//! the feature `shuttle`, ones whose every interleaving a test can choose (`make models`).

#[cfg(not(feature = "shuttle"))]
pub use std::{
    sync::{atomic::AtomicBool, mpsc},
    thread,
};

#[cfg(not(feature = "shuttle"))]
pub use parking_lot::{Condvar, Mutex, MutexGuard};

#[cfg(feature = "shuttle")]
pub use modelled::{Condvar, Mutex, MutexGuard};
#[cfg(feature = "shuttle")]
pub use shuttle::{
    sync::{atomic::AtomicBool, mpsc},
    thread,
};

/// shuttle's locks with parking_lot's interface, as far as it is used. Time does not exist there: a wait with an end
/// is over as soon as everybody else has had the chance to run.
#[cfg(feature = "shuttle")]
mod modelled {
    use std::ops::{Deref, DerefMut};
    use std::time::{Duration, Instant};

    use shuttle::sync;

    #[derive(Debug, Default)]
    pub struct Mutex<T>(sync::Mutex<T>);

    /// Empty only inside the functions below.
    pub struct MutexGuard<'a, T> {
        held: Option<sync::MutexGuard<'a, T>>,
        of: &'a sync::Mutex<T>,
    }

    #[derive(Debug, Default)]
    pub struct Condvar(sync::Condvar);

    pub struct WaitTimeoutResult;

    impl WaitTimeoutResult {
        pub fn timed_out(&self) -> bool {
            true
        }
    }

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }
        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { held: Some(take(&self.0)), of: &self.0 }
        }
        pub fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    fn take<T>(mutex: &sync::Mutex<T>) -> sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    impl<T> MutexGuard<'_, T> {
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
        pub fn new() -> Self {
            Self::default()
        }
        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.held.take().expect("held");
            guard.held = Some(self.0.wait(held).unwrap_or_else(std::sync::PoisonError::into_inner));
        }
        pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
            MutexGuard::unlocked(guard, shuttle::thread::yield_now);
            WaitTimeoutResult
        }
        pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> WaitTimeoutResult {
            self.wait_for(guard, Duration::ZERO)
        }
        pub fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}
