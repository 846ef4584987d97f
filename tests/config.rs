//! The configuration as a whole: precedence, all faults at once, files, secrets.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use voicelived::config::{
    AccessConfig, Config, ConfigError, EnvFile, PassedSocket, Purpose, Sources,
};

const ENDPOINT: (&str, &str) = ("AZURE_VOICE_LIVE_ENDPOINT", "https://x.services.ai.azure.com");
const KEY: (&str, &str) = ("AZURE_VOICE_LIVE_API_KEY", "canary-key");

fn sources(environment: &[(&str, &str)], file: &str) -> Sources {
    let pairs = environment.iter();
    let mut sources = Sources::from_environment(pairs.map(|(n, v)| (n.into(), v.into())));
    sources.env_file = Some(EnvFile { path: ".env".into(), bytes: file.into() });
    sources
}

fn files(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let content = match path.to_str().unwrap_or_default() {
        "key" | "/creds/AZURE_VOICE_LIVE_API_KEY" => b"canary-file\r\n".to_vec(),
        "bad-key" => b"canary\nX-Evil: 1".to_vec(),
        "token" => b"canary-token-0123\n".to_vec(),
        "prompt" => b"  Be kind.\nAlways.\n".to_vec(),
        "session.json" => br#"{"temperature":0.7,"turn_detection":{"type":"server_vad"}}"#.to_vec(),
        "broken.json" => b"{\n  \"a\": oops}".to_vec(),
        "list.json" => b"[]".to_vec(),
        "format.json" => br#"{"output_audio_format":"g711_ulaw"}"#.to_vec(),
        "model.json" => br#"{"model":"x","output_audio_format":"pcm16"}"#.to_vec(),
        "latin1" => b"caf\xe9".to_vec(),
        "huge" => vec![b'x'; max + 1],
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    if content.len() > max {
        return Err(io::Error::other("too long"));
    }
    Ok(content)
}

fn load(environment: &[(&str, &str)], file: &str) -> Result<Config, Vec<ConfigError>> {
    Config::load(Purpose::Service, sources(environment, file), &files)
}

fn lines<T>(outcome: Result<T, Vec<ConfigError>>) -> Vec<String> {
    let errors = outcome.err().expect("faults");
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for line in &lines {
        assert!(!line.contains('\n') && !line.contains("canary"), "{line:?}");
    }
    lines
}

/// Loads with endpoint and key given besides.
fn with(name: &str, value: &str) -> Result<Config, Vec<ConfigError>> {
    load(&[ENDPOINT, KEY, (name, value)], "")
}

#[test]
fn defaults() {
    let config = load(&[ENDPOINT, KEY], "").unwrap();
    assert_eq!(
        config.service.endpoint.to_string(),
        "wss://x.services.ai.azure.com/voice-live/realtime?api-version=2026-07-15&model=gpt-realtime-2.1-mini"
    );
    assert_eq!(config.session.models, ["gpt-realtime-2.1-mini", "gpt-realtime-mini"]);
    assert_eq!(config.service.key.expose(), "canary-key");
    assert_eq!(config.session.voice, "en-US-Ava:DragonHDLatestNeural");
    assert!(!config.session.instructions.is_empty());
    assert_eq!((config.session.language, config.session.greeting), (None, None));
    assert_eq!(config.limits.max_sessions, 16);
    assert_eq!(config.limits.max_sessions_per_address, 4);
    assert_eq!(config.limits.max_session, Duration::from_secs(3600));
    assert_eq!(config.limits.idle, Duration::from_secs(120));
    assert_eq!(config.limits.audio_pool, Duration::from_secs(120));
    assert_eq!(config.web.listen, Some("127.0.0.1:8000".parse().unwrap()));
    assert_eq!(config.log, log::LevelFilter::Info);
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn option_beats_environment_beats_file_beats_default() {
    let file = "VOICELIVED_LISTEN=127.0.0.1:1\nVOICELIVED_LOG=debug\nVOICE_LIVE_MODEL=m\n";
    let mut all = sources(&[ENDPOINT, KEY, ("VOICELIVED_LISTEN", "127.0.0.1:2")], file);
    let config = load(&[ENDPOINT, KEY, ("VOICELIVED_LISTEN", "127.0.0.1:2")], file).unwrap();
    assert_eq!(config.web.listen.unwrap().port(), 2);
    assert_eq!(config.log, log::LevelFilter::Debug);
    assert_eq!(config.session.models, ["m"]);
    all.listen = Some("127.0.0.1:3".to_owned());
    let config = Config::load(Purpose::Service, all, &files).unwrap();
    assert_eq!(config.web.listen.unwrap().port(), 3);
}

#[test]
fn an_empty_value_counts_as_unset() {
    let config = load(
        &[ENDPOINT, KEY, ("VOICELIVED_LOG", "")],
        "VOICELIVED_LOG=warn\nVOICELIVED_IDLE_SECONDS=",
    );
    let config = config.unwrap();
    assert_eq!(config.log, log::LevelFilter::Warn);
    assert_eq!(config.limits.idle, Duration::from_secs(120));
}

#[test]
fn all_faults_at_once_with_their_places() {
    let file = "# a comment\nVOICELIVED_MAX_SESSIONS=many\nVOICELIVED_LISEN=off\nbroken\n\
                FOREIGN='unclosed\nAZURE_VOICE_LIVE_API_KEY=canary ary\n";
    let found = lines(load(&[("VOICELIVED_LOG", "loud"), ("PATH", "/bin")], file));
    let expected = [
        "setting (line 4 of .env): is not NAME=value; begin a comment with #",
        "VOICELIVED_LISEN (line 3 of .env): no setting has this name; did you mean VOICELIVED_LISTEN?",
        "AZURE_VOICE_LIVE_API_KEY (line 6 of .env): must be one line of visible ASCII characters; copy the key again",
        "VOICELIVED_MAX_SESSIONS (line 2 of .env): must be a whole number from 1 to 10000, but is \"many\"",
        "VOICELIVED_LOG (environment): must be error, warn, info, debug or trace, but is \"loud\"",
        "AZURE_VOICE_LIVE_ENDPOINT: is not set; put the resource's endpoint into the environment or .env, or try `voicelived demo`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn required_settings_are_named_with_their_remedy() {
    let found = lines(load(&[], ""));
    assert_eq!(found.len(), 2);
    assert!(found[1].starts_with("AZURE_VOICE_LIVE_API_KEY: is not set"));
    let found = lines(load(&[KEY, ("AZURE_VOICE_LIVE_ENDPONT", "https://h")], ""));
    assert!(found[0].contains("did you mean AZURE_VOICE_LIVE_ENDPOINT?"), "{found:?}");
}

#[test]
fn both_spellings_are_accepted_but_must_agree() {
    let short = ("AZURE_VOICELIVE_ENDPOINT", "https://y.example.com");
    let config = load(&[short, KEY], "").unwrap();
    assert_eq!(config.service.endpoint.host, "y.example.com");
    let found = lines(load(&[ENDPOINT, short, KEY], ""));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("contradicts AZURE_VOICE_LIVE_ENDPOINT (environment)"));
    assert!(load(&[ENDPOINT, ("AZURE_VOICELIVE_ENDPOINT", ENDPOINT.1), KEY], "").is_ok());
    let config = load(&[short, KEY], "AZURE_VOICE_LIVE_ENDPOINT=https://z.example.com").unwrap();
    assert_eq!(config.service.endpoint.host, "y.example.com");
    assert!(load(&[ENDPOINT, KEY], "VOICELIVED_LOG=info\nVOICELIVED_LOG=warn").is_err());
}

#[test]
fn models_are_a_list_in_the_order_to_try_them() {
    let config = with("VOICE_LIVE_MODEL", "b, a,b").unwrap();
    assert_eq!(config.session.models, ["b", "a"]);
    assert!(config.service.endpoint.path_and_query.ends_with("model=b"));
}

#[test]
fn the_model_has_three_names() {
    for name in ["VOICE_LIVE_MODEL", "AZURE_VOICE_LIVE_MODEL", "AZURE_VOICELIVE_MODEL"] {
        let config = with(name, "gpt-realtime").unwrap();
        assert_eq!(config.session.models, ["gpt-realtime"]);
        assert!(config.service.endpoint.path_and_query.ends_with("model=gpt-realtime"));
    }
    let two = [ENDPOINT, KEY, ("VOICE_LIVE_MODEL", "a"), ("AZURE_VOICE_LIVE_MODEL", "b")];
    assert_eq!(lines(load(&two, "")).len(), 1);
}

#[test]
fn a_proxy_is_chosen_as_curl_does() {
    let secure = [("AZURE_VOICE_LIVE_ENDPOINT", "https://a.example.com"), KEY];
    for (settings, expected) in [
        (&[("HTTPS_PROXY", "http://a:1")][..], Some(("http://a:1", "HTTPS_PROXY"))),
        (
            &[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "b:2")],
            Some(("http://b:2", "https_proxy")),
        ),
        (&[("WSS_PROXY", "c:3"), ("https_proxy", "b:2")], Some(("http://c:3", "WSS_PROXY"))),
        (&[("all_proxy", "https://d"), ("ALL_PROXY", "e")], Some(("https://d:443", "all_proxy"))),
        (&[("ALL_PROXY", "e"), ("https_proxy", "")], Some(("http://e:1080", "ALL_PROXY"))),
        (
            &[("ALL_PROXY", "socks5://e"), ("https_proxy", "b:2")],
            Some(("http://b:2", "https_proxy")),
        ),
        (&[("ALL_PROXY", "e"), ("NO_PROXY", "example.com")], None),
        (
            &[("ALL_PROXY", "e"), ("no_proxy", "x"), ("NO_PROXY", "*")],
            Some(("http://e:1080", "ALL_PROXY")),
        ),
        (&[("ALL_PROXY", "socks5://e"), ("NO_PROXY", "*")], None),
        (&[("HTTP_PROXY", "e"), ("http_proxy", "e")], None),
    ] {
        let config = load(&[&secure, settings].concat(), "").unwrap();
        let proxy =
            config.service.proxy.as_ref().map(|proxy| (proxy.to_string(), proxy.variable.clone()));
        let expected =
            expected.map(|(text, name): (&str, &str)| (text.to_owned(), name.to_owned()));
        assert_eq!(proxy, expected, "{settings:?}");
        assert_eq!(config.warnings, [""; 0], "{settings:?}");
    }
    let from_file = load(&secure, "HTTPS_PROXY=http://u:canary@a:1").unwrap();
    assert_eq!(from_file.service.proxy.unwrap().to_string(), "http://a:1");
    assert!(from_file.secret_files.iter().any(|path| path.ends_with(".env")));
    let stronger = load(&[&secure[..], &[("HTTPS_PROXY", "b:2")]].concat(), "https_proxy=a:1");
    assert_eq!(stronger.unwrap().service.proxy.unwrap().to_string(), "http://b:2");
    let found = lines(with("ALL_PROXY", "socks5h://u:canary@e"));
    assert!(found[0].starts_with("ALL_PROXY (environment): is a SOCKS proxy"), "{found:?}");
    assert!(found.len() == 1 && !found[0].contains("canary"), "{found:?}");
    // What is not asked is not judged.
    let local = [("AZURE_VOICE_LIVE_ENDPOINT", "http://localhost:9000"), KEY, ("ALL_PROXY", "x y")];
    assert!(load(&local, "").unwrap().service.proxy.is_none());
}

/// What calls log in with, in the words of log and `check`.
fn login(settings: &[(&str, &str)]) -> Result<String, Vec<String>> {
    let endpoint = ("AZURE_VOICE_LIVE_ENDPOINT", "https://a.example.com");
    match load(&[&[endpoint], settings].concat(), "") {
        Ok(config) => {
            let text = config.service.sign_in.as_ref().map(|it| it.source.to_string());
            assert!(!format!("{config:?}").contains("canary"), "{config:?}");
            Ok(text.unwrap_or_else(|| "the key".to_owned()))
        }
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn the_login_that_counts() {
    const PRINCIPAL: [(&str, &str); 3] =
        [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "canary-s")];
    let federated = ("AZURE_FEDERATED_TOKEN_FILE", "/f");
    let file = ("AZURE_VOICE_LIVE_TOKEN_FILE", "/t");
    let short_file = ("AZURE_VOICELIVE_TOKEN_FILE", "/t");
    let command = ("AZURE_VOICE_LIVE_TOKEN_COMMAND", "az 'a b'");
    let [tenant, client, secret] = PRINCIPAL;
    let endpoint = ("IDENTITY_ENDPOINT", "http://localhost:1/x");
    let (app, arc) = (("IDENTITY_HEADER", "canary-h"), ("IMDS_ENDPOINT", "http://localhost:1"));
    let choose = |name| ("AZURE_TOKEN_CREDENTIALS", name);
    let named_principal = "the service principal c (AZURE_CLIENT_SECRET)";
    let named_workload = "the workload identity c (AZURE_FEDERATED_TOKEN_FILE)";
    for (settings, expected) in [
        (&[KEY][..], "the key"),
        (&[KEY, tenant, client, secret], "the key"),
        (&[KEY, choose("ManagedIdentityCredential")], "the key"),
        (&PRINCIPAL, named_principal),
        (&[tenant, client, secret, federated], named_principal),
        (&[tenant, client, federated], named_workload),
        (
            &[tenant, client, secret, federated, choose("workloadidentitycredential")],
            named_workload,
        ),
        (
            &[tenant, client, secret, choose("ManagedIdentityCredential")],
            "the managed identity c (virtual machine)",
        ),
        (&[client], "the managed identity c (virtual machine)"),
        (
            &[choose("ManagedIdentityCredential")],
            "the machine's managed identity (virtual machine)",
        ),
        (
            &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://10.0.0.1/")],
            "the machine's managed identity (virtual machine)",
        ),
        (&[endpoint, app], "the machine's managed identity (app)"),
        (&[endpoint, arc], "the machine's managed identity (Azure Arc)"),
        (&[file], "the file /t (AZURE_VOICE_LIVE_TOKEN_FILE)"),
        (&[short_file, tenant, client, secret], "the file /t (AZURE_VOICE_LIVE_TOKEN_FILE)"),
        (&[command], "the command az (AZURE_VOICE_LIVE_TOKEN_COMMAND)"),
    ] {
        assert_eq!(login(settings).as_deref(), Ok(expected), "{settings:?}");
    }
    for (settings, hint) in [
        (
            &[KEY, file][..],
            "AZURE_VOICE_LIVE_TOKEN_FILE (environment): AZURE_VOICE_LIVE_API_KEY (environment) is set too",
        ),
        (&[KEY, command], "is set too; keep only one"),
        (&[file, command], "is set too; keep only one"),
        (&[tenant, secret], "AZURE_CLIENT_ID: is not set, but Entra ID needs it"),
        (&[secret], "AZURE_TENANT_ID: is not set, but Entra ID needs it"),
        (&[choose("EnvironmentCredential"), tenant], "AZURE_CLIENT_SECRET: is not set"),
        (&[tenant], "AZURE_VOICE_LIVE_API_KEY: is not set"),
        (&[choose("AzureCliCredential")], "AZURE_VOICE_LIVE_API_KEY: is not set"),
        (&[("AZURE_VOICE_LIVE_TOKEN_COMMAND", "az 'canary")], "lacks the closing '"),
        (&[("AZURE_VOICE_LIVE_TOKEN_COMMAND", "[1]")], "must be a JSON array"),
        (
            &[tenant, client, ("AZURE_CLIENT_SECRET", "canary x")],
            "must be one line of visible ASCII",
        ),
        (
            &[tenant, client, secret, ("AZURE_AUTHORITY_HOST", "http://login.example")],
            "would send the secret unencrypted",
        ),
        (&[client, ("AZURE_TENANT_ID", "a b"), secret], "must be one word"),
    ] {
        let faults = login(settings).expect_err(hint).concat();
        assert!(faults.contains(hint) && !faults.contains("canary"), "{settings:?}: {faults}");
    }
    // The key wins over variables of other programs, and says so only where a secret lies idle.
    let all = [ENDPOINT, KEY, tenant, client, secret];
    assert!(load(&all, "").unwrap().warnings[0].contains("the key is set, and it wins"));
    assert_eq!(load(&[ENDPOINT, KEY, client], "").unwrap().warnings, [""; 0]);
    // The stronger source wins: a token in the environment, a key in the file.
    let config = load(&[ENDPOINT, file], "AZURE_VOICE_LIVE_API_KEY=canary-key").unwrap();
    assert!(config.service.sign_in.is_some());
}

#[test]
fn a_command_is_words() {
    let words = |text| {
        let set = ("AZURE_VOICE_LIVE_TOKEN_COMMAND", text);
        let config = load(&[ENDPOINT, set], "").unwrap();
        let sign_in = config.service.sign_in.unwrap();
        sign_in
            .command(Path::new("/p"))
            .into_iter()
            .map(|it| it.into_string().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(words("az  account x''y \"\" $HOME"), ["az", "account", "xy", "", "$HOME"]);
    assert_eq!(words("a 'b c'\"d\""), ["a", "b cd"]);
    assert_eq!(words(r#"["a","b c",""]"#), ["a", "b c", ""]);
}

#[test]
fn unknown_names_of_the_service_only_warn() {
    let config = with("AZURE_VOICE_LIVE_AVATAR", "x").unwrap();
    assert!(config.warnings[0].starts_with("AZURE_VOICE_LIVE_AVATAR (environment): not used"));
    assert!(with("VOICELIVED_NO_SUCH_SETTING", "x").is_err());
}

#[test]
fn the_key_comes_from_a_file_or_a_credential() {
    let key_file = ("AZURE_VOICE_LIVE_API_KEY_FILE", "key");
    let directory = ("CREDENTIALS_DIRECTORY", "/creds");
    for settings in [[ENDPOINT, key_file], [ENDPOINT, directory]] {
        let config = load(&settings, "").unwrap();
        assert_eq!(config.service.key.expose(), "canary-file");
        assert!(!format!("{config:?}").contains("canary"));
    }
    let config = load(&[ENDPOINT, KEY, directory], "").unwrap();
    assert_eq!(config.service.key.expose(), "canary-key");
    let config = load(&[ENDPOINT, KEY], "AZURE_VOICE_LIVE_API_KEY_FILE=key").unwrap();
    assert_eq!(config.service.key.expose(), "canary-key");
    assert!(lines(load(&[ENDPOINT, KEY, key_file], ""))[0].contains("keep only one"));
    assert_eq!(lines(load(&[ENDPOINT, ("CREDENTIALS_DIRECTORY", "/none")], "")).len(), 1);
    for bad in ["bad-key", "missing", "huge", "latin1"] {
        let found = lines(load(&[ENDPOINT, ("AZURE_VOICE_LIVE_API_KEY_FILE", bad)], ""));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[test]
fn open_is_the_default_only_where_nobody_else_can_come() {
    let home = ("HOME", "/home/x");
    let access = |settings: &[(&str, &str)]| {
        let all = [&[ENDPOINT, KEY, home], settings].concat();
        load(&all, "").unwrap().access
    };
    let token = ("VOICELIVED_ACCESS_TOKEN", "canary-token-0123");
    let (lan, off) = (("VOICELIVED_LISTEN", "0.0.0.0:8000"), ("VOICELIVED_LISTEN", "off"));
    assert!(matches!(access(&[]), AccessConfig::Open));
    let secure = ("VOICELIVED_TLS_LISTEN", "127.0.0.1:8443");
    assert!(matches!(access(&[off, secure]), AccessConfig::Open));
    assert!(matches!(access(&[lan]), AccessConfig::OwnToken));
    assert!(matches!(access(&[("VOICELIVED_ACCESS", "token")]), AccessConfig::OwnToken));
    assert!(matches!(access(&[lan, ("VOICELIVED_ACCESS", "open")]), AccessConfig::Open));
    assert!(matches!(access(&[token, ("VOICELIVED_ACCESS", "open")]), AccessConfig::Open));
    for settings in [&[token][..], &[lan, token], &[("VOICELIVED_ACCESS_TOKEN_FILE", "token")]] {
        let AccessConfig::Token(token) = access(settings) else { panic!("{settings:?}") };
        assert_eq!(token.expose(), "canary-token-0123");
    }
    let open = [ENDPOINT, KEY, lan, ("VOICELIVED_ACCESS", "open")];
    assert!(load(&open, "").unwrap().warnings[0].contains("at your expense"));
    let both = [ENDPOINT, KEY, token, ("VOICELIVED_ACCESS_TOKEN_FILE", "token")];
    assert!(lines(load(&both, ""))[0].contains("keep only one"));
    for bad in ["missing", "bad-key", "prompt", "latin1", "huge"] {
        assert_eq!(lines(with("VOICELIVED_ACCESS_TOKEN_FILE", bad)).len(), 1);
    }
}

#[test]
fn a_daemon_that_listens_nowhere_is_refused() {
    let off = ("VOICELIVED_LISTEN", "off");
    for more in [&[][..], &[("VOICELIVED_TLS_LISTEN", "off")]] {
        let found = lines(load(&[&[ENDPOINT, KEY, off], more].concat(), ""));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("VOICELIVED_LISTEN: is off"), "{found:?}");
        assert!(found[0].contains("VOICELIVED_TLS_LISTEN"), "{found:?}");
    }
    let secure = ("VOICELIVED_TLS_LISTEN", "127.0.0.1:8443");
    assert!(load(&[ENDPOINT, KEY, off, secure], "").is_ok());
    // A fault of the other address is told alone.
    let found = lines(load(&[ENDPOINT, KEY, off, ("VOICELIVED_TLS_LISTEN", "8443")], ""));
    assert!(found.len() == 1 && found[0].starts_with("VOICELIVED_TLS_LISTEN"), "{found:?}");
}

#[test]
fn names_that_were_nearly_right_are_told() {
    let environment =
        [ENDPOINT, KEY, ("VOICE_LIVE_MODELS", "m"), ("VOICELIVE_LISTEN", "127.0.0.1:1")];
    let config = load(&environment, "VOICE_LIVE_VOICE=alloy\nOTHER_VOICE_THING=1\n").unwrap();
    let warnings = config.warnings.join("\n");
    for (name, meant) in [
        ("VOICE_LIVE_MODELS (environment)", "VOICE_LIVE_MODEL?"),
        ("VOICELIVE_LISTEN (environment)", "VOICELIVED_LISTEN?"),
        ("VOICE_LIVE_VOICE (line 1 of .env)", "AZURE_VOICE_LIVE_VOICE?"),
    ] {
        let line = warnings.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.ends_with(meant)), "{name}: {warnings}");
    }
    assert_eq!(config.warnings.len(), 3, "{warnings}");
}

#[test]
fn the_state_folder_is_systemds_or_the_users() {
    let folder = |settings: &[(&str, &str)]| {
        let state = load(&[&[ENDPOINT, KEY], settings].concat(), "").unwrap().state_dir;
        state.map(|path| path.to_str().unwrap().to_owned())
    };
    let (home, xdg) = (("HOME", "/home/x"), ("XDG_STATE_HOME", "/state"));
    let systemd = ("STATE_DIRECTORY", "/var/lib/voicelived:/var/lib/other");
    assert_eq!(folder(&[]), None);
    assert_eq!(folder(&[home]).unwrap(), "/home/x/.local/state/voicelived");
    assert_eq!(folder(&[home, xdg]).unwrap(), "/state/voicelived");
    assert_eq!(
        folder(&[home, ("XDG_STATE_HOME", "x")]).unwrap(),
        "/home/x/.local/state/voicelived"
    );
    assert_eq!(folder(&[home, xdg, systemd]).unwrap(), "/var/lib/voicelived");
    assert_eq!(folder(&[systemd, ("VOICELIVED_STATE_DIR", "/srv/v")]).unwrap(), "/srv/v");
    let found = lines(with("VOICELIVED_LISTEN", "[::]:8000"));
    assert!(found.len() == 1 && found[0].starts_with("VOICELIVED_STATE_DIR: there is no folder"));
}

#[test]
fn instructions_come_from_a_file() {
    let name = "AZURE_VOICE_LIVE_INSTRUCTIONS_FILE";
    assert_eq!(with(name, "prompt").unwrap().session.instructions, "Be kind.\nAlways.");
    for bad in ["missing", "latin1", "huge"] {
        assert!(lines(with(name, bad))[0].contains(bad));
    }
}

#[test]
fn the_session_file_is_checked() {
    let name = "AZURE_VOICE_LIVE_SESSION_FILE";
    let overrides = with(name, "session.json").unwrap().session.overrides;
    assert_eq!(overrides["turn_detection"]["type"], "server_vad");
    assert!(lines(with(name, "broken.json"))[0].contains("line 2 column"));
    assert!(lines(with(name, "list.json"))[0].contains("JSON object"));
    assert!(lines(with(name, "format.json"))[0].contains("must stay \"pcm16\""));
    assert!(with(name, "model.json").unwrap().warnings[0].contains("VOICE_LIVE_MODEL"));
    assert!(with(name, "huge").is_err());
}

#[test]
fn trust_anchors_are_read_and_checked() {
    let name = "VOICELIVED_UPSTREAM_CA_FILE";
    let made = rcgen::generate_simple_self_signed(["sim".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let give = |_: &Path, _: usize| Ok(format!("note\n{pem}{pem}").into_bytes());
    let config = Config::load(Purpose::Service, sources(&[ENDPOINT, KEY, (name, "ca")], ""), &give);
    assert_eq!(config.unwrap().service.extra_authorities.len(), 2);
    for bad in ["missing", "prompt", "latin1"] {
        assert!(lines(with(name, bad))[0].contains(bad));
    }
}

#[test]
fn bad_values_are_refused() {
    for (name, value) in [
        ("VOICE_LIVE_MODEL", "a b"),
        ("VOICE_LIVE_MODEL", "a,"),
        ("VOICE_LIVE_MODEL", "1,2,3,4,5,6,7,8,9"),
        ("AZURE_VOICE_LIVE_LANGUAGE", "en,de,fr,it,es,pt,nl,pl,cs,sv,fi"),
        ("AZURE_VOICE_LIVE_API_VERSION", "a\nb"),
        ("AZURE_VOICE_LIVE_VOICE", "a\u{1b}b"),
        ("AZURE_VOICE_LIVE_INSTRUCTIONS", "a\u{7}b"),
        ("AZURE_VOICE_LIVE_LANGUAGE", "english please"),
        ("AZURE_VOICE_LIVE_GREETING", "a\nb"),
        ("VOICELIVED_LISTEN", "everywhere"),
        ("VOICELIVED_ACCESS", "opne"),
        ("VOICELIVED_ACCESS_TOKEN", "canary"),
        ("VOICELIVED_ACCESS_TOKEN", "canary canary canary"),
        ("VOICELIVED_STATE_DIR", "state"),
        ("VOICELIVED_ALLOWED_ORIGINS", "*"),
        ("VOICELIVED_MAX_SESSIONS", "0"),
        ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "10001"),
        ("VOICELIVED_MAX_SESSION_SECONDS", "-1"),
        ("VOICELIVED_IDLE_SECONDS", "2m"),
        ("VOICELIVED_AUDIO_POOL_SECONDS", "36001"),
        ("VOICELIVED_LOG", "off"),
    ] {
        let found = lines(with(name, value));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("{name} (environment): ")));
    }
}

#[test]
fn the_demo_needs_and_touches_nothing_of_the_service() {
    let file = "AZURE_VOICE_LIVE_ENDPOINT=nonsense\nAZURE_VOICE_LIVE_API_KEY_FILE=missing\n\
                VOICELIVED_UPSTREAM_CA_FILE=missing\nVOICELIVED_LOG=warn\n";
    let mut config = Config::load(Purpose::Demo, sources(&[], file), &files).unwrap();
    config.use_simulator("127.0.0.1:9000".parse().unwrap());
    assert_eq!(config.log, log::LevelFilter::Warn);
    assert_eq!(
        config.service.endpoint.to_string(),
        "ws://127.0.0.1:9000/voice-live/realtime?api-version=2026-07-15&model=gpt-realtime-2.1-mini"
    );
}

#[test]
fn an_environment_that_is_not_text_is_a_fault_only_where_it_is_ours() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(vec![0xff]);
    let mut all = sources(&[ENDPOINT, KEY], "");
    all.environment.push(("SOMETHING".into(), odd()));
    all.environment.push((odd(), "x".into()));
    assert!(Config::load(Purpose::Service, all, &files).is_ok());
    let mut all = sources(&[ENDPOINT, KEY], "");
    all.environment.push(("VOICELIVED_LOG".into(), odd()));
    assert_eq!(lines(Config::load(Purpose::Service, all, &files)).len(), 1);
}

#[test]
fn a_named_env_file_must_exist() {
    let fault = EnvFile::find(Some(Path::new("/nonexistent/voice.env"))).unwrap_err();
    assert!(fault.to_string().starts_with("/nonexistent/voice.env: cannot read this file"));
    assert!(EnvFile::find(Some(Path::new("/"))).is_err());
    let endless = EnvFile::find(Some(Path::new("/dev/zero"))).unwrap_err();
    assert!(endless.to_string().contains("longer than"));
}

fn passed(secure: bool, address: &str) -> PassedSocket {
    PassedSocket { secure, address: address.parse().expect("an address") }
}

#[test]
fn a_watched_daemon_puts_up_with_missing_settings_but_not_with_wrong_ones() {
    let watched = ("NOTIFY_SOCKET", "/run/systemd/notify");
    let config = Config::load(Purpose::Service, sources(&[watched], ""), &files).unwrap();
    let unready = config.unready.unwrap();
    assert!(unready.contains(ENDPOINT.0) && unready.contains(KEY.0), "{unready}");
    let config = Config::load(Purpose::Service, sources(&[watched, ENDPOINT, KEY], ""), &files);
    assert_eq!(config.unwrap().unready, None);
    let config = Config::load(Purpose::Demo, sources(&[watched], ""), &files);
    assert_eq!(config.unwrap().unready, None);
    let wrong = sources(&[watched, ("AZURE_VOICE_LIVE_ENDPOINT", "nonsense")], "");
    let found = lines(Config::load(Purpose::Service, wrong, &files));
    assert!(found.len() == 1 && found[0].starts_with(ENDPOINT.0), "{found:?}");
    assert_eq!(lines(Config::load(Purpose::Service, sources(&[], ""), &files)).len(), 2);
}

#[test]
fn passed_sockets_stand_for_the_settings_and_decide_who_may_call() {
    let load = |sockets: &[PassedSocket], environment: &[(&str, &str)]| {
        let mut all = sources(&[&[ENDPOINT, KEY], environment].concat(), "");
        all.sockets = sockets.to_vec();
        Config::load(Purpose::Service, all, &files)
    };
    let state = ("VOICELIVED_STATE_DIR", "/var/lib/voicelived");
    let config = load(&[passed(true, "[::]:8443")], &[state]).unwrap();
    assert_eq!(config.web.tls_listen, Some("[::]:8443".parse().unwrap()));
    assert_eq!(config.web.listen, Some("127.0.0.1:8000".parse().unwrap()), "its own");
    assert!(matches!(config.access, AccessConfig::OwnToken), "others can come");
    // The widest of several of a kind counts.
    let both = [passed(false, "127.0.0.1:1"), passed(false, "0.0.0.0:1")];
    let config = load(&both, &[state]).unwrap();
    assert!(matches!(config.access, AccessConfig::OwnToken));
    let config = load(&both[..1], &[("VOICELIVED_LISTEN", "127.0.0.1:2")]).unwrap();
    assert_eq!(config.web.listen, Some("127.0.0.1:1".parse().unwrap()));
    assert!(matches!(config.access, AccessConfig::Open));
    let warning =
        "VOICELIVED_LISTEN (environment): not used, a socket for 127.0.0.1:1 was passed instead";
    assert_eq!(config.warnings, [warning]);
}

#[test]
fn draining_may_be_none_at_all() {
    let drain = |text| {
        let sources = sources(&[ENDPOINT, KEY, ("VOICELIVED_DRAIN_SECONDS", text)], "");
        Config::load(Purpose::Service, sources, &files).map(|config| config.limits.drain.as_secs())
    };
    assert_eq!(drain("0").unwrap(), 0);
    assert_eq!(drain("86400").unwrap(), 86_400);
    for text in ["86401", "-1", "00x", "1.5"] {
        assert!(lines(drain(text))[0].contains("a whole number from 0 to 86400"), "{text}");
    }
}
