//! What the fuzz targets check: the same code that `tests/fuzz_corpus.rs` runs over the corpora.

#[path = "../../tests/support/fuzzed/mod.rs"]
pub mod fuzzed;
