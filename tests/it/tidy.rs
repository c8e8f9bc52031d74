//! The structure that ARCHITECTURE.md describes, as far as a test can check it: the dependencies between
//! folders, the length of files, and the completeness of documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use roomlog_protocol::{CloseCode, ErrorCode};
use serde_json::Value;

use crate::harness::{path, repository};

/// Maximum number of lines in a file.
const LONGEST: usize = 450;

/// Maximum number of lines in a function.
const LONGEST_FUNCTION: usize = 80;

/// The layers of the server, from the bottom up. A folder uses only those of the layers before its own.
const LAYERS: [&[&str]; 12] = [
    &["util", "tasks"],
    &["log"],
    &["config"],
    &["telemetry"],
    &["auth"],
    &["redis", "net"],
    &["hub"],
    &["connections"],
    &["service"],
    &["background"],
    &["session"],
    &["http"],
];

/// Crates, and the only folders that may use them. A simulation stands in for the server behind fred.
const WALLED_IN: [(&str, &[&str]); 3] =
    [("fred", &["src/redis", "src/simulation"]), ("axum", &["src/http"]), ("utoipa", &["src/http"])];

/// Returns the Rust files below a folder of the repository.
fn files(folder: &str) -> Vec<PathBuf> {
    ending_in(&["rs"], folder)
}

/// Returns the files below a folder of the repository whose names end in one of these, and a Rust file of the
/// folder's name.
fn ending_in(extensions: &[&str], folder: &str) -> Vec<PathBuf> {
    let file = path(&format!("{folder}.rs"));
    let mut found: Vec<PathBuf> = file.exists().then_some(file).into_iter().collect();
    let mut folders: Vec<PathBuf> = Some(path(folder)).filter(|folder| folder.is_dir()).into_iter().collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|it| extensions.iter().any(|one| it == *one)) {
                found.push(entry);
            }
        }
    }
    found
}

/// Returns the path inside the repository.
fn short(file: &Path) -> String {
    file.strip_prefix(path("")).unwrap().display().to_string()
}

/// Returns whether a line of code names this crate or module.
fn names(line: &str, path: &str) -> bool {
    !line.trim_start().starts_with("//") && line.contains(&format!("{path}::"))
}

#[test]
fn external_crates_are_used_only_in_their_folders() {
    for (name, homes) in WALLED_IN {
        let is_outside = |file: &&PathBuf| !homes.iter().any(|home| short(file).starts_with(home));
        for file in files("src").iter().filter(is_outside) {
            let text = fs::read_to_string(file).unwrap();
            let used = text.lines().find(|line| {
                names(line, name) && !line.contains(&format!("crate::{name}")) && !line.contains('"')
            });
            assert_eq!(used, None, "{name} is for {homes:?}, not for {}", short(file));
        }
    }
}

/// Returns the lines of a file that are not tests, which may depend on more.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    if ["/tests", "/simulated", "/simulation/"].iter().any(|part| short(file).contains(part)) {
        return String::new();
    }
    text.split("#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests").next().unwrap().to_owned()
}

#[test]
fn no_folder_uses_a_folder_above_it() {
    for (layer, folders) in LAYERS.iter().enumerate() {
        let above = LAYERS[layer..].concat();
        for folder in *folders {
            for file in files(&format!("src/{folder}")) {
                let code = code(&file);
                for other in above.iter().filter(|other| *other != folder).chain(&["node", "cli"]) {
                    let used = code.lines().find(|line| names(line, &format!("crate::{other}")));
                    assert_eq!(used, None, "{} is below {other}", short(&file));
                }
            }
        }
    }
}

#[test]
fn only_serve_uses_the_composition_root() {
    for file in files("src") {
        let code = code(&file);
        let used = code.lines().find(|line| names(line, "crate::node"));
        assert!(used.is_none() || short(&file) == "src/cli/serve.rs", "{}: {used:?}", short(&file));
    }
}

