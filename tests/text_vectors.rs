//! Tokenizers and chat templates of published families against other people's truth: Hugging Face `tokenizers`,
//! llama.cpp's vocabulary tests, transformers' `apply_chat_template`. Heavy: needs the shared folder (`GOMLX_SHARED`,
//! or `shared` beside the checkout); where it is missing a test says so and passes.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use gomlx::engine::text::{ChatTemplate, Detokenizer, Message, RenderOptions, Tokenizer};
use serde::Deserialize;
use serde_json::{Map, Value};

fn shared() -> Option<PathBuf> {
    let dir = match std::env::var_os("GOMLX_SHARED") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    if dir.join("tokenizers").is_dir() {
        Some(dir)
    } else {
        println!("skipped: no shared folder at {}", dir.display());
        None
    }
}

fn json<T: for<'a> Deserialize<'a>>(path: PathBuf) -> T {
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[derive(Deserialize)]
struct TokenRow {
    text: String,
    ids: Vec<u32>,
    ids_special: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct TokenVectors {
    per_tokenizer: BTreeMap<String, Vec<TokenRow>>,
}

fn stream(mut detokenizer: Detokenizer, ids: &[u32]) -> String {
    let mut text = String::new();
    for &id in ids {
        detokenizer.push(id, &mut text);
    }
    detokenizer.finish(&mut text);
    text
}

#[test]
fn tokens_and_texts_are_those_of_hugging_face_tokenizers() {
    let Some(shared) = shared() else { return };
    let vectors: TokenVectors = json(shared.join("tokenizers/test_vectors.json"));
    let mut rows = 0;
    for (name, list) in &vectors.per_tokenizer {
        let tokenizer = Tokenizer::from_dir(&shared.join("tokenizers").join(name)).unwrap();
        for row in list {
            rows += 1;
            assert_eq!(tokenizer.encode(&row.text, false).unwrap(), row.ids, "{name}: {:?}", row.text);
            assert_eq!(tokenizer.encode(&row.text, true).unwrap(), row.ids_special, "{name}: {:?}", row.text);
            assert_eq!(tokenizer.decode(&row.ids, false), row.decoded, "{name}: {:?}", row.ids);
            // However a text is divided into prompt and answer, the answer continues the prompt, even within a character.
            let byte_level = !matches!(name.as_str(), "Llama-2" | "gemma-3-1b-it");
            for cut in 0..=row.ids.len() {
                let (mut certain, mut whole) = (String::new(), Detokenizer::new(&tokenizer, false));
                row.ids[..cut].iter().for_each(|&id| whole.push(id, &mut certain));
                let mut head = certain.clone();
                whole.finish(&mut head);
                let rest = stream(Detokenizer::after_prompt(&tokenizer, &row.ids[..cut], false), &row.ids[cut..]);
                if !head.ends_with('\u{FFFD}') {
                    assert_eq!(head + &rest, row.decoded, "{name} cut at {cut}");
                } else if byte_level {
                    assert_eq!(certain + &rest, row.decoded, "{name} cut at {cut}");
                }
            }
        }
    }
    println!("{rows} rows of {} tokenizers", vectors.per_tokenizer.len());
    assert!(rows >= 300, "only {rows} rows");
}

/// Random ids, so mostly broken UTF-8, against the `tokenizers` crate's own decoder.
#[test]
fn any_ids_decode_as_the_tokenizers_crate_decodes_them() {
    let Some(shared) = shared() else { return };
    for name in ["gpt2", "Qwen2.5-1.5B-Instruct", "Llama-3.2-Instruct", "Llama-2", "gemma-3-1b-it", "gpt-oss-20b"] {
        let dir = shared.join("tokenizers").join(name);
        let tokenizer = Tokenizer::from_dir(&dir).unwrap();
        let theirs = tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
        // Half of the ids are short tokens: single bytes, where characters break.
        let short: Vec<u32> = (0..tokenizer.vocab_size() as u32)
            .filter(|&id| tokenizer.token_bytes(id).is_some_and(|b| b.len() == 1 || std::str::from_utf8(b).is_err()))
            .collect();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        for round in 0..1500 {
            let ids: Vec<u32> = (0..1 + random(12))
                .map(|_| {
                    if random(2) == 0 { short[random(short.len())] } else { random(tokenizer.vocab_size() + 3) as u32 }
                })
                .collect();
            for skip in [true, false] {
                let want = theirs.decode(&ids, skip).unwrap();
                assert_eq!(tokenizer.decode(&ids, skip), want, "{name} round {round}: {ids:?} skip {skip}");
            }
            // What has been streamed is always a beginning of what the whole decodes to.
            let want = tokenizer.decode(&ids, true);
            let mut detokenizer = Detokenizer::new(&tokenizer, true);
            let mut text = String::new();
            for &id in &ids {
                detokenizer.push(id, &mut text);
                assert!(want.starts_with(&text), "{name}: {ids:?}");
            }
        }
        // Every token's bytes, and specials.
        for id in 0..tokenizer.vocab_size() as u32 {
            assert_eq!(tokenizer.token_bytes(id).is_some(), theirs.id_to_token(id).is_some(), "{name}: {id}");
            assert_eq!(
                tokenizer.is_special(id),
                !theirs.decode(&[id], false).unwrap().is_empty() && theirs.decode(&[id], true).unwrap().is_empty(),
                "{name}: {id}"
            );
        }
    }
}

/// llama.cpp's vocabulary tests: blocks of text in `.inp`, a line of ids each in `.out`.
#[test]
fn tokens_are_those_of_llama_cpp() {
    let Some(shared) = shared() else { return };
    let dir = shared.join("tokenizers/llama_cpp_vectors");
    let present = BTreeMap::from([
        ("llama-bpe", "Llama-3.2-Instruct"),
        ("llama-spm", "Llama-2"),
        ("qwen2", "Qwen2.5-1.5B-Instruct"),
        ("gpt-2", "gpt2"),
    ]);
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            Some(name.strip_prefix("ggml-vocab-")?.strip_suffix(".gguf.inp")?.to_owned())
        })
        .collect();
    names.sort();
    for name in &names {
        let Some(folder) = present.get(name.as_str()) else {
            println!("not applicable: {name} (its tokenizer is not in the shared folder)");
            continue;
        };
        let tokenizer = Tokenizer::from_dir(&shared.join("tokenizers").join(folder)).unwrap();
        let inputs = std::fs::read_to_string(dir.join(format!("ggml-vocab-{name}.gguf.inp"))).unwrap();
        let outputs = std::fs::read_to_string(dir.join(format!("ggml-vocab-{name}.gguf.out"))).unwrap();
        let texts: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
        let lines: Vec<&str> = outputs.lines().collect();
        assert!(
            lines.len() >= 40 && (texts.len() == lines.len() || texts.len() == lines.len() + 1),
            "{name}: {} texts, {} lines",
            texts.len(),
            lines.len()
        );
        for (text, line) in texts.iter().zip(&lines) {
            let want: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode(text, false).unwrap(), want, "{name}: {text:?}");
        }
        println!("{name}: {} rows", lines.len());
    }
    for name in present.keys() {
        assert!(names.iter().any(|n| n == name), "no vectors for {name}");
    }
}

