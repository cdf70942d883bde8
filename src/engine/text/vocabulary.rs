//! The texts of a vocabulary and their ids, both ways, in a few flat tables.
//!
//! A quarter of a million tokens take 12 MB here and are there within the time that reading the file takes; as many
//! strings of their own in two hash maps would take 50 MB and several times as long.

use std::borrow::Cow;
use std::fmt;

use ahash::RandomState;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

/// Highest token id accepted: tables are laid out by id, and a damaged file may name any id.
pub(super) const MAX_ID: u32 = (1 << 24) - 1;
/// No entry: marks ids that no token has.
const NONE: u32 = u32::MAX;

/// A token: `text[start..start + length]` stands for `id`.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    length: u32,
    id: u32,
    /// The lower half of the text's hash.
    hash: u32,
}

/// Texts to ids and back. Where a file gives one text twice, the later id counts.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    hasher: RandomState,
    /// Every token's text, one after the other.
    text: String,
    entries: Vec<Entry>,
    /// Open addressing: the hash above, the entry's index plus one below; 0 is free. At most four fifths are taken.
    slots: Vec<u64>,
    /// Id to index in `entries`, or `NONE`.
    index_by_id: Vec<u32>,
    distinct: usize,
}

impl Vocabulary {
    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        match self.slots[self.find(self.hash(token), token)] {
            0 => None,
            slot => Some(self.entries[index(slot)].id),
        }
    }

    /// The same for several. Memory answers the questions together, which takes a third of the time of one by one.
    pub fn ids<const N: usize>(&self, tokens: [&str; N]) -> [Option<u32>; N] {
        if self.slots.is_empty() {
            return [None; N];
        }
        let mask = self.slots.len() - 1;
        let hashes = tokens.map(|token| self.hash(token));
        let slots = hashes.map(|hash| self.slots[hash as usize & mask]);
        let entries = slots.map(|slot| self.entries.get(index(slot)));
        std::array::from_fn(|at| match entries[at] {
            Some(entry) if entry.hash == hashes[at] && self.text_of(entry) == tokens[at] => Some(entry.id),
            _ => self.id(tokens[at]),
        })
    }

    /// The text of a token.
    pub fn token(&self, id: u32) -> Option<&str> {
        let at = *self.index_by_id.get(id as usize)?;
        (at != NONE).then(|| self.text_of(&self.entries[at as usize]))
    }

    /// One past the highest id.
    pub fn end(&self) -> usize {
        self.index_by_id.len()
    }

    /// Texts, each counted once.
    pub fn len(&self) -> usize {
        self.distinct
    }

    /// Every text with its id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let taken = self.slots.iter().filter(|slot| **slot != 0);
        taken.map(|slot| &self.entries[index(*slot)]).map(|entry| (self.text_of(entry), entry.id))
    }

    /// Every id that has a text, in order.
    pub fn by_id(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..self.end() as u32).filter_map(|id| Some((id, self.token(id)?)))
    }

    fn text_of(&self, entry: &Entry) -> &str {
        &self.text[entry.start as usize..(entry.start + entry.length) as usize]
    }

    fn hash(&self, token: &str) -> u32 {
        self.hasher.hash_one(token) as u32
    }

    /// The slot that holds `token`, or the free one where it would be.
    fn find(&self, hash: u32, token: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            let other = |slot: u64| (slot >> 32) as u32 != hash || self.text_of(&self.entries[index(slot)]) != token;
            if slot == 0 || !other(slot) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    /// Lays out the tables for the entries that were read.
    fn finish(&mut self) {
        self.text.shrink_to_fit();
        self.entries.shrink_to_fit();
        self.slots = vec![0; (self.entries.len() * 5 / 4 + 1).next_power_of_two()];
        let end = self.entries.iter().map(|entry| entry.id + 1).max().unwrap_or(0);
        self.index_by_id = vec![NONE; end as usize];
        for (at, entry) in self.entries.iter().enumerate() {
            let slot = self.find(entry.hash, self.text_of(entry));
            if self.slots[slot] == 0 {
                self.distinct += 1;
            } else {
                let replaced = index(self.slots[slot]);
                let its = &mut self.index_by_id[self.entries[replaced].id as usize];
                if *its == replaced as u32 {
                    *its = NONE;
                }
            }
            self.slots[slot] = u64::from(entry.hash) << 32 | (at as u64 + 1);
            self.index_by_id[entry.id as usize] = at as u32;
        }
    }
}

/// The entry that a taken slot names.
fn index(slot: u64) -> usize {
    (slot as u32).wrapping_sub(1) as usize
}

/// Reads a JSON object of texts and ids; to be named in `deserialize_with`.
pub(super) fn vocabulary<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vocabulary, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vocabulary;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of tokens and ids")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
            let mut this = Vocabulary::default();
            let mut start = 0;
            while let Some(hash) = map.next_key_seed(Append { hasher: &this.hasher, text: &mut this.text })? {
                let id: u32 = map.next_value()?;
                if id > MAX_ID {
                    let token = &this.text[start as usize..];
                    return Err(A::Error::custom(format_args!(
                        "token {token:?} has id {id}; at most {MAX_ID} is accepted"
                    )));
                }
                let Ok(end) = u32::try_from(this.text.len()) else {
                    return Err(A::Error::custom("over 4 GiB of tokens"));
                };
                this.entries.push(Entry { start, length: end - start, id, hash });
                start = end;
            }
            this.finish();
            Ok(this)
        }
    }
    // Names the key where its value is no map of ids.
    deserializer.deserialize_map(Entries).map_err(|fault| D::Error::custom(format_args!("vocab: {fault}")))
}

/// Puts a string behind others, without one of its own, and gives the lower half of its hash.
struct Append<'a> {
    hasher: &'a RandomState,
    text: &'a mut String,
}

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }

    fn visit_str<E>(self, token: &str) -> Result<u32, E> {
        self.text.push_str(token);
        Ok(self.hasher.hash_one(token) as u32)
    }
}

/// A string of the file, borrowed from it where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Vocabulary {
        vocabulary(&mut serde_json::Deserializer::from_str(json)).unwrap()
    }

    #[test]
    fn finds_both_ways() {
        let json: serde_json::Map<_, _> = (0..5000u32).map(|id| (format!("token {id}"), (3 * id).into())).collect();
        let known = read(&serde_json::Value::Object(json).to_string());
        assert_eq!((known.len(), known.end()), (5000, 14_998));
        for id in 0..5000 {
            assert_eq!(known.id(&format!("token {id}")), Some(3 * id));
            assert_eq!(known.token(3 * id), Some(&*format!("token {id}")));
        }
        assert_eq!((known.id("token 5000"), known.token(1), known.token(15_000)), (None, None, None));
        assert_eq!(Vocabulary::default().id("a"), None);
    }

    #[test]
    fn the_later_of_two_entries_counts() {
        let known = read(r#"{"a": 0, "b": 1, "a": 2}"#);
        assert_eq!((known.len(), known.id("a"), known.token(0), known.token(2)), (2, Some(2), None, Some("a")));
        let known = read(r#"{"a": 0, "b": 0}"#);
        assert_eq!((known.id("a"), known.id("b"), known.token(0)), (Some(0), Some(0), Some("b")));
        assert_eq!(known.iter().count(), 2);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(read(r#"{"\u00e9\n": 7, "": 8}"#).id("é\n"), Some(7));
    }
}
