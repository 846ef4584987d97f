//! Embeds the files of `frontend/`. Each is gzipped and has a strong entity tag, made of its
//! unpacked bytes.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
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
}

/// One element of the generated list.
fn asset(path: &Path, out: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).expect("file names are UTF-8");
    let bytes = fs::read(path).expect("the file is readable");
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
