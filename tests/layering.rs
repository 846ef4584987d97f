//! The arrows of `docs/architecture.md`: which folder may use which, and where clocks, sockets and
//! TLS may be.
//!
//! Reads `src/` as text: comments, strings and test code are blanked out first. It sees paths
//! (`crate::net`, `super::super::net`), not what macros make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every top-level module and all it uses. A new arrow belongs here and in `docs/architecture.md`;
/// one that is no longer used goes from both.
const ARROWS: &[(&str, &[&str])] = &[
    ("access", &[]),
    ("call", &["lenient", "models"]),
    ("certificates", &["net", "system"]),
    (
        "cli",
        &[
            "access",
            "call",
            "certificates",
            "config",
            "identity",
            "mcp",
            "models",
            "net",
            "server",
            "session",
            "simulator",
            "spending",
            "system",
            "tools",
            "web",
        ],
    ),
    ("config", &["identity", "mcp", "models", "net", "system"]),
    ("identity", &["net", "system"]),
    ("lenient", &[]),
    ("main", &["cli"]),
    ("mcp", &["lenient"]),
    ("metrics", &[]),
    ("models", &[]),
    ("net", &[]),
    (
        "server",
        &[
            "access",
            "call",
            "certificates",
            "identity",
            "mcp",
            "metrics",
            "net",
            "session",
            "simulated",
            "spending",
            "system",
            "tools",
            "web",
        ],
    ),
    ("session", &["call", "lenient", "metrics", "net", "tools"]),
    ("simulated", &["net", "session", "simulator"]),
    ("simulator", &["models"]),
    ("spending", &["system"]),
    ("system", &[]),
    ("tools", &["lenient"]),
    ("web", &["access", "metrics", "net", "simulator"]),
];

/// Folders of `src/` that are packages of their own: `crate` means the folder there, and the compiler keeps
/// them from using anything else of `src/`.
const PACKAGES: &[&str] = &["lenient", "mcp", "models", "simulator", "tools"];

/// The child that stands between the loop and an MCP server behind HTTP. It waits in threads of its own,
/// since its library does; the daemon starts it as a process.
const MCP_CHILD: &str = "mcp/http/child.rs";

/// What a pure core has no use for.
const IMPURE: &[&str] = &[
    "mio",
    "socket2",
    "tungstenite",
    "rustls",
    "log",
    "Instant::now",
    ".elapsed()",
    "SystemTime",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
];

struct Source {
    /// Relative to `src/`, with `/` between folders.
    path: String,
    /// Without comments, the content of strings, and test code.
    code: String,
}

impl Source {
    /// The names of the module this file is, without the crate's.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').filter(|name| *name != "lib").collect()
    }

    fn top(&self) -> &str {
        self.module().first().copied().unwrap_or_default()
    }

    /// The other top-level modules of this crate that the file names by a path.
    fn uses(&self) -> BTreeSet<String> {
        let mut found: BTreeSet<_> =
            self.paths().into_iter().filter_map(|path| path.into_iter().next()).collect();
        found.remove(self.top());
        // `crate::x` is a module only if there is one; it may be a macro or an item of `main`.
        found.retain(|name| ARROWS.iter().any(|(module, _)| module == name));
        found
    }

    /// Every path in the file that begins at the crate's root, with `super` or with `self`, as names
    /// from the root on.
    fn paths(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        let crate_of = PACKAGES.iter().filter(|package| **package == self.top());
        let crate_of = crate_of.map(|package| ("crate::".to_owned(), vec![*package], None)).next();
        let packages = PACKAGES.iter().map(|it| (format!("voicelived_{it}::"), vec![*it], None));
        let roots = [
            crate_of.unwrap_or_else(|| ("crate::".to_owned(), Vec::new(), None)),
            ("voicelived::".to_owned(), Vec::new(), None),
            ("super::".to_owned(), Vec::new(), Some(1)),
            ("self::".to_owned(), Vec::new(), Some(0)),
        ];
        for (root, base, supers) in roots.into_iter().chain(packages) {
            for at in mentions(&self.code, &root) {
                // The middle of a path is not the beginning of another.
                if self.code[..at].ends_with("::") {
                    continue;
                }
                let mut rest = &self.code[at + root.len()..];
                let mut base: Vec<String> = base.iter().map(|it| (*it).to_owned()).collect();
                if let Some(mut supers) = supers {
                    while let Some(more) = rest.strip_prefix("super::") {
                        supers += 1;
                        rest = more;
                    }
                    let module = self.module();
                    let depth = module.len().saturating_sub(supers);
                    base.extend(module[..depth].iter().map(|name| (*name).to_owned()));
                }
                spell_out(rest, &base, &mut found);
            }
        }
        found
    }

    fn names(&self, path: &str) -> bool {
        mentions(&self.code, path).next().is_some()
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `path` stands as whole words.
fn mentions<'a>(code: &'a str, path: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(path).map(|(at, _)| at).filter(move |&at| {
        let end = at + path.len();
        let before = path.starts_with('.') || at == 0 || !is_word(bytes[at - 1]);
        let behind = path.ends_with([':', ')']) || end == bytes.len() || !is_word(bytes[end]);
        before && behind
    })
}

