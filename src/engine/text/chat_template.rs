//! Chat templates: Jinja rendered as transformers' `apply_chat_template` renders it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind};
use serde_json::Map;

use super::config::{TokenizerConfig, chat_templates, object, read_optional};
use super::message::Message;
use super::python::{python_float, tojson};
use super::tokenizer::Tokenizer;
use crate::engine::error::{Error, Result, error, fail};

/// Template instructions that a rendering may take, and how many more for the square of the number of messages.
/// Published templates take up to 100 a message, Gemma 4's 4 a pair of messages; 50 tools take it 100,000.
const FUEL: u64 = 400_000;
const FUEL_PER_PAIR: u64 = 40;
const MOST_FUEL: u64 = 40_000_000;
/// Nested macro calls; each takes a native stack frame.
const RECURSION: usize = 100;
/// Longest template; the longest published ones have 20 kB. Its parser takes stack for each operator in a row.
const MAX_SOURCE: usize = 256 << 10;
/// Stack of the thread that compiles and renders. Values nest at most one level an instruction, and printing, comparing or dropping
/// one takes about 400 bytes of stack a level: within [`FUEL`] no template overflows it. Only touched pages are memory.
const STACK: usize = if cfg!(target_pointer_width = "64") { 256 << 20 } else { 32 << 20 };
/// Longest rendered conversation, in bytes.
const MAX_OUTPUT: usize = 64 << 20;
/// Keys under which a turn's reasoning goes by, the one that templates read first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// Marks the end of the message to continue while it is rendered; the same mark as transformers'.
const CONTINUE_MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The chat templates of a model, compiled. Any number of threads may render at once.
#[derive(Clone, Debug)]
pub struct ChatTemplate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    environment: Environment<'static>,
    /// Names, and why one does not compile. A damaged template must not keep a model from continuing plain text.
    templates: Vec<(String, Option<Error>)>,
    /// `bos_token`, `eos_token`, … as template variables.
    special: Vec<(String, String)>,
}

/// What a rendering may vary.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions<'a> {
    /// Opens the assistant's turn after the last message.
    pub add_generation_prompt: bool,
    /// Leaves the last message open, so that the model continues it.
    pub continue_final_message: bool,
    /// More template variables: `tools`, `documents`, `enable_thinking`, …
    pub variables: Option<&'a Map<String, serde_json::Value>>,
    /// Which of several named templates; `None`: `tool_use` where there are tools and such a template, else `default`.
    pub template: Option<&'a str>,
    /// The time that `strftime_now` shows, in UTC; `None`: now, in local time.
    pub now: Option<SystemTime>,
}

impl ChatTemplate {
    /// The templates of a model folder: `chat_template.jinja` with `additional_chat_templates/*.jinja`, else
    /// `chat_template.json`, else what `tokenizer_config.json` has (in `tokenizer`).
    /// A folder without one is no error until somebody renders. Errors: unreadable (`Io`) or damaged (`Format`) files.
    pub fn from_dir(dir: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let mut sources = sources(dir)?;
        if sources.is_empty() {
            sources = tokenizer.chat_templates().to_vec();
        }
        Ok(Self::new(sources, tokenizer.special_tokens()))
    }

    /// Whether [`ChatTemplate::from_dir`] would find one, said without reading the tokenizer.
    pub fn exists_in(dir: &Path) -> bool {
        sources(dir).is_ok_and(|found| !found.is_empty())
            || TokenizerConfig::from_dir(dir).is_ok_and(|config| !config.chat_templates.is_empty())
    }

