//! Activations: counted slots from a recycling pool.
//!
//! An activation passed by value whose slot nobody else holds is overwritten in place; a shared one is copied to a
//! fresh slot. A dropped slot waits in the pool for the next activation that fits, so steady decoding allocates
//! nothing.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::buffer::Buffer;
use crate::engine::error::{Result, error};
use crate::engine::memory::{self, Kind, Reservation};

/// Free slots a pool keeps; a step has far fewer alive at once.
const MOST_FREE: usize = 64;

/// Memory for one activation.
struct Slot {
    buffer: Buffer,
    /// Held while an activation uses the slot.
    active: Cell<Option<Reservation>>,
}

/// Slots that wait for reuse. One thread's; shared by the activations made from it.
pub struct Pool {
    free: RefCell<Vec<Rc<Slot>>>,
    epoch: Cell<u64>,
    allocations: Cell<u64>,
}

/// `[rows, cols]` floats, row-major, aligned to 64 bytes. Cloning shares them.
pub struct Activation {
    /// Dropped by hand: the last owner returns it to the pool.
    slot: ManuallyDrop<Rc<Slot>>,
    pool: Rc<Pool>,
    rows: usize,
    cols: usize,
}

/// An activation that nothing else shares, and that may therefore be written.
pub struct Owned(Activation);

impl Pool {
    /// An empty pool.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            free: RefCell::new(Vec::with_capacity(MOST_FREE)),
            epoch: Cell::new(memory::clear_epoch()),
            allocations: Cell::new(0),
        })
    }

    /// Blocks of memory asked of the system so far.
    pub fn allocations(&self) -> u64 {
        self.allocations.get()
    }

    /// An activation of arbitrary contents. Fails with `Memory` at the limit or where the system has no more.
    pub fn take(self: &Rc<Self>, rows: usize, cols: usize) -> Result<Owned> {
        let bytes = rows
            .checked_mul(cols)
            .and_then(|n| n.checked_mul(size_of::<f32>()))
            .ok_or_else(|| error!(Memory, "an activation of {rows} x {cols} is larger than any memory"))?;
        self.clear_if_asked();
        let slot = match self.recycle(bytes) {
            Some(slot) => slot,
            None => {
                let buffer = Buffer::new(bytes, "an activation")?;
                self.allocations.set(self.allocations.get() + 1);
                Rc::new(Slot { buffer, active: Cell::new(None) })
            }
        };
        let activation = Activation { slot: ManuallyDrop::new(slot), pool: self.clone(), rows, cols };
        let held = memory::reserve(activation.slot.buffer.bytes(), Kind::Owned, "an activation")?;
        activation.slot.active.set(Some(held));
        Ok(Owned(activation))
    }

    /// Activations of the same rows and these columns.
    pub fn take_all<const N: usize>(self: &Rc<Self>, rows: usize, cols: [usize; N]) -> Result<[Owned; N]> {
        let mut taken = [const { None }; N];
        for (slot, cols) in taken.iter_mut().zip(cols) {
            *slot = Some(self.take(rows, cols)?);
        }
        Ok(taken.map(|slot| slot.unwrap_or_else(|| unreachable!("every slot was filled"))))
    }

    /// The smallest free slot of at least `bytes`. Where none is large enough, the largest is freed: the new slot
    /// takes its place, so that a pool has no more slots than were ever in use at once.
    fn recycle(&self, bytes: usize) -> Option<Rc<Slot>> {
        let mut free = self.free.borrow_mut();
        let fitting =
            (0..free.len()).filter(|i| free[*i].buffer.bytes() >= bytes).min_by_key(|i| free[*i].buffer.bytes());
        if let Some(i) = fitting {
            let slot = free.swap_remove(i);
            memory::leave_cached(slot.buffer.bytes());
            return Some(slot);
        }
        if let Some(i) = (0..free.len()).max_by_key(|i| free[*i].buffer.bytes()) {
            memory::leave_cached(free.swap_remove(i).buffer.bytes());
        }
        None
    }

    /// Returns the free slots to the system when [`memory::clear_cache`] was called since the last look.
    pub fn clear_if_asked(&self) {
        let epoch = memory::clear_epoch();
        if self.epoch.replace(epoch) != epoch {
            self.clear();
        }
    }

    fn clear(&self) {
        for slot in self.free.borrow_mut().drain(..) {
            memory::leave_cached(slot.buffer.bytes());
        }
    }

    /// Takes back a slot that nothing uses any more.
    fn put(&self, slot: Rc<Slot>) {
        slot.active.set(None);
        let mut free = self.free.borrow_mut();
        if free.len() < MOST_FREE && memory::keep_cached(slot.buffer.bytes()) {
            free.push(slot);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Activation {
    /// Tokens.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Floats a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// This activation for writing: itself if nothing shares it, else a copy.
    pub fn into_owned(self) -> Result<Owned> {
        if Rc::strong_count(&self.slot) == 1 {
            return Ok(Owned(self));
        }
        let mut copy = self.pool.take(self.rows, self.cols)?;
        copy.copy_from_slice(&self);
        Ok(copy)
    }
}

impl Deref for Activation {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the buffer holds rows * cols initialised floats; only an `Owned`, which has no clones, writes them.
        unsafe { std::slice::from_raw_parts(self.slot.buffer.as_ptr().cast(), self.rows * self.cols) }
    }
}

impl Clone for Activation {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone(), pool: self.pool.clone(), rows: self.rows, cols: self.cols }
    }
}

