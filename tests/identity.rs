//! Calls log in with Entra ID in place of the key: every source of tokens, what is asked of it, how long
//! a token is used, and what is said when there is none. The service is the simulator, which lets in the
//! right token only; who gives tokens is a stand-in at the addresses of Azure's own variables.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;
use support::certificates::Authority;
use support::client::Client;
use support::daemon::Daemon;
use support::entra::{TokenStandIn, good};
use support::proxy::{Conduct, ProxyStandIn};
use support::switch::Switch;
use support::witness::{self, Witness};

/// A secret that no log, error, metric or command line may show.
const SECRET: &str = "canary-7f1e~secret";

const TOKEN: &str = "canary-token.eyJ0";

fn file(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("identity-{name}"));
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a plain path").to_owned()
}

/// A program that runs this script.
fn script(name: &str, text: &str) -> String {
    let path = file(name, "");
    support::program::write(Path::new(&path), &format!("#!/bin/sh\n{text}\n"));
    path
}

/// A simulator that lets in this token and no key.
fn service(token: &str) -> Daemon {
    Daemon::simulate(&[&format!("require-token={token}")])
}

/// `voicelived run` without a key.
fn relay(service: &Daemon, settings: &[(&str, &str)]) -> Daemon {
    let endpoint = format!("http://{}", service.address);
    let mut all = vec![("AZURE_VOICE_LIVE_ENDPOINT", endpoint.as_str())];
    all.extend(settings);
    Daemon::start(&["run", "--listen", "127.0.0.1:0"], &all)
}

fn principal(authority: &str) -> [(&str, &str); 4] {
    [
        ("AZURE_TENANT_ID", "contoso.example"),
        ("AZURE_CLIENT_ID", "11112222-aaaa"),
        ("AZURE_CLIENT_SECRET", SECRET),
        ("AZURE_AUTHORITY_HOST", authority),
    ]
}

