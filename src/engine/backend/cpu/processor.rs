//! What the processor calls itself.

/// The name for people: `AMD EPYC 9755`, `Apple M4`; the architecture where the processor does not say.
pub fn name() -> String {
    brand()
        .map(|name| name.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(target_arch = "x86_64")]
fn brand() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    if __cpuid(0x8000_0000).eax < 0x8000_0004 {
        return None;
    }
    let mut bytes = Vec::with_capacity(48);
    for leaf in 0x8000_0002..=0x8000_0004 {
        let part = __cpuid(leaf);
        for register in [part.eax, part.ebx, part.ecx, part.edx] {
            bytes.extend_from_slice(&register.to_le_bytes());
        }
    }
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(all(target_arch = "aarch64", target_os = "macos"))]
fn brand() -> Option<String> {
    let mut bytes = [0u8; 128];
    let mut size = bytes.len();
    // SAFETY: the name is a C string; the call writes at most `size` bytes.
    let status = unsafe {
        libc::sysctlbyname(
            c"machdep.cpu.brand_string".as_ptr(),
            bytes.as_mut_ptr().cast(),
            &mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    let text = bytes.get(..size)?;
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    (status == 0).then(|| String::from_utf8_lossy(&text[..end]).into_owned())
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_os = "macos"))))]
fn brand() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    line.split_once(':').map(|(_, name)| name.to_owned())
}
