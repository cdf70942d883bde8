//! The mlx backend: MLX's lazy arrays, on Metal, CUDA or MLX's CPU device.
//!
//! Operations only build a graph; [`Backend::read`] and [`Backend::flush`] have it computed. One thread makes and uses
//! everything, as MLX's streams ask for. Results are not bit-identical across batches: MLX chooses its kernels by
//! shape.

mod array;
mod attention;
mod cache;
mod cuda;
pub mod device;
mod matrix;
mod rotations;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use mlx_rs::{Array, Dtype, fast, ops};

use self::array::{done, from_host, size, slice, to_host};
use self::attention::Plan;
use self::cache::{Cache, dtype_of};
use self::cuda::{Constant, Kernels};
use self::matrix::Matrix;
use self::rotations::Rotations;
use super::{
    Attend, AttentionParams, Backend, CacheLayout, Coming, Description, KvType, Linear, MlxDevice, PageId, Rope,
    Segment, Summarised, Summary, checks, parts,
};
use crate::engine::error::{Error, Result, error, fail};
use crate::engine::memory;
use crate::engine::model::spec::Activation;
use crate::engine::weights;

/// Plans of one step that are kept: one for each layer group and window.
const MOST_PLANS: usize = 4;

/// Columns of a row that one block of the fused norm holds in registers.
const MOST_FUSED_COLS: usize = 8192;
/// Rows of one sequence up to which each row is attended for itself; more make it worth to share keys in tiles.
const MOST_FUSED_ROWS: usize = 64;

/// How to compute.
#[derive(Clone, Copy, Debug, Default)]
pub struct MlxOptions {
    /// Activations in `f32`.
    pub exact: bool,
    /// The checkpoint's numbers are `f16`; else activations are `bf16` on a GPU.
    pub half: bool,
}

/// The backend.
pub struct Mlx {
    place: MlxDevice,
    /// Of activations.
    dtype: Dtype,
    plans: RefCell<Vec<Rc<Plan>>>,
    kernels: Option<Kernels>,
    /// Results of kernels that wrote to the cache since the last flush: they must be computed even if nobody reads
    /// what comes of them.
    written: RefCell<Vec<Array>>,
    /// Numbers that kernels were given before.
    constants: RefCell<Vec<(Vec<f32>, Array)>>,
    /// Of this library's memory limit and cache limit, as MLX last heard them.
    limits: std::cell::Cell<(u64, u64)>,
}

/// A vector of weights.
pub struct Vector {
    values: Vec<f32>,
    array: Array,
    rotations: Rotations,
}

impl Mlx {
    /// On the device that MLX chose. `Backend` where there is none.
    pub fn new(options: MlxOptions) -> Result<Self> {
        let place = device::place()?;
        // MLX's CPU device computes in f32 many times faster than in either half type.
        let dtype = match (options.exact || !place.gpu, options.half) {
            (true, _) => Dtype::Float32,
            (false, true) => Dtype::Float16,
            (false, false) => Dtype::Bfloat16,
        };
        let kernels = if place.gpu { Kernels::new()? } else { None };
        let (plans, written, constants) = Default::default();
        let mlx = Self {
            place,
            dtype,
            plans,
            kernels,
            written,
            constants,
            limits: std::cell::Cell::new((u64::MAX, u64::MAX)),
        };
        mlx.keep_limits()?;
        Ok(mlx)
    }

    /// The cache's element type that needs no conversion.
    pub fn kv_type(&self) -> KvType {
        match self.dtype {
            Dtype::Float16 => KvType::F16,
            Dtype::Bfloat16 => KvType::BF16,
            _ => KvType::F32,
        }
    }

    /// Tells MLX's allocator the limits that the host set since.
    fn keep_limits(&self) -> Result<()> {
        let usage = memory::usage();
        let limits = (usage.limit, usage.cache_limit);
        let before = self.limits.replace(limits);
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        if before.0 != limits.0 {
            done(mlx_rs::memory::set_memory_limit(size(limits.0)))?;
        }
        if before.1 != limits.1 {
            done(mlx_rs::memory::set_cache_limit(size(limits.1)))?;
        }
        Ok(())
    }

