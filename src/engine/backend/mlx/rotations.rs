//! Cosines and sines of positions. MLX's own rope computes the angle in single precision, which is off by whole
//! degrees at far positions, and knows no factor; so angles are computed here in double precision, once, and looked up.

use std::cell::RefCell;
use std::rc::Rc;

use mlx_rs::{Array, Dtype};

use super::array::{done, from_host};
use crate::engine::error::Result;

/// The least positions a table is made for.
const LEAST: usize = 1024;

/// Cosines and sines of every position up to some.
#[derive(Debug, Default)]
pub struct Rotations {
    /// Of so many positions from 0 on.
    table: RefCell<Option<(usize, Rc<Angles>)>>,
    /// The rows of the positions asked for last: every layer of a step asks for the same.
    last: RefCell<Option<(Vec<usize>, Rc<Angles>)>>,
}

/// Of some positions, `head_dim / 2` each.
#[derive(Debug)]
pub struct Angles {
    /// Cosines.
    pub cos: Array,
    /// Sines.
    pub sin: Array,
}

impl Rotations {
    /// Those of `positions`, multiplied by `factor`, as `dtype`.
    pub fn of(&self, positions: &[usize], inv_freq: &[f32], factor: f32, dtype: Dtype) -> Result<Rc<Angles>> {
        if let Some((known, angles)) = &*self.last.borrow()
            && known == positions
        {
            return Ok(angles.clone());
        }
        let all = self.table(positions, inv_freq, factor)?;
        let rows: Vec<i32> = positions.iter().map(|position| *position as i32).collect();
        let rows = from_host(&rows, &[rows.len(), 1])?;
        let pick = |table: &Array| done(done(table.take_axis(&rows, 0))?.as_dtype(dtype));
        let angles = Rc::new(Angles { cos: pick(&all.cos)?, sin: pick(&all.sin)? });
        *self.last.borrow_mut() = Some((positions.to_vec(), angles.clone()));
        Ok(angles)
    }

    /// Of all positions from 0 on, those asked for among them: `[positions, head_dim / 2]`, `f32`.
    pub fn table(&self, positions: &[usize], inv_freq: &[f32], factor: f32) -> Result<Rc<Angles>> {
        let most = positions.iter().max().map_or(0, |most| most + 1);
        let mut table = self.table.borrow_mut();
        match &*table {
            Some((known, angles)) if *known >= most => Ok(angles.clone()),
            _ => {
                let known = most.next_power_of_two().max(LEAST);
                let angles = Rc::new(fill(known, inv_freq, factor)?);
                *table = Some((known, angles.clone()));
                Ok(angles)
            }
        }
    }
}

fn fill(positions: usize, inv_freq: &[f32], factor: f32) -> Result<Angles> {
    let angle = |position: usize, freq: &f32| position as f64 * f64::from(*freq);
    let of = |function: fn(f64) -> f64| {
        let values: Vec<f32> = (0..positions)
            .flat_map(|p| inv_freq.iter().map(move |f| (function(angle(p, f)) * f64::from(factor)) as f32))
            .collect();
        from_host(&values, &[positions, inv_freq.len()])
    };
    Ok(Angles { cos: of(f64::cos)?, sin: of(f64::sin)? })
}
