//! Tokenizers small enough to write down: joining rules, configuration files, and damage.

use serde_json::{Value, json};

use super::{Detokenizer, Tokenizer};
use crate::engine::Status;

fn special(id: u32, content: &str) -> Value {
    let flags = json!({"single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let mut token = flags.as_object().cloned().unwrap_or_default();
    token.insert("id".into(), id.into());
    token.insert("content".into(), content.into());
    Value::Object(token)
}

fn file(model: Value, added: Value, normalizer: Value, pre_tokenizer: Value, decoder: Value) -> Value {
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model})
}

/// GPT-2's kind: every byte a token, `<end>` special.
fn byte_level() -> Value {
    let mut vocab = serde_json::Map::new();
    for c in (0u32..512).filter_map(char::from_u32).filter(|c| {
        matches!(c, '!'..='~' | '\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{FF}') || (256..324).contains(&(*c as u32))
    }) {
        vocab.insert(c.to_string(), vocab.len().into());
    }
    assert_eq!(vocab.len(), 256);
    let model = json!({"type": "BPE", "vocab": vocab, "merges": []});
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    file(model, json!([special(256, "<end>")]), Value::Null, level.clone(), level)
}

/// Llama 2's kind: `▁` for spaces, one in front of every text, bytes as `<0xNN>`.
fn sentence_piece() -> Value {
    let mut vocab = serde_json::Map::new();
    for token in ["<unk>", "<s>", "</s>", "▁", "a", "b", "é", "▁a"] {
        vocab.insert(token.into(), vocab.len().into());
    }
    for byte in 0..256 {
        vocab.insert(format!("<0x{byte:02X}>"), vocab.len().into());
    }
    let model = json!({"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
        "merges": [["▁", "a"]]});
    let normalizer = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
    file(model, json!([special(1, "<s>"), special(2, "</s>")]), normalizer, Value::Null, decoder)
}

fn load(json: &Value) -> Tokenizer {
    Tokenizer::from_bytes(json.to_string().as_bytes(), None, None).unwrap()
}

fn with_config(json: &Value, config: &Value) -> Tokenizer {
    Tokenizer::from_bytes(json.to_string().as_bytes(), Some(config.to_string().as_bytes()), None).unwrap()
}

/// The chunk that each token releases, and what the end does.
fn chunks(mut detokenizer: Detokenizer, ids: &[u32]) -> Vec<String> {
    let mut all: Vec<String> = ids
        .iter()
        .map(|&id| {
            let mut chunk = String::new();
            detokenizer.push(id, &mut chunk);
            chunk
        })
        .collect();
    let mut rest = String::new();
    detokenizer.finish(&mut rest);
    all.push(rest);
    all
}

#[test]
fn bytes_wait_for_the_rest_of_their_character() {
    let tokenizer = load(&byte_level());
    let ids = tokenizer.encode("é🦙!", false).unwrap();
    assert_eq!(ids.len(), 7);
    assert_eq!(chunks(Detokenizer::new(&tokenizer, true), &ids), ["", "é", "", "", "", "🦙", "!", ""]);
    // A character that never ends, and bytes that begin none.
    let lead = ids[2];
    assert_eq!(chunks(Detokenizer::new(&tokenizer, true), &[lead, ids[6], lead]), ["", "\u{FFFD}!", "", "\u{FFFD}"]);
    assert_eq!(chunks(Detokenizer::new(&tokenizer, true), &[ids[3], ids[6]]), ["\u{FFFD}", "!", ""]);
    assert_eq!(tokenizer.token_bytes(lead), Some(&[0xF0u8][..]));
}

#[test]
fn special_tokens_show_only_when_asked_for() {
    let tokenizer = load(&byte_level());
    let ids = tokenizer.encode("a<end>b", false).unwrap();
    assert_eq!(ids.len(), 3);
    assert!(tokenizer.is_special(256) && !tokenizer.is_special(0));
    assert_eq!((tokenizer.decode(&ids, true), tokenizer.decode(&ids, false)), ("ab".into(), "a<end>b".into()));
    assert_eq!(tokenizer.decode(&[9999, u32::MAX], false), "");
    assert_eq!((tokenizer.vocab_size(), tokenizer.token_bytes(257)), (257, None));
}

#[test]
fn an_answer_keeps_the_space_that_a_text_drops() {
    let tokenizer = load(&sentence_piece());
    let ids = tokenizer.encode("a a", false).unwrap();
    assert_eq!(ids, [7, 7]);
    assert_eq!(tokenizer.decode(&ids, true), "a a");
    assert_eq!(chunks(Detokenizer::after_prompt(&tokenizer, &ids, true), &ids), [" a", " a", ""]);
    // After <s> alone a text begins.
    assert_eq!(chunks(Detokenizer::after_prompt(&tokenizer, &[1], true), &ids), ["a", " a", ""]);
    assert_eq!(tokenizer.token_bytes(7), Some(&b" a"[..]));
}

