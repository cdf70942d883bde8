//! The first largest number of each row, looked for by all threads.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::kernels::largest::largest;
use super::kernels::vector::Simd;
use super::team::Team;

/// Numbers whose largest is kept as one.
const STRETCH: usize = 2048;
/// Stretches that are worth a task.
const TASK_STRETCHES: usize = 16;

/// Index and value of each row's first largest number; a NaN counts as larger than any.
pub fn first_largest(team: &Team, simd: Simd, x: &[f32], cols: usize) -> Vec<(u32, f32)> {
    let in_row = cols.div_ceil(STRETCH);
    let count = x.len() / cols * in_row;
    let tops: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
    let tasks = count / TASK_STRETCHES + 1;
    team.run(tasks, &|task| {
        for at in task * count / tasks..(task + 1) * count / tasks {
            let row = &x[at / in_row * cols..][..cols];
            let start = at % in_row * STRETCH;
            tops[at].store(largest(simd, &row[start..cols.min(start + STRETCH)]).to_bits(), Relaxed);
        }
    });
    let of_row = |(row, tops): (&[f32], &[AtomicU32])| {
        let (mut best, mut top) = (0, f32::NEG_INFINITY);
        for (stretch, bits) in tops.iter().enumerate() {
            let value = f32::from_bits(bits.load(Relaxed));
            if value > top || (value.is_nan() && !top.is_nan()) {
                (best, top) = (stretch, value);
            }
        }
        let same = |x: &f32| *x == top || (x.is_nan() && top.is_nan());
        let start = best * STRETCH;
        ((start + row[start..].iter().position(same).unwrap_or(0)) as u32, top)
    };
    x.chunks_exact(cols).zip(tops.chunks_exact(in_row)).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::kernels::Isa;
    use super::*;

    #[test]
    fn the_first_of_equals_on_every_instruction_set() {
        let team = Team::new(2).unwrap();
        for (_, isa) in Isa::NAMES {
            let Ok(simd) = Simd::new(isa) else { continue };
            for cols in [1, 2, 63, 64, 2047, 2048, 2049, 40_000] {
                let mut x = vec![-1.0; 3 * cols];
                let last = cols - 1;
                x[last] = 2.0;
                (x[cols + cols / 2], x[cols + last]) = (3.0, 3.0);
                x[2 * cols..].fill(f32::NEG_INFINITY);
                let found = first_largest(&team, simd, &x, cols);
                let expected = [(last as u32, 2.0), ((cols / 2) as u32, 3.0), (0, f32::NEG_INFINITY)];
                assert_eq!(found, expected, "{isa:?}, {cols} columns");
                x[cols / 3] = f32::NAN;
                x[cols + last] = f32::INFINITY;
                let found = first_largest(&team, simd, &x, cols);
                assert!(found[0].0 == (cols / 3) as u32 && found[0].1.is_nan(), "{isa:?}, {cols} columns: {found:?}");
                assert_eq!(found[1], (last as u32, f32::INFINITY), "{isa:?}, {cols} columns");
            }
        }
    }
}
