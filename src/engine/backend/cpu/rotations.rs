//! Cosines and sines of a step's positions, computed once a step instead of once a layer.

use std::rc::Rc;

use super::buffer::grow;
use super::kernels::rope::angles;
use super::rows::Shared;
use super::team::Team;
use crate::engine::error::{Result, error};

/// Rotary encodings kept at once; a decoder has one or two.
const MOST_KEPT: usize = 4;
/// Angles below which one thread computes them all.
const INLINE: usize = 4096;

/// The tables of the last positions seen, one for each rotary encoding.
#[derive(Debug, Default)]
pub struct Rotations {
    tables: Vec<Table>,
    replaced: usize,
}

/// Of one encoding: `[positions, head_dim / 2]` each.
#[derive(Debug)]
struct Table {
    /// Held, not only compared: its address then names it for as long as the table lives.
    inv_freq: Rc<Vec<f32>>,
    factor: f32,
    positions: Vec<usize>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotations {
    /// Angles of these positions, computed where the last ones differed.
    pub fn angles(
        &mut self,
        team: &Team,
        positions: &[usize],
        inv_freq: &Rc<Vec<f32>>,
        factor: f32,
    ) -> Result<Angles<'_>> {
        let known = |table: &Table| Rc::ptr_eq(&table.inv_freq, inv_freq) && table.factor.to_bits() == factor.to_bits();
        let index = match self.tables.iter().position(known) {
            Some(index) => index,
            None if self.tables.len() < MOST_KEPT => {
                self.tables.push(Table::new(inv_freq, factor));
                self.tables.len() - 1
            }
            None => {
                self.replaced = (self.replaced + 1) % MOST_KEPT;
                self.tables[self.replaced] = Table::new(inv_freq, factor);
                self.replaced
            }
        };
        let table = &mut self.tables[index];
        if table.positions != positions {
            table.fill(team, positions)?;
        }
        Ok(Angles { half: inv_freq.len(), cos: &table.cos, sin: &table.sin })
    }
}

impl Table {
    fn new(inv_freq: &Rc<Vec<f32>>, factor: f32) -> Self {
        Self { inv_freq: inv_freq.clone(), factor, positions: Vec::new(), cos: Vec::new(), sin: Vec::new() }
    }

    fn fill(&mut self, team: &Team, positions: &[usize]) -> Result<()> {
        let half = self.inv_freq.len();
        // Until all is there again, the table is nobody's.
        self.positions.clear();
        grow(&mut self.cos, positions.len() * half, "rotations")?;
        grow(&mut self.sin, positions.len() * half, "rotations")?;
        let (cos, sin) = (Shared::new(self.cos.as_mut_ptr()), Shared::new(self.sin.as_mut_ptr()));
        let (inv_freq, factor) = (&**self.inv_freq, self.factor);
        let row = |i: usize| {
            // SAFETY: row `i` of both tables, grown to hold it, is this task's alone.
            let (cos, sin) = unsafe {
                let part = |at: Shared<f32>| std::slice::from_raw_parts_mut(at.get().add(i * half), half);
                (part(cos), part(sin))
            };
            angles(positions[i], inv_freq, factor, cos, sin);
        };
        if positions.len() * half < INLINE {
            (0..positions.len()).for_each(row);
        } else {
            team.run(positions.len(), &row);
        }
        self.positions
            .try_reserve(positions.len())
            .map_err(|_| error!(Memory, "rotations: the system refused {} positions", positions.len()))?;
        self.positions.extend_from_slice(positions);
        Ok(())
    }
}

/// Cosines and sines of some positions.
#[derive(Clone, Copy, Debug)]
pub struct Angles<'a> {
    half: usize,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl<'a> Angles<'a> {
    /// Of row `i`'s position.
    pub fn row(&self, i: usize) -> (&'a [f32], &'a [f32]) {
        (&self.cos[i * self.half..][..self.half], &self.sin[i * self.half..][..self.half])
    }
}