    fn look_up(&self, table: &Matrix, rows: &Array, scale: f32) -> Result<Array> {
        let rows = table.lookup(rows)?;
        if scale == 1.0 { Ok(rows) } else { done(rows.multiply(&scalar(scale, self.dtype)?)) }
    }

    fn multiply(&self, x: &Array, parts: &[&Matrix]) -> Result<Vec<Array>> {
        if let Some(odd) = parts.iter().find(|part| part.cols() != x.dim(1) as usize) {
            fail!(Internal, "a product of {} columns with {} inputs", x.dim(1), odd.cols())
        }
        Matrix::multiply(parts, x, x.dim(0) as usize, self.place.gpu)
    }

    /// Numbers on the device, uploaded once.
    fn constant(&self, values: &[f32]) -> Result<Array> {
        let mut constants = self.constants.borrow_mut();
        if let Some((_, array)) = constants.iter().find(|(known, _)| known == values) {
            return Ok(array.clone());
        }
        let array = from_host(values, &[values.len()])?;
        constants.push((values.to_vec(), array.clone()));
        Ok(array)
    }

    fn multiply_joined(&self, x: &Array, parts: &[&Matrix]) -> Result<Option<Array>> {
        Matrix::multiply_joined(parts, x, x.dim(0) as usize, self.place.gpu)
    }

    /// Attention through kernels of our own; `None` where there are none for it.
    fn attend_fused(
        &self,
        x: &Array,
        layer: &Attend<'_, Self>,
        positions: &[usize],
        cache: &mut Cache,
        index: usize,
        segments: &[Segment],
    ) -> Result<Option<Array>> {
        let Some(kernels) = &self.kernels else { return Ok(None) };
        let AttentionParams { heads, kv_heads, head_dim, window, .. } = *layer.params;
        let sharing = heads / kv_heads.max(1);
        // What the kernels' registers and shared memory hold.
        if !head_dim.is_multiple_of(32) || head_dim > 512 || sharing * head_dim > 1024 {
            return Ok(None);
        }
        let biases = layer.qkv.map(|linear| linear.bias.as_ref());
        let (biased, normed) = (biases[0].is_some(), layer.q_norm.is_some());
        if biases.iter().any(|bias| bias.is_some() != biased) || layer.k_norm.is_some() != normed {
            return Ok(None);
        }
        let rows = x.dim(0) as usize;
        let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        checks::attention((rows, q_width), (rows, kv_width), (rows, kv_width), cache.layout(), segments, layer.params)?;
        let place = cache.place(index)?;
        let plan = self.plan(cache, place.0, window, segments)?;
        let Some(qkv) = self.multiply_joined(x, &layer.qkv.map(|linear| &linear.weight))? else { return Ok(None) };
        let frequencies = &layer.rope.inv_freq;
        let angles = frequencies.rotations.table(positions, &frequencies.values, layer.rope.factor)?;
        let cached = dtype_of(cache.layout().dtype);
        let (own, lists) = (cache.layer(place), &plan.lists);
        let eps = self.constant(&[layer.eps])?;
        // Where there is no bias or norm, some array of the right type stands in for it.
        let bias = |i: usize| biases[i].map_or(&frequencies.array, |bias: &Vector| &bias.array);
        let norm = |norm: Option<&'_ Vector>| norm.map_or(frequencies.array.clone(), |norm| norm.array.clone());
        let (q_norm, k_norm) = (norm(layer.q_norm), norm(layer.k_norm));
        let types = [(c"T", Constant::Type(self.dtype)), (c"CT", Constant::Type(cached))];
        let sizes = [
            (c"H", Constant::Int(size(heads)?)),
            (c"KV", Constant::Int(size(kv_heads)?)),
            (c"D", Constant::Int(size(head_dim)?)),
        ];
        let flag = |set: bool| Constant::Int(i32::from(set));
        let mut constants: Vec<_> = types.into_iter().chain(sizes).collect();
        // MLX's own operations read the cache as it is in the graph: then it must be written by the graph too.
        let by_row = lists.most_rows <= MOST_FUSED_ROWS;
        constants.extend([(c"BIAS", flag(biased)), (c"NORM", flag(normed)), (c"WRITE", flag(by_row))]);
        let given = [
            &qkv,
            bias(0),
            bias(1),
            bias(2),
            &q_norm,
            &k_norm,
            &eps,
            &angles.cos,
            &angles.sin,
            &lists.at,
            &own.k,
            &own.v,
        ];
        let n = x.dim(0);
        let (q_shape, kv_shape) = ([n, size(q_width)?], [n, size(kv_width)?]);
        let shapes = [(&q_shape[..], self.dtype), (&kv_shape[..], self.dtype), (&kv_shape[..], self.dtype)];
        let blocks = (rows + if by_row { lists.tail } else { 0 }) * (heads + 2 * kv_heads);
        let threads = (head_dim / 2).next_multiple_of(32);
        let placed = kernels.place.apply(&given, &shapes, &constants, blocks, threads)?;
        let [q, k, v] = &placed[..] else { fail!(Internal, "place: not three results") };
        if !by_row {
            return plan.run(q, k, v, cache, place, layer.params).map(Some);
        }
        self.written.borrow_mut().push(q.clone());
        let warps = match lists.most_keys {
            0..=32 => 1,
            33..=128 => 4,
            _ => 8,
        };
        constants.truncate(5);
        constants.push((c"WINDOW", Constant::Int(window.and_then(|w| i32::try_from(w).ok()).unwrap_or(0))));
        constants.push((c"WARPS", Constant::Int(warps)));
        let factors = self.constant(&[layer.params.scale, layer.params.softcap.unwrap_or(0.0)])?;
        let given = [q, &own.k, &own.v, &lists.at, &lists.owners, &lists.tables, &factors];
        let (blocks, threads) = (rows * kv_heads, warps as usize * 32);
        let mut out = kernels.attend.apply(&given, &shapes[..1], &constants, blocks, threads)?;
        Ok(Some(out.remove(0)))
    }

