//! Names of settings that other code than the table uses.

pub(super) const AZURE_PREFIX: &str = "AZURE_VOICE_LIVE_";
pub(super) const AZURE_SHORT_PREFIX: &str = "AZURE_VOICELIVE_";
pub(super) const OWN_PREFIX: &str = "VOICELIVED_";

pub(super) const ENDPOINT: &str = "AZURE_VOICE_LIVE_ENDPOINT";
pub(super) const KEY: &str = "AZURE_VOICE_LIVE_API_KEY";
/// Where the package's units read the settings and the key.
pub(super) const SERVICE_FILE: &str = "/etc/voicelived/voicelived.env";
pub(super) const KEY_FILE: &str = "/etc/voicelived/api-key";
/// The voice of the assistant.
pub(super) const VOICE: &str = "AZURE_VOICE_LIVE_VOICE";
pub(super) const TOKEN: &str = "VOICELIVED_ACCESS_TOKEN";
pub(super) const TOKEN_FILE: &str = "VOICELIVED_ACCESS_TOKEN_FILE";
pub(super) const LISTEN: &str = "VOICELIVED_LISTEN";
pub(super) const TLS_LISTEN: &str = "VOICELIVED_TLS_LISTEN";
pub(super) const TOOLS_DIR: &str = "VOICELIVED_TOOLS_DIR";
pub(super) const ASSISTANTS_DIR: &str = "VOICELIVED_ASSISTANTS_DIR";
pub(super) const STATE_DIR: &str = "VOICELIVED_STATE_DIR";
pub(super) const HTTPS_PROXY: &str = "HTTPS_PROXY";
pub(super) const UPSTREAM_CA_FILE: &str = "VOICELIVED_UPSTREAM_CA_FILE";
pub(super) const ALL_PROXY: &str = "ALL_PROXY";
pub(super) const NO_PROXY: &str = "NO_PROXY";
pub(super) const ENTRA_FILE: &str = "AZURE_VOICE_LIVE_TOKEN_FILE";
pub(super) const ENTRA_COMMAND: &str = "AZURE_VOICE_LIVE_TOKEN_COMMAND";
pub(super) const TENANT: &str = "AZURE_TENANT_ID";
pub(super) const CLIENT: &str = "AZURE_CLIENT_ID";
pub(super) const CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";
pub(super) const FEDERATED_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
pub(super) const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
pub(super) const CREDENTIALS: &str = "AZURE_TOKEN_CREDENTIALS";
pub(super) const METADATA: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
pub(super) const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";
pub(super) const IDENTITY_HEADER: &str = "IDENTITY_HEADER";
pub(super) const IMDS_ENDPOINT: &str = "IMDS_ENDPOINT";
/// Settings whose values are secrets. A proxy's address may hold its password.
pub(super) const SECRETS: [&str; 6] =
    [KEY, TOKEN, HTTPS_PROXY, ALL_PROXY, CLIENT_SECRET, IDENTITY_HEADER];
/// Settings that many programs read, and all their spellings, the strongest first. As with curl, two
/// spellings may differ: the stronger one counts.
pub(super) const SHARED: [(&str, &[&str]); 13] = [
    (HTTPS_PROXY, &["wss_proxy", "WSS_PROXY", "https_proxy", HTTPS_PROXY]),
    (ALL_PROXY, &["all_proxy", ALL_PROXY]),
    (NO_PROXY, &["no_proxy", NO_PROXY]),
    (TENANT, &[TENANT]),
    (CLIENT, &[CLIENT]),
    (CLIENT_SECRET, &[CLIENT_SECRET]),
    (FEDERATED_FILE, &[FEDERATED_FILE]),
    (AUTHORITY, &[AUTHORITY]),
    (CREDENTIALS, &[CREDENTIALS]),
    (METADATA, &[METADATA]),
    (IDENTITY_ENDPOINT, &[IDENTITY_ENDPOINT]),
    (IDENTITY_HEADER, &[IDENTITY_HEADER]),
    (IMDS_ENDPOINT, &[IMDS_ENDPOINT]),
];
pub(super) const API_KEY_FILE: &str = "AZURE_VOICE_LIVE_API_KEY_FILE";
/// Pairs of settings that say the same thing. At most one of each pair may be set.
pub(super) const PAIRS: [(&str, &str); 8] = [
    (KEY, API_KEY_FILE),
    (KEY, ENTRA_FILE),
    (KEY, ENTRA_COMMAND),
    (API_KEY_FILE, ENTRA_FILE),
    (API_KEY_FILE, ENTRA_COMMAND),
    (ENTRA_FILE, ENTRA_COMMAND),
    ("AZURE_VOICE_LIVE_INSTRUCTIONS", "AZURE_VOICE_LIVE_INSTRUCTIONS_FILE"),
    (TOKEN, TOKEN_FILE),
];
