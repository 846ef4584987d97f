//! The page's files, embedded at build time (`build.rs`).
//!
//! Packed only, which halves what they take: browsers want them so, and for the rare client that does
//! not they are unpacked.

use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// What gzip puts around its content: no name and no comment, as `build.rs` writes none.
const HEADER: usize = 10;
const TRAILER: usize = 8;

/// One file of `frontend/`.
#[derive(Debug)]
pub struct Asset {
    /// Path in a URL; `/` for the page itself.
    pub path: &'static str,
    /// Value of `Content-Type`.
    pub media_type: &'static str,
    /// Changes whenever the bytes do: the core of the strong entity tag.
    pub tag: &'static str,
    /// Bytes of the file as it is.
    pub length: usize,
    /// The file gzipped.
    pub gzip: &'static [u8],
}

impl Asset {
    /// Whether it is a page rather than a part of one. Pages go out as they are: scanners take a
    /// compressed one for a way to BREACH, and the few kilobytes do not matter on a local network.
    #[must_use]
    pub fn is_document(&self) -> bool {
        self.media_type.starts_with("text/html")
    }

    /// The file as it is. Empty if it was not packed by `build.rs`, which no file is.
    #[must_use]
    pub fn plain(&self) -> Vec<u8> {
        let end = self.gzip.len().saturating_sub(TRAILER);
        let packed = self.gzip.get(HEADER..end).unwrap_or_default();
        decompress_to_vec_with_limit(packed, self.length).unwrap_or_default()
    }
}

/// All files, sorted by name.
pub static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The file for a URL's path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}