    fn plan(&self, cache: &Cache, group: usize, window: Option<usize>, segments: &[Segment]) -> Result<Rc<Plan>> {
        let mut plans = self.plans.borrow_mut();
        if let Some(plan) = plans.iter().find(|plan| plan.fits(group, window, segments)) {
            return Ok(plan.clone());
        }
        if plans.len() >= MOST_PLANS {
            plans.remove(0);
        }
        let plan = Rc::new(Plan::new(cache, group, window, segments)?);
        plans.push(plan.clone());
        Ok(plan)
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
fn check_same(what: &str, a: &Array, b: &Array) -> Result<()> {
    if a.shape() != b.shape() {
        fail!(Internal, "{what}: {:?} with {:?}", a.shape(), b.shape())
    }
    Ok(())
}

fn shape(x: &Array) -> (usize, usize) {
    (x.dim(0) as usize, x.dim(1) as usize)
}

impl Backend for Mlx {
    type Act = Array;
    type Matrix = Matrix;
    type Vector = Vector;
    type Cache = Cache;

    fn describe(&self) -> Description {
        Description { name: "mlx", device: self.place.name.clone(), threads: 1 }
    }

    fn matrix(&self, stored: &weights::Matrix) -> Result<Matrix> {
        Matrix::new(stored, self.dtype)
    }

    fn vector(&self, values: &[f32]) -> Result<Vector> {
        let array = done(from_host(values, &[values.len()])?.as_dtype(self.dtype))?;
        Ok(Vector { values: values.to_vec(), array, rotations: Rotations::default() })
    }

    fn join(&self, linears: &mut [&mut Linear<Self>]) -> Result<()> {
        let mut matrices: Vec<&mut Matrix> = linears.iter_mut().map(|linear| &mut linear.weight).collect();
        Matrix::join(&mut matrices)
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

    fn embed(&self, table: &Matrix, tokens: &[u32], scale: f32) -> Result<Array> {
        if let Some(token) = tokens.iter().find(|token| **token as usize >= table.rows()) {
            fail!(Argument, "row {token} of a matrix of {} rows", table.rows())
        }
        let rows: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
        self.look_up(table, &from_host(&rows, &[rows.len()])?, scale)
    }

    fn embed_following(
        &self,
        table: &Matrix,
        tokens: &[u32],
        coming: &Coming<Array>,
        following: &[(usize, usize)],
        scale: f32,
    ) -> Result<Array> {
        let (count, rows) = (tokens.len(), coming.best.dim(0) as usize);
        if let Some(odd) = following.iter().find(|(i, row)| *i >= count || *row >= rows) {
            fail!(Internal, "embed_following: {odd:?} of {count} tokens, {rows} rows coming")
        }
        // Most steps carry on every row of the one before, and nothing else.
        if count == rows && following.len() == count && following.iter().all(|(i, row)| i == row) {
            return self.look_up(table, &coming.best, scale);
        }
        let mut at: Vec<i32> = (0..size(count)?).collect();
        for (i, row) in following {
            at[*i] = size(count + row)?;
        }
        let known: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
        let all = done(ops::concatenate(&[&from_host(&known, &[count])?, &coming.best], 0))?;
        self.look_up(table, &done(all.take_axis(from_host(&at, &[count])?, 0))?, scale)
    }

    fn rms_norm(&self, x: &Array, weight: &Vector, eps: f32) -> Result<Array> {
        if x.dim(1) as usize != weight.values.len() {
            fail!(Internal, "rms_norm: {} columns with {} weights", x.dim(1), weight.values.len())
        }
        done(fast::rms_norm(x, Some(&weight.array), eps))
    }

    fn project<const N: usize>(&self, x: &Array, to: [&Linear<Self>; N]) -> Result<[Array; N]> {
        let products = self.multiply(x, &to.map(|linear| &linear.weight))?;
        let biased = products.into_iter().zip(to).map(|(y, linear)| match &linear.bias {
            Some(bias) => done(y.add(&bias.array)),
            None => Ok(y),
        });
        let biased = biased.collect::<Result<Vec<Array>>>()?;
        match biased.try_into() {
            Ok(products) => Ok(products),
            Err(_) => fail!(Internal, "project: not {N} products"),
        }
    }

    fn logits(&self, x: &Array, head: &Matrix) -> Result<Array> {
        let mut products = self.multiply(x, &[head])?;
        Ok(products.remove(0))
    }

    fn head_norm(&self, x: Array, weight: &Vector, eps: f32) -> Result<Array> {
        let (rows, cols) = shape(&x);
        let width = weight.values.len();
        check_width("head_norm", cols, width)?;
        let heads = done(x.reshape(&[size(rows)?, size(cols / width)?, size(width)?]))?;
        done(done(fast::rms_norm(&heads, Some(&weight.array), eps))?.reshape(x.shape()))
    }

    fn rope(&self, x: Array, positions: &[usize], rope: &Rope<Self>) -> Result<Array> {
        let (rows, cols) = shape(&x);
        check_width("rope", cols, rope.head_dim)?;
        let frequencies = &rope.inv_freq.values;
        if positions.len() != rows || frequencies.len() * 2 != rope.head_dim {
            fail!(Internal, "rope: {} positions for {rows} rows, {} frequencies", positions.len(), frequencies.len())
        }
        let angles = rope.inv_freq.rotations.of(positions, frequencies, rope.factor, x.dtype())?;
        let (half, heads, rows) = (size(frequencies.len())?, size(cols / rope.head_dim)?, size(rows)?);
        let heads_of = done(x.reshape(&[rows, heads, 2 * half]))?;
        let a = slice(&heads_of, &[0, 0, 0], &[rows, heads, half])?;
        let b = slice(&heads_of, &[0, 0, half], &[rows, heads, 2 * half])?;
        let turn = |x: &Array, y: &Array| -> Result<(Array, Array)> {
            Ok((done(x.multiply(&angles.cos))?, done(y.multiply(&angles.sin))?))
        };
        let ((ac, bs), (bc, sa)) = (turn(&a, &b)?, turn(&b, &a)?);
        let turned = [done(ac.subtract(&bs))?, done(bc.add(&sa))?];
        done(done(ops::concatenate(&turned, -1))?.reshape(x.shape()))
    }

    fn attention(
        &self,
        q: Array,
        k: &Array,
        v: &Array,
        cache: &mut Cache,
        layer: usize,
        segments: &[Segment],
        params: &AttentionParams,
    ) -> Result<Array> {
        checks::attention(shape(&q), shape(k), shape(v), cache.layout(), segments, params)?;
        let place = cache.place(layer)?;
        self.plan(cache, place.0, params.window, segments)?.run(&q, k, v, cache, place, params)
    }

    fn gated(&self, gate: Array, up: &Array, activation: Activation) -> Result<Array> {
        check_same("gated", &gate, up)?;
        let activated = match activation {
            Activation::Silu => done(gate.multiply(done(ops::sigmoid(&gate))?))?,
            Activation::GeluTanh => {
                let cube = done(done(gate.multiply(&gate))?.multiply(&gate))?;
                let inner = done(gate.add(done(cube.multiply(&scalar(0.044_715, gate.dtype())?))?))?;
                let inner = done(inner.multiply(&scalar((2.0 / std::f32::consts::PI).sqrt(), gate.dtype())?))?;
                gelu(&gate, &done(ops::tanh(&inner))?)?
            }
            Activation::Gelu => {
                let inner = done(gate.multiply(&scalar(std::f32::consts::FRAC_1_SQRT_2, gate.dtype())?))?;
                gelu(&gate, &done(ops::erf(&inner))?)?
            }
        };
        done(activated.multiply(up))
    }

    fn attend(
        &self,
        x: &Array,
        layer: &Attend<'_, Self>,
        positions: &[usize],
        cache: &mut Cache,
        index: usize,
        segments: &[Segment],
    ) -> Result<Array> {
        if let Some(attended) = self.attend_fused(x, layer, positions, cache, index, segments)? {
            return Ok(attended);
        }
        parts::attend(self, x, layer, positions, cache, index, segments)
    }

    fn add_norm(
        &self,
        acc: Array,
        y: Array,
        post: Option<&Vector>,
        next: &Vector,
        eps: f32,
        index: usize,
    ) -> Result<(Array, Array)> {
        check_same("add_norm", &acc, &y)?;
        let (rows, cols) = shape(&acc);
        if let Some(kernels) = &self.kernels
            && cols <= MOST_FUSED_COLS
        {
            if cols != next.values.len() || post.is_some_and(|post| post.values.len() != cols) {
                fail!(Internal, "add_norm: {cols} columns with {} weights", next.values.len())
            }
            let eps = self.constant(&[eps])?;
            let given = [&acc, &y, &post.unwrap_or(next).array, &next.array, &eps];
            let same = (acc.shape(), self.dtype);
            let constants = [
                (c"T", Constant::Type(self.dtype)),
                (c"COLS", Constant::Int(size(cols)?)),
                (c"POST", Constant::Int(i32::from(post.is_some()))),
            ];
            let mut made = kernels.add_norm.apply(&given, &[same, same], &constants, rows, 256)?.into_iter();
            if let (Some(x), Some(normed)) = (made.next(), made.next()) {
                return Ok((x, normed));
            }
        }
        parts::add_norm(self, acc, y, post, next, eps, index)
    }

    fn project_gated(
        &self,
        x: &Array,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        activation: Activation,
        index: usize,
    ) -> Result<Array> {
        if let Some(kernels) = &self.kernels
            && gate.bias.is_none()
            && up.bias.is_none()
            && gate.weight.rows() == up.weight.rows()
            && let Some(both) = self.multiply_joined(x, &[&gate.weight, &up.weight])?
        {
            let (rows, width) = (x.dim(0) as usize, gate.weight.rows());
            let kind = match activation {
                Activation::Silu => 0,
                Activation::GeluTanh => 1,
                Activation::Gelu => 2,
            };
            let constants = [
                (c"T", Constant::Type(self.dtype)),
                (c"F", Constant::Int(size(width)?)),
                (c"KIND", Constant::Int(kind)),
            ];
            let out: (&[i32], Dtype) = (&[x.dim(0), size(width)?], self.dtype);
            let blocks = rows * width.div_ceil(256);
            return Ok(kernels.gated.apply(&[&both], &[out], &constants, blocks, 256)?.remove(0));
        }
        parts::project_gated(self, x, gate, up, activation, index)
    }

    fn summarise(&self, logits: &Array, tokens: &[(usize, u32)]) -> Result<Option<Summarised<Array>>> {
        let largest = done(logits.max_axis(1, false))?;
        let first = done(ops::indexing::argmax_axis(logits, 1, false))?;
        let best = done(first.as_dtype(Dtype::Int32))?;
        let largest = done(largest.as_dtype(Dtype::Float32))?;
        let mut logprobs = None;
        if !tokens.is_empty() {
            let exact = done(logits.as_dtype(Dtype::Float32))?;
            let sums = done(exact.logsumexp_axis(1, false))?;
            let cols = logits.dim(1) as usize;
            let flat = done(logits.reshape(&[-1]))?;
            let places: Vec<i32> =
                tokens.iter().map(|(row, token)| size(row * cols + *token as usize)).collect::<Result<_>>()?;
            let rows: Vec<i32> = tokens.iter().map(|(row, _)| *row as i32).collect();
            let picked = done(flat.take_axis(&from_host(&places, &[places.len()])?, 0))?;
            let sums = done(sums.take_axis(&from_host(&rows, &[rows.len()])?, 0))?;
            logprobs = Some(done(done(picked.as_dtype(Dtype::Float32))?.subtract(&sums))?);
        }
        Ok(Some(Summarised::Coming(Coming { best, largest, logprobs })))
    }

    fn await_summary(&self, coming: &Coming<Array>) -> Result<Summary> {
        done(mlx_rs::transforms::eval(parts_of(coming)))?;
        let (mut values, mut logprobs) = (Vec::new(), Vec::new());
        if let Some(found) = &coming.logprobs {
            done(found.eval())?;
            logprobs.extend_from_slice(found.try_as_slice::<f32>().map_err(unreadable)?);
        }
        values.extend_from_slice(coming.largest.try_as_slice::<f32>().map_err(unreadable)?);
        let indices = coming.best.try_as_slice::<i32>().map_err(unreadable)?;
        let best = indices.iter().map(|index| *index as u32).zip(values).collect();
        Ok(Summary { best, logprobs })
    }

    fn add(&self, acc: Array, y: &Array) -> Result<Array> {
        check_same("add", &acc, y)?;
        done(acc.add(y))
    }

    fn softcap(&self, x: Array, cap: f32) -> Result<Array> {
        let (down, up) = (scalar(1.0 / cap, x.dtype())?, scalar(cap, x.dtype())?);
        done(done(ops::tanh(done(x.multiply(&down))?))?.multiply(&up))
    }

    fn select_rows(&self, x: &Array, rows: &[usize]) -> Result<Array> {
        if let Some(row) = rows.iter().find(|row| **row >= x.dim(0) as usize) {
            fail!(Internal, "select_rows: row {row} of {}", x.dim(0))
        }
        let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
        done(x.take_axis(&from_host(&rows, &[rows.len()])?, 0))
    }

    fn read(&self, x: &Array, out: &mut Vec<f32>) -> Result<()> {
        to_host(x, out)
    }

    fn flush(&self, cache: &mut Cache, coming: Option<&Coming<Array>>) -> Result<()> {
        self.keep_limits()?;
        let written = std::mem::take(&mut *self.written.borrow_mut());
        let coming = coming.into_iter().flat_map(parts_of);
        done(mlx_rs::transforms::async_eval(written.iter().chain(cache.arrays()).chain(coming)))
    }

    fn release_unused(&self) {
        self.plans.borrow_mut().clear();
        if let Err(fault) = done(mlx_rs::memory::clear_cache()) {
            log::warn!("{fault}");
        }
    }

    fn write(&self, rows: usize, cols: usize, values: &[f32]) -> Result<Array> {
        if rows.checked_mul(cols) != Some(values.len()) {
            fail!(Internal, "write: {} values for {rows}x{cols}", values.len())
        }
        done(from_host(values, &[rows, cols])?.as_dtype(self.dtype))
    }
}

fn parts_of(coming: &Coming<Array>) -> impl Iterator<Item = &Array> {
    [&coming.best, &coming.largest].into_iter().chain(&coming.logprobs)
}

fn unreadable(fault: impl std::fmt::Display) -> Error {
    error!(Backend, "MLX: reading an array: {fault}")
}

/// A number that does not change the type of what it meets.
fn scalar(value: f32, dtype: Dtype) -> Result<Array> {
    done(Array::from_f32(value).as_dtype(dtype))
}

/// `gate / 2 * (1 + odd)`. Not mlx-rs' own activations: those are compiled, on MLX's CPU device by calling the
/// system's C++ compiler while the program runs.
fn gelu(gate: &Array, odd: &Array) -> Result<Array> {
    let half = done(gate.multiply(&scalar(0.5, gate.dtype())?))?;
    done(half.multiply(done(odd.add(&scalar(1.0, gate.dtype())?))?))
}