#[test]
fn functions_are_short() {
    for file in ["src", "crates"].into_iter().flat_map(files) {
        let text = fs::read_to_string(&file).unwrap();
        let mut open: Option<(usize, usize, &str)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            match open {
                // rustfmt puts the end of a function under its beginning.
                Some((since, depth, name)) if indent == depth && line.trim_start().starts_with('}') => {
                    let lines = number - since + 1;
                    assert!(lines <= LONGEST_FUNCTION, "{}: `{name}` has {lines} lines", short(&file));
                    open = None;
                }
                None if line.contains("fn ") && line.ends_with(['{', '(']) => {
                    open = Some((number, indent, line));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn files_are_short_and_start_with_a_description() {
    for file in ["src", "crates", "tests", "benches"].into_iter().flat_map(files) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines: split it by job", short(&file));
        assert!(text.starts_with("//!"), "{} does not say what it is for", short(&file));
    }
}

#[test]
fn every_folder_is_on_the_map() {
    let map = repository("ARCHITECTURE.md");
    for root in ["src", "crates"] {
        for entry in fs::read_dir(path(root)).unwrap().map(|entry| entry.unwrap().path()) {
            let folder = short(&entry);
            assert!(!entry.is_dir() || map.contains(&folder), "{folder} is not in ARCHITECTURE.md");
        }
    }
}

/// Returns the names and numbers in the first cells of the tables on the protocol's page.
fn rows() -> BTreeSet<String> {
    let page = repository("docs/protocol.md");
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split(['`', ',', ' '])).map(str::to_owned).collect()
}

/// Returns the ops of the golden frames of a direction.
fn golden_ops(direction: &str) -> BTreeSet<String> {
    let mut ops = BTreeSet::new();
    for file in fs::read_dir(path("tests/fixtures/protocol")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let golden: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let frames: Value = serde_json::from_str(golden["json"].as_str().unwrap()).unwrap();
        let frames = frames.as_array().cloned().unwrap_or_else(|| vec![frames]);
        if golden["direction"] == direction {
            ops.extend(frames.iter().filter_map(|frame| frame["op"].as_str()).map(str::to_owned));
        }
    }
    ops
}

/// Returns the ops of an enum of the protocol crate: the names of its variants.
fn ops_of(file: &str, declaration: &str) -> BTreeSet<String> {
    let source = repository(file);
    let body = source.split(declaration).nth(1).unwrap().split("\n}").next().unwrap();
    let names = body.lines().filter_map(|line| line.strip_prefix("    ")?.split([' ', ',', '(']).next());
    names.filter(|name| name.starts_with(char::is_uppercase)).map(str::to_lowercase).collect()
}

#[test]
fn every_operation_has_golden_frames() {
    assert_eq!(ops_of("crates/protocol/src/request.rs", "pub enum Request {"), golden_ops("client"));
    let mut frames = ops_of("crates/protocol/src/frame.rs", "pub enum Frame {");
    frames.insert("message".into());
    assert_eq!(frames, golden_ops("server"));
}

/// Rules: err-1.
#[test]
fn every_operation_and_code_is_on_the_protocol_page() {
    let rows = rows();
    let mut known: BTreeSet<String> = ErrorCode::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    known.extend(CloseCode::ALL.iter().map(|code| code.number().to_string()));
    known.extend(["client", "server"].into_iter().flat_map(golden_ops));
    // `pong` is in the row of `ping`.
    let missing: Vec<_> = known.iter().filter(|name| !rows.contains(*name) && *name != "pong").collect();
    assert!(missing.is_empty(), "no row in docs/protocol.md: {missing:?}");
}

/// Returns the ids of rules in a text that marks them in bold and brackets.
fn marked(text: &str) -> Vec<&str> {
    text.split("**[").skip(1).filter_map(|rest| Some(rest.split_once("]**")?.0)).collect()
}

/// Returns the ids of rules that the comments of a test file name: `Rules: sub-4, sub-5.`
fn named(text: &str) -> impl Iterator<Item = &str> {
    let comments = text.lines().map(|line| line.trim_start_matches(['/', '#', ' ']));
    comments
        .filter_map(|comment| comment.strip_prefix("Rules: "))
        .flat_map(|ids| ids.trim_end_matches('.').split(", "))
}

#[test]
fn every_rule_of_the_protocol_is_named_by_a_test() {
    let (page, testing) = (repository("docs/protocol.md"), repository("docs/testing.md"));
    let mut without_test = BTreeSet::new();
    for id in marked(&page) {
        assert!(without_test.insert(id.to_owned()), "two rules have the id {id}");
    }
    let rules = without_test.clone();
    let (_, details) = page.split_once("\n## Details\n").unwrap();
    let bare = details.lines().find(|line| line.starts_with("- ") && !line.starts_with("- **["));
    assert_eq!(bare, None, "a rule without an id");
    for folder in ["tests/it", "clients/js/test", "clients/python/tests"] {
        for file in ending_in(&["rs", "ts", "py"], folder) {
            for id in named(&fs::read_to_string(&file).unwrap()) {
                assert!(rules.contains(id), "{} names {id}, which is not a rule", short(&file));
                without_test.remove(id);
            }
        }
    }
    let (_, section) = testing.split_once("\n## Rules without a test\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let listed: BTreeSet<String> = marked(section).into_iter().map(str::to_owned).collect();
    let missing: Vec<_> = without_test.difference(&listed).collect();
    assert!(missing.is_empty(), "no test names {missing:?}, and docs/testing.md does not say why");
    let wrong: Vec<_> = listed.difference(&without_test).collect();
    assert!(wrong.is_empty(), "docs/testing.md lists {wrong:?}, which are tested, or are not rules");
}