/// Adds the path that `rest` begins with, below `base`: each of them where braces hold several.
/// Returns what is behind it.
fn spell_out<'a>(rest: &'a str, base: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = rest.trim_start();
    if let Some(mut group) = rest.strip_prefix('{') {
        loop {
            group = spell_out(group, base, found).trim_start();
            match group.chars().next() {
                Some(',') => group = &group[1..],
                Some('}') => return &group[1..],
                // No list of paths, as in `matches!(self, crate::A {..})`.
                _ => return group,
            }
        }
    }
    let end = rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len());
    let (word, behind) = rest.split_at(end);
    let path = [base, &[word.to_owned()]].concat();
    rest = behind;
    match rest.strip_prefix("::") {
        Some(more) => spell_out(more, &path, found),
        None => {
            found.push(path);
            rest.strip_prefix(" as ").map_or(rest, |alias| {
                alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
            })
        }
    }
}

/// Blanks out comments and the content of strings and character literals.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => at + find(&bytes[at..], b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => at + find(&bytes[at..], b"*/") + 2,
            b'"' => end_of_string(bytes, at),
            b'r' if at == 0 || !is_word(bytes[at - 1]) || bytes[at - 1] == b'b' => {
                end_of_raw_string(bytes, at)
            }
            b'\'' => end_of_character(bytes, at),
            _ => at,
        };
        let end = end.min(bytes.len());
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("only whole characters are blanked")
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap_or(bytes.len())
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn end_of_raw_string(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return start;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    open + 1 + find(&bytes[open + 1..], &close) + close.len()
}

/// A character literal, not a lifetime.
fn end_of_character(bytes: &[u8], start: usize) -> usize {
    if bytes.get(start + 1) == Some(&b'\\') {
        return start + 3 + find(&bytes[(start + 3).min(bytes.len())..], b"'") + 1;
    }
    let rest = String::from_utf8_lossy(&bytes[start + 1..bytes.len().min(start + 6)]).into_owned();
    let length = rest.chars().next().map_or(0, char::len_utf8);
    if bytes.get(start + 1 + length) == Some(&b'\'') { start + 2 + length } else { start }
}

/// Blanks out each item under `#[cfg(test)]`. Strings and comments are blank already.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    while let Some(at) = out.find(MARK) {
        let mut depth = 0_usize;
        let length = out[at + MARK.len()..]
            .bytes()
            .position(|byte| {
                match byte {
                    b'{' => depth += 1,
                    b'}' => depth -= 1,
                    _ => {}
                }
                depth == 0 && matches!(byte, b'}' | b';')
            })
            .expect("the item ends");
        let end = at + MARK.len() + length + 1;
        let lines: String = out[at..end].chars().filter(|c| *c == '\n').collect();
        out.replace_range(at..end, &lines);
    }
    out
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 50, "only {} files were found", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(folder).expect("src/ can be listed");
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Test modules with a file or folder of their own.
        if matches!(&*name, "tests" | "tests.rs") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, found);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).expect("source is text");
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            found.push(Source { path, code: without_tests(&blank(&text)) });
        }
    }
}

