//! `gomlx_discover`: which models a folder holds.

use std::ffi::c_char;
use std::path::Path;

use super::error::{gomlx_error, gomlx_status};
use super::guard;
use super::handle::{self, Kind, Opaque};
use super::input;
use super::model::{Card, gomlx_model_info};
use super::options::Out;
use super::output::Place;
use crate::engine::catalog;
use crate::engine::error::fail;

/// What a walk over a folder found: a list that does not change. Any number of threads may read it at once.
pub struct gomlx_catalog {
    _private: [u8; 0],
}

impl Opaque for gomlx_catalog {
    type Value = Vec<Card>;
    const KIND: Kind = Kind::Catalog;
}

/// Looks through `dir` and the folders below it, also a Hugging Face cache, for models: those that `gomlx_model_load`
/// would load by their `path`, and, each with a reason, those it would not. Reads configs and headers, never weights.
/// `GOMLX_ERR_IO` where `dir` itself can't be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_discover(
    dir: *const c_char,
    dir_len: usize,
    out_catalog: *mut *mut gomlx_catalog,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let out = Place::new("out_catalog", out_catalog)?;
        let dir = input::text("dir", dir, dir_len)?;
        if dir.is_empty() {
            fail!(Argument, "dir is empty")
        }
        let cards = catalog::discover(Path::new(dir))?.into_iter().map(|entry| match entry.outcome {
            Ok(info) => Card::new(info),
            Err(why) => Card::failed(&entry.path, &why),
        });
        out.write(handle::give(cards.collect()));
        Ok(())
    })
}

/// How many models were found, those that can't be loaded included; 0 after a failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_catalog_count(catalog: *const gomlx_catalog) -> usize {
    guard::value(0, || Ok(handle::get(catalog)?.len()))
}

/// The model at `index`, in the order of paths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_catalog_get(
    catalog: *const gomlx_catalog,
    index: usize,
    out_info: *mut gomlx_model_info,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let cards = handle::get(catalog)?;
        let out = Out::new(out_info)?;
        let Some(card) = cards.get(index) else { fail!(Argument, "index {index} of {} models", cards.len()) };
        out.write(card.view());
        Ok(())
    })
}

/// Takes a catalog back. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_catalog_free(catalog: *mut gomlx_catalog) {
    guard::value((), || {
        handle::free(catalog);
        Ok(())
    });
}