    /// From `(name, source)` pairs and special tokens by key. A source that does not compile fails when rendered.
    pub fn new<'a>(
        sources: impl IntoIterator<Item = (String, String)>,
        special: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut environment = environment();
        let templates = sources
            .into_iter()
            .map(|(name, source)| {
                let compiled = if source.len() > MAX_SOURCE {
                    Err(error!(Unsupported, "longer than {MAX_SOURCE} bytes"))
                } else {
                    on_large_stack(|| {
                        let added = environment.add_template_owned(name.clone(), without_generation_tags(&source));
                        added.map_err(|e| error!(Format, "{}", one_line(&e)))
                    })
                };
                let failure = compiled.err().map(|e| e.at(format_args!("chat template {name:?}")));
                (name, failure)
            })
            .collect();
        let special = special.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
        Self(Arc::new(Inner { environment, templates, special }))
    }

    /// Whether the model has a template at all.
    pub fn exists(&self) -> bool {
        !self.0.templates.is_empty()
    }

    /// The conversation as one text, special tokens written out; encode it without adding any.
    ///
    /// Renders on a thread of its own, with a stack that no template can overflow, and waits for it. Steps, nesting
    /// and output are bounded; what a template may build in between is not (the engine has no hook for it), so a
    /// template written to exhaust memory can.
    ///
    /// Errors: no template, or none of that name (`Unsupported`); a template that is damaged or works without end
    /// (`Format`); a conversation that the template refuses, in its own words, or cannot render (`Argument`); no
    /// thread to be had (`Memory`).
    pub fn render(&self, messages: &[Message], options: &RenderOptions<'_>) -> Result<String> {
        let tools = options.variables.and_then(|map| map.get("tools")).is_some_and(|tools| !tools.is_null());
        let name = self.choose(options.template, tools)?;
        let mut turns: Vec<Map<_, _>> = messages.iter().map(|message| with_reasoning(message.fields())).collect();
        if options.continue_final_message {
            mark_final(turns.last_mut())?;
        }
        let text = on_large_stack(|| self.render_here(name, &turns, options))?;
        if options.continue_final_message { cut_at_mark(&text) } else { Ok(text) }
    }

    fn render_here(
        &self,
        name: &str,
        turns: &[Map<String, serde_json::Value>],
        options: &RenderOptions<'_>,
    ) -> Result<String> {
        let mut environment = self.0.environment.clone(); // counted pointers to the compiled templates
        let pairs = (turns.len() as u64).saturating_mul(turns.len() as u64);
        let fuel = FUEL.saturating_add(pairs.saturating_mul(FUEL_PER_PAIR)).min(MOST_FUEL);
        environment.set_fuel(Some(fuel));
        let template =
            environment.get_template(name).map_err(|e| error!(Format, "chat template {name:?}: {}", one_line(&e)))?;

        // Later entries win: a caller's variable replaces a special token of that name.
        let mut context: BTreeMap<&str, Value> = BTreeMap::from([("tools", ().into()), ("documents", ().into())]);
        context.extend(self.0.special.iter().map(|(key, text)| (key.as_str(), Value::from(text.as_str()))));
        context.extend(options.variables.into_iter().flatten().map(|(key, value)| (key.as_str(), Serde(value).into())));
        context.insert("messages", Serde(turns).into());
        context.insert("add_generation_prompt", options.add_generation_prompt.into());
        context.insert("strftime_now", strftime_now(options.now));

        let mut output = Limited(Vec::new());
        template.render_captured_to(Value::from(context), &mut output).map_err(|e| failure(name, &e))?;
        String::from_utf8(output.0).map_err(|_| error!(Internal, "chat template {name:?}: output is no UTF-8"))
    }

    fn choose<'a>(&'a self, wanted: Option<&str>, tools: bool) -> Result<&'a str> {
        let templates = &self.0.templates;
        let find = |name: &str| templates.iter().find(|(n, _)| n == name);
        let names = || templates.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let chosen = match wanted {
            _ if templates.is_empty() => fail!(Unsupported, "the model has no chat template; give it plain text"),
            Some(name) => find(name)
                .ok_or_else(|| error!(Unsupported, "the model has no chat template {name:?}; it has: {}", names()))?,
            None => tools
                .then(|| find("tool_use"))
                .flatten()
                .or_else(|| find("default"))
                .ok_or_else(|| error!(Unsupported, "the model has no default chat template; it has: {}", names()))?,
        };
        match &chosen.1 {
            Some(failure) => Err(failure.clone()),
            None => Ok(&chosen.0),
        }
    }
}

/// `(name, source)` of the template files in a folder.
fn sources(dir: &Path) -> Result<Vec<(String, String)>> {
    let mut sources = Vec::new();
    let jinja = dir.join("chat_template.jinja");
    if let Some(bytes) = read_optional(&jinja)? {
        sources.push(("default".to_owned(), utf8(&jinja, bytes)?));
    }
    let more = dir.join("additional_chat_templates");
    if let Ok(entries) = std::fs::read_dir(&more) {
        for entry in entries {
            let path = entry.map_err(|e| Error::io(&more, &e))?.path();
            if path.extension().is_some_and(|e| e == "jinja")
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
                && let Some(bytes) = read_optional(&path)?
            {
                sources.push((name.to_owned(), utf8(&path, bytes)?));
            }
        }
    }
    let json = dir.join("chat_template.json");
    if sources.is_empty()
        && let Some(bytes) = read_optional(&json)?
    {
        let map = object(&bytes).map_err(|e| e.at(json.display()))?;
        let value = map.get("chat_template").unwrap_or(&serde_json::Value::Null);
        sources = chat_templates(value).map_err(|e| e.at(json.display()))?;
    }
    Ok(sources)
}

