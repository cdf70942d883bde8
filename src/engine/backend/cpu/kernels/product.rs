//! The micro-kernels: `R` rows of activations × `P` panels of sixteen outputs.
//!
//! What an output element goes through is the same for every `R` and `P`, and wherever a call begins and ends along
//! the columns, because the accumulator is carried in memory between calls: that is what makes a row's bits
//! independent of its company. Activations of a block of `R` rows lie `[step][R]`, so a step's words are read from
//! consecutive addresses, each spread over all lanes.

use super::lanes::{LANES, Lanes};

/// One call's operands.
#[derive(Clone, Copy)]
pub struct Operands {
    /// Panels of `steps` vectors, `panel_stride` words apart.
    pub panel: *const u32,
    /// Words from one panel to the next.
    pub panel_stride: usize,
    /// `[steps][R]` words of activations.
    pub x: *const u32,
    /// `[R][P * 16]` accumulators, carried from call to call.
    pub acc: *mut f32,
    /// Words of a panel's lane to multiply.
    pub steps: usize,
}

/// What the quantised product needs besides: `steps` is `groups * quads`.
#[derive(Clone, Copy)]
pub struct Scales {
    /// Groups to multiply.
    pub groups: usize,
    /// Words of four columns in a group: 8, 16 or 32.
    pub quads: usize,
    /// `[groups][16]` weight scales, panels `stride` floats apart.
    pub scales: *const f32,
    /// `[groups][16]` weight biases, panels `stride` floats apart.
    pub biases: *const f32,
    /// Floats from one panel's scales to the next's.
    pub stride: usize,
    /// `[groups][R]`: the activation group's scale, and scale × sum of its bytes.
    pub x: *const [f32; 2],
}

/// Bytes × bytes: for each group `acc = fma(scale_w * scale_x, dot, acc)`, then
/// `acc = fma(bias_w, scale_x * sum_x, acc)`; `dot` is exact.
#[inline(always)]
pub unsafe fn dot_i8<S: Lanes, const R: usize, const P: usize, const WIDE: bool>(o: &Operands, s: &Scales) {
    let (mut x, mut panel) = (o.x, o.panel);
    for group in 0..s.groups {
        // SAFETY: the caller vouches for `groups * quads` vectors of each panel, R words of activations for each,
        // and one pair a row and one vector a panel for each group.
        unsafe {
            let mut dots = [[S::splat_i(0); P]; R];
            for _ in 0..s.quads / 4 {
                for _ in 0..4 {
                    let mut w = [S::splat_i(0); P];
                    for (p, w) in w.iter_mut().enumerate() {
                        *w = S::load_i(panel.add(p * o.panel_stride));
                    }
                    for (r, dots) in dots.iter_mut().enumerate() {
                        let x = S::splat_i(x.add(r).read());
                        for (dot, w) in dots.iter_mut().zip(w) {
                            *dot = S::dot::<WIDE>(*dot, w, x);
                        }
                    }
                    x = x.add(R);
                    panel = panel.add(LANES);
                }
            }
            let mut scale = [S::splat_f(0.0); P];
            let mut bias = [S::splat_f(0.0); P];
            for p in 0..P {
                scale[p] = S::load_f(s.scales.add(p * s.stride + group * LANES));
                bias[p] = S::load_f(s.biases.add(p * s.stride + group * LANES));
            }
            for (r, dots) in dots.iter().enumerate() {
                let pair = s.x.add(group * R + r).cast::<f32>();
                let (x_scale, x_sum) = (S::splat_f(pair.read()), S::splat_f(pair.add(1).read()));
                for p in 0..P {
                    let acc = o.acc.add((r * P + p) * LANES);
                    S::store_f(acc, group_end::<S>(S::load_f(acc), dots[p], scale[p], bias[p], x_scale, x_sum));
                }
            }
        }
    }
}

/// What a group adds to an accumulator.
#[inline(always)]
pub(super) unsafe fn group_end<S: Lanes>(
    acc: S::F,
    dot: S::I,
    scale: S::F,
    bias: S::F,
    x_scale: S::F,
    x_sum: S::F,
) -> S::F {
    // SAFETY: values only.
    unsafe {
        let acc = S::mul_add(S::mul(scale, x_scale), S::to_f(dot), acc);
        S::mul_add(bias, x_sum, acc)
    }
}

/// Pairs of bf16, by the processor's own instruction (`BF16`), or floats, a fused multiply-add each; either way in
/// column order. Loads the accumulators, takes all steps, stores them.
#[inline(always)]
pub unsafe fn dot_dense<S: Lanes, const R: usize, const P: usize, const BF16: bool>(o: &Operands) {
    // SAFETY: the caller vouches for `steps` vectors of each panel and R words of activations for each, and for the
    // accumulators.
    unsafe {
        let mut acc = [[S::splat_f(0.0); P]; R];
        for r in 0..R {
            for p in 0..P {
                acc[r][p] = S::load_f(o.acc.add((r * P + p) * LANES));
            }
        }
        let (mut x, mut panel) = (o.x, o.panel);
        for _ in 0..o.steps {
            let mut w = [S::splat_i(0); P];
            for p in 0..P {
                w[p] = S::load_i(panel.add(p * o.panel_stride));
            }
            for r in 0..R {
                let x = S::splat_i(x.add(r).read());
                for p in 0..P {
                    acc[r][p] = if BF16 {
                        S::dot_bf16(acc[r][p], w[p], x)
                    } else {
                        S::mul_add(S::cast_f(w[p]), S::cast_f(x), acc[r][p])
                    };
                }
            }
            x = x.add(R);
            panel = panel.add(LANES);
        }
        for r in 0..R {
            for p in 0..P {
                S::store_f(o.acc.add((r * P + p) * LANES), acc[r][p]);
            }
        }
    }
}
