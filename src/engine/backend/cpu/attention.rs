//! Attention over the KV cache: checks what the step asks for, writes the new keys and values, and shares tiles of
//! queries out among the team.
//!
//! How the work is cut (rows a tile, blocks of the cache a task) follows the number of threads and of rows; results
//! do not, because every cut falls where [`kernels::attention`](super::kernels::attention) merges anyway.

use super::activation::{Activation, Owned};
use super::buffer::grow;
use super::cache::Cache;
use super::kernels::attention::page::{BF16, Element, F16, F32, Write};
use super::kernels::attention::{Attend, Combine, State, Tile, scratch_floats};
use super::kernels::vector::Simd;
use super::rows::Shared;
use super::team::Team;
use crate::engine::backend::{AttentionParams, KvType, PAGE_TOKENS, Segment, checks};
use crate::engine::error::{Result, error};

/// Queries (rows times heads of a group) a tile aims at: enough that a page's conversion and its way through the
/// caches are shared, few enough that their state stays in the second-level cache.
const TILE_QUERIES: usize = 48;
/// Tasks a thread should find before blocks of the cache become tasks of their own.
const TASKS_PER_THREAD: usize = 4;
/// Multiply-adds that are done before a second thread would have begun.
const INLINE: usize = 128 * 1024;
/// New rows from which on writing them is shared among threads.
const WRITE_INLINE_ROWS: usize = 16;

/// Kept between calls, so that steady decoding allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Page addresses, segment after segment.
    pages: Vec<Shared<u8>>,
    /// Where each segment's begin.
    first_page: Vec<usize>,
    tasks: Vec<Task>,
    /// Each thread's own floats.
    floats: Vec<f32>,
    /// States of tiles that are cut into blocks.
    partials: Vec<f32>,
}

/// A tile, or one block of it.
#[derive(Clone, Copy, Debug, Default)]
struct Task {
    segment: usize,
    kv_head: usize,
    /// First row, within the segment.
    row: usize,
    rows: usize,
    /// Which block of the cache, where tiles are cut.
    block: usize,
    /// Where its state goes, in floats; a tile's blocks lie in order.
    partial: usize,
}

/// One call's operands.
struct Call<'a> {
    simd: Simd,
    segments: &'a [Segment],
    params: &'a AttentionParams,
    /// Query heads that share a key/value head.
    group: usize,
    /// Bytes before the layer's first key in a page.
    offset: usize,
    /// Bytes of one head's keys and values in a page.
    head_bytes: usize,
}

/// See [`Backend::attention`](crate::engine::backend::Backend::attention).
#[allow(clippy::too_many_arguments)]
pub fn attention(
    team: &Team,
    simd: Simd,
    q: Owned,
    k: &Activation,
    v: &Activation,
    cache: &mut Cache,
    layer: usize,
    segments: &[Segment],
    params: &AttentionParams,
    scratch: &mut Scratch,
) -> Result<Owned> {
    let shape = |x: &Activation| (x.rows(), x.cols());
    checks::attention((q.rows(), q.cols()), shape(k), shape(v), cache.layout(), segments, params)?;
    let place = cache.place(layer)?;
    let size = cache.layout().dtype.size();
    let call = Call {
        simd,
        segments,
        params,
        group: params.heads / params.kv_heads,
        offset: place.offset * size,
        head_bytes: 2 * cache.head_elements() * size,
    };
    call.find_pages(cache, place.group, scratch)?;
    match cache.layout().dtype {
        KvType::F32 => call.run::<F32>(team, q, k, v, scratch),
        KvType::F16 => call.run::<F16>(team, q, k, v, scratch),
        KvType::BF16 => call.run::<BF16>(team, q, k, v, scratch),
    }
}