/// No secret is in the log or in the metrics.
fn assert_silent(daemon: &Daemon) {
    let metrics = support::http::ask(daemon.address, "GET /metrics", "");
    for text in [daemon.log(), metrics.text().to_owned()] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn a_service_principal_carries_a_whole_turn_and_one_token_serves_all_calls() {
    let mut words = witness::SERVICE.to_vec();
    let required = format!("require-token={TOKEN}");
    words.push(&required);
    let service = Daemon::simulate(&words);
    let entra = TokenStandIn::giving(TOKEN);
    let url = entra.url();
    let daemon = relay(&service, &principal(&url));
    Witness::call(daemon.address).finish();
    Client::connect(daemon.address).wait_until_active();
    let asked = entra.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(
        asked[0].starts_with("POST /contoso.example/oauth2/v2.0/token HTTP/1.1\r\n"),
        "{asked:?}"
    );
    let form = asked[0].split("\r\n\r\n").nth(1).expect("a body");
    let mut fields: Vec<_> = form.split('&').collect();
    fields.sort_unstable();
    let expected = [
        "client_id=11112222-aaaa",
        "client_secret=canary-7f1e~secret",
        "grant_type=client_credentials",
        "scope=https%3A%2F%2Fai.azure.com%2F.default",
    ];
    let plain: Vec<_> = fields.iter().map(|field| field.replace("%7E", "~")).collect();
    assert_eq!(plain, expected);
    assert!(daemon.log().contains("calls log in with the service principal 11112222-aaaa"));
    daemon.assert_counted("sign_ins_total", "ok", 1);
    assert_silent(&daemon);
}

#[test]
fn the_next_session_logs_in_with_a_token_of_its_own_time() {
    let (old, new) = (good("canary-old-token"), good(TOKEN));
    let entra = TokenStandIn::start(&[("200 OK", &old), ("200 OK", &new)], None);
    let first = Daemon::simulate(&["require-token=canary-old-token", "session-seconds=8"]);
    let next = service(TOKEN);
    let switch = Switch::to(first.address);
    let url = entra.url();
    let endpoint = format!("http://{}", switch.address);
    let mut settings = vec![("AZURE_VOICE_LIVE_ENDPOINT", endpoint.as_str())];
    settings.extend(principal(&url));
    let daemon = Daemon::start(&["run", "--listen", "127.0.0.1:0"], &settings);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    // The token that is kept is not good for the next session: a new one is fetched for it.
    switch.turn_to(next.address);
    daemon.wait_for_log("went on to the next session");
    daemon.assert_counted("sign_ins_total", "refused", 1);
    assert_eq!(client.of_type("error").len(), 0);
    assert!(!client.told().contains("reconnecting"), "{}", client.told());
    assert_silent(&daemon);
}

#[test]
fn a_kept_token_that_is_refused_is_replaced_once() {
    let entra = TokenStandIn::start(
        &[("200 OK", &good("canary-old-token")), ("200 OK", &good(TOKEN))],
        None,
    );
    let service = service(TOKEN);
    let url = entra.url();
    let daemon = relay(&service, &principal(&url));
    daemon.wait_for_log("there is a token of");
    Client::connect(daemon.address).wait_until_active();
    Client::connect(daemon.address).wait_until_active();
    assert_eq!(entra.asked().len(), 2);
    daemon.assert_counted("sign_ins_total", "refused", 1);
    assert_silent(&daemon);
}

#[test]
fn a_service_that_refuses_every_token_is_told_with_both_roles() {
    let entra = TokenStandIn::giving("canary-other-token");
    let service = service(TOKEN);
    let url = entra.url();
    let daemon = relay(&service, &principal(&url));
    daemon.wait_for_log("there is a token of");
    let message = Client::connect(daemon.address).assert_ends("refused", 1011, "unauthorized");
    for role in ["Cognitive Services User", "Foundry User"] {
        assert!(message.contains(role), "{message}");
    }
    assert_eq!(entra.asked().len(), 2, "one more, not again and again");
    let service = Daemon::simulate(&["refuse=403"]);
    let daemon = relay(&service, &principal(&url));
    let message = Client::connect(daemon.address).assert_ends("forbidden", 1011, "forbidden");
    assert!(message.contains("Foundry User"), "{message}");
    assert_silent(&daemon);
}

#[test]
fn what_entra_says_is_told_by_its_first_line() {
    let refusal = format!(
        r#"{{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided: {SECRET}.\r\nTrace ID: 5","error_codes":[7000215]}}"#
    );
    let entra = TokenStandIn::start(&[("401 Unauthorized", &refusal)], None);
    let service = service(TOKEN);
    let url = entra.url();
    let daemon = relay(&service, &principal(&url));
    let message = Client::connect(daemon.address).assert_ends("wrong secret", 1011, "sign_in");
    let hint = "answered 401: AADSTS7000215: Invalid client secret provided: ***.";
    assert!(message.contains(hint) && !message.contains("Trace"), "{message}");
    daemon.assert_counted("calls_ended_total", "sign_in", 1);
    assert_silent(&daemon);
    // Nobody is there: it is tried again while the call waits, and then said.
    let nobody = "http://127.0.0.1:9";
    let daemon = relay(&service, &principal(nobody));
    let message = Client::connect(daemon.address).assert_ends("nobody", 1011, "sign_in");
    assert!(message.contains("127.0.0.1:9 is not reached"), "{message}");
    assert!(daemon.log().contains("It is tried again"), "{}", daemon.log());
}

#[test]
fn a_workload_identity_reads_its_file_for_each_fetch() {
    let entra = TokenStandIn::start(
        &[("200 OK", &good("canary-old-token")), ("200 OK", &good(TOKEN))],
        None,
    );
    let service = service(TOKEN);
    let (url, path) = (entra.url(), file("federated", "canary-first-jwt\n"));
    let daemon = relay(
        &service,
        &[
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_FEDERATED_TOKEN_FILE", &path),
            ("AZURE_AUTHORITY_HOST", &url),
        ],
    );
    daemon.wait_for_log("there is a token of the workload identity c");
    fs::write(&path, "canary-second-jwt").expect("ours");
    Client::connect(daemon.address).wait_until_active();
    let asked = entra.asked();
    let kind =
        "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    assert!(asked.iter().all(|request| request.contains(kind)), "{asked:?}");
    assert!(asked[0].contains("client_assertion=canary-first-jwt"), "{asked:?}");
    assert!(asked[1].contains("client_assertion=canary-second-jwt"), "{asked:?}");
    assert_silent(&daemon);
}

/// A proxy that takes everything and answers nothing. Who is asked in spite of it was asked directly.
fn trap() -> (ProxyStandIn, String) {
    let proxy = ProxyStandIn::start(Conduct::Silence, None);
    let address = format!("http://{}", proxy.address);
    (proxy, address)
}

#[test]
fn a_virtual_machines_identity_is_asked_beside_every_proxy_and_again_until_it_is_ready() {
    let answer = format!(
        r#"{{"access_token":"{TOKEN}","client_id":"x","expires_in":"86399","expires_on":"1","resource":"https://ai.azure.com","token_type":"Bearer"}}"#
    );
    let metadata = TokenStandIn::start(
        &[("410 Gone", "{}"), ("404 Not Found", "{}"), ("200 OK", &answer)],
        None,
    );
    let (proxy, through) = trap();
    let service = service(TOKEN);
    let url = metadata.url();
    let daemon = relay(
        &service,
        &[
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", &url),
            ("HTTPS_PROXY", &through),
            ("ALL_PROXY", &through),
            ("http_proxy", &through),
        ],
    );
    Client::connect(daemon.address).wait_until_active();
    let asked = metadata.asked();
    assert_eq!(asked.len(), 3);
    let line = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https";
    assert!(asked[2].starts_with(line) && !asked[2].contains("client_id"), "{asked:?}");
    let head = asked[2].to_ascii_lowercase();
    assert!(head.contains("\r\nmetadata: true\r\n"), "{asked:?}");
    assert!(proxy.requests().is_empty());
    assert!(daemon.log().contains("the machine's managed identity (virtual machine)"));
    assert_silent(&daemon);
    // No identity is assigned.
    let metadata = TokenStandIn::start(
        &[(
            "400 Bad Request",
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
        )],
        None,
    );
    let url = metadata.url();
    let settings =
        [("AZURE_POD_IDENTITY_AUTHORITY_HOST", url.as_str()), ("AZURE_CLIENT_ID", "mine")];
    let daemon = relay(&service, &settings);
    let message = Client::connect(daemon.address).assert_ends("none", 1011, "sign_in");
    assert!(message.contains("Identity not found: no identity is assigned"), "{message}");
    assert!(metadata.asked()[0].contains("client_id=mine"), "{:?}", metadata.asked());
}

#[test]
fn an_apps_identity_shows_its_header() {
    let app = TokenStandIn::giving(TOKEN);
    let service = service(TOKEN);
    let endpoint = format!("{}/msi/token", app.url());
    let settings = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", SECRET)];
    let daemon = relay(&service, &settings);
    Client::connect(daemon.address).wait_until_active();
    let asked = app.asked();
    assert!(
        asked[0].starts_with("GET /msi/token?api-version=2019-08-01&resource=https"),
        "{asked:?}"
    );
    let head = asked[0].to_ascii_lowercase();
    assert!(head.contains("x-identity-header: canary-7f1e~secret\r\n"), "{asked:?}");
    assert_silent(&daemon);
}

/// The agent's key lies in a folder of the system: the command runs with a file system of its own.
#[test]
fn azure_arcs_agent_is_answered_with_the_key_of_its_folder_only() {
    let folder = "/var/opt/azcmagent/tokens";
    let challenge =
        |path: &str| format!("401 Unauthorized\r\nWWW-Authenticate: Basic realm={path}");
    let service = service(TOKEN);
    let check = |agent: &TokenStandIn, client: &str| {
        let prepare = format!(
            "mount -t tmpfs none /var/opt && mkdir -p {folder}/deeper && printf %s key-of-arc >{folder}/a.key && head -c 5000 /dev/zero >{folder}/long.key && exec \"$0\" check"
        );
        let mut command = Command::new("unshare");
        command.args(["-r", "-m", "sh", "-c", &prepare, env!("CARGO_BIN_EXE_voicelived")]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("AZURE_VOICE_LIVE_ENDPOINT", format!("http://{}", service.address));
        command.env("IDENTITY_ENDPOINT", format!("{}/metadata/identity/oauth2/token", agent.url()));
        command.env("IMDS_ENDPOINT", agent.url()).env("AZURE_CLIENT_ID", client);
        let output = command.current_dir("/").output().expect("unshare is there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let key = challenge(&format!("{folder}/a.key"));
    let agent = TokenStandIn::start(&[(&key, "{}"), ("200 OK", &good(TOKEN))], None);
    let (code, lines, fault) = check(&agent, "");
    assert_eq!(code, Some(0), "{lines}{fault}");
    assert!(
        lines.contains(
            "token of the machine's managed identity (Azure Arc); good for 59 minutes, until "
        ),
        "{lines}"
    );
    let asked = agent.asked();
    assert!(
        asked[0].contains("?api-version=2020-06-01&resource=https")
            && !asked[0].contains("uthorization"),
        "{asked:?}"
    );
    assert!(
        asked[1].to_ascii_lowercase().contains("authorization: basic key-of-arc\r\n"),
        "{asked:?}"
    );
    // Old agents answer for another identity than the one asked for.
    let other = good(TOKEN).replace('{', r#"{"client_id":"other","#);
    let agent = TokenStandIn::start(&[(&key, "{}"), ("200 OK", &other)], None);
    let (code, _, fault) = check(&agent, "mine");
    assert!(
        code == Some(69) && fault.contains("identity other, not for AZURE_CLIENT_ID"),
        "{fault}"
    );
    for path in [
        "/etc/hostname",
        &format!("{folder}/../x.key"),
        &format!("{folder}/deeper/a.key"),
        &format!("{folder}/long.key"),
        &format!("{folder}/a"),
        "",
    ] {
        let agent =
            TokenStandIn::start(&[(&challenge(path), "{}"), ("200 OK", &good(TOKEN))], None);
        let (code, _, fault) = check(&agent, "");
        assert_eq!((code, agent.asked().len()), (Some(69), 1), "{path}: {fault}");
    }
}

#[test]
fn a_command_runs_again_when_its_token_is_old() {
    let service = service(TOKEN);
    let log = file("command-runs", "");
    for (name, printed, runs) in [
        (
            "az",
            format!(
                r#"{{"accessToken":"{TOKEN}","expires_on":'$(($(date +%s) + 3600))',"expiresOn":"x","tokenType":"Bearer"}}"#
            ),
            1,
        ),
        ("bare", TOKEN.to_owned(), 2),
        ("old", format!(r#"{{"accessToken":"{TOKEN}","expires_on":1}}"#), 2),
    ] {
        fs::write(&log, "").expect("ours");
        let program = script(
            name,
            &format!("echo \"$1 $2\" >>'{log}'\nenv | grep -i canary >>'{log}'\necho '{printed}'"),
        );
        let command = format!("{program} 'two words' \"x\"");
        let daemon = relay(&service, &[("AZURE_VOICE_LIVE_TOKEN_COMMAND", &command)]);
        daemon.wait_for_log("there is a token of the command");
        fs::write(&log, "").expect("ours");
        Client::connect(daemon.address).wait_until_active();
        Client::connect(daemon.address).wait_until_active();
        let ran = fs::read_to_string(&log).expect("ours");
        let expected = "two words x\n".repeat(if runs == 1 { 0 } else { runs });
        assert_eq!(ran, expected, "{name}");
        assert_silent(&daemon);
    }
    for (name, text, hint) in [
        ("failing", "echo canary >&2; exit 3", "run it by hand, as the daemon's user"),
        ("chatty", "echo two canaries", "it is no token"),
        ("empty", "true", "it is empty"),
        ("endless", "yes canary", "its output is too long"),
    ] {
        let program = script(name, text);
        let daemon = relay(&service, &[("AZURE_VOICE_LIVE_TOKEN_COMMAND", &program)]);
        let message = Client::connect(daemon.address).assert_ends(name, 1011, "sign_in");
        assert!(message.contains(hint), "{name}: {message}");
        assert_silent(&daemon);
    }
    let daemon = relay(&service, &[("AZURE_VOICE_LIVE_TOKEN_COMMAND", "/nowhere/az token")]);
    let message = Client::connect(daemon.address).assert_ends("nowhere", 1011, "sign_in");
    assert!(message.contains("cannot be started") && message.contains("/nowhere/az"), "{message}");
}

#[test]
fn a_file_is_read_for_each_connection() {
    let path = file("token", "canary-not-yet\n");
    let service = service(TOKEN);
    let daemon = relay(&service, &[("AZURE_VOICE_LIVE_TOKEN_FILE", &path)]);
    Client::connect(daemon.address).assert_ends("old", 1011, "unauthorized");
    fs::write(&path, format!("{TOKEN}\n")).expect("ours");
    Client::connect(daemon.address).wait_until_active();
    fs::remove_file(&path).expect("ours");
    let message = Client::connect(daemon.address).assert_ends("gone", 1011, "sign_in");
    assert!(message.contains("cannot be read"), "{message}");
    assert_silent(&daemon);
}

#[test]
fn entra_is_reached_through_the_proxy_and_an_authority_of_its_own() {
    let authority = Authority::new("Ours");
    let (certificate, key) = authority.certify("login.service.invalid", 2020..2080);
    let entra = TokenStandIn::start(&[("200 OK", &good(TOKEN))], Some((&certificate, &key)));
    let proxy = ProxyStandIn::start(Conduct::Tunnel(entra.address), None);
    let through = format!("http://user:canary-pass@{}", proxy.address);
    let trusted = file("ca.pem", &authority.pem);
    let service = service(TOKEN);
    let url = format!("https://login.service.invalid:{}", entra.address.port());
    let mut settings = principal(&url).to_vec();
    settings.extend([("HTTPS_PROXY", through.as_str()), ("VOICELIVED_UPSTREAM_CA_FILE", &trusted)]);
    let daemon = relay(&service, &settings);
    Client::connect(daemon.address).wait_until_active();
    assert!(proxy.requests().iter().all(|it| it.starts_with("CONNECT login.service.invalid:")));
    assert!(proxy.requests()[0].contains("dXNlcjpjYW5hcnktcGFzcw=="), "{:?}", proxy.requests());
    assert_eq!(entra.asked().len(), 1);
    assert_silent(&daemon);
    // Without that authority it is not trusted, and the secret stays here.
    settings.pop();
    let daemon = relay(&service, &settings);
    let message = Client::connect(daemon.address).assert_ends("stranger", 1011, "sign_in");
    assert!(message.contains("VOICELIVED_UPSTREAM_CA_FILE"), "{message}");
    assert_eq!(entra.asked().len(), 1);
    // A proxy that refuses.
    let proxy =
        ProxyStandIn::start(Conduct::Answer("HTTP/1.1 403 Filtered\r\n\r\n".to_owned()), None);
    let through = format!("http://user:canary-pass@{}", proxy.address);
    settings.pop();
    settings.push(("HTTPS_PROXY", &through));
    let daemon = relay(&service, &settings);
    let message = Client::connect(daemon.address).assert_ends("proxy", 1011, "sign_in");
    assert!(message.contains(&format!("through the proxy http://{}", proxy.address)), "{message}");
    assert_silent(&daemon);
}

#[test]
fn sighup_takes_another_sign_in() {
    let entra = TokenStandIn::giving("canary-wrong-token");
    let service = service(TOKEN);
    let token = file("sighup-token", TOKEN);
    let endpoint = format!("AZURE_VOICE_LIVE_ENDPOINT=http://{}\n", service.address);
    let settings = principal("x").map(|(name, value)| format!("{name}={value}\n"));
    let authority = format!("AZURE_AUTHORITY_HOST={}\n", entra.url());
    let before = format!("{endpoint}{}{authority}", settings[..3].concat());
    let path = file("sighup.env", &before);
    let daemon = Daemon::start(&["run", "--listen", "127.0.0.1:0", "--env-file", &path], &[]);
    Client::connect(daemon.address).assert_ends("wrong", 1011, "unauthorized");
    fs::write(&path, format!("{endpoint}AZURE_VOICE_LIVE_TOKEN_FILE={token}\n")).expect("ours");
    daemon.signal("HUP");
    daemon.wait_for_log("calls log in with the file");
    Client::connect(daemon.address).wait_until_active();
    fs::write(&path, format!("{endpoint}AZURE_VOICE_LIVE_API_KEY=k\n")).expect("ours");
    daemon.signal("HUP");
    daemon.wait_until("read again", |it| it.log().matches("settings: read again").count() == 2);
    // The key goes out now, which this service does not take.
    let message = Client::connect(daemon.address).assert_ends("key", 1011, "unauthorized");
    assert!(message.contains("AZURE_VOICE_LIVE_API_KEY"), "{message}");
}

#[test]
fn check_says_which_credential_is_used_and_until_when() {
    let service = service(TOKEN);
    let entra = TokenStandIn::giving(TOKEN);
    let url = entra.url();
    let check = |settings: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
            .arg("check")
            .env_clear()
            .env("AZURE_VOICE_LIVE_ENDPOINT", format!("http://{}", service.address))
            .env("VOICELIVED_LOG", "trace")
            .envs(settings.iter().copied())
            .current_dir(std::env::temp_dir())
            .output()
            .expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (lines, fault) = (text(&output.stdout), text(&output.stderr));
        assert!(!lines.contains("canary") && !fault.contains("canary"), "{lines}{fault}");
        (output.status.code(), lines, fault)
    };
    let (code, lines, fault) = check(&principal(&url));
    assert_eq!(code, Some(0), "{lines}{fault}");
    let hint = "token of the service principal 11112222-aaaa (AZURE_CLIENT_SECRET); good for 59 minutes, until ";
    assert!(lines.contains("sign-in") && lines.contains(hint), "{lines}");
    let path = file("check-token", TOKEN);
    let (code, lines, _) = check(&[("AZURE_VOICE_LIVE_TOKEN_FILE", &path)]);
    assert!(code == Some(0) && lines.contains("it is fetched for each connection"), "{lines}");
    let (code, lines, fault) = check(&[("AZURE_VOICE_LIVE_API_KEY", "canary-key-0123456789")]);
    assert!(code == Some(69) && fault.contains("AZURE_VOICE_LIVE_API_KEY"), "{fault}");
    assert!(lines.contains("credential      the key (AZURE_VOICE_LIVE_API_KEY)"), "{lines}");
    let nobody = principal("http://127.0.0.1:9");
    let (code, _, fault) = check(&nobody);
    assert!(code == Some(69) && fault.contains("127.0.0.1:9 is not reached"), "{fault}");
}

#[test]
fn no_secret_is_in_any_command_line() {
    // A stand-in that takes the request and never answers: the child stays to be looked at.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("it is bound"));
    let service = service(TOKEN);
    let daemon = relay(&service, &principal(&url));
    let _held = silent.accept().expect("the child asks");
    let of = |pid: u32, what: &str| {
        fs::read(PathBuf::from(format!("/proc/{pid}/{what}"))).unwrap_or_default()
    };
    let children = String::from_utf8(of(daemon.id(), &format!("task/{}/children", daemon.id())));
    let children = children.expect("numbers");
    // The other child serves the built-in tools.
    let mut lines = children.split_whitespace().map(|child| {
        let child: u32 = child.parse().expect("a number");
        (child, String::from_utf8_lossy(&of(child, "cmdline")).into_owned())
    });
    let (child, line) = lines.find(|(_, line)| line.contains("__token")).expect("the child");
    assert!(!line.contains("canary"), "{line}");
    assert!(!String::from_utf8_lossy(&of(child, "environ")).contains("canary"));
    // A call waits its time and no longer, and then it is told.
    let message = Client::connect(daemon.address).assert_ends("late", 1011, "sign_in");
    assert!(message.contains("in 12 seconds"), "{message}");
}
