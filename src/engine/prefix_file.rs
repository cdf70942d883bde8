//! The prefix cache in a file: what was computed once need not be computed after a restart.
//!
//! Little-endian: the magic with the format's version; the identity of checkpoint and settings (32 bytes); the number
//! of layer groups (u32) and a page's bytes in each (u64); then a record a block, parents first: tokens (u32, 1 to a
//! page), number of the parent's record (u32, all ones: none), groups that have a page (bits of a u32), the tokens
//! (u32 each), the pages; then a record of 0 tokens; then the SHA-256 of everything before it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sha2::{Digest, Sha256};

use super::backend::PAGE_TOKENS;
use super::error::{Error, Result, Status, error, fail};
use super::language_model::Model;
use super::scheduler::{Block, BlockId};

const MAGIC: &[u8; 8] = b"gomlxpc1";
const NO_PARENT: u32 = u32::MAX;
const HASH: usize = 32;

/// Bytes of blocks that the worker copies at a time: a fraction of a step.
const BATCH: usize = 4 << 20;

impl Model {
    /// Writes what the prefix cache holds to file `path`, which is replaced at once when all is written and left alone
    /// when that fails. Returns the tokens saved. Answers go on meanwhile.
    pub fn save_prefixes(&self, path: &Path) -> Result<usize> {
        let temporary = temporary(path)?;
        let saved = File::create_new(&temporary).map_err(|fault| Error::io(&temporary, &fault)).and_then(|file| {
            let tokens = self.write_prefixes(file).map_err(|error| match error.status() {
                Status::Io => error.at(path.display()),
                _ => error,
            })?;
            fs::rename(&temporary, path).map_err(|fault| Error::io(path, &fault))?;
            Ok(tokens)
        });
        if saved.is_err() {
            // What is left of it helps nobody; where it can't be removed there is nothing more to do.
            let _ = fs::remove_file(&temporary);
        }
        saved
    }

    fn write_prefixes(&self, file: File) -> Result<usize> {
        let residence = self.residence();
        let (identity, page_bytes, ids) =
            residence.ask(|exchange| Ok((exchange.identity(), exchange.page_bytes().to_vec(), exchange.blocks())))?;
        let mut out = Hashing { inner: BufWriter::new(file), hash: Sha256::new() };
        out.put(MAGIC)?;
        out.put(&identity)?;
        out.put(&(page_bytes.len() as u32).to_le_bytes())?;
        for bytes in &page_bytes {
            out.put(&(*bytes as u64).to_le_bytes())?;
        }
        let mut records: HashMap<BlockId, u32> = HashMap::new();
        let mut tokens = 0;
        let batch = (BATCH / page_bytes.iter().sum::<usize>().max(1)).max(1);
        for ids in ids.chunks(batch) {
            let asked = ids.to_vec();
            let blocks = residence.ask(move |exchange| {
                asked.into_iter().map(|id| Ok((id, exchange.read(id)?))).collect::<Result<Vec<_>>>()
            })?;
            for (id, block) in blocks {
                // Evicted since they were listed: it, or what it stands on.
                let Some(block) = block else { continue };
                let parent = match block.parent {
                    None => NO_PARENT,
                    Some(parent) => match records.get(&parent) {
                        Some(record) => *record,
                        None => continue,
                    },
                };
                records.insert(id, records.len() as u32);
                out.put_block(&block, parent)?;
                tokens += block.tokens.len();
            }
        }
        out.put(&0_u32.to_le_bytes())?;
        let hash = out.hash.clone().finalize();
        out.put(&hash)?;
        let file = out.inner.into_inner().map_err(|fault| full(&fault.into_error()))?;
        file.sync_data().map_err(|fault| full(&fault))?;
        Ok(tokens)
    }

    /// Takes what [`save_prefixes`](Self::save_prefixes) wrote to file `path` into the prefix cache, as far as its
    /// budget goes beside what it holds. Returns the tokens taken. `Format` for a file that is damaged, cut short, or
    /// of another checkpoint, setting or version; nothing of it is taken then.
    pub fn restore_prefixes(&self, path: &Path) -> Result<usize> {
        let (identity, page_bytes) =
            self.residence().ask(|exchange| Ok((exchange.identity(), exchange.page_bytes().to_vec())))?;
        let mut file = File::open(path).map_err(|fault| Error::io(path, &fault))?;
        check(path, &mut file, &identity, &page_bytes)?;
        let mut from = BufReader::new(file);
        let mut taken = 0;
        let mut ids: Vec<Option<BlockId>> = Vec::new();
        let mut ended = false;
        while !ended {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while bytes < BATCH {
                let number = ids.len() + batch.len();
                let Some(record) = read_block(&mut from, &page_bytes, number).map_err(|e| e.at(path.display()))? else {
                    ended = true;
                    break;
                };
                bytes += record.0.pages.iter().flatten().map(Vec::len).sum::<usize>().max(1);
                batch.push(record);
            }
            let before = std::mem::take(&mut ids);
            let tokens;
            (ids, tokens) = self.residence().ask(move |exchange| {
                let (mut ids, mut tokens) = (before, 0);
                for (mut block, parent) in batch {
                    let stands = match parent {
                        NO_PARENT => true,
                        parent => {
                            block.parent = ids.get(parent as usize).copied().flatten();
                            block.parent.is_some()
                        }
                    };
                    let id = if stands { exchange.enter(&block)? } else { None };
                    tokens += id.map_or(0, |_| block.tokens.len());
                    ids.push(id);
                }
                Ok((ids, tokens))
            })?;
            taken += tokens;
        }
        Ok(taken)
    }
}