#[derive(Deserialize)]
struct ChatRow {
    template: String,
    tokenizer: String,
    conversation: String,
    messages: Vec<Value>,
    kwargs: Map<String, Value>,
    add_generation_prompt: bool,
    rendered: Option<String>,
    error: Option<String>,
    ids: Option<Vec<u32>>,
}

/// The day the vectors were made shows in templates that print it.
fn day_of(rendered: &str) -> Option<SystemTime> {
    let after = |mark: &str| rendered.split(mark).nth(1).and_then(|rest| rest.split('\n').next());
    let date = match after("Current date: ") {
        Some(iso) => jiff::civil::Date::strptime("%Y-%m-%d", iso).ok()?,
        None => jiff::civil::Date::strptime("%d %b %Y", after("Today Date: ")?).ok()?,
    };
    let seconds = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds as u64))
}

#[test]
fn conversations_render_as_transformers_renders_them() {
    let Some(shared) = shared() else { return };
    let rows: Vec<ChatRow> = json(shared.join("chat_templates/chat_vectors.json"));
    let mut tokenizers: BTreeMap<String, Tokenizer> = BTreeMap::new();
    let mut without_tokenizer = HashSet::new();
    let mut with_ids = 0;
    for row in &rows {
        let place = format!("{} / {}", row.template, row.conversation);
        let folder = shared.join("tokenizers").join(&row.tokenizer);
        let tokenizer = folder.is_dir().then(|| {
            tokenizers.entry(row.tokenizer.clone()).or_insert_with(|| Tokenizer::from_dir(&folder).unwrap()).clone()
        });
        let source = std::fs::read_to_string(shared.join(format!("chat_templates/{}.jinja", row.template))).unwrap();
        let special: Vec<(String, String)> = match &tokenizer {
            Some(tokenizer) => tokenizer.special_tokens().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            None => {
                without_tokenizer.insert(row.tokenizer.clone());
                let bos = "<｜begin▁of▁sentence｜>".to_owned();
                vec![("bos_token".into(), bos), ("eos_token".into(), "<｜end▁of▁sentence｜>".into())]
            }
        };
        let special = special.iter().map(|(key, text)| (key.as_str(), text.as_str()));
        let template = ChatTemplate::new([("default".to_owned(), source)], special);
        let messages: Vec<Message> = row.messages.iter().map(|m| Message::from_value(m.clone()).unwrap()).collect();
        let options = RenderOptions {
            add_generation_prompt: row.add_generation_prompt,
            variables: Some(&row.kwargs),
            now: row.rendered.as_deref().and_then(day_of),
            ..Default::default()
        };
        let result = template.render(&messages, &options);
        match (&row.rendered, &row.error) {
            (Some(want), _) => {
                let text = result.unwrap_or_else(|e| panic!("{place}: {e}"));
                assert_eq!(&text, want, "{place}");
                if let (Some(tokenizer), Some(ids)) = (&tokenizer, &row.ids) {
                    assert_eq!(&tokenizer.encode(&text, false).unwrap(), ids, "{place}");
                    with_ids += 1;
                }
            }
            (None, want) => {
                let e = result.expect_err(&place);
                assert!(e.message().contains(want.as_deref().unwrap_or("")), "{place}: {e}, {want:?}");
            }
        }
    }
    println!("{} rows, {with_ids} with ids; rendered only: {without_tokenizer:?}", rows.len());
    assert!(rows.len() >= 50 && with_ids >= 40);
}

