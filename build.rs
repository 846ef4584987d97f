//! Embeds the files of `frontend/`, without their comments. Each is gzipped and has a strong entity tag,
//! made of its unpacked bytes. It also has the linker make the release program smaller.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=frontend");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut files: Vec<PathBuf> = fs::read_dir("frontend")
        .expect("frontend/ is part of the source")
        .map(|entry| entry.expect("frontend/ can be listed").path())
        .filter(|path| path.is_file() && media_type(path).is_some())
        .collect();
    files.sort();
    let mut list = String::from("&[\n");
    for path in &files {
        println!("cargo::rerun-if-changed={}", path.display());
        list.push_str(&asset(path, &out));
    }
    list.push(']');
    fs::write(out.join("assets.rs"), list).expect("OUT_DIR is writable");
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        leave_out_unwind_tables(&out);
        fold_equal_functions(&out);
        shorten_relocations(&out);
        // callgrind looks for this function of benches/frames. The program is stripped as the daemon is, so
        // that both share their crates: what is left are names for the loader.
        println!("cargo::rustc-link-arg-examples=-Wl,--export-dynamic-symbol=frames_measured");
    }
}

/// A panic aborts the release program (`panic = "abort"`), so nothing ever walks its stack, and without
/// symbols a walk would say nothing. Its unwind tables are 8 % of its bytes. rustc's own switch for
/// them (`force-unwind-tables=no`) would also reach this script, which needs them, and leave those of
/// the standard library. So the linker drops them. `INSERT` makes the script an addition to the linker's own.
fn leave_out_unwind_tables(out: &Path) {
    let script = out.join("no-unwind-tables.ld");
    let tables =
        "*(.eh_frame .eh_frame_hdr .gcc_except_table .gcc_except_table.* .ARM.exidx* .ARM.extab*)";
    fs::write(
        &script,
        format!("SECTIONS {{ /DISCARD/ : {{ {tables} }} }} INSERT AFTER .rodata;\n"),
    )
    .expect("OUT_DIR is writable");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
}

/// Many functions compile to the same bytes, for one type as for another. LLVM's linker, which rustc has with
/// it for x86-64, keeps one of each: 24 KB less. Rust promises no function an address of its own. Binutils' linker
/// does not know the word.
fn fold_equal_functions(out: &Path) {
    const FOLD: &str = "-Wl,--icf=all";
    if probe(out, FOLD).is_some() {
        println!("cargo::rustc-link-arg-bins={FOLD}");
    }
}

/// Each address within the program's data takes 24 bytes in the list for the loader, and hardly any in the newer
/// form of that list (RELR): 120 KB less. glibc 2.36 reads it. So it is used where a program with it runs
/// here; packaging/cargo asks for it where the program is for another machine.
fn shorten_relocations(out: &Path) {
    const SHORT: &str = "-Wl,-z,pack-relative-relocs";
    // zig links for an older glibc than this machine's.
    let by_zig = env::var("RUSTC_LINKER").is_ok_and(|linker| linker.contains("zig"));
    if by_zig || env::var("HOST").ok() != env::var("TARGET").ok() {
        return;
    }
    let runs = |program: PathBuf| Command::new(program).status().is_ok_and(|it| it.success());
    if probe(out, SHORT).is_some_and(runs) {
        println!("cargo::rustc-link-arg-bins={SHORT}");
    }
}

/// A program of one line, linked with an option as this one would be. None where the linker does not know the option.
fn probe(out: &Path, option: &str) -> Option<PathBuf> {
    let of_cargo = |name: &str| env::var(name).unwrap_or_default();
    let (source, program) = (out.join("probe.rs"), out.join("probe"));
    fs::write(&source, "fn main() {}\n").expect("OUT_DIR is writable");
    let mut rustc = Command::new(of_cargo("RUSTC"));
    rustc.args(["--target", &of_cargo("TARGET"), "-o"]).args([&program, &source]);
    // The flags are separated by this character, as cargo documents it.
    rustc.args(of_cargo("CARGO_ENCODED_RUSTFLAGS").split('\u{1f}').filter(|flag| !flag.is_empty()));
    let linker = of_cargo("RUSTC_LINKER");
    if !linker.is_empty() {
        rustc.arg(format!("-Clinker={linker}"));
    }
    rustc.arg(format!("-Clink-arg={option}"));
    rustc.output().is_ok_and(|linked| linked.status.success()).then_some(program)
}

/// One element of the generated list.
fn asset(path: &Path, out: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).expect("file names are UTF-8");
    let mut bytes = fs::read(path).expect("the file is readable");
    if matches!(path.extension().and_then(|it| it.to_str()), Some("js" | "css")) {
        let text = String::from_utf8(bytes).expect("the page's code is UTF-8");
        let mut kept = without_comments(&text, name.ends_with(".js"));
        if name.starts_with("words.") && name.matches('.').count() == 2 && name != "words.en.js" {
            kept = without_keys(&kept);
        }
        bytes = kept.into_bytes();
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&bytes).expect("writing to memory");
    let packed = gzip.finish().expect("writing to memory");
    let packed_path = out.join(format!("{name}.gz"));
    fs::write(&packed_path, packed).expect("OUT_DIR is writable");
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let mut text = String::new();
    writeln!(
        text,
        "    Asset {{ path: {:?}, media_type: {:?}, tag: \"{:016x}\", length: {}, gzip: include_bytes!({:?}) }},",
        if name == "index.html" { "/".to_owned() } else { format!("/{name}") },
        media_type(path).expect("filtered above"),
        hasher.finish(),
        bytes.len(),
        packed_path,
    )
    .expect("writing to memory");
    text
}

/// Comments are for those that change the page, and would be a fifth of what every visitor fetches. Their lines stay,
/// though empty: so a browser's error names the line of the source.
/// tests/browser/page.test.mjs compares.
fn without_comments(text: &str, has_line_comments: bool) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.lines() {
        let words = line.trim();
        // A comment with code behind it stays.
        let begins =
            words.starts_with("/*") && words.find("*/").is_none_or(|end| end + 2 == words.len());
        let comment = inside || begins || (has_line_comments && words.starts_with("//"));
        inside = (inside || begins) && !words.ends_with("*/");
        if !comment {
            kept.push_str(if has_line_comments { without_last_words(line) } else { line });
        }
        kept.push('\n');
    }
    kept
}

/// A line of code without the comment at its end. What has a quotation mark behind the two strokes stays: they may be
/// part of a text.
fn without_last_words(line: &str) -> &str {
    match line.split_once(" // ") {
        Some((code, words)) if !words.contains(['\'', '"', '`']) => code.trim_end(),
        _ => line,
    }
}

/// A language of the page without its keys, as a list: `frontend/language.js` knows them from English, whose order all
/// languages have (tests/browser/languages.test.mjs). Keys would be a fifth of each of them.
fn without_keys(text: &str) -> String {
    let mut list = String::with_capacity(text.len());
    for line in text.lines() {
        let words = line.trim_start();
        list.push_str(match (words, words.split_once(": '")) {
            ("export default {", _) => "export default [",
            ("};", _) => "];",
            (_, Some((_, value))) => &words[words.len() - value.len() - 1..],
            _ => words,
        });
        list.push('\n');
    }
    list
}

fn media_type(path: &Path) -> Option<&'static str> {
    Some(match path.extension()?.to_str()? {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        _ => return None,
    })
}