/// A name beside `path` that nobody else uses.
fn temporary(path: &Path) -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        fail!(Io, "{}: not a file", path.display())
    }
    let Some(name) = path.file_name() else { fail!(Io, "{}: not a file's name", path.display()) };
    let mut name = name.to_owned();
    name.push(format!(".{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Relaxed)));
    Ok(path.with_file_name(name))
}

/// What the system said while a file was written; its path is added further out.
fn full(fault: &io::Error) -> Error {
    Error::new(Status::Io, fault.to_string())
}

/// Writes and hashes what it writes.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes).map_err(|fault| full(&fault))
    }

    fn put_block(&mut self, block: &Block, parent: u32) -> Result<()> {
        let groups =
            (0..).zip(&block.pages).fold(0_u32, |bits, (group, page)| bits | u32::from(page.is_some()) << group);
        for number in [block.tokens.len() as u32, parent, groups] {
            self.put(&number.to_le_bytes())?;
        }
        for token in &block.tokens {
            self.put(&token.to_le_bytes())?;
        }
        block.pages.iter().flatten().try_for_each(|page| self.put(page))
    }
}

/// Reads the file through once, and leaves it at its first record.
fn check(path: &Path, file: &mut File, identity: &[u8; 32], page_bytes: &[usize]) -> Result<()> {
    let io = |fault: io::Error| Error::io(path, &fault);
    let length = file.metadata().map_err(io)?.len();
    let head = MAGIC.len() + identity.len() + 4 + 8 * page_bytes.len();
    let mut from = BufReader::with_capacity(1 << 20, &*file);
    let mut begin = [0; MAGIC.len()];
    if length < MAGIC.len() as u64 || from.read_exact(&mut begin).is_err() || begin != *MAGIC {
        fail!(Format, "{}: not a prefix file of this version", path.display())
    }
    if length < (head + 4 + HASH) as u64 {
        fail!(Format, "{}: cut short at {length} bytes", path.display())
    }
    let mut theirs = [0; 32];
    from.read_exact(&mut theirs).map_err(io)?;
    if theirs != *identity {
        fail!(Format, "{}: of another checkpoint, precision, KV type or processor", path.display())
    }
    let mut hash = Sha256::new();
    hash.update(begin);
    hash.update(theirs);
    let mut left = length - (MAGIC.len() + identity.len() + HASH) as u64;
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let most = left.min(buffer.len() as u64) as usize;
        from.read_exact(&mut buffer[..most]).map_err(io)?;
        hash.update(&buffer[..most]);
        left -= most as u64;
    }
    let mut sum = [0; HASH];
    from.read_exact(&mut sum).map_err(io)?;
    if sum[..] != hash.finalize()[..] {
        fail!(Format, "{}: damaged or cut short: its checksum does not match", path.display())
    }
    // The same file to the byte as it was written; that its pages have our sizes follows from its identity, and is
    // looked at all the same.
    io::Seek::seek(file, io::SeekFrom::Start((MAGIC.len() + identity.len()) as u64)).map_err(io)?;
    let mut sizes = vec![0; 4 + 8 * page_bytes.len()];
    file.read_exact(&mut sizes).map_err(io)?;
    let mut expected = (page_bytes.len() as u32).to_le_bytes().to_vec();
    page_bytes.iter().for_each(|bytes| expected.extend((*bytes as u64).to_le_bytes()));
    if sizes != expected {
        fail!(Format, "{}: its KV pages have other sizes", path.display())
    }
    Ok(())
}

/// The next record, number `number`, with its parent's number; `None` at the end.
fn read_block(from: &mut impl Read, page_bytes: &[usize], number: usize) -> Result<Option<(Block, u32)>> {
    let mut word = || -> Result<u32> {
        let mut bytes = [0; 4];
        from.read_exact(&mut bytes).map_err(|fault| error!(Format, "record {number}: {fault}"))?;
        Ok(u32::from_le_bytes(bytes))
    };
    let count = word()? as usize;
    if count == 0 {
        return Ok(None);
    }
    let (parent, groups) = (word()?, word()?);
    let known = parent == NO_PARENT || (parent as usize) < number;
    if count > PAGE_TOKENS || !known || u64::from(groups) >> page_bytes.len() != 0 {
        fail!(Format, "record {number}: {count} tokens behind record {parent}, groups {groups:#x}")
    }
    let tokens = (0..count).map(|_| word()).collect::<Result<Vec<u32>>>()?;
    let mut pages = Vec::with_capacity(page_bytes.len());
    for (group, bytes) in page_bytes.iter().enumerate() {
        pages.push(if groups >> group & 1 == 1 {
            let mut page = vec![0; *bytes];
            from.read_exact(&mut page).map_err(|fault| error!(Format, "record {number}: {fault}"))?;
            Some(page)
        } else {
            None
        });
    }
    Ok(Some((Block { tokens, parent: None, pages }, parent)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{ModelOptions, Prompt, Request};

    #[test]
    fn a_full_disk_is_told() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/llama-tales-16m-4bit");
        let model = Model::load(&dir, &ModelOptions { threads: Some(1), ..ModelOptions::default() }).expect("it loads");
        let request = Request { max_tokens: Some(2), ..Request::new(Prompt::Tokens(vec![5; 200])) };
        let mut generation = model.generate(request).expect("it starts");
        while let Ok(crate::engine::Step::Chunk(_)) = generation.next(None) {}
        let full = File::options().write(true).open("/dev/full").expect("Linux");
        let error = model.write_prefixes(full).expect_err("no room");
        assert_eq!(error.status(), Status::Io);
        assert!(error.message().contains("No space left"), "{error}");
        // A device is not replaced by a file.
        let error = model.save_prefixes(Path::new("/dev/full")).expect_err("not a file");
        assert!(error.status() == Status::Io && error.message().contains("not a file"), "{error}");
    }
}
