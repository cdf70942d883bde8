//! The CPU backend: our own kernels over weights that stay where the checkpoint's mapping has them.
//!
//! Results of a row are bit-identical for any number of threads and for any rows beside it: every sum has an order
//! that follows from the shapes of one row and from its position alone.

pub mod activation;
mod attention;
mod buffer;
mod cache;
pub mod kernels;
mod largest;
pub mod matrix;
mod pack;
pub mod processor;
pub mod project;
mod rotations;
mod rows;
pub mod scratch;
pub mod team;
#[cfg(test)]
mod tests;
mod tile;

use std::cell::RefCell;
use std::rc::Rc;

use self::activation::{Activation, Owned, Pool};
use self::cache::Cache;
use self::kernels::vector::Simd;
use self::kernels::{Isa, elementwise, norm, rope};
use self::matrix::Matrix;
use self::rotations::Rotations;
use self::team::Team;
use super::{AttentionParams, Backend, CacheLayout, Description, Linear, PageId, Rope, Segment, Summarised, Summary};
use crate::engine::error::{Result, error, fail};
use crate::engine::model::spec;
use crate::engine::weights;

/// Floats that elementwise operations are cut at: whole cache lines, and no shorter than a fork is worth.
const UNIT: usize = 1024;

/// How a CPU backend is to compute.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOptions {
    /// Threads, the caller's included; `None`: one for each physical core this process may use.
    pub threads: Option<usize>,
    /// Keep activations in `f32` all through, for comparisons: several times slower in projections.
    pub exact: bool,
    /// The instruction set; `None`: what `GOMLX_ISA` names, else the best of this processor.
    pub isa: Option<Isa>,
}

/// The CPU as a [`Backend`]. One thread owns it and everything made with it.
pub struct Cpu {
    team: Team,
    simd: Simd,
    exact: bool,
    pool: Rc<Pool>,
    kept: RefCell<Kept>,
}

/// What operations keep between calls so that they need not allocate.
#[derive(Default)]
struct Kept {
    project: scratch::Scratch,
    attention: attention::Scratch,
    rotations: Rotations,
}

impl Cpu {
    /// Starts the threads. Fails with `Argument` or `Unsupported` for an instruction set that is unknown or not
    /// this processor's.
    pub fn new(options: CpuOptions) -> Result<Self> {
        let isa = match options.isa {
            Some(isa) => isa,
            None => Isa::choose(std::env::var("GOMLX_ISA").ok().as_deref())?,
        };
        Ok(Self {
            simd: Simd::new(isa)?,
            team: Team::new(options.threads.unwrap_or_else(team::default_threads))?,
            exact: options.exact,
            pool: Pool::new(),
            kept: RefCell::default(),
        })
    }

    /// Blocks of memory that activations asked of the system so far; stands still in steady decoding.
    pub fn allocations(&self) -> u64 {
        self.pool.allocations()
    }

    fn multiply(&self, x: &Activation, to: &[(&Matrix, Option<&[f32]>)], out: &mut [&mut [f32]]) -> Result<()> {
        let cx = project::Context { team: &self.team, isa: self.simd.isa(), exact: self.exact };
        project::project(&cx, x, x.rows(), to, out, &mut self.kept.borrow_mut().project)
    }

    /// Norms every stretch of `weight.len()` columns.
    fn norm(&self, x: &[f32], out: &mut Owned, weight: &[f32], eps: f32) {
        let simd = self.simd;
        rows::share(&self.team, out, weight.len(), &|at, out| {
            norm::rms_norm(simd, &x[at..at + out.len()], out, weight, eps);
        });
    }
}

/// `Internal` unless `cols` is a positive multiple of `width`.
fn check_width(what: &str, cols: usize, width: usize) -> Result<()> {
    if width == 0 || cols == 0 || !cols.is_multiple_of(width) {
        fail!(Internal, "{what}: {cols} columns, not a multiple of {width}")
    }
    Ok(())
}

