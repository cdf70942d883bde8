//! Stop strings over a stream of text chunks.

use crate::engine::error::{Result, fail};

/// Finds the first stop string to be complete, wherever chunk borders fall, and lets no part of it out.
///
/// "First" is by where a match ends: text stops as soon as any stop string stands in it, which does not depend on how
/// it was cut into chunks. Where two end together the longer one counts. Held back is exactly the longest end of the
/// text that some stop string begins with. A byte of text costs one automaton step per stop string (Knuth, Morris,
/// Pratt 1977).
///
/// One thread at a time.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    /// Text that may still turn out to be the beginning of a stop string.
    held: String,
    matched: Option<usize>,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: Box<[u8]>,
    /// `fallback[n]`: the longest proper prefix of `text[..n]` that is also its suffix.
    fallback: Box<[usize]>,
    /// How many bytes of `text` the stream ends with.
    state: usize,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let text: Box<[u8]> = text.as_bytes().into();
        let mut fallback = vec![0; text.len() + 1];
        let mut length = 0;
        for at in 1..text.len() {
            while length > 0 && text[length] != text[at] {
                length = fallback[length];
            }
            if text[length] == text[at] {
                length += 1;
            }
            fallback[at + 1] = length;
        }
        Self { text, fallback: fallback.into(), state: 0 }
    }

    /// Takes one byte; true when the stream now ends with the whole pattern.
    fn step(&mut self, byte: u8) -> bool {
        while self.state > 0 && self.text[self.state] != byte {
            self.state = self.fallback[self.state];
        }
        if self.text[self.state] == byte {
            self.state += 1;
        }
        self.state == self.text.len()
    }
}

impl StopMatcher {
    /// A matcher for these strings. Errors: an empty one (`Argument`).
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Result<Self> {
        if stops.iter().any(|stop| stop.as_ref().is_empty()) {
            fail!(Argument, "stop: an empty stop string would end every text");
        }
        let patterns = stops.iter().map(|stop| Pattern::new(stop.as_ref())).collect();
        Ok(Self { patterns, held: String::new(), matched: None })
    }

    /// Takes `chunk` and appends to `out` what can be no part of a stop string. Returns the index of the stop string
    /// that ended the text, from then on always the same, and whatever else is pushed is dropped.
    pub fn push(&mut self, chunk: &str, out: &mut String) -> Option<usize> {
        if self.matched.is_some() {
            return self.matched;
        }
        if self.patterns.is_empty() {
            out.push_str(chunk);
            return None;
        }
        for (at, &byte) in chunk.as_bytes().iter().enumerate() {
            let mut longest: Option<(usize, usize)> = None;
            for (index, pattern) in self.patterns.iter_mut().enumerate() {
                if pattern.step(byte) && longest.is_none_or(|(length, _)| pattern.text.len() > length) {
                    longest = Some((pattern.text.len(), index));
                }
            }
            if let Some((length, index)) = longest {
                // A stop string is whole UTF-8, so both borders of its match lie between characters.
                self.held.push_str(&chunk[..=at]);
                self.held.truncate(self.held.len() - length);
                out.push_str(&self.held);
                self.held.clear();
                self.matched = Some(index);
                return self.matched;
            }
        }
        self.held.push_str(chunk);
        let keep = self.patterns.iter().map(|pattern| pattern.state).max().unwrap_or(0);
        let free = self.held.len() - keep;
        out.push_str(&self.held[..free]);
        self.held.drain(..free);
        None
    }

    /// The text ended without a further match: appends what was held back.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// The stop string that ended the text, by its place in the list.
    pub fn matched(&self) -> Option<usize> {
        self.matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, by brute force: the smallest end, then the longest.
    fn expected(text: &str, stops: &[&str]) -> (String, Option<usize>) {
        for end in 0..=text.len() {
            let ends = stops.iter().enumerate().filter(|(_, s)| text.as_bytes()[..end].ends_with(s.as_bytes()));
            let longest = ends.fold(None, |best: Option<(usize, usize)>, (i, s)| match best {
                Some((_, length)) if length >= s.len() => best,
                _ => Some((i, s.len())),
            });
            if let Some((index, length)) = longest {
                return (text[..end - length].to_owned(), Some(index));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn equals_the_definition_however_the_text_is_cut() {
        let alphabet = ["a", "b", "é", "è", "🦙", "<", "</s>"];
        let mut state = 0x1234_5678_9abc_def0u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        for _ in 0..4000 {
            let text: String = (0..random(14)).map(|_| alphabet[random(alphabet.len())]).collect();
            let stops: Vec<String> = (0..1 + random(3))
                .map(|_| (0..1 + random(4)).map(|_| alphabet[random(alphabet.len())]).collect())
                .collect();
            let borrowed: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (want, which) = expected(&text, &borrowed);
            let chars: Vec<char> = text.chars().collect();
            let (mut matcher, mut out, mut at) = (StopMatcher::new(&stops).unwrap(), String::new(), 0);
            while at < chars.len() {
                let n = (1 + random(4)).min(chars.len() - at);
                matcher.push(&chars[at..at + n].iter().collect::<String>(), &mut out);
                at += n;
                assert!(want.starts_with(&out), "{text:?} {stops:?}: {out:?} leaks");
                // Nothing is held that could not become a stop string.
                let seen: String = chars[..at].iter().collect();
                if matcher.matched().is_none() {
                    let held = &seen[out.len()..];
                    assert!(held.is_empty() || stops.iter().any(|s| s.starts_with(held)), "{held:?} of {stops:?}");
                }
            }
            matcher.finish(&mut out);
            assert_eq!((out, matcher.matched()), (want, which), "{text:?} {stops:?}");
        }
    }

    #[test]
    fn nothing_comes_after_a_match() {
        let mut matcher = StopMatcher::new(&["END"]).unwrap();
        let mut out = String::new();
        assert_eq!(matcher.push("one EN", &mut out), None);
        assert_eq!(out, "one ");
        assert_eq!(matcher.push("D two", &mut out), Some(0));
        assert_eq!(matcher.push("END three", &mut out), Some(0));
        matcher.finish(&mut out);
        assert_eq!(out, "one ");
    }

    #[test]
    fn empty_stop_strings_are_refused() {
        assert!(StopMatcher::new(&["a", ""]).is_err());
    }
}
