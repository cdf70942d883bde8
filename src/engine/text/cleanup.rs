//! `clean_up_tokenization_spaces`, as a stream: transformers' chain of `str.replace` calls, text by text.

/// The chain in transformers' order (`PreTrainedTokenizerBase.clean_up_tokenization`).
const CHAIN: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// Each stage holds back the end of its input that may be the beginning of its pattern.
#[derive(Clone, Debug, Default)]
pub(super) struct Cleanup {
    held: [String; CHAIN.len()],
}

impl Cleanup {
    /// Appends to `out` what is certain after `text`.
    pub fn push(&mut self, text: &str, out: &mut String) {
        self.run(0, text, out);
    }

    /// Appends what was held back; the text ends here.
    pub fn finish(&mut self, out: &mut String) {
        for stage in 0..CHAIN.len() {
            let rest = std::mem::take(&mut self.held[stage]);
            self.run(stage + 1, &rest, out);
        }
    }

    fn run(&mut self, from: usize, text: &str, out: &mut String) {
        let mut current = text.to_owned();
        for (held, (pattern, to)) in self.held[from..].iter_mut().zip(&CHAIN[from..]) {
            held.push_str(&current);
            let mut rest = held.as_str();
            current = String::with_capacity(rest.len());
            while let Some(at) = rest.find(pattern) {
                current.push_str(&rest[..at]);
                current.push_str(to);
                rest = &rest[at + pattern.len()..];
            }
            // The patterns are ASCII, so the longest suffix that begins one lies on a character boundary.
            let keep = (1..pattern.len()).rev().find(|&n| rest.ends_with(&pattern[..n])).unwrap_or(0);
            current.push_str(&rest[..rest.len() - keep]);
            let kept = rest[rest.len() - keep..].to_owned();
            *held = kept;
        }
        out.push_str(&current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> String {
        CHAIN.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    #[test]
    fn equals_the_chain_however_the_text_is_cut() {
        let texts =
            ["Hello , world ! I 'm , he 's  . ' quoted ' n't 've", " '  's . ' ?", "  ..   '", "é , é 're", " ' ' ' "];
        for text in texts {
            for step in 1..5 {
                let chars: Vec<char> = text.chars().collect();
                let (mut cleanup, mut out) = (Cleanup::default(), String::new());
                for chunk in chars.chunks(step) {
                    cleanup.push(&chunk.iter().collect::<String>(), &mut out);
                }
                cleanup.finish(&mut out);
                assert_eq!(out, whole(text), "{text:?} by {step}");
            }
        }
    }
}
