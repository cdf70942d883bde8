//! KV pages on the device: for each layer one array of keys and one of values, `[slots, kv_heads * head_dim]`, a slot
//! a position and [`PAGE_TOKENS`] slots a page. Before the first page lies one that is always zero: what a shorter
//! sequence of a batch has in place of pages.
//!
//! Nothing here is copied as a whole but when the number of pages changes: updates are in place, because only the
//! cache holds its arrays between steps.

use mlx_rs::{Array, Dtype, ops};

use super::array::{done, from_host, size, slice, slice_update};
use crate::engine::backend::{CacheLayout, KvType, PAGE_TOKENS, PageId};
use crate::engine::error::{Result, fail};
use crate::engine::memory::{self, Kind, Reservation};

/// Pages of every group.
#[derive(Debug)]
pub struct Cache {
    layout: CacheLayout,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    /// Usable pages.
    pages: usize,
    /// Pages with memory, of which the zero page is none; at least `pages`.
    room: usize,
    layers: Vec<Layer>,
    active: Option<Reservation>,
}

/// Keys and values of one layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `[slots, kv_heads * head_dim]`.
    pub k: Array,
    /// The same.
    pub v: Array,
}

/// MLX's name of a cache's element type.
pub fn dtype_of(kind: KvType) -> Dtype {
    match kind {
        KvType::F32 => Dtype::Float32,
        KvType::F16 => Dtype::Float16,
        KvType::BF16 => Dtype::Bfloat16,
    }
}

impl Cache {
    /// No pages yet. Fails with `Internal` where the layout contradicts itself.
    pub fn new(layout: &CacheLayout) -> Result<Self> {
        layout.check()?;
        let width = layout.kv_heads * layout.head_dim;
        let empty = || done(ops::zeros_dtype(&[PAGE_TOKENS as i32, size(width)?], dtype_of(layout.dtype)));
        let group = |layers: &usize| -> Result<Group> {
            let layers = (0..*layers).map(|_| Ok(Layer { k: empty()?, v: empty()? })).collect::<Result<_>>()?;
            Ok(Group { pages: 0, room: 0, layers, active: None })
        };
        let groups = layout.groups.iter().map(group).collect::<Result<_>>()?;
        Ok(Self { layout: layout.clone(), groups })
    }

    /// What it was made for.
    pub fn layout(&self) -> &CacheLayout {
        &self.layout
    }

    /// `(group, index in it)` of a layer, or `Internal` for a layer that the layout does not have.
    pub fn place(&self, layer: usize) -> Result<(usize, usize)> {
        match self.layout.layers.get(layer) {
            Some(place) => Ok(*place),
            None => fail!(Internal, "the KV cache holds {} layers, not layer {layer}", self.layout.layers.len()),
        }
    }

    /// The page's first slot, or `Internal` for a page that does not exist.
    pub fn slot(&self, group: usize, page: PageId) -> Result<usize> {
        let pages = self.groups.get(group).map_or(0, |group| group.pages);
        if page as usize >= pages {
            fail!(Internal, "KV page {page} of group {group} does not exist: it has {pages}")
        }
        Ok((page as usize + 1) * PAGE_TOKENS)
    }

    /// A layer's arrays.
    pub fn layer(&self, (group, index): (usize, usize)) -> &Layer {
        &self.groups[group].layers[index]
    }

    /// Writes rows of keys, or of values (`[rows, kv_heads * head_dim]`, of the cache's type), into their slots.
    pub fn write(&mut self, (group, index): (usize, usize), slots: &Slots, rows: &Array, keys: bool) -> Result<()> {
        let layer = &mut self.groups[group].layers[index];
        let array = if keys { &mut layer.k } else { &mut layer.v };
        *array = slots.write(array, rows)?;
        Ok(())
    }

