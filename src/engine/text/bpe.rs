//! Byte-pair encoding over compact tables, as a model of the `tokenizers` crate: the crate normalises, splits, looks
//! for added tokens and puts special ones around; it asks here for the tokens of a word.
//!
//! The crate's own BPE gives the same answers from hash maps of strings that take 0.3 s and 70 MB to build for Gemma's
//! vocabulary, half of what a host waits for its first token; these tables take a sixth of either. The tests hold
//! one against the other. `RATIONALE.md` has the figures.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokenizers::Token;

use super::file::Merge;
use super::vocabulary::Vocabulary;
use crate::engine::error::{Result, error, fail};

/// Merges resolved by one thread; fewer are not worth another.
const MERGES_A_THREAD: usize = 1 << 16;
const MOST_THREADS: usize = 4;

/// What the file says beside vocabulary and merges.
#[derive(Debug, Default)]
pub(super) struct BpeRules {
    /// Stands for characters that the vocabulary lacks.
    pub unk_token: Option<String>,
    /// One unknown token for a run of such characters.
    pub fuse_unk: bool,
    /// Such characters become their bytes' `<0xNN>` tokens.
    pub byte_fallback: bool,
    /// A word that is a token is taken whole, whatever the merges say.
    pub ignore_merges: bool,
}

/// The model.
#[derive(Debug)]
pub(super) struct Bpe {
    vocabulary: Vocabulary,
    merges: Merges,
    rules: BpeRules,
    /// Ids of `<0x00>` to `<0xFF>`.
    bytes: Vec<Option<u32>>,
}

impl Bpe {
    /// Errors (`Format`): a merge of tokens, or into a token, that the vocabulary lacks.
    pub fn new(vocabulary: Vocabulary, merges: &[Merge], rules: BpeRules) -> Result<Self> {
        let bytes = (0..=255u8).map(|byte| vocabulary.id(&format!("<0x{byte:02X}>"))).collect();
        let merges = Merges::new(&resolve(&vocabulary, merges)?, vocabulary.end());
        Ok(Self { vocabulary, merges, rules, bytes })
    }

    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The tokens of a word, with their texts and places.
    pub fn tokenize(&self, word: &str) -> tokenizers::Result<Vec<Token>> {
        if self.rules.ignore_merges
            && let Some(id) = self.vocabulary.id(word)
        {
            return Ok(vec![Token::new(id, word.to_owned(), (0, word.len()))]);
        }
        let mut symbols = self.symbols(word)?;
        self.merges.apply(&mut symbols);
        let mut end = 0;
        let tokens = symbols.iter().filter(|symbol| symbol.length > 0).map(|symbol| {
            let start = end;
            end += symbol.length;
            let text = self.vocabulary.token(symbol.id).unwrap_or_default();
            Token::new(symbol.id, text.to_owned(), (start, end))
        });
        Ok(tokens.collect())
    }

    /// The word's characters as tokens.
    fn symbols(&self, word: &str) -> tokenizers::Result<Vec<Symbol>> {
        let mut symbols = Vec::with_capacity(word.len());
        let mut unknown: Option<Symbol> = None;
        for (at, c) in word.char_indices() {
            let length = c.len_utf8();
            let bytes = &word[at..at + length];
            if let Some(id) = self.vocabulary.id(bytes) {
                symbols.extend(unknown.take());
                symbols.push(Symbol::new(id, length));
                continue;
            }
            if self.rules.byte_fallback {
                let ids = bytes.bytes().map(|byte| self.bytes[byte as usize]);
                if ids.clone().all(|id| id.is_some()) {
                    symbols.extend(ids.flatten().map(|id| Symbol::new(id, 1)));
                    continue;
                }
            }
            let Some(token) = &self.rules.unk_token else {
                continue;
            };
            match &mut unknown {
                Some(run) if self.rules.fuse_unk => run.length += length,
                _ => {
                    symbols.extend(unknown.take());
                    let id = self.vocabulary.id(token);
                    let id = id.ok_or_else(|| format!("unk_token {token:?} is not in the vocabulary"))?;
                    unknown = Some(Symbol::new(id, length));
                }
            }
        }
        symbols.extend(unknown);
        Ok(symbols)
    }
}

/// A merge by ids.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Resolved {
    left: u32,
    right: u32,
    into: u32,
}

