//! `gomlx_generate_batch`: several answers through one callback.

use std::ffi::c_void;

use super::error::{gomlx_error, gomlx_status};
use super::generation::{ChunkBuffer, gomlx_chunk_fn, gomlx_metrics};
use super::guard;
use super::handle;
use super::model::gomlx_model;
use super::options::{self, Out};
use super::output::Buffer;
use super::request::{self, gomlx_request};
use crate::engine::error::fail;
use crate::engine::{Error, Status, Step};

/// Computes `count` answers together, handing each chunk to `on_chunk` on the calling thread; its `request_index` says
/// whose it is. Each answer is what it would be alone. A request that fails leaves the others alone: `out_statuses`,
/// which may be NULL, takes each one's status, and the call returns the first failure after all have ended. When the
/// callback stops it, all of them end, the call returns `GOMLX_OK`, and those that were not complete have
/// `GOMLX_ERR_CANCELLED`. `out_metrics`, which may be NULL, takes `count` entries, the `struct_size` of each set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_generate_batch(
    model: *const gomlx_model,
    requests: *const gomlx_request,
    count: usize,
    on_chunk: gomlx_chunk_fn,
    user_data: *mut c_void,
    out_statuses: *mut gomlx_status,
    out_metrics: *mut gomlx_metrics,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let Some(on_chunk) = on_chunk else { fail!(Argument, "on_chunk is NULL") };
        let statuses = Buffer::nullable("out_statuses", out_statuses, count)?;
        let mut metrics = Vec::new();
        let mut asked = Vec::new();
        for index in 0..count {
            if !out_metrics.is_null() {
                metrics.push(Out::new(options::element(out_metrics, index)?.cast_mut())?);
            }
            let request = request::read(options::element(requests, index)?)?;
            asked.push(request.to_engine().map_err(|e| e.at(format_args!("requests[{index}]")))?);
        }
        let mut codes = vec![Status::Cancelled as i32; count];
        let mut first_failure: Option<Error> = None;
        let mut batch = owned.model.generate_batch(asked);
        let mut buffer = ChunkBuffer::default();
        let mut stopped = false;
        while !stopped && let Some(event) = batch.next() {
            match event.step {
                Ok(Step::Chunk(chunk)) => {
                    let mut view = buffer.hold(&chunk);
                    view.request_index = event.index as u32;
                    // SAFETY: the caller's function, given what its type says; `view` and what it points to live on.
                    stopped = unsafe { on_chunk(&view, user_data) } != 0;
                }
                Ok(_) => codes[event.index] = 0,
                Err(failure) => {
                    codes[event.index] = failure.status() as i32;
                    first_failure.get_or_insert(failure.at(format_args!("requests[{}]", event.index)));
                }
            }
            if let Some(out) = metrics.get(event.index) {
                out.write(event.metrics.into());
            }
        }
        if let Some(statuses) = statuses {
            statuses.write(0, &codes);
        }
        match first_failure {
            Some(failure) if !stopped => Err(failure),
            _ => Ok(()),
        }
    })
}
