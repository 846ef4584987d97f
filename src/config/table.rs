//! The one list of settings.

use super::agent;
use super::draft::{self, Draft};
use super::names::{
    ALL_PROXY, API_KEY_FILE, ASSISTANTS_DIR, AUTHORITY, AZURE_PREFIX, AZURE_SHORT_PREFIX, CLIENT,
    CLIENT_SECRET, CREDENTIALS, ENDPOINT, ENTRA_COMMAND, ENTRA_FILE, FEDERATED_FILE, HTTPS_PROXY,
    IDENTITY_ENDPOINT, IDENTITY_HEADER, IMDS_ENDPOINT, KEY, LISTEN, METADATA, NO_PROXY, SECRETS,
    SHARED, STATE_DIR, TENANT, TLS_LISTEN, TOKEN, TOKEN_FILE, TOOLS_DIR, UPSTREAM_CA_FILE,
};
use super::{Files, Secret, network};
use crate::models;

/// One setting as users know it.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// The documented name.
    pub name: &'static str,
    /// The text that is parsed when the setting is not set. Empty if there is no default.
    pub default: &'static str,
    /// One line for `.env.example`.
    pub explanation: &'static str,
    /// The heading above it.
    pub group: &'static str,
    /// Whether the demo ignores it, because the demo has its own service.
    pub(super) service_only: bool,
    /// Turns a non-empty text into a part of the draft, or says what is wrong with it.
    pub(super) parse: fn(&mut Draft, &str, Files<'_>) -> Result<(), String>,
}

impl Variable {
    /// All names under which it is accepted, the documented one first.
    #[must_use]
    pub fn spellings(&self) -> Vec<String> {
        if let Some(shared) = self.shared() {
            let others = shared.iter().filter(|name| **name != self.name);
            return [&self.name].into_iter().chain(others).map(|name| (*name).to_owned()).collect();
        }
        let mut names = vec![self.name.to_owned()];
        if self.name == "VOICE_LIVE_MODEL" {
            names.push("AZURE_VOICE_LIVE_MODEL".to_owned());
        }
        // The official SDK's samples write the product's name without the second underscore.
        let official = names.iter().filter(|name| name.starts_with(AZURE_PREFIX));
        let official: Vec<_> =
            official.map(|name| name.replace(AZURE_PREFIX, AZURE_SHORT_PREFIX)).collect();
        names.extend(official);
        names
    }

    /// For a setting that many programs read: its spellings, the strongest first.
    pub(super) fn shared(&self) -> Option<&'static [&'static str]> {
        SHARED.iter().find(|(name, _)| *name == self.name).map(|(_, spellings)| *spellings)
    }
}

/// Names whose values are secrets: to be removed from the environment of child processes.
pub fn secret_names() -> impl Iterator<Item = String> {
    let secret = VARIABLES.iter().filter(|variable| SECRETS.contains(&variable.name));
    secret.flat_map(Variable::spellings)
}

const SERVICE: &str = "The service";
const CONVERSATION: &str = "The conversation";
const LISTENING: &str = "Listening";
const ACCESS: &str = "Access";
const LIMITS: &str = "Limits";
const LOGGING: &str = "Logging";

