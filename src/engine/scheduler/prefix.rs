//! The prefix cache: pages of computed tokens, found again by what they hold.
//!
//! A tree of blocks: the path from the root spells the tokens. Inner nodes are whole pages, shared as they are; a
//! leaf may hold part of one, which a newcomer copies before it writes on. Keys and values depend only on the
//! tokens before them (contract 2), so a hit changes no answer.

use std::collections::HashMap;

use super::pages::{PagePool, first_visible};
use crate::engine::backend::{NO_PAGE, PAGE_TOKENS, PageId};

/// Names a block; never used again, so that a stale [`Cursor`] is recognised.
pub type NodeId = u64;

/// Blocks of computed tokens.
#[derive(Debug)]
pub struct PrefixCache {
    nodes: HashMap<NodeId, Node>,
    next: NodeId,
    roots: Vec<NodeId>,
    windows: Vec<Option<usize>>,
    page_bytes: Vec<usize>,
    bytes: usize,
    budget: usize,
    clock: u64,
}

#[derive(Debug)]
struct Node {
    /// A whole page of tokens, or fewer in a leaf.
    tokens: Vec<u32>,
    /// The page in each group; [`NO_PAGE`] where it had already slid out of every window.
    pages: Vec<PageId>,
    parent: Option<NodeId>,
    children: Vec<NodeId>,
    last_used: u64,
}

/// What of a prompt is already computed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// Tokens that need not be computed.
    pub tokens: usize,
    /// Page table of each group for the whole pages; the caller holds them now.
    pub pages: Vec<Vec<PageId>>,
    /// The page in each group whose beginning holds the last `tokens % PAGE_TOKENS` of them: to be copied.
    pub copy: Option<Vec<PageId>>,
    /// Where the path ends, for [`PrefixCache::publish`].
    pub cursor: Cursor,
}

/// A running sequence's place in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    node: Option<NodeId>,
    blocks: usize,
}