impl Call<'_> {
    /// Looks up every page that some row sees, so that nothing can be missing later.
    fn find_pages(&self, cache: &Cache, group: usize, scratch: &mut Scratch) -> Result<()> {
        let what = "attention's page table";
        grow(&mut scratch.first_page, self.segments.len(), what)?;
        let mut total = 0;
        for (segment, first) in self.segments.iter().zip(&mut scratch.first_page) {
            *first = total;
            total += segment.table(group, self.params.window)?.0.len();
        }
        grow(&mut scratch.pages, total, what)?;
        for (segment, first) in self.segments.iter().zip(&scratch.first_page) {
            let (table, seen) = segment.table(group, self.params.window)?;
            for (i, page) in table.iter().enumerate() {
                // What this layer has slid past may be gone.
                let at = if i < seen { std::ptr::null_mut() } else { cache.page(group, *page)? };
                scratch.pages[first + i] = Shared::new(at);
            }
        }
        Ok(())
    }

    fn window(&self) -> usize {
        self.params.window.unwrap_or(usize::MAX)
    }

    /// Bytes before a head's keys in a page.
    fn head_offset(&self, kv_head: usize) -> usize {
        self.offset + kv_head * self.head_bytes
    }

    fn run<E: Element>(&self, team: &Team, mut q: Owned, k: &[f32], v: &[f32], scratch: &mut Scratch) -> Result<Owned> {
        self.write::<E>(team, k, v, scratch);
        let threads = team.threads();
        let tile_rows = (TILE_QUERIES / self.group).max(1);
        let queries = tile_rows * self.group;
        let tiles: usize = self.segments.iter().map(|s| s.rows.len().div_ceil(tile_rows)).sum();
        let work: usize =
            self.segments.iter().map(|s| s.rows.len() * (s.start + s.rows.len()).min(self.window())).sum();
        let inline = threads == 1 || work * 2 * self.params.heads * self.params.head_dim < INLINE;
        let cut = !inline && tiles * self.params.kv_heads < TASKS_PER_THREAD * threads;

        let row_floats = q.cols();
        let base = Shared::new(q.as_mut_ptr());
        let partials = self.plan(scratch, tile_rows, cut, base)?;
        let each = scratch_floats(queries, self.params.head_dim);
        let what = "attention's scratch";
        grow(&mut scratch.floats, each * threads, what)?;
        grow(&mut scratch.partials, partials, what)?;
        let floats = Shared::new(scratch.floats.as_mut_ptr());
        let partials = Shared::new(scratch.partials.as_mut_ptr());
        let (tasks, pages, first_page) = (&scratch.tasks, &scratch.pages, &scratch.first_page);
        let tile = |task: &Task| self.tile(task, base, row_floats, &pages[first_page[task.segment]..]);

        let attend = |index: usize, worker: usize| {
            let task = &tasks[index];
            // SAFETY: `find_pages` found every page that the tile sees, and nothing writes them now; each worker has
            // its stretch of `floats`, which outlives the run. A whole tile's queries and output are its own; of a
            // cut one, queries are only read here and each block has its own state.
            unsafe {
                let own = floats.get().add(worker * each);
                if cut {
                    let state = partials.get().add(task.partial);
                    self.simd.run(Attend::<E>::block(tile(task), task.block, own, state));
                } else {
                    self.simd.run(Attend::<E>::whole(tile(task), own));
                }
            }
        };
        if inline {
            (0..tasks.len()).for_each(|task| attend(task, 0));
        } else {
            team.run_on(tasks.len(), &attend);
        }
        if cut {
            for task in tasks {
                let tile = tile(task);
                if task.block == tile.blocks().start {
                    // SAFETY: the tile's states lie in order from its first block's, all finished; nobody else is
                    // at work.
                    unsafe { self.simd.run(Combine::new(tile, partials.get().add(task.partial))) };
                }
            }
        }
        Ok(q)
    }

    /// Fills `scratch.tasks` and returns the floats that partial states take. The longest tiles come first, so that
    /// no thread begins one when the others are done.
    fn plan(&self, scratch: &mut Scratch, tile_rows: usize, cut: bool, base: Shared<f32>) -> Result<usize> {
        let tasks = &mut scratch.tasks;
        tasks.clear();
        let mut partial = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let rows = segment.rows.len();
            for number in (0..rows.div_ceil(tile_rows)).rev() {
                let row = number * tile_rows;
                let mut task = Task { segment: index, row, rows: tile_rows.min(rows - row), ..Task::default() };
                let tile = self.tile(&task, base, 0, &[]);
                let blocks = if cut { tile.blocks() } else { 0..1 };
                let state = State::floats(tile.queries(), self.params.head_dim);
                let more = self.params.kv_heads * blocks.len();
                tasks.try_reserve(more).map_err(|_| error!(Memory, "attention: the system refused {more} tasks"))?;
                for kv_head in 0..self.params.kv_heads {
                    for block in blocks.clone() {
                        (task.kv_head, task.block, task.partial) = (kv_head, block, partial);
                        tasks.push(task);
                        partial += if cut { state } else { 0 };
                    }
                }
            }
        }
        Ok(partial)
    }

    fn tile<'t>(&self, task: &Task, base: Shared<f32>, stride: usize, pages: &'t [Shared<u8>]) -> Tile<'t> {
        let segment = &self.segments[task.segment];
        let head = task.kv_head * self.group * self.params.head_dim;
        let q = base.get().wrapping_add((segment.rows.start + task.row) * stride + head);
        Tile {
            q,
            out: q,
            stride,
            rows: task.rows,
            group: self.group,
            head_dim: self.params.head_dim,
            position: segment.start + task.row,
            window: self.window(),
            scale: self.params.scale,
            softcap: self.params.softcap,
            pages,
            offset: self.head_offset(task.kv_head),
        }
    }

    /// Puts the new rows' keys and values into their pages.
    fn write<E: Element>(&self, team: &Team, k: &[f32], v: &[f32], scratch: &Scratch) {
        let head_dim = self.params.head_dim;
        let width = self.params.kv_heads * head_dim;
        let write_head = |kv_head: usize| {
            for (segment, first) in self.segments.iter().zip(&scratch.first_page) {
                for (i, row) in segment.rows.clone().enumerate() {
                    let position = segment.start + i;
                    let at = row * width + kv_head * head_dim;
                    // SAFETY: `find_pages` found the page; the head's keys and values are this task's alone, and the
                    // rows of `k` and `v` were checked to be this wide.
                    unsafe {
                        let page = scratch.pages[first + position / PAGE_TOKENS].get();
                        let head = page.add(self.head_offset(kv_head));
                        let (k, v) = (k[at..].as_ptr(), v[at..].as_ptr());
                        self.simd.run(Write::<E>::new(k, v, head, head_dim, position % PAGE_TOKENS));
                    }
                }
            }
        };
        if k.len() < width * WRITE_INLINE_ROWS {
            (0..self.params.kv_heads).for_each(write_head);
        } else {
            team.run(self.params.kv_heads, &write_head);
        }
    }
}