/// Every setting, in the order of `.env.example`.
pub static VARIABLES: &[Variable] = &[
    Variable {
        name: ENDPOINT,
        default: "",
        explanation: "Endpoint of the Azure resource, for example https://NAME.services.ai.azure.com. Required.",
        group: SERVICE,
        service_only: true,
        parse: draft::endpoint,
    },
    Variable {
        name: KEY,
        default: "",
        explanation: "Key of the Azure resource. Required, unless the file below or a systemd credential of this name holds it, or Entra ID is used.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| draft.set_key(text),
    },
    Variable {
        name: API_KEY_FILE,
        default: "",
        explanation: "File that holds the key: one line, at most 4 KiB.",
        group: SERVICE,
        service_only: true,
        parse: draft::key_file,
    },
    Variable {
        name: ENTRA_FILE,
        default: "",
        explanation: "Entra ID in place of the key: file that holds an access token, read for each connection.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| {
            let path = draft::path(text)?;
            draft.secret_files.push(path.clone());
            draft.entra.file = Some(path);
            Ok(())
        },
    },
    Variable {
        name: ENTRA_COMMAND,
        default: "",
        explanation: "Entra ID in place of the key: command that prints an access token, alone or as JSON, such as: az account get-access-token --output json --resource https://ai.azure.com. No shell reads it.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| draft::command(text).map(|words| draft.entra.command = Some(words)),
    },
    Variable {
        name: TENANT,
        default: "",
        explanation: "Entra ID without another program: directory (tenant) of the service principal. These variables count if no key and no token is set above.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| draft::entra_word(text).map(|text| draft.entra.tenant = Some(text)),
    },
    Variable {
        name: CLIENT,
        default: "",
        explanation: "Client id of the service principal or of the workload identity; alone, that of a user-assigned managed identity.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| draft::entra_word(text).map(|text| draft.entra.client = Some(text)),
    },
    Variable {
        name: CLIENT_SECRET,
        default: "",
        explanation: "Secret of the service principal, unless a systemd credential of this name holds it.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| {
            draft::entra_secret(text).map(|text| draft.entra.secret = Some(text))
        },
    },
    Variable {
        name: FEDERATED_FILE,
        default: "",
        explanation: "Workload identity: file with the token of the other system, read for each fetch.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| draft::path(text).map(|text| draft.entra.federated = Some(text)),
    },
    Variable {
        name: AUTHORITY,
        default: "",
        explanation: "Address of Entra ID. Unset: https://login.microsoftonline.com.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| {
            draft::authority(text).map(|text| draft.entra.authority = Some(text))
        },
    },
    Variable {
        name: CREDENTIALS,
        default: "",
        explanation: "ManagedIdentityCredential chooses the managed identity of a virtual machine, where no other variable tells of it; EnvironmentCredential and WorkloadIdentityCredential choose those.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| {
            draft::entra_word(text).map(|text| draft.entra.credentials = Some(text))
        },
    },
    Variable {
        name: IDENTITY_ENDPOINT,
        default: "",
        explanation: "Endpoint for managed identities; App Service, Container Apps and Azure Arc set it.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| {
            draft::near_address(text).map(|text| draft.entra.endpoint = Some(text))
        },
    },
    Variable {
        name: IDENTITY_HEADER,
        default: "",
        explanation: "Its secret; App Service and Container Apps set it.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| {
            draft::entra_secret(text).map(|text| draft.entra.header = Some(text))
        },
    },
    Variable {
        name: IMDS_ENDPOINT,
        default: "",
        explanation: "Set by Azure Arc, beside IDENTITY_ENDPOINT.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| draft::entra_word(text).map(|text| draft.entra.imds = Some(text)),
    },
    Variable {
        name: METADATA,
        default: "",
        explanation: "Address of the metadata service of a virtual machine or a cluster. Unset: http://169.254.169.254.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| {
            draft::near_address(text).map(|text| draft.entra.metadata = Some(text))
        },
    },
    Variable {
        name: "VOICE_LIVE_MODEL",
        default: models::DEFAULT_MODELS,
        explanation: "Model that holds the conversation, or several with commas between: when one is refused, the next is tried. AZURE_VOICE_LIVE_MODEL is accepted too.",
        group: SERVICE,
        service_only: false,
        parse: |draft, text, _| draft::models(text).map(|names| draft.session.models = names),
    },
    Variable {
        name: agent::NAME,
        default: "",
        explanation: "Name of a Foundry agent that holds the conversation in place of a model. It brings its own instructions, tools and voice, and is meant for Entra ID.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| agent::parse(draft, 0, text),
    },
    Variable {
        name: agent::PROJECT,
        default: "",
        explanation: "Foundry project that the agent belongs to; required with an agent.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| agent::parse(draft, 1, text),
    },
    Variable {
        name: agent::SETTINGS[2].0,
        default: "",
        explanation: "Version of the agent. Unset: the latest.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| agent::parse(draft, 2, text),
    },
    Variable {
        name: agent::SETTINGS[3].0,
        default: "",
        explanation: "Conversation of the agent that every call goes on with. Unset: each call begins one.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| agent::parse(draft, 3, text),
    },
    Variable {
        name: agent::SETTINGS[4].0,
        default: "",
        explanation: "Client id of the user-assigned managed identity with which the service reaches the agent. Unset: the system-assigned one.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| agent::parse(draft, 4, text),
    },
    Variable {
        name: agent::SETTINGS[5].0,
        default: "",
        explanation: "Foundry resource that holds the agent, if it is another one than the endpoint.",
        group: SERVICE,
        service_only: true,
        parse: |draft, text, _| agent::parse(draft, 5, text),
    },
    Variable {
        name: "AZURE_VOICE_LIVE_API_VERSION",
        default: "2026-07-15",
        explanation: "Version of the service's API.",
        group: SERVICE,
        service_only: false,
        parse: |draft, text, _| draft::word(text, 64).map(|text| draft.api_version = text),
    },
    Variable {
        name: UPSTREAM_CA_FILE,
        default: "",
        explanation: "PEM file with more certificate authorities to trust for the service and for MCP servers, such as a proxy's.",
        group: SERVICE,
        service_only: true,
        parse: draft::authorities,
    },
    Variable {
        name: HTTPS_PROXY,
        default: "",
        explanation: "Proxy on the way to the service: http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before the host if it wants a login. Unset: ALL_PROXY. As with curl, https_proxy is stronger.",
        group: SERVICE,
        service_only: true,
        parse: |_, _, _| Ok(()),
    },
    Variable {
        name: ALL_PROXY,
        default: "",
        explanation: "Proxy to use when HTTPS_PROXY is not set.",
        group: SERVICE,
        service_only: true,
        parse: |_, _, _| Ok(()),
    },
    Variable {
        name: NO_PROXY,
        default: "",
        explanation: "Hosts that are reached without a proxy, separated by commas: names (with all names below them), addresses, networks such as 10.0.0.0/8; * alone for all.",
        group: SERVICE,
        service_only: true,
        parse: |_, _, _| Ok(()),
    },
    Variable {
        name: "AZURE_VOICE_LIVE_VOICE",
        default: models::DEFAULT_VOICE,
        explanation: "Voice of the assistant: an Azure voice, or one of OpenAI's voices such as alloy.",
        group: CONVERSATION,
        service_only: false,
        parse: |draft, text, _| draft::line(text, 256).map(|text| draft.session.voice = text),
    },
    Variable {
        name: "AZURE_VOICE_LIVE_INSTRUCTIONS",
        default: "You are a friendly voice assistant. Answer in a few short spoken sentences.",
        explanation: "What the model is told about its task.",
        group: CONVERSATION,
        service_only: false,
        parse: |draft, text, _| draft::prose(text).map(|text| draft.session.instructions = text),
    },
    Variable {
        name: "AZURE_VOICE_LIVE_INSTRUCTIONS_FILE",
        default: "",
        explanation: "File that holds the instructions instead: UTF-8, at most 64 KiB.",
        group: CONVERSATION,
        service_only: false,
        parse: draft::instructions_file,
    },
    Variable {
        name: "AZURE_VOICE_LIVE_LANGUAGE",
        default: "",
        explanation: "Language that the callers speak, for the transcripts: en-US, or several such as en,de.",
        group: CONVERSATION,
        service_only: false,
        parse: |draft, text, _| {
            draft::language(text).map(|text| draft.session.language = Some(text))
        },
    },
    Variable {
        name: "AZURE_VOICE_LIVE_GREETING",
        default: "",
        explanation: "Sentence with which the assistant opens each call.",
        group: CONVERSATION,
        service_only: false,
        parse: |draft, text, _| {
            draft::line(text, 4096).map(|text| draft.session.greeting = Some(text))
        },
    },
    Variable {
        name: "AZURE_VOICE_LIVE_SESSION_FILE",
        default: "",
        explanation: "File with a JSON object that is laid over the session settings last. It reaches every option of the service. At most 64 KiB.",
        group: CONVERSATION,
        service_only: false,
        parse: draft::session_file,
    },
    Variable {
        name: "VOICELIVED_MCP_FILE",
        default: "",
        explanation: "JSON file with mcpServers, as other assistants have it: MCP servers whose tools the model may call, as programs on this machine or by URL. At most 256 KiB and 16 servers.",
        group: CONVERSATION,
        service_only: false,
        parse: draft::mcp_file,
    },
    Variable {
        name: "VOICELIVED_MCP_SCHEMA_KIB",
        default: "32",
        explanation: "The most KiB that the names, descriptions and schemas of all MCP servers' tools may have together (1 to 1024). The model reads them in each turn. What does not fit is left out, with a warning.",
        group: CONVERSATION,
        service_only: false,
        parse: |draft, text, _| {
            draft::count(text, 1024).map(|count| draft.mcp.schema_budget = count * 1024)
        },
    },
    Variable {
        name: TOOLS_DIR,
        default: "",
        explanation: "Folder with tools of your own, a JSON file each: a command or a web request that the model may use. The installed service reads /etc/voicelived/tools.d.",
        group: CONVERSATION,
        service_only: false,
        parse: |draft, text, _| draft::folder(text).map(|path| draft.tools_dir = Some(path)),
    },
    Variable {
        name: ASSISTANTS_DIR,
        default: "",
        explanation: "Folder with assistants, a JSON file each, from which clients choose: instructions, voice, language, model, tools. At most 32. The installed service reads /etc/voicelived/assistants.d.",
        group: CONVERSATION,
        service_only: false,
        parse: |draft, text, _| draft::folder(text).map(|path| draft.assistants_dir = Some(path)),
    },
    Variable {
        name: LISTEN,
        default: "127.0.0.1:8000",
        explanation: "Address and port of the page and /ws over plain HTTP; off for none. Over plain HTTP browsers give the microphone to localhost only.",
        group: LISTENING,
        service_only: false,
        parse: |draft, text, _| draft::listen(text).map(|address| draft.web.listen = address),
    },
    Variable {
        name: TLS_LISTEN,
        default: "off",
        explanation: "Address and port of the page and /ws over HTTPS; off for none. [::]:8443 serves every device on the network.",
        group: LISTENING,
        service_only: false,
        parse: |draft, text, _| draft::listen(text).map(|address| draft.web.tls_listen = address),
    },
    Variable {
        name: "VOICELIVED_TLS_CERT",
        default: "",
        explanation: "PEM file of your own certificate chain, leaf first. Without one the daemon makes a local authority. The daemon answers to the certificate's DNS names, except wildcards: list the names that you use under a wildcard in VOICELIVED_ALLOWED_ORIGINS.",
        group: LISTENING,
        service_only: false,
        parse: |draft, text, _| draft::path(text).map(|path| draft.tls_cert = Some(path)),
    },
    Variable {
        name: "VOICELIVED_TLS_KEY",
        default: "",
        explanation: "PEM file of that certificate's private key.",
        group: LISTENING,
        service_only: false,
        parse: |draft, text, _| draft::path(text).map(|path| draft.tls_key = Some(path)),
    },
    Variable {
        name: "VOICELIVED_ALLOWED_ORIGINS",
        default: "",
        explanation: "Other origins whose pages may open /ws, separated by commas, such as https://app.example.com. The daemon answers to their host names too.",
        group: LISTENING,
        service_only: false,
        parse: |draft, text, _| {
            draft::origins(text).map(|origins| draft.web.allowed_origins = origins)
        },
    },
    Variable {
        name: "VOICELIVED_NAMES",
        default: "",
        explanation: "More names and addresses of this device, separated by commas, such as pi-2.local or 192.168.1.7: what the system cannot know, like the other side of a published port. They count for certificate, Host and Origin, links and QR code. A port that clients see instead of the listener's follows a colon: pi.local:443.",
        group: LISTENING,
        service_only: false,
        parse: |draft, text, _| network::names(text).map(|names| draft.web.names = names),
    },
    Variable {
        name: "VOICELIVED_TRUSTED_PROXIES",
        default: "",
        explanation: "Addresses and networks of reverse proxies, separated by commas, such as 127.0.0.1 or 10.0.0.0/8. A client's address is then what they say in Forwarded or X-Forwarded-For. It counts for limits, for the slowing of guesses and in the log.",
        group: LISTENING,
        service_only: false,
        parse: |draft, text, _| {
            network::networks(text).map(|networks| draft.web.trusted_proxies = networks)
        },
    },
    Variable {
        name: "VOICELIVED_FRAME_ANCESTORS",
        default: "",
        explanation: "Origins whose pages may show the page in a frame, separated by commas, such as https://dashboard.example.com. Unset: none. It weakens the protection of the cookie, see operations.md.",
        group: LISTENING,
        service_only: false,
        parse: |draft, text, _| network::frame_ancestors(draft, text),
    },
    Variable {
        name: "VOICELIVED_ACCESS",
        default: "",
        explanation: "Who may call. With token a client must show the access token; with open everybody may call. Unset: token if a token is set, if other devices can reach the daemon or if a proxy is trusted, else open.",
        group: ACCESS,
        service_only: false,
        parse: |draft, text, _| draft::asks_token(text).map(|asked| draft.asks_token = Some(asked)),
    },
    Variable {
        name: TOKEN,
        default: "",
        explanation: "Access token: 16 to 256 visible ASCII characters. Unset: the first start makes one and keeps it in the state folder.",
        group: ACCESS,
        service_only: false,
        parse: |draft, text, _| Secret::access_token(text).map(|token| draft.token = Some(token)),
    },
    Variable {
        name: TOKEN_FILE,
        default: "",
        explanation: "File that holds the access token instead.",
        group: ACCESS,
        service_only: false,
        parse: draft::token_file,
    },
    Variable {
        name: STATE_DIR,
        default: "",
        explanation: "State folder, for what the daemon keeps. Unset: $STATE_DIRECTORY (systemd), $XDG_STATE_HOME/voicelived or ~/.local/state/voicelived.",
        group: ACCESS,
        service_only: false,
        parse: |draft, text, _| draft::folder(text).map(|path| draft.state_dir = Some(path)),
    },
    Variable {
        name: "VOICELIVED_MAX_SESSIONS",
        default: "16",
        explanation: "Calls at the same time (1 to 10000).",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| {
            draft::count(text, 10_000).map(|count| draft.limits.max_sessions = count)
        },
    },
    Variable {
        name: "VOICELIVED_MAX_SESSIONS_PER_ADDRESS",
        default: "4",
        explanation: "Calls at the same time from one client address (1 to 10000).",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| {
            draft::count(text, 10_000).map(|count| draft.limits.max_sessions_per_address = count)
        },
    },
    Variable {
        name: "VOICELIVED_MAX_SESSION_SECONDS",
        default: "3600",
        explanation: "Longest call, in seconds (1 to 86400).",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| {
            draft::seconds(text, 86_400).map(|time| draft.limits.max_session = time)
        },
    },
    Variable {
        name: "VOICELIVED_IDLE_SECONDS",
        default: "120",
        explanation: "A call ends when neither side has spoken for so many seconds (1 to 86400).",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| draft::seconds(text, 86_400).map(|time| draft.limits.idle = time),
    },
    Variable {
        name: "VOICELIVED_RECONNECT_SECONDS",
        default: "60",
        explanation: "How long a call that has lost the voice service tries to go on, in seconds (0 to 3600); 0 ends it at once.",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| {
            draft::seconds_or_none(text, 3_600).map(|time| draft.limits.reconnect = time)
        },
    },
    Variable {
        name: "VOICELIVED_CONTINUE_REPLY",
        default: "off",
        explanation: "on: a reply that a lost session of the voice service has cut off in the middle is continued in the next one. off: it ends there.",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| draft::switch(text).map(|on| draft.limits.continue_reply = on),
    },
    Variable {
        name: "VOICELIVED_REVERSIBLE_BARGE_IN",
        default: "off",
        explanation: "on: for clients that ask for it, speech only holds a reply, and a cough or \"mhm\" lets it go on. The answer to a short interruption waits for its transcript. off: speech ends a reply at once.",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| draft::switch(text).map(|on| draft.limits.reversible_barge_in = on),
    },
    Variable {
        name: "VOICELIVED_SESSION_MINUTES",
        default: "25",
        explanation: "After so many minutes a call goes on in a new session of the voice service, which nobody hears (1 to 1440); off for never. Where the service tells when its session ends, that counts instead.",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| {
            draft::minutes(text, 1_440).map(|time| draft.limits.session_time = time)
        },
    },
    Variable {
        name: "VOICELIVED_RESUME_SECONDS",
        default: "30",
        explanation: "How long a call is held for a client that has lost its connection, so that it can take the call up again, in seconds (0 to 300); 0 ends it at once.",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| {
            draft::seconds_or_none(text, 300).map(|time| draft.limits.resume = time)
        },
    },
    Variable {
        name: "VOICELIVED_CONNECTS_PER_MINUTE",
        default: "30",
        explanation: "New connections to the voice service in a minute, from which on calls that have lost it wait for their turn (1 to 10000). New calls do not wait.",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| {
            draft::count(text, 10_000).map(|count| draft.limits.connects_per_minute = count)
        },
    },
    Variable {
        name: "VOICELIVED_DAILY_MINUTES",
        default: "off",
        explanation: "Spending guard: minutes of calls in a day (UTC), all calls together (1 to 100000); off for none. A restart does not reset the count.",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| draft::minutes(text, 100_000).map(|time| draft.limits.daily = time),
    },
    Variable {
        name: "VOICELIVED_DRAIN_SECONDS",
        default: "0",
        explanation: "Seconds that running calls may go on after SIGTERM (0 to 86400). The daemon takes no new calls meanwhile. A second signal ends them.",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| {
            draft::seconds_or_none(text, 86_400).map(|time| draft.limits.drain = time)
        },
    },
    Variable {
        name: "VOICELIVED_AUDIO_POOL_SECONDS",
        default: "120",
        explanation: "Seconds of audio that can wait in all calls together (at least 3 for each call, at most 36000). Each takes 48 kB of memory from the start.",
        group: LIMITS,
        service_only: false,
        parse: |draft, text, _| {
            draft::seconds(text, 36_000).map(|time| draft.limits.audio_pool = time)
        },
    },
    Variable {
        name: "VOICELIVED_LOG",
        default: "info",
        explanation: "How much is logged: error, warn, info, debug or trace.",
        group: LOGGING,
        service_only: false,
        parse: |draft, text, _| draft::level(text).map(|level| draft.log = Some(level)),
    },
];