/// The files that name one of `words`, except those that may.
fn outside(words: &[&str], may: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !may(&source.path)) {
        let words = words.iter().filter(|word| source.names(word));
        found.extend(words.map(|word| format!("src/{} uses {word}", source.path)));
    }
    found
}

fn is_within(path: &str, module: &str) -> bool {
    path == format!("{module}.rs") || path.starts_with(&format!("{module}/"))
}

#[test]
fn modules_use_each_other_as_the_architecture_says() {
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        real.entry(source.top().to_owned()).or_default().extend(source.uses());
    }
    let names: Vec<&str> = ARROWS.iter().map(|(module, _)| *module).collect();
    assert_eq!(real.keys().collect::<Vec<_>>(), names, "left: src/, right: ARROWS");
    for (module, stated) in ARROWS {
        let stated = stated.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(real[*module], stated, "{module} (left: src/, right: ARROWS)");
    }
}

/// Below each folder of `src/`: what its files and folders use of each other. A folder's `mod.rs` is
/// left out: it stands for the whole, whose parts may know it as it knows them.
fn rooms() -> BTreeMap<String, Room> {
    let mut rooms: BTreeMap<_, Room> = BTreeMap::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        let module = source.module();
        for depth in 0..module.len() {
            let (folder, name) = (&module[..depth], module[depth]);
            let used = source.paths().into_iter().filter_map(|path| {
                let inside = path.len() > depth && path[..depth] == *folder;
                inside.then(|| path[depth].clone()).filter(|other| other != name)
            });
            let room = rooms.entry(folder.join("/")).or_default();
            room.entry(name.to_owned()).or_default().extend(used);
        }
    }
    rooms
}

type Room = BTreeMap<String, BTreeSet<String>>;

/// What `from` uses, and what that uses, and so on.
fn reached<'a>(room: &'a Room, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(at) = next.pop() {
        let used = room.get(at).into_iter().flatten().map(String::as_str);
        next.extend(used.filter(|name| room.contains_key(*name) && seen.insert(*name)));
    }
    seen
}

/// Pairs that use each other, at once or by way of others.
fn circles(room: &Room) -> Vec<(&str, &str)> {
    let reach: BTreeMap<_, _> =
        room.keys().map(|name| (name.as_str(), reached(room, name))).collect();
    let mut found = Vec::new();
    for (one, from_one) in &reach {
        let back = from_one.iter().filter(|other| *other > one && reach[*other].contains(one));
        found.extend(back.map(|other| (*one, *other)));
    }
    found
}

