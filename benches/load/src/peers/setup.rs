//! What all peers need: where the service is, whom to trust, and the session they ask for.

#[path = "../suites.rs"]
mod suites;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// What the load tells a relay by its environment.
pub(crate) struct Setup {
    pub(crate) listen: SocketAddr,
    /// The service as `127.0.0.1:PORT`: address and `Host` in one.
    pub(crate) service: String,
    pub(crate) key: String,
    /// Path and query of the service.
    pub(crate) target: String,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Setup {
    pub(crate) fn from_env() -> Result<Self, Box<dyn std::error::Error>> {
        let endpoint = std::env::var("AZURE_VOICE_LIVE_ENDPOINT")?;
        let model = std::env::var("VOICE_LIVE_MODEL")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(std::env::var("SSL_CERT_FILE")?)? {
            roots.add(certificate?)?;
        }
        let tls = ClientConfig::builder_with_provider(suites::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            listen: format!("127.0.0.1:{}", std::env::var("PORT")?).parse()?,
            service: endpoint.trim_start_matches("https://").to_owned(),
            key: std::env::var("AZURE_VOICE_LIVE_API_KEY")?,
            target: format!("/voice-live/realtime?api-version=2026-07-15&model={model}"),
            tls: Arc::new(tls),
        })
    }
}

/// The first message to the service: what the Python sample asks for.
#[must_use]
pub(crate) fn session_update() -> String {
    serde_json::json!({"type": "session.update", "session": {
        "modalities": ["text", "audio"],
        "instructions": "You are a friendly assistant. Answer briefly.",
        "voice": {"type": "azure-standard", "name": "en-US-Ava:DragonHDLatestNeural"},
        "input_audio_format": "pcm16",
        "output_audio_format": "pcm16",
        "input_audio_sampling_rate": 24_000,
        "turn_detection": {"type": "azure_semantic_vad", "threshold": 0.5,
            "prefix_padding_ms": 300, "silence_duration_ms": 500},
        "input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"},
        "input_audio_echo_cancellation": {"type": "server_echo_cancellation"},
        "input_audio_transcription": {"model": "azure-speech"}
    }})
    .to_string()
}
