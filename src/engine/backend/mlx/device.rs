//! Which device MLX computes on, and what it is called.

use std::ffi::CStr;

use mlx_rs::{Device, DeviceType};

use super::array::{done, install_handler};
use crate::engine::backend::MlxDevice;
use crate::engine::error::Result;
use crate::engine::memory;

/// The device that MLX chose for this process, or its CPU device where `GOMLX_MLX_DEVICE` is `cpu`.
pub fn place() -> Result<MlxDevice> {
    install_handler();
    memory::count_device(memory::Device { figures, reset_peak });
    if std::env::var("GOMLX_MLX_DEVICE").is_ok_and(|device| device == "cpu") {
        Device::set_default(&Device::cpu());
    }
    let device = done(Device::try_default())?;
    if matches!(done(device.get_type())?, DeviceType::Cpu) {
        return Ok(MlxDevice { gpu: false, name: "MLX's CPU device".into(), memory: None });
    }
    let info = Info::of_default();
    let name = info.text(c"device_name").unwrap_or_else(|| "a GPU".into());
    let memory = [c"max_recommended_working_set_size", c"total_memory", c"memory_size"];
    Ok(MlxDevice { gpu: true, name, memory: memory.iter().find_map(|key| info.number(key)) })
}

/// What MLX's allocator says.
fn figures() -> memory::DeviceFigures {
    let bytes =
        |figure: std::result::Result<usize, mlx_rs::error::Exception>| done(figure).map_or(0, |bytes| bytes as u64);
    memory::DeviceFigures {
        active: bytes(mlx_rs::memory::active_memory()),
        peak: bytes(mlx_rs::memory::peak_memory()),
        cached: bytes(mlx_rs::memory::cache_memory()),
    }
}

fn reset_peak() {
    if let Err(fault) = done(mlx_rs::memory::reset_peak_memory()) {
        log::warn!("{fault}");
    }
}

/// What mlx-c knows about the default device; nothing where it cannot say.
struct Info(mlx_sys::mlx_device_info);

impl Info {
    fn of_default() -> Self {
        // SAFETY: empty handles that the calls fill in; the device is freed after its last use.
        unsafe {
            let mut info = mlx_sys::mlx_device_info_new();
            let mut device = mlx_sys::mlx_device_new();
            mlx_sys::mlx_get_default_device(&mut device);
            mlx_sys::mlx_device_info_get(&mut info, device);
            mlx_sys::mlx_device_free(device);
            Self(info)
        }
    }

    fn text(&self, key: &CStr) -> Option<String> {
        let mut value = std::ptr::null();
        // SAFETY: the info lives; on success the text behind `value` lives as long as it.
        unsafe {
            let found = self.has(key) && mlx_sys::mlx_device_info_get_string(&mut value, self.0, key.as_ptr()) == 0;
            (found && !value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
        }
    }

    fn number(&self, key: &CStr) -> Option<u64> {
        let mut value = 0usize;
        // SAFETY: the info lives and `value` is a number to write to.
        let found =
            self.has(key) && unsafe { mlx_sys::mlx_device_info_get_size(&mut value, self.0, key.as_ptr()) == 0 };
        found.then_some(value as u64)
    }

    fn has(&self, key: &CStr) -> bool {
        let mut exists = false;
        // SAFETY: as in `number`. An info that MLX could not fill in has no handle.
        !self.0.ctx.is_null()
            && unsafe { mlx_sys::mlx_device_info_has_key(&mut exists, self.0, key.as_ptr()) == 0 }
            && exists
    }
}

impl Drop for Info {
    fn drop(&mut self) {
        if !self.0.ctx.is_null() {
            // SAFETY: a live handle, freed once.
            unsafe { mlx_sys::mlx_device_info_free(self.0) };
        }
    }
}
