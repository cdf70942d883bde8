//! Any text as a chat template or a tokenizer: rendered, encoded and decoded, or refused; never a crash or a hang.
#![no_main]

use gomlx::engine::text::{ChatTemplate, Detokenizer, Message, RenderOptions, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    if kind % 2 == 0 {
        template(data);
    } else {
        tokenizer(data);
    }
});

fn template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let template = ChatTemplate::new([("default".to_owned(), source.to_owned())], [("bos_token", "<s>")]);
    let messages = [Message::new("system", "be brief"), Message::new("user", "hi \u{1F600}"), Message::new("assistant", "yes")];
    for add_generation_prompt in [false, true] {
        let options = RenderOptions { add_generation_prompt, ..RenderOptions::default() };
        if let Err(fault) = template.render(&messages, &options) {
            assert!(!fault.message().is_empty() && !fault.message().contains('\n'), "{fault}");
        }
    }
}

fn tokenizer(data: &[u8]) {
    let tokenizer = match Tokenizer::from_bytes(data, None, None) {
        Ok(tokenizer) => tokenizer,
        Err(fault) => {
            assert!(fault.message().starts_with("tokenizer.json"), "{fault}");
            return;
        }
    };
    for text in ["", "Once upon a time", " \u{1F600}\u{301} \n\n\tx"] {
        let Ok(ids) = tokenizer.encode(text, true) else { continue };
        let whole = tokenizer.decode(&ids, false);
        let mut detokenizer = Detokenizer::new(&tokenizer, false);
        let mut pieces = String::new();
        ids.iter().for_each(|id| detokenizer.push(*id, &mut pieces));
        detokenizer.finish(&mut pieces);
        assert_eq!(pieces, whole, "{text:?} as {ids:?}");
    }
}
