//! Names of settings that other code than the table uses.

pub(super) const AZURE_PREFIX: &str = "AZURE_VOICE_LIVE_";
pub(super) const AZURE_SHORT_PREFIX: &str = "AZURE_VOICELIVE_";
pub(super) const OWN_PREFIX: &str = "VOICELIVED_";

pub(super) const ENDPOINT: &str = "AZURE_VOICE_LIVE_ENDPOINT";
pub(super) const KEY: &str = "AZURE_VOICE_LIVE_API_KEY";
/// Where the package's units read the settings and the key.
pub(super) const SERVICE_FILE: &str = "/etc/voicelived/voicelived.env";
pub(super) const KEY_FILE: &str = "/etc/voicelived/api-key";
pub(super) const TOKEN: &str = "VOICELIVED_ACCESS_TOKEN";
pub(super) const TOKEN_FILE: &str = "VOICELIVED_ACCESS_TOKEN_FILE";
pub(super) const LISTEN: &str = "VOICELIVED_LISTEN";
pub(super) const TLS_LISTEN: &str = "VOICELIVED_TLS_LISTEN";
pub(super) const STATE_DIR: &str = "VOICELIVED_STATE_DIR";
pub(super) const HTTPS_PROXY: &str = "HTTPS_PROXY";
pub(super) const ALL_PROXY: &str = "ALL_PROXY";
pub(super) const NO_PROXY: &str = "NO_PROXY";
/// Settings whose values are secrets. A proxy's address may hold its password.
pub(super) const SECRETS: [&str; 4] = [KEY, TOKEN, HTTPS_PROXY, ALL_PROXY];
/// Settings that many programs read, and all their spellings, the strongest first. As with curl, two
/// spellings may differ: the stronger one counts.
pub(super) const SHARED: [(&str, &[&str]); 3] = [
    (HTTPS_PROXY, &["wss_proxy", "WSS_PROXY", "https_proxy", HTTPS_PROXY]),
    (ALL_PROXY, &["all_proxy", ALL_PROXY]),
    (NO_PROXY, &["no_proxy", NO_PROXY]),
];
/// Pairs of settings that say the same thing. At most one of each pair may be set.
pub(super) const PAIRS: [(&str, &str); 3] = [
    (KEY, "AZURE_VOICE_LIVE_API_KEY_FILE"),
    ("AZURE_VOICE_LIVE_INSTRUCTIONS", "AZURE_VOICE_LIVE_INSTRUCTIONS_FILE"),
    (TOKEN, TOKEN_FILE),
];