#[test]
fn no_files_of_a_room_go_in_circles() {
    let rooms = rooms();
    assert!(rooms.len() > 10, "only {} rooms were found", rooms.len());
    let mut found = Vec::new();
    for (folder, room) in &rooms {
        let room = circles(room);
        found.extend(room.iter().map(|(one, other)| format!("src/{folder}: {one} ↔ {other}")));
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_pure_cores_touch_nothing_outside() {
    // A tool itself runs in a child process, so it may read files, ask the network, and wait.
    let is_tool = |path: &str| {
        path.starts_with("tools/")
            && ![
                "tools/mod.rs",
                "tools/schema.rs",
                "tools/file.rs",
                "tools/places.rs",
                "tools/process.rs",
            ]
            .contains(&path)
    };
    let core = |path: &str| {
        ["call", "tools", "access", "lenient", "mcp", "metrics", "models", "simulator"]
            .iter()
            .any(|module| is_within(path, module))
            && !is_tool(path)
            && path != MCP_CHILD
    };
    // `access` compares and counts addresses, which are values, not sockets.
    let mut found = outside(IMPURE, |path| !core(path));
    found.retain(|line| !(line.starts_with("src/access/") && line.ends_with(" uses std::net")));
    assert_eq!(found, [""; 0]);
}

#[test]
fn only_the_loops_wait_and_read_the_clock() {
    let loops = ["server/mod.rs", "server/mcp/alone.rs", "cli/drive.rs"];
    assert_eq!(outside(&["Poll", "mio::poll"], |path| loops.contains(&path)), [""; 0]);
    // Another process's lock is waited for before there is a loop, and after it.
    let waits = ["system/lock.rs"];
    let clock = |path: &str| {
        ["server/mod.rs", "server/mcp/alone.rs"].contains(&path)
            || is_within(path, "cli")
            || path.starts_with("tools/") && path != "tools/mod.rs"
            || waits.contains(&path)
    };
    assert_eq!(outside(&["Instant::now"], clock), [""; 0]);
    assert_eq!(
        outside(&["thread"], |path| waits.contains(&path) || path == MCP_CHILD),
        [""; 0],
        "one thread"
    );
}

#[test]
fn tls_has_its_place() {
    let drivers = ["net/transport.rs", "net/tls.rs"];
    let connections = ["rustls::Connection", "ClientConnection", "ServerConnection"];
    assert_eq!(outside(&connections, |path| drivers.contains(&path)), [""; 0]);
    // Elsewhere rustls only lends types: certificates, shared configurations, errors.
    let types = [
        "cli/call/connection.rs",
        "cli/run/mod.rs",
        "config/draft.rs",
        "config/mod.rs",
        "identity/fetch.rs",
        "identity/mod.rs",
        "server/certificates.rs",
        "server/mod.rs",
        "session/connection_faults.rs",
    ];
    let may = |path: &str| {
        path.starts_with("net/") || is_within(path, "certificates") || types.contains(&path)
    };
    assert_eq!(outside(&["rustls"], may), [""; 0]);
}

#[test]
fn nothing_unwraps_outside_tests() {
    let found: Vec<_> = sources()
        .iter()
        .filter(|source| source.code.contains(".unwrap()"))
        .map(|source| source.path.clone())
        .collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_reader_sees_code_and_nothing_else() {
    let text = "use a::b; // net\n/* net */ let c = '\"'; let l: &'static str = \"\\\"net\"; \
                r#\"net \"x\" \"#; b'n'; '\\''; let d = 'é'; kept();\n\
                #[cfg(test)]\nmod tests { fn f() { net::x(); } }\n#[cfg(test)]\nmod more;\nend";
    let code = without_tests(&blank(text));
    assert!(!code.contains("net") && !code.contains("more"), "{code}");
    for kept in ["use a::b;", "&'static str", "kept();", "end"] {
        assert!(code.contains(kept), "{kept} in {code}");
    }
    assert_eq!(code.lines().count(), text.lines().count());
    let source = |code: &str| Source { path: "call/service/scan.rs".into(), code: code.into() };
    assert_eq!(source("crate::net::ws; crate::call::x;").uses(), ["net".to_owned()].into());
    assert_eq!(source("super::super::super::web").uses(), ["web".to_owned()].into());
    assert_eq!(source("super::super::web; xcrate::net").uses(), BTreeSet::new());
    assert_eq!(
        source("use crate::{net::ws, web as w};").uses(),
        ["net".into(), "web".into()].into()
    );
    let paths = source("use super::{self, x::{A, B}, y}; crate::C { d }").paths();
    let paths: Vec<_> = paths.iter().map(|path| path.join(" ")).collect();
    let service = |path| format!("call service {path}");
    assert_eq!(paths[0], "C");
    assert_eq!(paths[1..], [service("self"), service("x A"), service("x B"), service("y")]);
    let room = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")];
    let room = room.map(|(file, used)| (file.to_owned(), [used.to_owned()].into())).into();
    assert_eq!(circles(&room), [("a", "b"), ("a", "c"), ("b", "c")]);
    assert!(!source("Pollen; my_mio").names("Poll") && source("a::Poll;").names("Poll"));
}
