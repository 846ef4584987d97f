//! Names of settings that other code than the table uses.

pub(super) const AZURE_PREFIX: &str = "AZURE_VOICE_LIVE_";
pub(super) const AZURE_SHORT_PREFIX: &str = "AZURE_VOICELIVE_";
pub(super) const OWN_PREFIX: &str = "VOICELIVED_";

pub(super) const ENDPOINT: &str = "AZURE_VOICE_LIVE_ENDPOINT";
pub(super) const KEY: &str = "AZURE_VOICE_LIVE_API_KEY";
pub(super) const TOKEN: &str = "VOICELIVED_ACCESS_TOKEN";
pub(super) const TOKEN_FILE: &str = "VOICELIVED_ACCESS_TOKEN_FILE";
pub(super) const LISTEN: &str = "VOICELIVED_LISTEN";
pub(super) const TLS_LISTEN: &str = "VOICELIVED_TLS_LISTEN";
pub(super) const STATE_DIR: &str = "VOICELIVED_STATE_DIR";
/// Pairs of settings that say the same thing. At most one of each pair may be set.
pub(super) const PAIRS: [(&str, &str); 3] = [
    (KEY, "AZURE_VOICE_LIVE_API_KEY_FILE"),
    ("AZURE_VOICE_LIVE_INSTRUCTIONS", "AZURE_VOICE_LIVE_INSTRUCTIONS_FILE"),
    (TOKEN, TOKEN_FILE),
];
