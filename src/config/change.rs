//! Finds the changed settings that a running daemon can use only after a restart.

use super::Config;

impl Config {
    /// The settings that differ in `new` and that only a restart can change: what is bound,
    /// allocated or opened once. All others count for new calls as soon as they are read.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let service = |config: &Self| {
            let endpoint = &config.service.endpoint;
            (endpoint.host.clone(), endpoint.port, endpoint.tls)
        };
        let ((web, limits), (new_web, new_limits)) =
            ((&self.web, &self.limits), (&new.web, &new.limits));
        let settings = [
            // The key belongs to the service's address. No other address may get it.
            ("AZURE_VOICE_LIVE_ENDPOINT", self.unready.is_none() && service(self) != service(new)),
            ("VOICELIVED_LISTEN", web.listen != new_web.listen),
            ("VOICELIVED_TLS_LISTEN", web.tls_listen != new_web.tls_listen),
            ("VOICELIVED_TLS_CERT, VOICELIVED_TLS_KEY", web.tls_files != new_web.tls_files),
            ("VOICELIVED_ALLOWED_ORIGINS", web.allowed_origins != new_web.allowed_origins),
            ("VOICELIVED_NAMES", web.names != new_web.names),
            ("VOICELIVED_TRUSTED_PROXIES", web.trusted_proxies != new_web.trusted_proxies),
            ("VOICELIVED_FRAME_ANCESTORS", web.frame_ancestors != new_web.frame_ancestors),
            ("VOICELIVED_STATE_DIR", self.state_dir != new.state_dir),
            ("VOICELIVED_MAX_SESSIONS", limits.max_sessions != new_limits.max_sessions),
            (
                "VOICELIVED_MAX_SESSIONS_PER_ADDRESS",
                limits.max_sessions_per_address != new_limits.max_sessions_per_address,
            ),
            (
                "VOICELIVED_CONNECTS_PER_MINUTE",
                limits.connects_per_minute != new_limits.connects_per_minute,
            ),
            ("VOICELIVED_DAILY_MINUTES", limits.daily != new_limits.daily),
            ("VOICELIVED_DRAIN_SECONDS", limits.drain != new_limits.drain),
            ("VOICELIVED_AUDIO_POOL_SECONDS", limits.audio_pool != new_limits.audio_pool),
            ("VOICELIVED_LOG", self.log != new.log),
        ];
        settings.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect()
    }
}