/// `Internal` unless both have one shape.
fn check_same(what: &str, a: &Owned, b: &Activation) -> Result<()> {
    if (a.rows(), a.cols()) != (b.rows(), b.cols()) {
        fail!(Internal, "{what}: {}x{} with {}x{}", a.rows(), a.cols(), b.rows(), b.cols())
    }
    Ok(())
}

impl Backend for Cpu {
    type Act = Activation;
    type Matrix = Matrix;
    type Vector = Rc<Vec<f32>>;
    type Cache = Cache;

    fn describe(&self) -> Description {
        let device = format!("{}, {}", processor::name(), self.simd.isa().name());
        Description { name: "cpu", device, threads: self.team.threads() }
    }

    fn matrix(&self, stored: &weights::Matrix) -> Result<Matrix> {
        Matrix::new(stored)
    }

    fn vector(&self, values: &[f32]) -> Result<Rc<Vec<f32>>> {
        let mut vector = Vec::new();
        vector
            .try_reserve_exact(values.len())
            .map_err(|_| error!(Memory, "the system refused a vector of {} weights", values.len()))?;
        vector.extend_from_slice(values);
        Ok(Rc::new(vector))
    }

    fn cache(&self, layout: &CacheLayout) -> Result<Cache> {
        Cache::new(layout)
    }

    fn resize(&self, cache: &mut Cache, group: usize, pages: usize) -> Result<()> {
        cache.resize(group, pages)
    }

    fn copy_page(&self, cache: &mut Cache, group: usize, from: PageId, to: PageId) -> Result<()> {
        cache.copy_page(group, from, to)
    }

    fn page_format(&self) -> String {
        format!("cpu {}, {}, exact {}", cache::FORMAT, self.simd.isa().name(), self.exact)
    }

    fn read_page(&self, cache: &Cache, group: usize, page: PageId) -> Result<Vec<u8>> {
        cache.read_page(group, page)
    }

    fn write_page(&self, cache: &mut Cache, group: usize, page: PageId, bytes: &[u8]) -> Result<()> {
        cache.write_page(group, page, bytes)
    }

    fn embed(&self, table: &Matrix, tokens: &[u32], scale: f32) -> Result<Activation> {
        let mut out = self.pool.take(tokens.len(), table.cols())?;
        table.decode_rows(tokens, scale, &mut out)?;
        Ok(out.share())
    }

    fn rms_norm(&self, x: &Activation, weight: &Rc<Vec<f32>>, eps: f32) -> Result<Activation> {
        if x.cols() != weight.len() {
            fail!(Internal, "rms_norm: {} columns with {} weights", x.cols(), weight.len())
        }
        check_width("rms_norm", x.cols(), weight.len())?;
        let mut out = self.pool.take(x.rows(), x.cols())?;
        self.norm(x, &mut out, weight, eps);
        Ok(out.share())
    }

    fn project<const N: usize>(&self, x: &Activation, to: [&Linear<Self>; N]) -> Result<[Activation; N]> {
        let mut out = self.pool.take_all(x.rows(), to.map(|linear| linear.weight.rows()))?;
        let matrices = to.map(|linear| (&linear.weight, linear.bias.as_ref().map(|bias| bias.as_slice())));
        self.multiply(x, &matrices, &mut out.each_mut().map(|out| &mut out[..]))?;
        Ok(out.map(Owned::share))
    }

    fn logits(&self, x: &Activation, head: &Matrix) -> Result<Activation> {
        let mut out = self.pool.take(x.rows(), head.rows())?;
        self.multiply(x, &[(head, None)], &mut [&mut out])?;
        Ok(out.share())
    }

    fn head_norm(&self, x: Activation, weight: &Rc<Vec<f32>>, eps: f32) -> Result<Activation> {
        check_width("head_norm", x.cols(), weight.len())?;
        let mut x = x.into_owned()?;
        let (simd, cols, weight) = (self.simd, x.cols(), &weight[..]);
        rows::share(&self.team, &mut x, cols, &|_, x| norm::rms_norm_in_place(simd, x, weight, eps));
        Ok(x.share())
    }

