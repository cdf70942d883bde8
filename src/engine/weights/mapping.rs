//! A file's bytes: mapped where they lie, or read into memory of our own.
//!
//! A mapping shares the page cache with every other process and costs no copy, but the bytes belong to the file: if
//! another process shortens or rewrites it while it is mapped, reads beyond the new end raise SIGBUS (which nothing
//! here catches: a library must not own a host's signal handlers) and rewritten bytes change under us. Three things
//! keep that away: the length is compared with the header's promise at load, so a file that is already short is
//! refused; model stores replace files by renaming, which leaves a mapped file intact; and [`WeightsMode::Read`]
//! takes a private copy where the folder's owner is not trusted to leave it alone.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::Bytes;
use crate::engine::error::{Error, Result, fail};
use crate::engine::memory::{self, Kind, Reservation};

/// Where a checkpoint's bytes live while the model does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightsMode {
    /// In the file's own pages, shared with every process that maps it.
    #[default]
    Mapped,
    /// In memory of this process, safe from whatever happens to the file afterwards.
    Read,
}

/// What is read at a time, so that a cancel is seen and progress shows within milliseconds.
const CHUNK: u64 = 8 << 20;

struct Mapping {
    map: Mmap,
    _reservation: Option<Reservation>,
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

struct Buffer {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Opens a regular file for reading and tells its length. A directory, pipe, socket or device is refused.
pub fn open_regular(path: &Path) -> Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true);
    // Opening a pipe that nobody writes to would wait for a writer for ever.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path).map_err(|error| Error::io(path, &error))?;
    let metadata = file.metadata().map_err(|error| Error::io(path, &error))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "a pipe, socket or device" };
        fail!(Io, "{}: {what}, not a file", path.display())
    }
    Ok((file, metadata.len()))
}

/// All of a small text file such as `config.json`, refused beyond `limit` bytes.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    let (file, length) = open_regular(path)?;
    if length > limit {
        fail!(Format, "{}: {length} bytes, more than the {limit} that such a file may have", path.display())
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|error| Error::io(path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        crate::engine::error::error!(
            Format,
            "{}: not UTF-8 at byte {}",
            path.display(),
            error.utf8_error().valid_up_to()
        )
    })
}

/// The bytes of `path`, counted against the memory limit until the last view drops. `step` is told the bytes read
/// so far and ends the reading with its error; a mapping reports its length at once.
pub fn load(path: &Path, mode: WeightsMode, step: &mut dyn FnMut(u64) -> Result<()>) -> Result<Bytes> {
    let (file, length) = open_regular(path)?;
    let size = addressable(path, length)?;
    let name = path.display().to_string();
    match mode {
        WeightsMode::Mapped => {
            let reservation = memory::reserve(size, Kind::Mapped, &name)?;
            let map = map(path, &file, size)?;
            // The kernel starts reading ahead; where it does not know the advice, pages come one by one.
            #[cfg(unix)]
            if let Err(error) = map.advise(memmap2::Advice::WillNeed) {
                log::debug!("{name}: madvise: {error}");
            }
            step(length)?;
            Ok(Bytes::new(Arc::new(Mapping { map, _reservation: Some(reservation) })))
        }
        WeightsMode::Read => {
            let reservation = memory::reserve(size, Kind::Owned, &name)?;
            Ok(Bytes::new(Arc::new(Buffer {
                bytes: read_in(path, file, length, size, step)?,
                _reservation: reservation,
            })))
        }
    }
}

/// A mapping for a short look at headers: not counted, since nothing of it stays and only the touched pages load.
pub fn peek(path: &Path) -> Result<Bytes> {
    let (file, length) = open_regular(path)?;
    let map = map(path, &file, addressable(path, length)?)?;
    Ok(Bytes::new(Arc::new(Mapping { map, _reservation: None })))
}

fn addressable(path: &Path, length: u64) -> Result<usize> {
    match usize::try_from(length) {
        Ok(0) => fail!(Format, "{}: an empty file", path.display()),
        Ok(size) if size <= isize::MAX as usize => Ok(size),
        _ => fail!(Memory, "{}: {length} bytes are beyond this machine's address space", path.display()),
    }
}

fn map(path: &Path, file: &File, size: usize) -> Result<Mmap> {
    // SAFETY: the mapping is private to reading and never aliased by writes of this process. That no other process
    // shortens or rewrites the file cannot be enforced on Unix; the module's head says what follows and what lowers
    // the risk. No reference outlives the `Mmap`: views hold its owner by reference count.
    unsafe { memmap2::MmapOptions::new().len(size).map(file) }.map_err(|error| Error::io(path, &error))
}

fn read_in(
    path: &Path,
    mut file: File,
    length: u64,
    size: usize,
    step: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(size).is_err() {
        fail!(Memory, "{}: the system refused {size} bytes", path.display())
    }
    while (bytes.len() as u64) < length {
        let chunk = CHUNK.min(length - bytes.len() as u64);
        let read = (&mut file).take(chunk).read_to_end(&mut bytes).map_err(|error| Error::io(path, &error))?;
        if read == 0 {
            fail!(Format, "{}: ended at byte {} of {length} while being read", path.display(), bytes.len())
        }
        step(bytes.len() as u64)?;
    }
    Ok(bytes)
}