/// Speed and size: a megabyte of anything encodes in time that grows with its length, on a small stack.
#[test]
fn large_texts_encode() {
    let Some(shared) = shared() else { return };
    for name in ["gemma-3-1b-it", "Llama-2", "Qwen2.5-1.5B-Instruct", "Llama-3.2-Instruct", "gpt-oss-20b", "gpt2"] {
        let start = Instant::now();
        let tokenizer = Tokenizer::from_dir(&shared.join("tokenizers").join(name)).unwrap();
        let endless = tokenizer.encode(&" ".repeat(1 << 20), false).unwrap_err();
        assert!(endless.message().contains("white-space"), "{endless}");
        println!("{name}: loaded in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
        let cases = [
            ("emoji", "😀👩‍👩‍👧‍👦🦙".repeat(1 << 20 >> 5)),
            ("spaces", " ".repeat(400_000)),
            ("newlines", "\n".repeat(400_000)),
            ("letters", "a".repeat(1 << 20)),
            ("digits", "1234567890".repeat(100_000)),
            ("mixed spaces", " \t\n\u{a0}".repeat(120_000)),
            ("prose", "The quick brown fox jumps over the lazy dog. ".repeat(23_000)),
        ];
        for (what, text) in cases {
            let tokenizer = tokenizer.clone();
            // As small as a thread of a small C library gets.
            let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
                let start = Instant::now();
                let ids = tokenizer.encode(&text, false).unwrap();
                let seconds = start.elapsed().as_secs_f64();
                let back = tokenizer.decode(&ids, false);
                assert_eq!(back.trim_start_matches(' '), text.trim_start_matches(' '), "{what}");
                println!("  {what}: {} bytes, {} tokens, {:.0} ms", text.len(), ids.len(), seconds * 1e3);
                assert!(seconds < 20.0, "{what}: {seconds} s");
            });
            thread.unwrap().join().unwrap();
        }
    }
}

/// Run with `--release -- --ignored --nocapture` for figures.
#[test]
#[ignore = "a measurement"]
fn short_sentences_a_second() {
    let Some(shared) = shared() else { return };
    let mut sentences: Vec<String> = Vec::new();
    let stories = std::fs::read_to_string(shared.join("data/stories.valid.txt")).unwrap();
    sentences.extend(
        stories.split(['.', '\n']).map(|s| s.trim().to_owned()).filter(|s| s.len() > 20 && s.len() < 120).take(20_000),
    );
    for name in ["gemma-3-1b-it", "Llama-2", "Qwen2.5-1.5B-Instruct", "Llama-3.2-Instruct", "gpt2"] {
        let tokenizer = Tokenizer::from_dir(&shared.join("tokenizers").join(name)).unwrap();
        for pass in ["cold", "warm"] {
            let (start, cpu) = (Instant::now(), on_cpu());
            let tokens: usize = sentences.iter().map(|s| tokenizer.encode(s, true).unwrap().len()).sum();
            let n = sentences.len();
            let rate = |seconds: f64| n as f64 / seconds / 1e3;
            println!(
                "{name} {pass}: {:.1} k sentences/s, {:.1} k per second on the CPU ({} tokens each)",
                rate(start.elapsed().as_secs_f64()),
                rate((on_cpu() - cpu).as_secs_f64()),
                tokens / n
            );
        }
    }
}

/// How long this thread has been on a CPU; zero where the system does not say.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}