    fn rope(&self, x: Activation, positions: &[usize], rope: &Rope<Self>) -> Result<Activation> {
        check_width("rope", x.cols(), rope.head_dim)?;
        if positions.len() != x.rows() || rope.inv_freq.len() * 2 != rope.head_dim {
            let (rows, given, frequencies) = (x.rows(), positions.len(), rope.inv_freq.len());
            fail!(Internal, "rope: {given} positions for {rows} rows, {frequencies} frequencies")
        }
        let mut kept = self.kept.borrow_mut();
        let angles = kept.rotations.angles(&self.team, positions, &rope.inv_freq, rope.factor)?;
        let mut x = x.into_owned()?;
        let (simd, cols) = (self.simd, x.cols());
        rows::share(&self.team, &mut x, cols, &|at, part| {
            for (i, row) in part.chunks_exact_mut(cols).enumerate() {
                let (cos, sin) = angles.row(at / cols + i);
                rope::rotate(simd, row, cos, sin);
            }
        });
        Ok(x.share())
    }

    fn attention(
        &self,
        q: Activation,
        k: &Activation,
        v: &Activation,
        cache: &mut Cache,
        layer: usize,
        segments: &[Segment],
        params: &AttentionParams,
    ) -> Result<Activation> {
        let q = q.into_owned()?;
        let scratch = &mut self.kept.borrow_mut().attention;
        attention::attention(&self.team, self.simd, q, k, v, cache, layer, segments, params, scratch).map(Owned::share)
    }

    fn gated(&self, gate: Activation, up: &Activation, activation: spec::Activation) -> Result<Activation> {
        let mut gate = gate.into_owned()?;
        check_same("gated", &gate, up)?;
        let (simd, up) = (self.simd, &**up);
        rows::share(&self.team, &mut gate, UNIT, &|at, gate| {
            elementwise::gated(simd, activation, gate, &up[at..at + gate.len()]);
        });
        Ok(gate.share())
    }

    fn add(&self, acc: Activation, y: &Activation) -> Result<Activation> {
        let mut acc = acc.into_owned()?;
        check_same("add", &acc, y)?;
        let (simd, y) = (self.simd, &**y);
        rows::share(&self.team, &mut acc, UNIT, &|at, acc| elementwise::add(simd, acc, &y[at..at + acc.len()]));
        Ok(acc.share())
    }

    fn summarise(&self, logits: &Activation, tokens: &[(usize, u32)]) -> Result<Option<Summarised<Activation>>> {
        // The largest is found in place, by all threads; log-probabilities are as cheap to compute from a copy.
        let best = || largest::first_largest(&self.team, self.simd, logits, logits.cols());
        Ok(tokens.is_empty().then(|| Summarised::Known(Summary { best: best(), logprobs: Vec::new() })))
    }

    fn softcap(&self, x: Activation, cap: f32) -> Result<Activation> {
        let mut x = x.into_owned()?;
        let simd = self.simd;
        rows::share(&self.team, &mut x, UNIT, &|_, x| elementwise::softcap(simd, x, cap));
        Ok(x.share())
    }

    fn select_rows(&self, x: &Activation, rows: &[usize]) -> Result<Activation> {
        let cols = x.cols();
        let mut out = self.pool.take(rows.len(), cols)?;
        for (i, row) in rows.iter().enumerate() {
            if *row >= x.rows() {
                fail!(Internal, "select_rows: row {row} of {}", x.rows())
            }
            out[i * cols..][..cols].copy_from_slice(&x[row * cols..][..cols]);
        }
        Ok(out.share())
    }

    fn read(&self, x: &Activation, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        out.try_reserve(x.len()).map_err(|_| error!(Memory, "the system refused {} floats", x.len()))?;
        out.extend_from_slice(x);
        Ok(())
    }

    fn release_unused(&self) {
        self.pool.clear_if_asked();
    }

    fn write(&self, rows: usize, cols: usize, values: &[f32]) -> Result<Activation> {
        if rows.checked_mul(cols) != Some(values.len()) {
            fail!(Internal, "write: {} values for {rows}x{cols}", values.len())
        }
        let mut out = self.pool.take(rows, cols)?;
        out.copy_from_slice(values);
        Ok(out.share())
    }
}