/// Runs `work` on a thread with a stack of [`STACK`] bytes and waits for it. Its panics are `Internal` errors.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("gomlx-template".into()).stack_size(STACK);
        let running = thread
            .spawn_scoped(scope, work)
            .map_err(|e| error!(Memory, "no thread to work on a chat template: {e}"))?;
        running.join().unwrap_or_else(|_| Err(error!(Internal, "the chat template engine panicked")))
    })
}

/// Jinja as transformers sets it up: block trimming, loop controls, Python's string methods, no HTML escapes.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // Building fails only for delimiters of one's own.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    minijinja_contrib::add_to_environment(&mut environment);
    environment.set_formatter(|out, state, value| match python_float(value) {
        Some(text) => out.write_str(&text).map_err(minijinja::Error::from),
        None => minijinja::escape_formatter(out, state, value),
    });
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_recursion_limit(RECURSION);
    environment
        .add_filter("tojson", |value: &Value, ensure_ascii: Option<bool>, kwargs| tojson(value, ensure_ascii, kwargs));
    environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
    });
    environment
}

/// What a template said with `raise_exception`.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn failure(name: &str, error: &minijinja::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return error!(Argument, "the chat template refuses the conversation: {message}");
        }
        cause = inner.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => error!(Format, "chat template {name:?}: it goes on without end"),
        ErrorKind::WriteFailure => error!(Format, "chat template {name:?}: more than {MAX_OUTPUT} bytes"),
        _ => error!(Argument, "chat template {name:?}: {}", one_line(error)),
    }
}

fn one_line(error: &minijinja::Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(" (line {line})"));
    format!("{}: {}{line}", error.kind(), error.detail().unwrap_or("no detail")).replace('\n', " ")
}

/// A writer that refuses to grow without end.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|e| error!(Format, "{}: not UTF-8 at byte {}", path.display(), e.utf8_error().valid_up_to()))
}

/// `strftime_now(format)`: the local time, or the given one in UTC.
fn strftime_now(now: Option<SystemTime>) -> Value {
    Value::from_function(move |format: &str| {
        let zoned = match now {
            None => Ok(jiff::Zoned::now()),
            Some(time) => jiff::Timestamp::try_from(time).map(|stamp| stamp.to_zoned(jiff::tz::TimeZone::UTC)),
        };
        zoned
            .and_then(|zoned| jiff::fmt::strtime::format(format, &zoned))
            .map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
    })
}

/// `{% generation %}` marks the assistant's text for training; for rendering it is a scope (in transformers a call
/// block), which is what `{% with %}` is. Whitespace control stays as written.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        out.push_str(before);
        rest = tag;
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        for (name, scope) in [("generation", "with"), ("endgeneration", "endwith")] {
            let Some(after) = inner.strip_prefix(name) else { continue };
            let closing = after.trim_start();
            if closing.trim_start_matches(['-', '+']).starts_with("%}") {
                out.push_str(&tag[..tag.len() - inner.len()]);
                out.push_str(scope);
                rest = after;
                break;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Reasoning given under one of its names is there under those that templates read (`_alias_reasoning_fields` of
/// transformers).
fn with_reasoning(fields: &Map<String, serde_json::Value>) -> Map<String, serde_json::Value> {
    let Some(reasoning) = REASONING.iter().filter_map(|key| fields.get(*key)).find(|value| !value.is_null()).cloned()
    else {
        return fields.clone();
    };
    let mut all = Map::new();
    all.insert("thinking".into(), reasoning.clone());
    all.extend(fields.clone());
    all.insert("reasoning_content".into(), reasoning);
    all
}

/// Puts the mark after the text of the last message.
fn mark_final(last: Option<&mut Map<String, serde_json::Value>>) -> Result<()> {
    let Some(last) = last else { fail!(Argument, "continue_final_message: there is no message") };
    let text = match last.get_mut("content") {
        Some(serde_json::Value::String(text)) => Some(text),
        Some(serde_json::Value::Array(parts)) => parts.iter_mut().rev().find_map(|part| match part.get_mut("text") {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        }),
        _ => None,
    };
    match text {
        Some(text) => text.push_str(CONTINUE_MARK),
        None => fail!(Argument, "continue_final_message: the last message has no text"),
    }
    Ok(())
}

/// The rendering up to the mark; where the template trims messages, without the white space before it too.
fn cut_at_mark(text: &str) -> Result<String> {
    let Some(at) = text.rfind(CONTINUE_MARK.trim_end()) else {
        fail!(Argument, "continue_final_message: the chat template does not show the last message");
    };
    let before = &text[..at];
    let kept = if text[at..].starts_with(CONTINUE_MARK) { before } else { before.trim_end() };
    Ok(kept.to_owned())
}
