//! Any numbers in a request, through the C ABI on a tiny model: an answer or a refusal with a message.
#![no_main]

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

use gomlx::ffi::error::gomlx_last_error;
use gomlx::ffi::generation::{gomlx_chunk, gomlx_generate};
use gomlx::ffi::input::gomlx_string;
use gomlx::ffi::model::{gomlx_model, gomlx_model_load};
use gomlx::ffi::request::{gomlx_logit_bias, gomlx_request, gomlx_request_init};
use libfuzzer_sys::fuzz_target;

/// The handle is documented as usable from any thread.
struct Shared(*mut gomlx_model);
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

fn model() -> *mut gomlx_model {
    static MODEL: OnceLock<Shared> = OnceLock::new();
    MODEL
        .get_or_init(|| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tiny/llama-gqa-untied");
            let mut model = std::ptr::null_mut();
            let null = std::ptr::null_mut();
            // SAFETY: a path by pointer and length, a place for the handle, no options, no error record.
            let code = unsafe { gomlx_model_load(path.as_ptr().cast(), path.len(), std::ptr::null(), &mut model, null) };
            assert_eq!(code, 0, "{}", message());
            Shared(model)
        })
        .0
}

fn message() -> String {
    // SAFETY: never NULL, NUL-terminated.
    unsafe { CStr::from_ptr((*gomlx_last_error()).message.as_ptr()) }.to_string_lossy().into_owned()
}

unsafe extern "C" fn count(chunk: *const gomlx_chunk, user_data: *mut c_void) -> i32 {
    // SAFETY: the library's chunk and the counter that this file passed.
    let (chunk, chunks) = unsafe { (&*chunk, &mut *user_data.cast::<u32>()) };
    // SAFETY: text of that length.
    let text = unsafe { std::slice::from_raw_parts(chunk.text.data.cast::<u8>(), chunk.text.len) };
    assert!(std::str::from_utf8(text).is_ok());
    *chunks += 1;
    i32::from(*chunks > 8)
}

/// Takes numbers from the front of the input; zeros when it is used up.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        let n = self.0.len().min(4);
        bytes[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        u32::from_le_bytes(bytes)
    }
    fn f32(&mut self) -> f32 {
        f32::from_bits(self.u32())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut numbers = Numbers(data);
    // SAFETY: the struct is plain numbers and pointers; init sets it.
    let mut request: gomlx_request = unsafe { std::mem::zeroed() };
    // SAFETY: a struct of that size.
    assert_eq!(unsafe { gomlx_request_init(&mut request, size_of::<gomlx_request>(), std::ptr::null_mut()) }, 0);
    request.flags = numbers.u32() % 64;
    request.max_tokens = numbers.u32() % 6;
    request.temperature = numbers.f32();
    request.top_k = numbers.u32();
    request.top_p = numbers.f32();
    request.min_p = numbers.f32();
    request.typical_p = numbers.f32();
    request.repetition_penalty = numbers.f32();
    request.presence_penalty = numbers.f32();
    request.frequency_penalty = numbers.f32();
    request.penalty_window = numbers.u32();
    request.logprobs = numbers.u32() % 400;
    request.priority = numbers.u32() as i32;
    let biases = [gomlx_logit_bias { token: numbers.u32() % 400, bias: numbers.f32() }];
    request.logit_bias = biases.as_ptr();
    request.logit_bias_count = numbers.u32() as usize % 2;
    let stop_tokens = [numbers.u32() % 400];
    request.stop_tokens = stop_tokens.as_ptr();
    request.stop_token_count = numbers.u32() as usize % 2;
    let rest = numbers.0;
    let (stop, prompt) = rest.split_at(rest.len().min(3));
    let stops = [gomlx_string { data: stop.as_ptr().cast(), len: stop.len() }];
    request.stop = stops.as_ptr();
    request.stop_count = usize::from(!stop.is_empty());
    request.prompt = gomlx_string { data: prompt.as_ptr().cast(), len: prompt.len() };
    let mut chunks = 0u32;
    let user_data = (&raw mut chunks).cast();
    let none = std::ptr::null_mut();
    // SAFETY: everything the request points to lives on, the callback takes what it is given.
    let code = unsafe { gomlx_generate(model(), &request, Some(count), user_data, none, std::ptr::null_mut()) };
    assert!(code == 0 || (code < 0 && !message().is_empty()), "{code}");
    assert!(code != -11, "a defect: {}", message());
});