impl PrefixCache {
    /// An empty cache that keeps at most `budget` bytes; 0 keeps nothing.
    pub fn new(windows: Vec<Option<usize>>, page_bytes: Vec<usize>, budget: usize) -> Self {
        let (nodes, roots) = (HashMap::new(), Vec::new());
        Self { nodes, next: 0, roots, windows, page_bytes, bytes: 0, budget, clock: 0 }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Bytes of the pages it holds (a page also held by a sequence counts too).
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The longest computed beginning of `tokens`, its last token excepted: somebody wants that one's logits.
    pub fn find(&mut self, tokens: &[u32], pools: &mut [PagePool]) -> Hit {
        self.clock += 1;
        let usable = &tokens[..tokens.len().saturating_sub(1)];
        let mut path: Vec<NodeId> = Vec::new();
        let mut partial = None;
        loop {
            let rest = &usable[path.len() * PAGE_TOKENS..];
            let children = path.last().map_or(&self.roots, |id| &self.node(*id).children);
            let best = children.iter().map(|id| (common(&self.node(*id).tokens, rest), *id)).max_by_key(|(n, _)| *n);
            match best {
                Some((PAGE_TOKENS, id)) => path.push(id),
                Some((shared, id)) if shared > 0 => {
                    partial = Some((id, shared));
                    break;
                }
                _ => break,
            }
        }
        // A window's pages may be gone: then the usable beginning ends earlier.
        loop {
            let computed = path.len() * PAGE_TOKENS + partial.map_or(0, |(_, shared)| shared);
            if computed == 0 {
                return Hit { pages: vec![Vec::new(); self.windows.len()], ..Hit::default() };
            }
            let reach: Vec<NodeId> = path.iter().copied().chain(partial.map(|(id, _)| id)).collect();
            let whole = self.windows.iter().enumerate().all(|(group, window)| {
                let first = first_visible(computed, *window).min(reach.len());
                reach[first..].iter().all(|id| self.node(*id).pages[group] != NO_PAGE)
            });
            if whole {
                return self.hold(&path, partial, computed, pools);
            }
            if partial.take().is_none() {
                path.pop();
            }
        }
    }

    /// Makes the caller a holder of the path's visible pages.
    fn hold(
        &mut self,
        path: &[NodeId],
        partial: Option<(NodeId, usize)>,
        computed: usize,
        pools: &mut [PagePool],
    ) -> Hit {
        let clock = self.clock;
        for id in path.iter().copied().chain(partial.map(|(id, _)| id)) {
            self.node_mut(id).last_used = clock;
        }
        let tables = self.windows.iter().enumerate().map(|(group, window)| {
            let first = first_visible(computed, *window);
            let page = |(i, id): (usize, &NodeId)| if i < first { NO_PAGE } else { self.node(*id).pages[group] };
            path.iter().enumerate().map(page).collect::<Vec<_>>()
        });
        let pages: Vec<Vec<PageId>> = tables.collect();
        for (pool, table) in pools.iter_mut().zip(&pages) {
            table.iter().for_each(|page| pool.share(*page));
        }
        let copy = partial.map(|(id, _)| self.node(id).pages.clone());
        let cursor = Cursor { node: path.last().copied(), blocks: path.len() };
        Hit { tokens: computed, pages, copy, cursor }
    }

    /// Enters what a sequence has computed: its whole pages, and with `ended` the rest of its last one too.
    /// `tokens` are the computed ones, `tables` its page tables, `cursor` its place so far.
    pub fn publish(
        &mut self,
        tokens: &[u32],
        tables: &[Vec<PageId>],
        ended: bool,
        cursor: &mut Cursor,
        pools: &mut [PagePool],
    ) {
        if self.budget == 0 {
            return;
        }
        self.clock += 1;
        // An evicted place starts again from the root: the pages are still the sequence's.
        if cursor.node.is_some_and(|id| !self.nodes.contains_key(&id)) {
            *cursor = Cursor::default();
        }
        while tokens.len() > cursor.blocks * PAGE_TOKENS {
            let start = cursor.blocks * PAGE_TOKENS;
            let block = &tokens[start..tokens.len().min(start + PAGE_TOKENS)];
            if block.len() < PAGE_TOKENS && !ended {
                break;
            }
            let pages: Vec<PageId> = tables.iter().map(|table| table[cursor.blocks]).collect();
            let id = self.enter(cursor.node, block, &pages, pools);
            if block.len() < PAGE_TOKENS {
                break;
            }
            *cursor = Cursor { node: Some(id), blocks: cursor.blocks + 1 };
        }
        while self.bytes > self.budget && self.evict(pools) {}
    }

    /// The child of `parent` that holds `block`, made where it is missing.
    pub fn enter(&mut self, parent: Option<NodeId>, block: &[u32], pages: &[PageId], pools: &mut [PagePool]) -> NodeId {
        let siblings = parent.map_or(&self.roots, |id| &self.node(id).children).clone();
        for id in siblings {
            let known = &self.node(id).tokens;
            if known.starts_with(block) {
                let clock = self.clock;
                self.node_mut(id).last_used = clock;
                return id;
            }
            if block.starts_with(known) {
                // A shorter leaf that this block continues: it says nothing more.
                self.remove(id, pools);
            }
        }
        for (pool, page) in pools.iter_mut().zip(pages) {
            pool.share(*page);
        }
        self.bytes += self.held_bytes(pages);
        let node =
            Node { tokens: block.to_vec(), pages: pages.to_vec(), parent, children: Vec::new(), last_used: self.clock };
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        match parent {
            Some(parent) => self.node_mut(parent).children.push(id),
            None => self.roots.push(id),
        }
        id
    }

    /// Every block, each after its parent, of siblings the one used last first.
    pub fn blocks(&self) -> Vec<NodeId> {
        let mut found = Vec::with_capacity(self.nodes.len());
        let mut open = Vec::new();
        let oldest_first = |ids: &[NodeId]| {
            let mut ids = ids.to_vec();
            ids.sort_by_key(|id| self.node(*id).last_used);
            ids
        };
        open.extend(oldest_first(&self.roots));
        while let Some(id) = open.pop() {
            found.push(id);
            open.extend(oldest_first(&self.node(id).children));
        }
        found
    }

    /// A block's tokens, parent and pages, unless it was let go of.
    pub fn block(&self, id: NodeId) -> Option<(&[u32], Option<NodeId>, &[PageId])> {
        self.nodes.get(&id).map(|node| (&node.tokens[..], node.parent, &node.pages[..]))
    }

    /// Whether `bytes` more fit the budget, behind a whole block that is still there.
    pub fn takes(&self, parent: Option<NodeId>, bytes: usize) -> bool {
        let stands = |id| self.nodes.get(&id).is_some_and(|node| node.tokens.len() == PAGE_TOKENS);
        parent.is_none_or(stands) && self.bytes + bytes <= self.budget
    }

    /// Lets go of the leaf that was not used for longest; `false` when there is none.
    pub fn evict(&mut self, pools: &mut [PagePool]) -> bool {
        let leaves =
            self.nodes.iter().filter(|(_, node)| node.children.is_empty()).map(|(id, node)| (node.last_used, *id));
        let Some((_, id)) = leaves.min() else { return false };
        self.remove(id, pools);
        true
    }

    /// Lets go of everything.
    pub fn clear(&mut self, pools: &mut [PagePool]) {
        while self.evict(pools) {}
    }

    /// Takes a leaf out of the tree and leaves its pages.
    fn remove(&mut self, id: NodeId, pools: &mut [PagePool]) {
        let Some(node) = self.nodes.remove(&id) else { return };
        self.bytes -= self.held_bytes(&node.pages);
        for (pool, page) in pools.iter_mut().zip(&node.pages) {
            pool.leave(*page);
        }
        let siblings = match node.parent {
            Some(parent) => &mut self.node_mut(parent).children,
            None => &mut self.roots,
        };
        siblings.retain(|sibling| *sibling != id);
    }

    fn held_bytes(&self, pages: &[PageId]) -> usize {
        pages.iter().zip(&self.page_bytes).filter(|(page, _)| **page != NO_PAGE).map(|(_, bytes)| bytes).sum()
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[&id]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("ids in the tree name live nodes")
    }
}

/// Length of the common beginning.
pub fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence of `n` distinct-ish tokens with freshly taken pages, published and left, as a finished one is.
    fn finish(cache: &mut PrefixCache, pools: &mut [PagePool], tokens: &[u32]) {
        let hit = cache.find(tokens, pools);
        let mut cursor = hit.cursor;
        let mut tables = hit.pages;
        for (pool, table) in pools.iter_mut().zip(&mut tables) {
            while table.len() < tokens.len().div_ceil(PAGE_TOKENS) {
                table.push(pool.take().expect("the test's pool is large enough"));
            }
        }
        cache.publish(tokens, &tables, true, &mut cursor, pools);
        for (pool, table) in pools.iter_mut().zip(&tables) {
            table.iter().for_each(|page| pool.leave(*page));
        }
    }

