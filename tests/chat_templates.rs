//! One Jinja habit of published chat templates at a time, against what transformers renders
//! (`scripts/oracle/make_chat_snippets.py` writes the file), and templates that mean harm.

use gomlx::engine::Status;
use gomlx::engine::text::{ChatTemplate, Message, RenderOptions};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Snippets {
    messages: Vec<Value>,
    variables: Map<String, Value>,
    special: Map<String, Value>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    template: String,
    rendered: Option<String>,
    error: Option<String>,
    /// Why this row differs by design; such rows must differ, so that the list stays true.
    differs: Option<String>,
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new([("default".to_owned(), source.to_owned())], [("bos_token", "<s>"), ("eos_token", "</s>")])
}

fn user(text: &str) -> Vec<Message> {
    vec![Message::new("user", text)]
}

#[test]
fn snippets_render_as_transformers_renders_them() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat_snippets.json");
    let snippets: Snippets = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let messages: Vec<Message> = snippets.messages.iter().map(|m| Message::from_value(m.clone()).unwrap()).collect();
    assert_eq!(snippets.special["bos_token"], "<s>");
    let options =
        RenderOptions { add_generation_prompt: true, variables: Some(&snippets.variables), ..Default::default() };
    let mut wrong = Vec::new();
    for row in &snippets.rows {
        let result = template(&row.template).render(&messages, &options);
        let same = match (&row.rendered, &result) {
            (Some(want), Ok(text)) => want == text,
            (None, Err(_)) => true,
            _ => false,
        };
        if same == row.differs.is_some() {
            wrong.push(format!("{}\n  want {:?} {:?}\n  got  {result:?}", row.template, row.rendered, row.error));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), snippets.rows.len(), wrong.join("\n"));
    assert!(snippets.rows.len() >= 60);
}

#[test]
fn a_template_s_own_words_reach_the_caller() {
    let error = template("{{ raise_exception('Roles must alternate, ' ~ messages[0].role) }}")
        .render(&user("x"), &RenderOptions::default())
        .unwrap_err();
    assert_eq!(error.status(), Status::Argument);
    assert!(error.message().ends_with("Roles must alternate, user"), "{error}");
    // From within a macro within a loop, too.
    let error = template(
        "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{% for x in messages %}{{ m() }}{% endfor %}",
    )
    .render(&user("x"), &RenderOptions::default())
    .unwrap_err();
    assert!(error.message().ends_with("deep"), "{error}");
}

#[test]
fn missing_and_damaged_templates_say_so() {
    let none = ChatTemplate::new([], []);
    assert!(!none.exists());
    let error = none.render(&user("x"), &RenderOptions::default()).unwrap_err();
    assert_eq!(error.status(), Status::Unsupported);
    assert!(error.message().contains("no chat template"), "{error}");

    let damaged = template("line one\n{% if %}");
    let error = damaged.render(&user("x"), &RenderOptions::default()).unwrap_err();
    assert_eq!(error.status(), Status::Format);
    assert!(error.message().contains("line 2"), "{error}");
}

