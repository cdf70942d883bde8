//! What every backend refuses: mistakes of a scheduler or decoder, which no checkpoint and no caller can cause.

use super::{AttentionParams, CacheLayout, PAGE_TOKENS, PageId, Segment};
use crate::engine::error::{Result, error, fail};

impl CacheLayout {
    /// `Internal` where the layout contradicts itself.
    pub fn check(&self) -> Result<()> {
        if self.kv_heads == 0 || self.head_dim == 0 {
            fail!(Internal, "a KV cache of {} heads of width {}", self.kv_heads, self.head_dim)
        }
        for (layer, (group, index)) in self.layers.iter().enumerate() {
            if self.groups.get(*group).is_none_or(|layers| index >= layers) {
                fail!(Internal, "KV layout: layer {layer} is entry {index} of group {group}, which has none")
            }
        }
        Ok(())
    }
}

impl Segment {
    /// The segment's page table in `group` with the number of pages that positions up to its last take and the first
    /// of them that a row sees through `window`; `Internal` where the table is shorter.
    pub fn table(&self, group: usize, window: Option<usize>) -> Result<(&[PageId], usize)> {
        let end = self.start.checked_add(self.rows.len()).filter(|end| *end < 1 << 31);
        let end = end.ok_or_else(|| error!(Internal, "attention: no sequence reaches position {}", self.start))?;
        let count = end.div_ceil(PAGE_TOKENS);
        let table = self.pages.get(group).map_or(&[][..], Vec::as_slice);
        if table.len() < count {
            fail!(Internal, "attention: {} pages for {count} pages of positions", table.len())
        }
        let seen = (self.start + 1).saturating_sub(window.unwrap_or(usize::MAX)) / PAGE_TOKENS;
        Ok((&table[..count], seen))
    }
}

/// `Internal` unless queries, keys and values (`(rows, cols)` each) fit the cache, the segments and each other.
pub fn attention(
    q: (usize, usize),
    k: (usize, usize),
    v: (usize, usize),
    layout: &CacheLayout,
    segments: &[Segment],
    params: &AttentionParams,
) -> Result<()> {
    let AttentionParams { heads, kv_heads, head_dim, window, .. } = *params;
    if (kv_heads, head_dim) != (layout.kv_heads, layout.head_dim) {
        let (have, width) = (layout.kv_heads, layout.head_dim);
        fail!(Internal, "attention with {kv_heads} heads of {head_dim} over a cache of {have} heads of {width}")
    }
    if heads == 0 || !heads.is_multiple_of(kv_heads) || window == Some(0) {
        fail!(Internal, "attention with {heads} query heads, {kv_heads} key heads and window {window:?}")
    }
    let kv = (q.0, kv_heads * head_dim);
    if q.1 != heads * head_dim || k != kv || v != kv {
        fail!(Internal, "attention: q {}x{}, k {}x{}, v {}x{} do not fit", q.0, q.1, k.0, k.1, v.0, v.1)
    }
    let mut next = 0;
    for segment in segments {
        if segment.rows.start != next || segment.rows.end <= next {
            fail!(Internal, "attention: segment rows {:?} do not follow row {next}", segment.rows)
        }
        next = segment.rows.end;
    }
    if next != q.0 {
        fail!(Internal, "attention: segments cover {next} of {} rows", q.0)
    }
    Ok(())
}
