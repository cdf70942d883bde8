//! Sharing an operation's output among the team's threads in disjoint stretches.

use super::team::Team;

/// Floats below which an elementwise operation is over before a second thread would have begun.
const INLINE: usize = 16 * 1024;
/// Stretches a thread gets of a large operation; several, so that a late thread does not hold up the others.
const SHARES: usize = 4;

/// A pointer that threads may share because each touches its own part of what lies behind it.
#[derive(Debug)]
pub struct Shared<T>(*mut T);

// SAFETY: whoever dereferences it vouches for disjoint parts.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(std::ptr::null_mut())
    }
}

impl<T> Shared<T> {
    /// Around `pointer`.
    pub fn new(pointer: *mut T) -> Self {
        Self(pointer)
    }

    /// The pointer.
    pub fn get(self) -> *mut T {
        self.0
    }
}

/// Calls `body(offset, stretch)` for stretches that together are `out`, each but the last a multiple of `unit`
/// floats long, on the team where that is worth it. A result must not depend on where the cuts fall.
pub fn share(team: &Team, out: &mut [f32], unit: usize, body: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    if out.len() <= INLINE.max(unit) || team.threads() == 1 {
        return body(0, out);
    }
    let len = out.len();
    let units = len.div_ceil(unit);
    let tasks = units.min(SHARES * team.threads());
    let to = Shared::new(out.as_mut_ptr());
    team.run(tasks, &|task| {
        let start = task * units / tasks * unit;
        let end = ((task + 1) * units / tasks * unit).min(len);
        // SAFETY: within `out`, and no two tasks' stretches overlap; `out` is borrowed until `run` returns.
        let stretch = unsafe { std::slice::from_raw_parts_mut(to.get().add(start), end - start) };
        body(start, stretch);
    });
}