impl Drop for Activation {
    fn drop(&mut self) {
        // SAFETY: taken once, here, and not used afterwards.
        let slot = unsafe { ManuallyDrop::take(&mut self.slot) };
        if Rc::strong_count(&slot) == 1 {
            self.pool.put(slot);
        }
    }
}

impl Owned {
    /// Lets others share it.
    pub fn share(self) -> Activation {
        self.0
    }

    /// Tokens.
    pub fn rows(&self) -> usize {
        self.0.rows
    }

    /// Floats a row.
    pub fn cols(&self) -> usize {
        self.0.cols
    }
}

impl Deref for Owned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut [f32] {
        let len = self.0.rows * self.0.cols;
        // SAFETY: the buffer holds `len` initialised floats, and an `Owned` is its slot's only holder.
        unsafe { std::slice::from_raw_parts_mut(self.0.slot.buffer.as_ptr().cast(), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sole_owner_is_overwritten_in_place_and_a_shared_one_copied() {
        let pool = Pool::new();
        let mut a = pool.take(2, 3).unwrap();
        a.fill(1.0);
        let a = a.share();
        let place = a.as_ptr();
        let mut b = a.into_owned().unwrap();
        assert_eq!(b.as_ptr(), place);
        b.fill(2.0);
        let b = b.share();
        let kept = b.clone();
        let mut c = b.into_owned().unwrap();
        assert_ne!(c.as_ptr(), place);
        c.fill(3.0);
        assert_eq!(&*kept, &[2.0; 6]);
        assert_eq!(kept.as_ptr() as usize % 64, 0);
        assert_eq!(c.as_ptr() as usize % 64, 0);
    }

    #[test]
    fn slots_are_recycled_and_few() {
        let pool = Pool::new();
        for round in 0..20 {
            let x = pool.take(1, 1000).unwrap().share();
            let y = pool.take(1, 10).unwrap().share();
            let _both = (x.clone(), y);
            if round == 0 {
                assert_eq!(pool.allocations(), 2);
            }
        }
        assert_eq!(pool.allocations(), 2);
        // A larger need replaces a slot instead of adding one.
        drop(pool.take(1, 5000).unwrap());
        assert_eq!((pool.allocations(), pool.free.borrow().len()), (3, 2));
    }

    #[test]
    fn more_than_memory_is_an_error() {
        let pool = Pool::new();
        for (rows, cols) in [(usize::MAX, 2), (1 << 30, 1 << 30)] {
            let refused = pool.take(rows, cols).err().unwrap();
            assert_eq!(refused.status(), crate::engine::Status::Memory);
        }
        drop(pool.take(1, 1).unwrap());
    }
}
