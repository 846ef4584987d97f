//! The page's files, embedded at build time (`build.rs`).
//!
//! Only the gzipped form is embedded, which halves the space. Browsers ask for that form. For the rare
//! client that does not accept it, the file is unpacked.

use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// Bytes of a gzip header without a name and a comment (RFC 1952, section 2.3); `build.rs` writes none.
const HEADER: usize = 10;

/// Bytes of a gzip trailer (checksum and length).
const TRAILER: usize = 8;

/// One file of `frontend/`.
#[derive(Debug)]
pub struct Asset {
    /// The path in a URL; `/` for the page itself.
    pub path: &'static str,
    /// The value of `Content-Type`.
    pub media_type: &'static str,
    /// The core of the strong entity tag. It changes whenever the file's bytes do.
    pub tag: &'static str,
    /// The length of the file in bytes, before compression.
    pub length: usize,
    /// The file's bytes, gzipped.
    pub gzip: &'static [u8],
}

impl Asset {
    /// Whether the file is a page rather than a part of one. Pages are sent uncompressed: security
    /// scanners report a compressed page as open to the BREACH attack, and a few kilobytes do not matter
    /// on a local network.
    #[must_use]
    pub fn is_document(&self) -> bool {
        self.media_type.starts_with("text/html")
    }

    /// The file's bytes, uncompressed. Empty if they cannot be unpacked, which `build.rs` rules out.
    #[must_use]
    pub fn plain(&self) -> Vec<u8> {
        let end = self.gzip.len().saturating_sub(TRAILER);
        let packed = self.gzip.get(HEADER..end).unwrap_or_default();
        decompress_to_vec_with_limit(packed, self.length).unwrap_or_default()
    }
}

/// All files, sorted by name.
pub static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The file for a URL's path, if there is one.
#[must_use]
pub fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}