    fn setup(budget_pages: usize) -> (PrefixCache, Vec<PagePool>) {
        (PrefixCache::new(vec![None], vec![1], budget_pages), vec![PagePool::new(64)])
    }

    #[test]
    fn a_second_turn_finds_the_whole_first() {
        let (mut cache, mut pools) = setup(64);
        let first: Vec<u32> = (0..150).collect();
        finish(&mut cache, &mut pools, &first);
        assert_eq!((pools[0].held(), cache.bytes()), (3, 3));
        let second: Vec<u32> = (0..200).collect();
        let hit = cache.find(&second, &mut pools);
        assert_eq!((hit.tokens, hit.pages[0].len(), hit.copy.is_some()), (150, 2, true));
        hit.pages[0].iter().for_each(|page| pools[0].leave(*page));
        // The longer block replaces the leaf that it continues.
        finish(&mut cache, &mut pools, &second);
        assert_eq!((pools[0].held(), cache.bytes()), (4, 4));
        cache.clear(&mut pools);
        assert_eq!((pools[0].held(), cache.bytes()), (0, 0));
    }

    #[test]
    fn the_last_token_is_always_computed() {
        let (mut cache, mut pools) = setup(64);
        let tokens: Vec<u32> = (0..128).collect();
        finish(&mut cache, &mut pools, &tokens);
        let hit = cache.find(&tokens, &mut pools);
        assert_eq!((hit.tokens, hit.pages[0].len(), hit.copy.is_some()), (127, 1, true));
    }

    #[test]
    fn the_least_recently_used_leaf_goes_first() {
        let (mut cache, mut pools) = setup(3);
        let of = |seed: u32| (0..64).map(|i| seed * 1000 + i).collect::<Vec<u32>>();
        for seed in 0..3 {
            finish(&mut cache, &mut pools, &of(seed));
        }
        let probe = |cache: &mut PrefixCache, pools: &mut Vec<PagePool>, seed: u32| {
            let mut tokens = of(seed);
            tokens.push(7);
            let hit = cache.find(&tokens, pools);
            hit.pages[0].iter().for_each(|page| pools[0].leave(*page));
            hit.tokens
        };
        assert_eq!(probe(&mut cache, &mut pools, 0), 64);
        finish(&mut cache, &mut pools, &of(3));
        assert_eq!([0, 1, 2, 3].map(|seed| probe(&mut cache, &mut pools, seed)), [64, 0, 64, 64]);
    }

    #[test]
    fn a_window_whose_pages_are_gone_shortens_the_hit() {
        let mut cache = PrefixCache::new(vec![None, Some(64)], vec![1, 1], 64);
        let mut pools = vec![PagePool::new(64), PagePool::new(64)];
        let tokens: Vec<u32> = (0..256).collect();
        let full: Vec<PageId> = (0..4).map(|_| pools[0].take().unwrap()).collect();
        let mut sliding = vec![NO_PAGE, NO_PAGE];
        sliding.extend((0..2).map(|_| pools[1].take().unwrap()));
        cache.publish(&tokens, &[full, sliding], true, &mut Cursor::default(), &mut pools);
        // All four blocks: the window at 256 sees block 3 only.
        let mut longer = tokens.clone();
        longer.push(9);
        assert_eq!(cache.find(&longer, &mut pools).tokens, 256);
        // Branching off after block 1 would need block 1's window, which is gone, and before it nothing is left.
        let mut branch: Vec<u32> = (0..128).collect();
        branch.extend([9; 10]);
        assert_eq!(cache.find(&branch, &mut pools).tokens, 0);
    }
}