#[test]
fn byte_runs_are_text_or_replacement_characters() {
    let tokenizer = load(&sentence_piece());
    let byte = |b: u32| 8 + b;
    let llama = [byte(0xF0), byte(0x9F), byte(0xA6), byte(0x99)];
    assert_eq!(tokenizer.encode("🦙", false).unwrap()[1..], llama);
    let run = [&llama[..], &[4]].concat();
    assert_eq!(chunks(Detokenizer::new(&tokenizer, true), &run), ["", "", "", "", "🦙a", ""]);
    let broken = [llama[0], llama[1], 4, llama[0]];
    assert_eq!(tokenizer.decode(&broken, true), "\u{FFFD}\u{FFFD}a\u{FFFD}");
    assert_eq!(tokenizer.token_bytes(llama[1]), Some(&[0x9Fu8][..]));
}

#[test]
fn configuration_decides_what_stands_around_a_text() {
    let file = sentence_piece();
    let plain = load(&file);
    assert_eq!(plain.encode("a", true).unwrap(), [7]);
    assert_eq!((plain.bos_id(), plain.eos_id()), (None, None));
    let named = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null});
    let tokenizer = with_config(&file, &named);
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()), (Some(1), Some(2), None));
    assert_eq!(tokenizer.encode("a", true).unwrap(), [7]);
    let around = json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true, "add_eos_token": true});
    let tokenizer = with_config(&file, &around);
    assert_eq!(tokenizer.encode("a", true).unwrap(), [1, 7, 2]);
    assert_eq!(tokenizer.encode("a", false).unwrap(), [7]);
    // The older file counts where the newer one is silent.
    let map = br#"{"eos_token": "</s>", "bos_token": "</s>"}"#;
    let json = file.to_string();
    let tokenizer = Tokenizer::from_bytes(json.as_bytes(), Some(br#"{"bos_token": "<s>"}"#), Some(map)).unwrap();
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id()), (Some(1), Some(2)));
}

#[test]
fn configured_tokens_are_added_and_marked() {
    let entry = |content: &str, special: bool| json!({"content": content, "special": special, "normalized": false});
    let config = json!({"added_tokens_decoder": {"257": entry("<tool>", false), "300": entry("<far>", true)},
        "eos_token": "<tool>"});
    let tokenizer = with_config(&byte_level(), &config);
    assert_eq!(tokenizer.encode("<tool>", false).unwrap(), [257]);
    assert!(tokenizer.is_special(257), "an end token is special");
    // No other token may take the id that the model has for something else.
    assert_eq!(tokenizer.token_to_id("<far>"), None);
}

#[test]
fn clean_up_spares_byte_pair_models_unless_forced() {
    let file = byte_level();
    let text = "a , b .";
    let ids = load(&file).encode(text, false).unwrap();
    let on = json!({"clean_up_tokenization_spaces": true});
    assert_eq!(with_config(&file, &on).decode(&ids, true), text);
    let forced = json!({"clean_up_tokenization_spaces": true,
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": true});
    assert_eq!(with_config(&file, &forced).decode(&ids, true), "a, b.");
}

#[test]
fn truncation_padding_and_dropout_in_the_file_change_no_prompt() {
    let mut file = sentence_piece();
    file["truncation"] = json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0});
    file["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<unk>"});
    file["model"]["dropout"] = json!(1.0);
    assert_eq!(load(&file).encode("a a", false).unwrap(), [7, 7]);
}

#[test]
fn merges_may_be_strings() {
    let mut file = sentence_piece();
    file["model"]["merges"] = json!(["▁ a"]);
    assert_eq!(load(&file).encode("a", false).unwrap(), [7]);
}

