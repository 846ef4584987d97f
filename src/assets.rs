//! The page's files, embedded at build time (`build.rs`).

/// One file of `frontend/`.
#[derive(Debug)]
pub struct Asset {
    /// Path in a URL; `/` for the page itself.
    pub path: &'static str,
    /// Value of `Content-Type`.
    pub media_type: &'static str,
    /// Changes whenever the bytes do: the core of the strong entity tag.
    pub tag: &'static str,
    /// The file as it is.
    pub plain: &'static [u8],
    /// The file gzipped.
    pub gzip: &'static [u8],
}

/// All files, sorted by name.
pub static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The file for a URL's path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}
