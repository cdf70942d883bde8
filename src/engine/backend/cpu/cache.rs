//! KV pages: memory that comes and goes page by page.
//!
//! A page holds, for each layer of its group and each key/value head in turn, the keys `[head_dim][PAGE_TOKENS]`
//! (transposed, so that a vector of scores grows by one multiply-add a dimension) and then the values in strips of
//! [`STRIP`] dimensions, `[PAGE_TOKENS][width]` each, the last as narrow as it must be. Neither pass of attention
//! then joins lanes, and both read memory in order.

use super::buffer::Buffer;
use crate::engine::backend::{CacheLayout, PAGE_TOKENS, PageId};
use crate::engine::error::{Result, error, fail};
use crate::engine::memory::{self, Kind, Reservation};

/// Dimensions of values stored together.
pub const STRIP: usize = 64;

/// Changes with what the bytes of a page mean.
pub const FORMAT: u32 = 1;

/// Pages of every group.
#[derive(Debug)]
pub struct Cache {
    layout: CacheLayout,
    groups: Vec<Vec<Page>>,
}

#[derive(Debug)]
struct Page {
    buffer: Buffer,
    _active: Reservation,
}

/// Where a layer's keys and values lie.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Layer group.
    pub group: usize,
    /// Elements before the layer's first key in a page.
    pub offset: usize,
}

impl Cache {
    /// No pages yet. Fails with `Internal` where the layout contradicts itself.
    pub fn new(layout: &CacheLayout) -> Result<Self> {
        layout.check()?;
        Ok(Self { layout: layout.clone(), groups: layout.groups.iter().map(|_| Vec::new()).collect() })
    }

    /// What it was made for.
    pub fn layout(&self) -> &CacheLayout {
        &self.layout
    }

    /// Elements of one head's keys, or of its values, in a page.
    pub fn head_elements(&self) -> usize {
        self.layout.head_dim * PAGE_TOKENS
    }

    /// Pages of `group`.
    pub fn pages(&self, group: usize) -> usize {
        self.groups.get(group).map_or(0, Vec::len)
    }

    /// See [`Backend::resize`](crate::engine::backend::Backend::resize). On failure what was there stays.
    pub fn resize(&mut self, group: usize, pages: usize) -> Result<()> {
        let bytes = self.page_bytes(group)?;
        let kept = &mut self.groups[group];
        let before = kept.len();
        if pages <= before {
            kept.truncate(pages);
            return Ok(());
        }
        let more = pages - before;
        kept.try_reserve(more).map_err(|_| error!(Memory, "the KV cache: the system refused {pages} pages"))?;
        for _ in 0..more {
            match Page::new(bytes) {
                Ok(page) => kept.push(page),
                Err(refused) => {
                    kept.truncate(before);
                    return Err(refused);
                }
            }
        }
        Ok(())
    }

    /// See [`Backend::copy_page`](crate::engine::backend::Backend::copy_page).
    pub fn copy_page(&mut self, group: usize, from: PageId, to: PageId) -> Result<()> {
        let bytes = self.page_bytes(group)?;
        let (source, target) = (self.page(group, from)?, self.page(group, to)?);
        if from != to {
            // SAFETY: two different pages of `bytes` bytes; `&mut self` keeps everybody else away.
            unsafe { std::ptr::copy_nonoverlapping(source, target, bytes) };
        }
        Ok(())
    }

    /// See [`Backend::read_page`](crate::engine::backend::Backend::read_page).
    pub fn read_page(&self, group: usize, page: PageId) -> Result<Vec<u8>> {
        let bytes = self.page_bytes(group)?;
        let source = self.page(group, page)?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes).map_err(|_| error!(Memory, "a KV page: the system refused {bytes} bytes"))?;
        // SAFETY: a page has `bytes` initialised bytes, and nobody writes them while the cache is borrowed.
        copy.extend_from_slice(unsafe { std::slice::from_raw_parts(source, bytes) });
        Ok(copy)
    }

    /// See [`Backend::write_page`](crate::engine::backend::Backend::write_page).
    pub fn write_page(&mut self, group: usize, page: PageId, bytes: &[u8]) -> Result<()> {
        let expected = self.page_bytes(group)?;
        if bytes.len() != expected {
            fail!(Format, "a KV page of {} bytes where {expected} belong", bytes.len())
        }
        let target = self.page(group, page)?;
        // SAFETY: a page has `expected` bytes; `&mut self` keeps everybody else away.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, expected) };
        Ok(())
    }

    /// Where `layer` lies, or `Internal` for a layer that the layout does not have.
    pub fn place(&self, layer: usize) -> Result<Place> {
        let Some((group, index)) = self.layout.layers.get(layer).copied() else {
            fail!(Internal, "the KV cache holds {} layers, not layer {layer}", self.layout.layers.len())
        };
        Ok(Place { group, offset: index * self.layout.kv_heads * 2 * self.head_elements() })
    }

    /// The first byte of a page, or `Internal` for one that does not exist. Reading and writing through it is for
    /// whoever holds the cache.
    pub fn page(&self, group: usize, page: PageId) -> Result<*mut u8> {
        match self.groups.get(group).and_then(|pages| pages.get(page as usize)) {
            Some(page) => Ok(page.buffer.as_ptr()),
            None => fail!(Internal, "KV page {page} of group {group} does not exist: it has {}", self.pages(group)),
        }
    }

    fn page_bytes(&self, group: usize) -> Result<usize> {
        if group >= self.groups.len() {
            fail!(Internal, "the KV cache has {} groups, not group {group}", self.groups.len())
        }
        Ok(self.layout.page_bytes(group))
    }
}

impl Page {
    fn new(bytes: usize) -> Result<Self> {
        let active = memory::reserve(bytes, Kind::Owned, "a KV page")?;
        Ok(Self { buffer: Buffer::new(bytes, "a KV page")?, _active: active })
    }
}