#[test]
fn damage_is_named() {
    type Damage = fn(&mut Value);
    let cases: [(&str, Status, Damage); 12] = [
        ("model", Status::Format, |f| f["model"] = Value::Null),
        ("vocab", Status::Format, |f| f["model"]["vocab"] = json!([1])),
        ("line", Status::Format, |f| f["model"]["vocab"]["a"] = json!(-1)),
        ("merges", Status::Format, |f| f["model"]["merges"] = json!([["a", "zz"]])),
        ("merges", Status::Format, |f| f["model"]["merges"] = json!([["<0x00>", "<0x00>"]])),
        ("two tokens", Status::Format, |f| f["model"]["merges"] = json!(["a b c"])),
        ("two tokens", Status::Format, |f| f["model"]["merges"] = json!([["a"]])),
        ("merges", Status::Format, |f| f["model"]["continuing_subword_prefix"] = json!("é")),
        ("id 4294967295", Status::Format, |f| f["model"]["vocab"]["a"] = json!(u32::MAX)),
        ("decoder", Status::Unsupported, |f| {
            f["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true})
        }),
        ("version", Status::Unsupported, |f| f["version"] = json!("9.9")),
        ("variant", Status::Format, |f| f["normalizer"] = json!({"type": "Nope"})),
    ];
    for (word, status, damage) in cases {
        let mut file = sentence_piece();
        damage(&mut file);
        let error = Tokenizer::from_bytes(file.to_string().as_bytes(), None, None).unwrap_err();
        assert!(error.message().contains(word) && error.message().contains("tokenizer.json"), "{word}: {error}");
        assert_eq!(error.status(), status, "{error}");
    }
    let good = sentence_piece().to_string();
    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        let error = Tokenizer::from_bytes(&good.as_bytes()[..cut], None, None).unwrap_err();
        assert_eq!(error.status(), Status::Format, "{error}");
    }
    for (config, word) in [
        ("[]", "object"),
        ("{", "not JSON"),
        (r#"{"add_bos_token": 3}"#, "add_bos_token"),
        (r#"{"eos_token": 3}"#, "eos_token"),
        (r#"{"eos_token": {"text": "x"}}"#, "eos_token"),
        (r#"{"added_tokens_decoder": {"x": {"content": "y"}}}"#, "added_tokens_decoder"),
        (r#"{"added_tokens_decoder": {"1": {}}}"#, "content"),
        (r#"{"chat_template": 3}"#, "chat_template"),
        (r#"{"chat_template": [{"name": "x"}]}"#, "chat_template"),
    ] {
        let error = Tokenizer::from_bytes(good.as_bytes(), Some(config.as_bytes()), None).unwrap_err();
        assert_eq!(error.status(), Status::Format);
        assert!(error.message().contains(word) && error.message().contains("tokenizer_config.json"), "{error}");
    }
}

#[test]
fn missing_files_are_named() {
    let dir = std::env::temp_dir().join(format!("gomlx-text-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let error = Tokenizer::from_dir(&dir).unwrap_err();
    assert_eq!(error.status(), Status::Io);
    assert!(error.message().contains("tokenizer.json"), "{error}");
    std::fs::write(dir.join("tokenizer.model"), b"x").unwrap();
    let error = Tokenizer::from_dir(&dir).unwrap_err();
    assert_eq!(error.status(), Status::Unsupported);
    std::fs::write(dir.join("tokenizer.json"), sentence_piece().to_string()).unwrap();
    let tokenizer = Tokenizer::from_dir(&dir).unwrap();
    // The template file wins over the configuration's.
    std::fs::write(dir.join("tokenizer_config.json"), r#"{"chat_template": "config", "bos_token": "<s>"}"#).unwrap();
    let render = |tokenizer: &Tokenizer| {
        super::ChatTemplate::from_dir(&dir, tokenizer).unwrap().render(&[], &super::RenderOptions::default())
    };
    assert_eq!(render(&tokenizer).unwrap_err().status(), Status::Unsupported);
    let tokenizer = Tokenizer::from_dir(&dir).unwrap();
    assert_eq!(render(&tokenizer).unwrap(), "config");
    std::fs::write(dir.join("chat_template.json"), r#"{"chat_template": [{"name": "default", "template": "json"}]}"#)
        .unwrap();
    assert_eq!(render(&tokenizer).unwrap(), "json");
    std::fs::write(dir.join("chat_template.jinja"), "{{ bos_token }}file").unwrap();
    assert_eq!(render(&tokenizer).unwrap(), "<s>file");
    std::fs::write(dir.join("chat_template.jinja"), b"\xff").unwrap();
    let error = super::ChatTemplate::from_dir(&dir, &tokenizer).unwrap_err();
    assert!(error.message().contains("chat_template.jinja"), "{error}");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Found by fuzzing: the `tokenizers` crate's reader panics where the JSON of some parts is broken.
#[test]
fn json_broken_anywhere_is_refused() {
    let good = sentence_piece().to_string();
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        for broken in [b'%', b'{', b'"', 0xff] {
            bytes[at] = broken;
            if let Err(error) = Tokenizer::from_bytes(&bytes, None, None) {
                assert!(error.message().contains("tokenizer.json"), "{error}");
            }
        }
    }
}
