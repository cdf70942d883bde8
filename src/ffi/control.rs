//! `gomlx_control`: stop what runs, see how far it is.

use super::error::{gomlx_error, gomlx_status};
use super::guard;
use super::handle::{self, Kind, Opaque};
use super::output::Place;
use crate::engine::{self, Result};

/// A cancel flag and a progress meter. Give it to a load or a request, then use it from any thread. It may outlive
/// what it controls, and one control may serve several requests, which it then cancels together.
pub struct gomlx_control {
    _private: [u8; 0],
}

impl Opaque for gomlx_control {
    type Value = engine::Control;
    const KIND: Kind = Kind::Control;
}

/// The engine's control behind a handle; `None` for NULL.
pub(super) fn nullable(control: *const gomlx_control) -> Result<Option<engine::Control>> {
    if control.is_null() { Ok(None) } else { Ok(Some((**handle::get(control)?).clone())) }
}

/// A new control. NULL only after a failure that `gomlx_last_error` describes.
#[unsafe(no_mangle)]
pub extern "C" fn gomlx_control_new() -> *mut gomlx_control {
    guard::value(std::ptr::null_mut(), || Ok(handle::give(engine::Control::new())))
}

/// One more owner of the same control, freed by itself. NULL after a failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_control_clone(control: *const gomlx_control) -> *mut gomlx_control {
    guard::value(std::ptr::null_mut(), || Ok(handle::give((**handle::get(control)?).clone())))
}

/// Stops what the control was given to: a load ends with `GOMLX_ERR_CANCELLED`, a generation too, within one step.
/// From any thread, from a signal handler, more than once, before the work begins (it then ends at once). A control
/// stays cancelled. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_control_cancel(control: *const gomlx_control) {
    // No guard: nothing here can panic, allocate or lock, which is what makes it safe in a signal handler.
    if let Some(control) = handle::peek(control) {
        control.cancel();
    }
}

/// How far the work is: bytes of a load, prompt tokens of a request; both 0 before it begins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_control_progress(
    control: *const gomlx_control,
    out_done: *mut u64,
    out_total: *mut u64,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let control = handle::get(control)?;
        let (to_done, to_total) = (Place::new("out_done", out_done)?, Place::new("out_total", out_total)?);
        let (done, total) = control.progress();
        to_done.write(done);
        to_total.write(total);
        Ok(())
    })
}

/// Takes a control back; what it controls goes on. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_control_free(control: *mut gomlx_control) {
    guard::value((), || {
        handle::free(control);
        Ok(())
    });
}
