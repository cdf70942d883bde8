//! The committed headers are what cbindgen makes of `src/ffi` today.
//!
//! `make header` runs this with `GOMLX_BLESS=1`, which writes them instead of comparing. cbindgen is a dependency of
//! this test and of nothing else, pinned in `Cargo.toml`, so that every machine writes the same bytes.

use std::fs;
use std::path::Path;

/// One noun a file, in the order of the header.
const SOURCES: [&str; 12] = [
    "version",
    "error",
    "input",
    "control",
    "runtime",
    "memory",
    "model",
    "request",
    "generation",
    "batch",
    "classify",
    "discover",
];

fn generate(config: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join(config)).expect(config);
    let mut builder = cbindgen::Builder::new().with_config(config);
    for noun in SOURCES {
        builder = builder.with_src(root.join("src/ffi").join(noun).with_extension("rs"));
    }
    let mut text = Vec::new();
    builder.generate().expect("src/ffi parses").write(&mut text);
    String::from_utf8(text).expect("UTF-8")
}

fn compare(config: &str, header: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(header);
    let fresh = generate(config);
    if std::env::var_os("GOMLX_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the header's folder");
        return fs::write(&path, fresh).expect(header);
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = fresh.lines().zip(committed.lines()).position(|(new, old)| new != old);
    assert!(fresh == committed, "{header} is not what src/ffi declares (line {differs:?}): run `make header`");
}

#[test]
fn c_header_is_up_to_date() {
    compare("cbindgen.toml", "include/gomlx.h");
}

#[test]
fn php_header_is_up_to_date() {
    compare("cbindgen-php.toml", "bindings/php/gomlx.ffi.h");
}

/// Every file of `src/ffi` that exports something is among the sources above.
#[test]
fn no_noun_is_left_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    for entry in fs::read_dir(folder).expect("src/ffi") {
        let path = entry.expect("an entry").path();
        let exports = fs::read_to_string(&path).expect("a source").contains("\n#[unsafe(no_mangle)]");
        let noun = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        assert!(!exports || SOURCES.contains(&noun), "{noun}.rs exports functions but is not in SOURCES");
    }
}