/// The ids of all merges, looked up by several threads where there are many.
fn resolve(vocabulary: &Vocabulary, merges: &[Merge]) -> Result<Vec<Resolved>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let share = merges.len().div_ceil(processors).max(MERGES_A_THREAD);
    if merges.len() <= share {
        return resolve_part(vocabulary, merges);
    }
    let (mine, others) = merges.split_at(share);
    std::thread::scope(|scope| {
        // Where the system refuses a thread, this one does its share.
        let start = |part| {
            let work = move || resolve_part(vocabulary, part);
            std::thread::Builder::new().spawn_scoped(scope, work).map_err(|_| part)
        };
        let started: Vec<_> = others.chunks(share).map(start).collect();
        let mut all = resolve_part(vocabulary, mine)?;
        for part in started {
            all.extend(match part {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                Err(part) => resolve_part(vocabulary, part)?,
            });
        }
        Ok(all)
    })
}

/// Files list the merges in the order of what they make, so that this is most often the token of the merge before, or
/// the next one.
fn resolve_part(vocabulary: &Vocabulary, merges: &[Merge]) -> Result<Vec<Resolved>> {
    const AT_ONCE: usize = 8;
    let mut all = Vec::with_capacity(merges.len());
    let mut likely = 0;
    let mut add = |Merge(left, right): &Merge, ids: [Option<u32>; 2]| -> Result<()> {
        let known = |id: Option<u32>, token: &str| {
            id.ok_or_else(|| error!(Format, "merges: {token:?} is not in the vocabulary"))
        };
        let (left_id, right_id) = (known(ids[0], left)?, known(ids[1], right)?);
        let made_by_both = |id: &u32| {
            let token = vocabulary.token(*id);
            token.and_then(|token| token.strip_prefix(&**left)).is_some_and(|rest| rest == right)
        };
        let guessed = [likely, likely + 1].into_iter().find(made_by_both);
        let Some(into) = guessed.or_else(|| vocabulary.id(&format!("{left}{right}"))) else {
            fail!(Format, "merges: {left:?} and {right:?} make no token of the vocabulary")
        };
        likely = into;
        all.push(Resolved { left: left_id, right: right_id, into });
        Ok(())
    };
    let (groups, rest) = merges.as_chunks::<AT_ONCE>();
    for group in groups {
        let tokens: [&str; 2 * AT_ONCE] = std::array::from_fn(|at| {
            let Merge(left, right) = &group[at / 2];
            if at % 2 == 0 { &**left } else { &**right }
        });
        let ids = vocabulary.ids(tokens);
        for (merge, ids) in group.iter().zip(ids.as_chunks::<2>().0) {
            add(merge, *ids)?;
        }
    }
    for merge in rest {
        add(merge, vocabulary.ids([&*merge.0, &*merge.1]))?;
    }
    Ok(all)
}

/// Which pairs of tokens become one, and in which order.
#[derive(Debug)]
struct Merges {
    /// `pairs[starts[left]..starts[left + 1]]` are the merges that begin with a token, by the right one's id.
    starts: Vec<u32>,
    pairs: Vec<Pair>,
}

/// The earliest rank is merged first.
#[derive(Clone, Copy, Debug)]
struct Pair {
    right: u32,
    rank: u32,
    into: u32,
}

impl Merges {
    /// `merges` by rank, their ids below `end`. A pair that is given twice counts where it stands last.
    fn new(merges: &[Resolved], end: usize) -> Self {
        let mut starts = vec![0u32; end + 1];
        for merge in merges {
            starts[merge.left as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut pairs = vec![Pair { right: 0, rank: 0, into: 0 }; merges.len()];
        for (rank, merge) in merges.iter().enumerate() {
            let at = &mut next[merge.left as usize];
            pairs[*at as usize] = Pair { right: merge.right, rank: rank as u32, into: merge.into };
            *at += 1;
        }
        for range in starts.windows(2) {
            pairs[range[0] as usize..range[1] as usize].sort_unstable_by_key(|pair| (pair.right, pair.rank));
        }
        Self { starts, pairs }
    }

    fn get(&self, left: u32, right: u32) -> Option<&Pair> {
        let (from, to) = (*self.starts.get(left as usize)?, *self.starts.get(left as usize + 1)?);
        let pairs = &self.pairs[from as usize..to as usize];
        let past = pairs.partition_point(|pair| pair.right <= right);
        pairs[..past].last().filter(|pair| pair.right == right)
    }

    /// Merges until nothing can be merged: always the pair of the lowest rank, of equal ones the leftmost. Removed
    /// symbols stay, with length 0.
    fn apply(&self, symbols: &mut [Symbol]) {
        let count = symbols.len();
        for (at, symbol) in symbols.iter_mut().enumerate() {
            (symbol.previous, symbol.next) = (at.wrapping_sub(1), at + 1);
        }
        // A pair by rank, then place.
        let candidate = |left: usize, symbols: &[Symbol]| {
            let right = symbols.get(symbols[left].next)?;
            let pair = self.get(symbols[left].id, right.id)?;
            Some(Reverse((pair.rank, left, pair.into)))
        };
        let mut queue: BinaryHeap<_> = (0..count).filter_map(|left| candidate(left, symbols)).collect();
        while let Some(Reverse((_, left, into))) = queue.pop() {
            let Symbol { id, length, next, previous } = symbols[left];
            // What was merged meanwhile makes other pairs of these places.
            if length == 0 || next >= count || self.get(id, symbols[next].id).is_none_or(|pair| pair.into != into) {
                continue;
            }
            let right = symbols[next];
            symbols[next].length = 0;
            symbols[left] = Symbol { id: into, length: length + right.length, next: right.next, previous };
            if let Some(after) = symbols.get_mut(right.next) {
                after.previous = left;
            }
            if previous < count {
                queue.extend(candidate(previous, symbols));
            }
            queue.extend(candidate(left, symbols));
        }
    }
}

/// A token of a word that is being merged: a list linked both ways through the places of its characters.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    id: u32,
    /// Bytes; 0 once it has become part of its left neighbour.
    length: usize,
    previous: usize,
    next: usize,
}

impl Symbol {
    fn new(id: u32, length: usize) -> Self {
        Self { id, length, previous: 0, next: 0 }
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::Model as _;

    use super::*;
    use crate::engine::text::file;

    /// Numbers that look random, the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % end
        }