    /// See [`Backend::resize`](crate::engine::backend::Backend::resize). Room grows by half at least, so that a
    /// growing cache is copied a few times only; it shrinks when less than half of it is in use.
    pub fn resize(&mut self, group: usize, pages: usize) -> Result<()> {
        let page_bytes = self.page_bytes(group)?;
        let group = &mut self.groups[group];
        let mut room = if pages > group.room {
            pages.max(group.room + group.room / 2)
        } else if pages < group.pages && pages < group.room / 2 {
            pages
        } else {
            group.pages = pages;
            return Ok(());
        };
        if room < group.room {
            for layer in &mut group.layers {
                *layer = layer.with_pages(room)?;
            }
            // Given back before less is taken: this cannot be refused.
            group.active = None;
            group.active = Some(memory::reserve(room * page_bytes, Kind::Device, "KV pages")?);
        } else {
            // Where the limit refuses room to grow into, what is needed may still fit. Old and new live side by side.
            let reserve = |room: usize| Ok((room, memory::reserve(room * page_bytes, Kind::Device, "KV pages")?));
            let (taken, active) = reserve(room).or_else(|_| reserve(pages))?;
            let layers = group.layers.iter().map(|layer| layer.with_pages(taken)).collect::<Result<_>>()?;
            (group.layers, group.active, room) = (layers, Some(active), taken);
        }
        (group.pages, group.room) = (pages, room);
        Ok(())
    }

    /// See [`Backend::copy_page`](crate::engine::backend::Backend::copy_page).
    pub fn copy_page(&mut self, group: usize, from: PageId, to: PageId) -> Result<()> {
        self.page_bytes(group)?;
        let (from, to) = (size(self.slot(group, from)?)?, size(self.slot(group, to)?)?);
        let page = PAGE_TOKENS as i32;
        let rows = from_host(&(from..from + page).collect::<Vec<i32>>(), &[PAGE_TOKENS])?;
        for layer in &mut self.groups[group].layers {
            for array in [&mut layer.k, &mut layer.v] {
                let width = array.dim(1);
                // A copy, computed before the array is written to, so that the array is nobody else's then.
                let source = done(array.take_axis(&rows, 0))?;
                done(source.eval())?;
                *array = slice_update(array, &source, &[to, 0], &[to + page, width])?;
            }
        }
        Ok(())
    }

    /// Every array, for whoever wants them computed.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.groups.iter().flat_map(|group| &group.layers).flat_map(|layer| [&layer.k, &layer.v])
    }

    fn page_bytes(&self, group: usize) -> Result<usize> {
        if group >= self.groups.len() {
            fail!(Internal, "the KV cache has {} groups, not group {group}", self.groups.len())
        }
        Ok(self.layout.page_bytes(group))
    }
}

impl Layer {
    /// The zero page and `pages` more, computed, zeros where there were none.
    fn with_pages(&self, pages: usize) -> Result<Self> {
        let resized = |array: &Array| {
            let (have, want, width) = (array.dim(0), size((pages + 1) * PAGE_TOKENS)?, array.dim(1));
            if want <= have {
                // Added to nothing, because a mere slice would keep all of the old array.
                let zero = done(ops::zeros_dtype(&[1], array.dtype()))?;
                return done(slice(array, &[0, 0], &[want, width])?.add(&zero));
            }
            let more = done(ops::zeros_dtype(&[want - have, width], array.dtype()))?;
            done(ops::concatenate(&[array, &more], 0))
        };
        let layer = Self { k: resized(&self.k)?, v: resized(&self.v)? };
        done(mlx_rs::transforms::eval([&layer.k, &layer.v]))?;
        Ok(layer)
    }
}

/// Where a step's rows go.
#[derive(Debug)]
pub enum Slots {
    /// One after the other, from this slot on.
    Run(usize),
    /// Row `i` to slot `[i]` of an array of them.
    Scattered(Array),
}

impl Slots {
    /// Of rows that go to `slots`, in order.
    pub fn new(slots: &[usize]) -> Result<Self> {
        let first = slots.first().copied().unwrap_or(0);
        if slots.iter().enumerate().all(|(i, slot)| *slot == first + i) {
            return Ok(Self::Run(first));
        }
        let slots = slots.iter().map(|slot| size(*slot)).collect::<Result<Vec<i32>>>()?;
        Ok(Self::Scattered(from_host(&slots, &[slots.len()])?))
    }

    fn write(&self, array: &Array, rows: &Array) -> Result<Array> {
        let (count, width) = (rows.dim(0), rows.dim(1));
        match self {
            Self::Run(first) => {
                let first = size(*first)?;
                slice_update(array, rows, &[first, 0], &[first + count, width])
            }
            Self::Scattered(slots) => {
                let rows = done(rows.reshape(&[count, 1, width]))?;
                done(ops::indexing::scatter_single(array, slots, &rows, 0))
            }
        }
    }
}
