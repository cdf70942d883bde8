//! Tokens to text, one at a time, never in pieces of characters.

use super::cleanup::Cleanup;
use super::pieces::Kind;
use super::tokenizer::Tokenizer;

/// Turns the tokens of one generation into text as they come.
///
/// Whatever the calls, the chunks together are exactly what decoding all tokens at once gives (the `tokenizers`
/// crate's `decode`, and so transformers'), each chunk is whole UTF-8, and a token costs its own length. Held back is
/// only what cannot be text yet: the beginning of a character, or a run of SentencePiece byte tokens until the first
/// other token, because a run that turns out not to be UTF-8 becomes U+FFFD byte for byte.
///
/// One thread at a time.
#[derive(Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// Bytes that are no text yet.
    pending: Vec<u8>,
    /// A piece was seen.
    started: bool,
    /// Characters that may still be stripped from the beginning.
    strip_left: usize,
    cleanup: Option<Cleanup>,
}

impl Detokenizer {
    /// For a text that begins with the first token pushed. `skip_special`: special tokens are no text.
    pub fn new(tokenizer: &Tokenizer, skip_special: bool) -> Self {
        let strip_left = tokenizer.pieces().rules.strip.map_or(0, |(_, count)| count);
        let cleanup = tokenizer.cleans_up().then(Cleanup::default);
        let tokenizer = tokenizer.clone();
        Self { tokenizer, skip_special, pending: Vec::new(), started: false, strip_left, cleanup }
    }

    /// For a text that continues `prompt`: the space before its first word is kept, as in the whole text, and a
    /// character that the prompt's tokens began is completed. (A prompt of special tokens alone has no text, so what
    /// follows it is a beginning.)
    pub fn after_prompt(tokenizer: &Tokenizer, prompt: &[u32], skip_special: bool) -> Self {
        let mut this = Self::new(tokenizer, skip_special);
        if prompt.iter().any(|&id| this.shows(id)) {
            this.started = true;
            this.strip_left = 0;
            // A character has four bytes at most, so what the prompt left unfinished stands in its last three tokens.
            let mut prompt_text = String::new();
            let recent = &prompt[prompt.len().saturating_sub(3)..];
            recent.iter().for_each(|&id| this.push(id, &mut prompt_text));
            let unfinished = match std::str::from_utf8(&this.pending) {
                Err(e) if e.error_len().is_none() => e.valid_up_to(),
                _ => this.pending.len(),
            };
            this.pending.drain(..unfinished);
            this.cleanup = this.cleanup.map(|_| Cleanup::default());
        }
        this
    }

    fn shows(&self, id: u32) -> bool {
        let pieces = self.tokenizer.pieces();
        pieces.kind(id) != Kind::Missing && !(self.skip_special && pieces.is_special(id))
    }

    /// Appends to `out` the text that is certain after this token; nothing for special tokens that are skipped and
    /// for ids that no token has.
    pub fn push(&mut self, id: u32, out: &mut String) {
        if !self.shows(id) {
            return;
        }
        let tokenizer = self.tokenizer.clone(); // a counted pointer, so that `self` stays free
        let pieces = tokenizer.pieces();
        let first = !std::mem::replace(&mut self.started, true);
        let bytes = pieces.bytes(id);
        match pieces.kind(id) {
            Kind::Missing => {}
            Kind::Byte => self.pending.extend_from_slice(bytes),
            Kind::Text if pieces.rules.byte_level && self.pending.is_empty() => self.emit_bytes(bytes, out),
            Kind::Text | Kind::Bytes if pieces.rules.byte_level => {
                self.pending.extend_from_slice(bytes);
                self.take_whole_characters(out);
            }
            Kind::Text | Kind::Bytes => {
                self.end_byte_run(out);
                if pieces.rules.spaced && !first {
                    self.emit(" ", out);
                }
                match pieces.rules.first_drops {
                    Some(dropped) if first => {
                        let token = tokenizer.id_to_token(id).unwrap_or_default();
                        self.emit(&token.replace(dropped, ""), out);
                    }
                    _ => self.emit_bytes(bytes, out),
                }
            }
        }
    }

    /// Appends what was held back: a byte run, or U+FFFD for a character that never became whole. The detokenizer
    /// must not be pushed to afterwards.
    pub fn finish(&mut self, out: &mut String) {
        if self.tokenizer.pieces().rules.byte_level {
            let rest = std::mem::take(&mut self.pending);
            self.emit(&String::from_utf8_lossy(&rest), out);
        } else {
            self.end_byte_run(out);
        }
        if let Some(cleanup) = &mut self.cleanup {
            cleanup.finish(out);
        }
    }

    /// Moves every whole character (and every byte that can never be part of one, as U+FFFD) from `pending` to `out`.
    fn take_whole_characters(&mut self, out: &mut String) {
        let mut pending = std::mem::take(&mut self.pending);
        let mut done = 0;
        loop {
            let rest = &pending[done..];
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.emit(text, out);
                    done = pending.len();
                    break;
                }
                Err(e) => {
                    self.emit_bytes(&rest[..e.valid_up_to()], out);
                    done += e.valid_up_to();
                    // `None`: the rest is the beginning of a character.
                    let Some(bad) = e.error_len() else { break };
                    self.emit("\u{FFFD}", out);
                    done += bad;
                }
            }
        }
        pending.drain(..done);
        self.pending = pending;
    }

    fn end_byte_run(&mut self, out: &mut String) {
        if self.pending.is_empty() {
            return;
        }
        let run = std::mem::take(&mut self.pending);
        match std::str::from_utf8(&run) {
            Ok(text) => self.emit(text, out),
            Err(_) => run.iter().for_each(|_| self.emit("\u{FFFD}", out)),
        }
    }

    fn emit_bytes(&mut self, bytes: &[u8], out: &mut String) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.emit(text, out),
            Err(_) => self.emit(&String::from_utf8_lossy(bytes), out), // not reached: callers pass whole characters
        }
    }

    fn emit(&mut self, text: &str, out: &mut String) {
        let mut text = text;
        if self.strip_left > 0
            && let Some((dropped, _)) = self.tokenizer.pieces().rules.strip
        {
            while self.strip_left > 0 && !text.is_empty() {
                match text.strip_prefix(dropped) {
                    Some(rest) => {
                        text = rest;
                        self.strip_left -= 1;
                    }
                    None => self.strip_left = 0,
                }
            }
        }
        match &mut self.cleanup {
            None => out.push_str(text),
            Some(cleanup) => cleanup.push(text, out),
        }
    }
}