        fn word(&mut self, letters: &[&str], longest: usize) -> String {
            (0..1 + self.below(longest)).map(|_| letters[self.below(letters.len())]).collect()
        }
    }

    /// A `tokenizer.json` with a random vocabulary and random merges, some of them twice.
    fn random_file(random: &mut Random) -> serde_json::Value {
        let mut tokens: Vec<String> = ["a", "b", "c", "é", "▁"].map(String::from).to_vec();
        if random.below(2) == 0 {
            tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
        }
        let letters = tokens.len().min(5);
        let mut merges = Vec::new();
        for _ in 0..random.below(40) {
            let half = |random: &mut Random| {
                let at = random.below(tokens.len());
                if tokens[at].starts_with('<') { tokens[random.below(letters)].clone() } else { tokens[at].clone() }
            };
            let (left, right) = (half(random), half(random));
            let joined = format!("{left}{right}");
            if !tokens.contains(&joined) {
                tokens.insert(random.below(tokens.len()), joined);
            }
            merges.push([left, right]);
        }
        let unk = ["a", "é", "▁"][random.below(3)];
        let vocab: serde_json::Map<_, _> =
            tokens.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
        serde_json::json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": null,
            "model": {
                "type": "BPE", "vocab": vocab, "merges": merges,
                "unk_token": (random.below(2) == 0).then_some(unk),
                "fuse_unk": random.below(2) == 0,
                "byte_fallback": random.below(2) == 0,
                "ignore_merges": random.below(4) == 0,
            },
        })
    }

    #[test]
    fn gives_what_the_crates_model_gives() {
        let random = &mut Random(7);
        let mut merged = 0;
        for _ in 0..300 {
            let file = random_file(random);
            let ours = file::read(file.to_string().as_bytes()).unwrap();
            let theirs: tokenizers::Tokenizer = serde_json::from_value(file.clone()).unwrap();
            for _ in 0..30 {
                let word = random.word(&["a", "b", "c", "é", "▁", "x", "日", "ab"], 12);
                let expected = theirs.get_model().tokenize(&word).unwrap();
                assert_eq!(ours.get_model().tokenize(&word).unwrap(), expected, "{word:?} by {file}");
                merged += usize::from(expected.len() < word.chars().count());
            }
        }
        assert!(merged > 1000, "only {merged} words had anything to merge");
    }

    #[test]
    fn several_threads_resolve_what_one_does() {
        let vocabulary =
            |json: &str| super::super::vocabulary::vocabulary(&mut serde_json::Deserializer::from_str(json)).unwrap();
        let known = vocabulary(r#"{"a": 0, "b": 1, "ab": 2, "ba": 3}"#);
        let merge = |at: usize| match at % 3 {
            0 => Merge("b".into(), "a".into()),
            _ => Merge("a".into(), "b".into()),
        };
        let mut merges: Vec<Merge> = (0..3 * MERGES_A_THREAD).map(merge).collect();
        let resolved = resolve(&known, &merges).unwrap();
        let expected = |at: usize| match at % 3 {
            0 => Resolved { left: 1, right: 0, into: 3 },
            _ => Resolved { left: 0, right: 1, into: 2 },
        };
        assert!(resolved.iter().enumerate().all(|(at, merge)| *merge == expected(at)));
        assert_eq!(resolved.len(), merges.len());
        merges[2 * MERGES_A_THREAD + 5] = Merge("a".into(), "x".into());
        assert!(resolve(&known, &merges).unwrap_err().message().contains("\"x\""));
    }
}
