//! Who holds which KV page. Pages are counted: a sequence and the prefix cache may hold the same one.
//!
//! Knows nothing of backends: it hands out indices, and says how many of them must have memory.

use crate::engine::backend::{NO_PAGE, PAGE_TOKENS, PageId};

/// Pages of one layer group.
#[derive(Debug)]
pub struct PagePool {
    /// Holders of each page that was ever handed out.
    holders: Vec<u32>,
    free: Vec<PageId>,
    capacity: usize,
    committed: usize,
}

impl PagePool {
    /// A pool of at most `capacity` pages, all free.
    pub fn new(capacity: usize) -> Self {
        Self { holders: Vec::new(), free: Vec::new(), capacity, committed: 0 }
    }
    /// Whether `pages` more can be promised.
    pub fn can_commit(&self, pages: usize) -> bool {
        self.committed + pages <= self.capacity
    }
    /// Promises `pages` to an admitted sequence.
    pub fn commit(&mut self, pages: usize) {
        debug_assert!(self.can_commit(pages), "a promise that cannot be kept");
        self.committed += pages;
    }
    /// Takes a promise back.
    pub fn release(&mut self, pages: usize) {
        self.committed -= pages;
    }
    /// A page with one holder, or `None` when the capacity is used up (the prefix cache must then let go of some).
    pub fn take(&mut self) -> Option<PageId> {
        let page = match self.free.pop() {
            Some(page) => page,
            None if self.holders.len() < self.capacity => {
                self.holders.push(0);
                (self.holders.len() - 1) as PageId
            }
            None => return None,
        };
        self.holders[page as usize] = 1;
        Some(page)
    }
    /// One more holder.
    pub fn share(&mut self, page: PageId) {
        if page != NO_PAGE {
            self.holders[page as usize] += 1;
        }
    }
    /// One holder fewer; the last one's leaving frees the page.
    pub fn leave(&mut self, page: PageId) {
        if page == NO_PAGE {
            return;
        }
        let holders = &mut self.holders[page as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
    }
    /// Whether nobody holds a page or a promise.
    pub fn is_idle(&self) -> bool {
        self.committed == 0 && self.free.len() == self.holders.len()
    }
    /// Pages somebody holds.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.holders.len() - self.free.len()
    }
    /// One more than the highest page handed out: how many the backend must have memory for.
    pub fn high_water(&self) -> usize {
        self.holders.len()
    }
    /// Forgets free pages at the end, so that [`high_water`](Self::high_water) falls and their memory can go.
    pub fn trim(&mut self) {
        while self.holders.last() == Some(&0) {
            self.holders.pop();
        }
        let len = self.holders.len() as PageId;
        self.free.retain(|page| *page < len);
    }
}

/// Pages that hold positions `0 .. positions`.
pub fn pages_for(positions: usize) -> usize {
    positions.div_ceil(PAGE_TOKENS)
}

/// Most pages that a sequence of `positions` holds at once in a group with `window`, when steps add at most `chunk`
/// positions: all of them, or those that the window and one step touch.
pub fn most_held(positions: usize, window: Option<usize>, chunk: usize) -> usize {
    let all = pages_for(positions);
    match window {
        None => all,
        // The window and the step together may begin and end inside a page.
        Some(window) => all.min(pages_for(window + chunk) + 1),
    }
}

/// First page that a query at `position` or later can still see.
pub fn first_visible(position: usize, window: Option<usize>) -> usize {
    match window {
        None => 0,
        Some(window) => (position + 1).saturating_sub(window) / PAGE_TOKENS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_free_again_after_its_last_holder_left() {
        let mut pool = PagePool::new(2);
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!(pool.take(), None);
        pool.share(a);
        pool.leave(a);
        assert_eq!((pool.take(), pool.held()), (None, 2));
        pool.leave(a);
        assert_eq!(pool.take(), Some(a));
        pool.leave(a);
        pool.leave(b);
        pool.trim();
        assert_eq!((pool.held(), pool.high_water()), (0, 0));
    }

    #[test]
    fn a_window_bounds_what_a_sequence_holds() {
        // Follows a sequence position by position and counts the pages between the first visible and the last.
        for (window, chunk) in [(1, 1), (8, 64), (64, 1), (64, 512), (512, 7), (100, 65)] {
            for start in (0..4096).step_by(chunk) {
                let held = pages_for(start + chunk) - first_visible(start, Some(window));
                assert!(held <= most_held(5000, Some(window), chunk), "window {window}, chunk {chunk}, start {start}");
            }
        }
    }

    #[test]
    fn promises_stay_within_the_capacity() {
        let mut pool = PagePool::new(3);
        pool.commit(2);
        assert!(!pool.can_commit(2));
        pool.release(2);
        assert!(pool.can_commit(3));
    }
}