#[test]
fn templates_are_chosen_by_name_and_tools() {
    let sources = [("default".to_owned(), "plain".to_owned()), ("tool_use".to_owned(), "tools".to_owned())];
    let both = ChatTemplate::new(sources, []);
    let tools: Map<String, Value> = serde_json::from_str(r#"{"tools": []}"#).unwrap();
    let render = |options: &RenderOptions<'_>| both.render(&user("x"), options);
    assert_eq!(render(&RenderOptions::default()).unwrap(), "plain");
    assert_eq!(render(&RenderOptions { variables: Some(&tools), ..Default::default() }).unwrap(), "tools");
    let error = render(&RenderOptions { template: Some("rag"), ..Default::default() }).unwrap_err();
    assert!(error.message().contains("default, tool_use"), "{error}");
}

#[test]
fn the_last_message_can_be_continued() {
    let keeps = template("{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}");
    let trims = template("{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}");
    let drops = template("{% for m in messages[:-1] %}{{ m.content }}{% endfor %}");
    let chat = vec![Message::new("user", "hi"), Message::new("assistant", "Sure, ")];
    let options = RenderOptions { continue_final_message: true, ..Default::default() };
    assert_eq!(keeps.render(&chat, &options).unwrap(), "<user>hi</user><assistant>Sure, ");
    assert_eq!(trims.render(&chat, &options).unwrap(), "<user>hi</user><assistant>Sure,");
    assert_eq!(drops.render(&chat, &options).unwrap_err().status(), Status::Argument);
    assert_eq!(keeps.render(&[], &options).unwrap_err().status(), Status::Argument);
}

#[test]
fn dates_are_python_s() {
    // Right-hand sides by CPython's datetime(2024, 7, 6, 5, 4, 3).strftime.
    let formats = [
        ("%d %b %Y", "06 Jul 2024"),
        ("%Y-%m-%d", "2024-07-06"),
        ("%A, %B %-d, %y %H:%M:%S", "Saturday, July 6, 24 05:04:03"),
        ("%I:%M %p %j %a %%", "05:04 AM 188 Sat %"),
    ];
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_720_242_243);
    for (format, want) in formats {
        let source = format!("{{{{ strftime_now('{format}') }}}}");
        let text = template(&source).render(&[], &RenderOptions { now: Some(now), ..Default::default() });
        assert_eq!(text.unwrap(), want);
    }
    let bad = template("{{ strftime_now('%') }}").render(&[], &RenderOptions::default());
    assert_eq!(bad.unwrap_err().status(), Status::Argument);
}

/// Each must end soon with an error, on a small stack.
#[test]
fn hostile_templates_end() {
    let nested = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let lists = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let ifs = "{% if true %}".repeat(20_000);
    let sources = [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}".to_owned(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}".to_owned(),
        "{% for a in range(100000) %}{{ 'x' * 1000000 }}{% endfor %}".to_owned(),
        "{{ 'x' * 10000000000 }}".to_owned(),
        "{{ [0] * 10000000000 }}".to_owned(),
        "{{ range(10000000000) | list }}".to_owned(),
        "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}".to_owned(),
        "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | tojson }}".to_owned(),
        format!(
            "{{% set ns = namespace(l=[]) %}}{{% for i in range(3900) %}}{{% set ns.l = {}ns.l{} %}}{{% endfor %}}{{{{ ns.l ~ ns.l }}}}",
            "[".repeat(95),
            "]".repeat(95)
        ),
        format!("{{{{ {nested} }}}}"),
        format!("{{{{ {lists} }}}}"),
        format!("{{{{ {}true }}}}", "not ".repeat(65_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(260_000)),
        ifs,
        "{% include 'default' %}".to_owned(),
        "{{ 'x' | center(10000000000) }}".to_owned(),
    ];
    for source in sources {
        let start: String = source.chars().take(60).collect();
        println!("{start}");
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            let begin = std::time::Instant::now();
            let result = template(&source).render(&user("x"), &RenderOptions::default());
            (result, begin.elapsed())
        });
        let (result, time) = thread.unwrap().join().unwrap();
        // A value nested deeply, and operators that cancel out, may also just be rendered.
        let harmless = ["namespace", "not not", "----"].iter().any(|mark| start.contains(mark));
        assert!(result.is_err() || harmless, "{start}");
        assert!(time.as_secs() < 20, "{start}: {time:?}");
    }
}

#[test]
fn reasoning_goes_by_all_its_names() {
    let show = template("{{ messages[0].reasoning_content }}|{{ messages[0].thinking }}");
    for key in ["reasoning_content", "thinking", "reasoning"] {
        let message = Message::new("assistant", "x").with(key, "because");
        assert_eq!(show.render(&[message], &RenderOptions::default()).unwrap(), "because|because", "{key}");
    }
}

#[test]
fn messages_are_checked() {
    for (json, wrong) in [
        ("[1]", "messages[0]"),
        (r#"[{"role": "user"}, {"content": "x"}]"#, "messages[1]"),
        (r#"[{"role": 3}]"#, "role"),
        ("{}", "messages"),
        ("[", "messages"),
    ] {
        let error = Message::list_from_json(json).unwrap_err();
        assert_eq!(error.status(), Status::Argument);
        assert!(error.message().contains(wrong), "{json}: {error}");
    }
    let list = Message::list_from_json(r#"[{"role": "user", "content": [{"type": "text", "text": "é"}]}]"#).unwrap();
    assert_eq!(list[0].role(), "user");
    assert!(list[0].content().unwrap().is_array());
}
