//! The prefix cache's traffic with the outside: blocks that go to a file and come from one.
//!
//! The worker does an [`Errand`] between two steps; whoever sends it keeps it short, so that answers do not wait.

use super::prefix::NodeId;
use crate::engine::error::Result;

/// Names a block while it is cached.
pub type BlockId = NodeId;

/// Something to be done on the worker's thread.
pub type Errand = Box<dyn FnOnce(&mut dyn Exchange) + Send>;

/// Tokens and what was computed for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// A whole page of them, or fewer where nothing follows.
    pub tokens: Vec<u32>,
    /// The block before it; `None` at the beginning.
    pub parent: Option<BlockId>,
    /// The page's bytes in each layer group; `None` where it had slid out of the group's window.
    pub pages: Vec<Option<Vec<u8>>>,
}

/// What an errand finds.
pub trait Exchange {
    /// Names everything that decides what a page holds for given tokens.
    fn identity(&self) -> [u8; 32];
    /// Bytes of a page in each layer group.
    fn page_bytes(&self) -> &[usize];
    /// The cached blocks, each after its parent, those used last first.
    fn blocks(&self) -> Vec<BlockId>;
    /// A copy of a block; `None` when it was let go of meanwhile.
    fn read(&self, id: BlockId) -> Result<Option<Block>>;
    /// Caches a block; `None` when the budget has no room for it, or its parent is gone. Evicts nothing.
    fn enter(&mut self, block: &Block) -> Result<Option<BlockId>>;
}
